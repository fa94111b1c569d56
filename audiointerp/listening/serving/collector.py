"""Hosts a webMUSHRA checkout on this computer and stores every session; webMUSHRA's own script loses some under PHP 8.

Every session is one line of `<results>/<test>/sessions.jsonl`, written to disk before it is confirmed. Uploads that are
not sessions, or of tests without a config in the checkout, are stored in `<results>/rejected/`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes

from audiointerp.listening.serving.hosting import HOST, Handler, Host
from audiointerp.listening.serving.sessions import Store

logger = logging.getLogger(__name__)

MAX_BYTES = 16 * 2**20  # size limit of a session; real sessions have some kilobytes
DRAIN_BYTES = 8 * MAX_BYTES
TARGET = "/service/write.php"
# Folders of the checkout that are never served: results collected by PHP, and PHP source.
PRIVATE = ("results", "service")
_TYPES = {
    **{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"},
    **{".yaml": "text/plain; charset=utf-8", ".json": "application/json", ".wav": "audio/wav", ".svg": "image/svg+xml"},
    **{".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".ico": "image/x-icon", ".mp3": "audio/mpeg"},
    **{".ogg": "audio/ogg", ".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf"},
}

__all__ = ["Collector", "make_server", "serve"]


def serve(webmushra: Path, results: Path, port: int = 8000) -> None:
    """Serves a checkout on 127.0.0.1 until Ctrl-C; prints the addresses to open and a line per session stored.

    Raises:
        ValueError: if the folder has no webMUSHRA, the port is taken, or results cannot be written.
    """
    with make_server(webmushra, results, port, on_session=lambda line: print(line, flush=True)) as server:
        for line in server.addresses():
            print(line)
        print(f"sessions go to {results}; Ctrl-C ends", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # leaving the block completes sessions that are being received
            print("ended; nothing more is accepted")


def make_server(
    webmushra: Path, results: Path, port: int = 8000, *, on_session: Callable[[str], None] = logger.info
) -> Collector:
    """A server that is bound to 127.0.0.1 but does not run yet; port 0 takes a free one.

    Args:
        webmushra: a checkout, with exported configs copied into it.
        results: folder for the sessions; created, and repaired if a killed process left a half-written line.
        on_session: called with a line of text for each session stored.

    Raises:
        ValueError: in the same cases as `serve`.
    """
    if not (webmushra / "index.html").is_file() or not (
        (webmushra / "startup.js").is_file() or (webmushra / "lib").is_dir()
    ):
        raise ValueError(
            f"{webmushra}: no webMUSHRA there (index.html and startup.js or lib/); give the folder that "
            "git clone https://github.com/audiolabs/webMUSHRA made"
        )
    if webmushra.resolve() == results.resolve():
        raise ValueError(
            f"{results}: is the webMUSHRA folder, so sessions would be served to browsers; give another folder"
        )
    try:
        store = Store(results)
    except OSError as error:
        raise ValueError(f"{results}: cannot be written ({error.strerror}); give another folder") from None
    try:
        return Collector(webmushra, store, port, on_session)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} of {HOST} cannot be used ({error}); give another --port") from None


class Collector(Host):
    """The server of `make_server`: serves files of the checkout and stores sessions of the tests that it has."""

    def __init__(self, webmushra: Path, store: Store, port: int, on_session: Callable[[str], None]) -> None:
        self.root = webmushra.resolve()
        self.store = store
        self.on_session = on_session
        super().__init__(HOST, port, _Handler)

    def tests(self) -> set[str]:
        """Ids of the tests whose configs the checkout has; read at every session, as one may be added meanwhile."""
        texts = (path.read_text("utf-8", errors="replace") for path in (self.root / "configs").glob("*.yaml"))
        found = (re.search(r"""^testId:[ \t]*(["']?)(.*?)\1[ \t\r]*$""", text, re.MULTILINE) for text in texts)
        return {match[2] for match in found if match}

    def addresses(self) -> list[str]:
        """URLs to open: one per exported test; of a test's configs for single participants, the first and the last."""
        base = f"http://{HOST}:{self.server_port}/"
        names = [path.name for path in sorted((self.root / "configs").glob("lt_*.yaml"))]
        own: dict[str, list[str]] = {}
        for name in names:
            own.setdefault(re.sub(r"_p\d+\.yaml$", "_p", name), []).append(name)
        if not own:
            return [
                f"{base} (no exported test in {self.root / 'configs'}; copy the export's configs/ into the checkout)"
            ]
        ends = [[group[0], group[-1]] if len(group) > 2 else group for group in own.values()]
        return [" ... ".join(f"{base}?config={name}" for name in names) for names in ends]

    def find(self, target: str) -> Path | None:
        """The file of the checkout that a request names; None if there is none or participants must not see it."""
        try:
            path = unquote_to_bytes(target.split("?", 1)[0].split("#", 1)[0]).decode("utf-8")
        except UnicodeDecodeError:
            return None
        parts = [part for part in path.split("/") if part]
        if not path.startswith("/") or "\\" in path or not path.isprintable() or any(p.startswith(".") for p in parts):
            return None
        try:
            found = self.root.joinpath(*parts).resolve()
            if found.is_dir():
                found = (found / "index.html").resolve()
            inside, results = found.relative_to(self.root), self.store.folder.resolve()  # links followed
            if inside.parts[0].lower() in PRIVATE or (
                results.is_relative_to(self.root) and found.is_relative_to(results)
            ):
                return None
            return found if found.is_file() else None
        except (OSError, ValueError, IndexError, RuntimeError):
            return None


class _Handler(Handler):
    server: Collector

    def do_POST(self) -> None:
        if self.is_foreign():
            return self.refuse()
        if self.path.split("?", 1)[0] != TARGET:
            return self.answer(404, "sessions go to service/write.php")
        length = self.announced(MAX_BYTES, DRAIN_BYTES)
        if length is None:
            return None
        with self.server.receiving():
            return self.answer(*self._keep(self.body(length)))

    def _keep(self, body: bytes) -> tuple[int, str]:
        try:
            try:
                test_id = self.server.store.keep(body, self.server.tests())
            except ValueError as error:
                aside = self.server.store.reject(body)
                where = f"kept aside as {aside}" if aside else "not kept, as rejected/ is full: look what sends it"
                logger.warning("not a session: %s; %s", error, where)
                return 400, f"not kept as a session: {error}"
        except OSError as error:
            logger.error("a session could not be kept: %s", error)
            return 500, "the session could not be written; leave this window open and tell the experimenter"
        try:
            self.server.on_session(f"kept a session of {test_id}")
        except OSError:  # printing failed, for instance into a closed pipe; the session is stored all the same
            logger.debug("kept a session of %s", test_id)
        return 200, ""  # empty, because webMUSHRA reports any text as a failure

    def file(self, send: bool) -> None:
        """Answers with the file of the address; only its headers if not `send`."""
        if self.is_foreign():
            return self.refuse()
        path = self.server.find(self.path)
        if path is None:
            return self.answer(404, "not found")
        return self.send(path.read_bytes(), _TYPES.get(path.suffix.lower(), "application/octet-stream"), send)
