"""What both servers of listening tests share: binding, receiving, sending files, and refusing other sites."""

from __future__ import annotations

import logging
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from audiointerp.listening.serving.foreign import is_foreign

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"

__all__ = ["HOST", "Handler", "Host", "path_of"]


def path_of(target: str) -> str:
    """The path of a request's address, "" for a malformed address.

    >>> path_of("/order?participant=p1"), path_of("http://[")
    ('/order', '')
    """
    try:
        return urlsplit(target).path
    except ValueError:
        return ""


class Host(ThreadingHTTPServer):
    """A server that several listeners use at the same time.

    Attributes:
        public: address under which listeners open it if a web server is in front of it, such as
            "https://listen.example.org"; empty if it is open on this computer only.
    """

    # Idle connections of browsers must not delay Ctrl-C. Sessions being received do delay it, see `server_close`.
    daemon_threads = True
    request_queue_size = 256  # many participants may press Send at the same time
    public = ""

    def __init__(self, host: str, port: int, handler: type[Handler]) -> None:
        self._receiving = 0
        self._received = threading.Condition()
        super().__init__((host, port), handler)

    def server_bind(self) -> None:
        """Binds without HTTPServer's look-up of this computer's name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def server_close(self) -> None:
        """Stops accepting connections, and waits up to 10 seconds for sessions that are being received."""
        super().server_close()
        with self._received:
            self._received.wait_for(lambda: self._receiving == 0, timeout=10)

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Context in which a session is received and written; `server_close` waits for it."""
        with self._received:
            self._receiving += 1
        try:
            yield
        finally:
            with self._received:
                self._receiving -= 1
                self._received.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Logs lost connections at debug level only: a participant closed the window."""
        logger.debug("%s: connection lost", client_address, exc_info=True)


class Handler(BaseHTTPRequestHandler):
    """One request; subclasses write `file` and `do_POST`."""

    server: Host
    timeout = 20  # seconds without data after which a connection is closed
    server_version, sys_version = "audiointerp", ""

    def file(self, send: bool) -> None:
        """Answers with the file of the address; only its headers if not `send`."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Answers with a file."""
        self.file(send=True)

    def do_HEAD(self) -> None:
        """Answers with a file's headers."""
        self.file(send=False)

    def body(self, length: int, keep: bool = True) -> bytes:
        """Reads the body, up to `length` bytes; empty if not `keep`."""
        parts: list[bytes] = []
        try:
            while length > 0 and (part := self.rfile.read1(min(length, 65536))):
                parts += [part] * keep
                length -= len(part)
        except OSError:  # connection lost, or no data for too long
            pass
        return b"".join(parts)

    def announced(self, most: int, drain: int) -> int | None:
        """The announced length of the body; None, after an answer, if it is missing or above `most`."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,18}", length):
            self.answer(411, "the length of the session is missing")
            return None
        if int(length) > most:
            self.body(min(int(length), drain), keep=False)  # browsers read the answer only after sending
            self.answer(413, f"a session has at most {most} bytes")
            return None
        return int(length)

    def is_foreign(self) -> bool:
        """Whether a page of another site sent the request, see `is_foreign`."""
        hosts, origins = self.headers.get_all("Host", []), self.headers.get_all("Origin", [])
        return is_foreign(hosts, origins, self.headers.get("Sec-Fetch-Site", ""), self.server.public)

    def refuse(self) -> None:
        """Answers a request of another site; what it sent is not read."""
        self.close_connection = True
        logger.warning("refused a request from %s", self.headers.get("Origin") or self.headers.get("Host"))
        own = self.server.public or f"http://{HOST}:{self.server.server_port}/"
        return self.answer(403, f"this server is for pages of {own} only")

    def send(self, content: bytes, kind: str, send: bool, more: dict[str, str] | None = None) -> None:
        """Sends a file of type `kind`, or the part of it that was asked for; only its headers if not `send`."""
        size, start, end = len(content), 0, len(content)
        # Safari plays sounds only from servers that answer range requests.
        part = re.fullmatch(r"bytes=([0-9]{1,18})-([0-9]{0,18})", self.headers.get("Range", ""))
        if part and int(part[1]) < size:
            start, end = int(part[1]), min(int(part[2] or size), size - 1) + 1
        else:
            part = None
        self.send_response(206 if part else 200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(max(0, end - start)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        for name, value in (more or {}).items():
            self.send_header(name, value)
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if send:
            self.wfile.write(content[start:end])

    def answer(self, status: int, text: str, kind: str = "text/plain; charset=utf-8") -> None:
        """Answers with a text."""
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are logged at debug level."""
        logger.debug(format, *args)
