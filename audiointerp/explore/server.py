"""The local web server of `audiointerp explore`: 127.0.0.1 only, a random token in the address, one page.

Requests need the token, and are refused if another site's page sent them (Host, Origin, Sec-Fetch-Site). Bodies have a
size limit and a time limit. The page loads nothing from elsewhere, which its Content-Security-Policy also forbids.
"""

from __future__ import annotations

import io
import json
import logging
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import numpy as np
import soundfile
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import Tensor

from audiointerp.explore.pictures import RANGE_DB, cells, mask_picture, spectrogram_picture
from audiointerp.explore.regions import read_regions
from audiointerp.explore.saving import Archive
from audiointerp.explore.sounds import MOST_BYTES, MOST_SECONDS, PART_SECONDS, Missing, OpenedSound
from audiointerp.explore.stopping import Stopped
from audiointerp.explore.workbench import BRUSH, Busy, Made, View, Workbench, is_control, shown_at_once
from audiointerp.listening.serving.foreign import is_foreign
from audiointerp.results.templating import fill

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
MOST_JSON_BYTES = 64 * 1024
BODY_SECONDS = 60.0  # until a request's body must have arrived
MOST_MADE = 50  # explanations in one save
_FILES = {
    name: (Path(__file__).with_name(name), "text/javascript; charset=utf-8")
    for name in ("page.js", "player.js", "spectrogram.js", "record.js")
}
# Styles may be inline, as those of all pages of this package are; scripts may not.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "media-src blob:; "  # a dropped file's duration, before it is decoded
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}

__all__ = ["Guard", "make_app", "serve"]


def serve(app: Guard, port: int, on_start: Callable[[str], object], ending: threading.Event) -> None:
    """Serves the app on 127.0.0.1 until Ctrl-C.

    Args:
        app: of `make_app`.
        port: 0 takes a free one.
        on_start: called with the address, when requests are accepted.
        ending: set at the end, so that a running computation stops.

    Raises:
        ValueError: if the port cannot be used.
    """
    with socket.socket() as listening:
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise ValueError(f"port {port} of {HOST} cannot be used ({error}); give another --port") from None
        config = uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,  # a line would hold the token
            server_header=False,
            limit_concurrency=200,
            timeout_keep_alive=20,
            timeout_graceful_shutdown=2,
        )
        listening.listen(128)
        on_start(f"http://{HOST}:{listening.getsockname()[1]}/{app.token}/")
        try:
            _Server(config, ending).run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn raises it again after it has closed the connections
            pass
        finally:
            ending.set()


class _Server(uvicorn.Server):
    """Stops computations at the first Ctrl-C, so that closing does not wait for them."""

    def __init__(self, config: uvicorn.Config, ending: threading.Event):
        super().__init__(config)
        self.ending = ending

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Called for SIGINT and SIGTERM."""
        self.ending.set()
        super().handle_exit(sig, frame)


def make_app(workbench: Workbench, archive: Archive, model: str, token: str) -> Guard:
    """The web app.

    Args:
        workbench: computes.
        archive: saves.
        model: as the user named it, shown on the page.
        token: first part of the path of every address.
    """
    pages = _Pages(workbench, archive, model)
    part = "/sounds/{sound}/{part}"
    routes = [
        Route("/", pages.page),
        Route("/{file}.js", pages.script),
        Route("/state", pages.state),
        Route("/sounds", pages.open, methods=["POST"]),
        Route(part, pages.view),
        Route(f"{part}/spectrogram", pages.spectrogram),
        Route(f"{part}/sound.wav", pages.sound),
        Route(f"{part}/explain", pages.explain, methods=["POST"]),
        Route(f"{part}/brush", pages.brush, methods=["POST"]),
        Route("/made/{key}/mask", pages.mask),
        Route("/made/{key}/{track}.wav", pages.track),
        Route("/save", pages.save, methods=["POST"]),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _refused})
    return Guard(app, token)


class Guard:
    """Lets requests with the token and from the app's own page pass; adds headers to every answer.

    Args:
        app: answers the requests that pass, whose paths it gets without the token.
        token: first part of the path of every address.
    """

    def __init__(self, app: ASGIApp, token: str):
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        site = ",".join(headers.get("sec-fetch-site", []))
        first, _, rest = scope["path"].lstrip("/").partition("/")
        if is_foreign(headers.get("host", []), headers.get("origin", []), site):
            logger.warning("refused a request from %s", headers.get("origin") or headers.get("host"))
            answer: ASGIApp = PlainTextResponse("this server is for its own page only", 403)
        elif not secrets.compare_digest(first.encode("utf-8", "surrogateescape"), self.token.encode()):
            answer = PlainTextResponse(
                "No page has this address. Open the address that `audiointerp explore` printed in the terminal.\n", 404
            )
        else:
            scope = {**scope, "path": f"/{rest}", "raw_path": None, "root_path": ""}
            answer = self.app
        await answer(scope, receive, send_with_headers)


class _Pages:
    """The answers to requests; names and numbers in them are looked up, never joined to a path."""

    def __init__(self, workbench: Workbench, archive: Archive, model: str):
        self.workbench, self.archive, self.model = workbench, archive, model

    async def page(self, request: Request) -> Response:
        classifier = self.workbench.classifier
        short = self.model.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
        values = {"model": self.model, "short": short, "labels": len(classifier.labels), "rate": classifier.sample_rate}
        values |= {"minutes": int(MOST_SECONDS // 60), "megabytes": MOST_BYTES >> 20, "part": int(PART_SECONDS)}
        return Response(fill("explore/page.html", values), media_type="text/html; charset=utf-8")

    async def script(self, request: Request) -> Response:
        name = f"{request.path_params['file']}.js"
        if name not in _FILES:
            raise HTTPException(404, "not found")
        path, kind = _FILES[name]
        return Response(path.read_bytes(), media_type=kind)

    async def state(self, request: Request) -> Response:
        first = shown_at_once(self.workbench.methods)
        methods = [
            {"name": name, "passes": method.passes, "control": is_control(method), "at_once": name in first}
            for name, method in self.workbench.methods.items()
        ]
        classifier = self.workbench.classifier
        return JSONResponse(
            {
                "labels": classifier.labels,
                "multilabel": classifier.multilabel,
                "rate": classifier.sample_rate,
                "methods": methods,
                "sounds": [_sound(each) for each in self.workbench.sounds.all() if not each.temporary],
                "most_bytes": MOST_BYTES,
                "most_seconds": MOST_SECONDS,
                "range_db": RANGE_DB,
                "folder": str(self.archive.folder),
            }
        )

    async def open(self, request: Request) -> Response:
        data = await _body(request, MOST_BYTES, f"a file of at most {MOST_BYTES >> 20} MB")
        name = _shown_name(request.query_params.get("name", ""))
        return await _answer(request, lambda stop: _sound(self.workbench.open(data, name)))

    async def view(self, request: Request) -> Response:
        return await _answer(request, lambda stop: self._describe(self._view(request)))

    async def spectrogram(self, request: Request) -> Response:
        return await _answer(request, lambda stop: _bytes(spectrogram_picture(self._view(request).stft)))

    async def sound(self, request: Request) -> Response:
        return await _answer(request, lambda stop: self._wav(self._view(request).waveform))

    async def explain(self, request: Request) -> Response:
        asked = await _json(request, {"method": str, "label": int})
        sound, part = request.path_params["sound"], _part(request)
        make = partial(self.workbench.explain, sound, part, asked["method"], asked["label"])
        return await _answer(request, lambda stop: self._made(make(stop)))

    async def brush(self, request: Request) -> Response:
        asked = await _json(request, {"regions": list, "label": int})
        sound, part = request.path_params["sound"], _part(request)

        def work(stop: threading.Event) -> dict[str, Any]:
            regions = read_regions(asked["regions"])
            return self._made(self.workbench.brush(sound, part, regions, asked["label"], stop))

        return await _answer(request, work)

    async def mask(self, request: Request) -> Response:
        def work(stop: threading.Event) -> Response:
            mask = self.workbench.made(request.path_params["key"]).interpretation.mask
            if mask is None:
                raise Missing("this method has no mask on the spectrogram")
            return _bytes(mask_picture(mask))

        return await _answer(request, work)

    async def track(self, request: Request) -> Response:
        parts = {"interpretation": "waveform", "residual": "residual"}
        name = request.path_params["track"]

        def work(stop: threading.Event) -> Response:
            if name not in parts:
                raise Missing("there is no such sound")
            return self._wav(getattr(self.workbench.made(request.path_params["key"]).interpretation, parts[name]))

        return await _answer(request, work)

    async def save(self, request: Request) -> Response:
        asked = await _json(request, {"keys": list})
        keys = asked["keys"]
        if not all(isinstance(each, str) for each in keys) or len(keys) > MOST_MADE:
            return _error(400, f"give at most {MOST_MADE} explanations")

        def work(stop: threading.Event) -> dict[str, Any]:
            made = [self.workbench.made(key) for key in keys]
            with self.workbench.alone(stop):
                saved = self.archive.save(made)
            names = {"folder": str(saved.folder), "page": str(saved.page), "item_id": saved.item_id}
            return {**names, "methods": saved.methods}

        return await _answer(request, work)

    def _view(self, request: Request) -> View:
        return self.workbench.view(request.path_params["sound"], _part(request))

    def _describe(self, view: View) -> dict[str, Any]:
        rate, stft = self.workbench.classifier.sample_rate, self.workbench.classifier.spectrogram
        freq, frames = view.stft.shape[1:]
        bins, grouped = cells(freq, frames)
        return {
            "samples": view.waveform.shape[1],
            "rate": rate,
            "seconds": view.waveform.shape[1] / rate,
            "rows": -(-freq // bins),
            "columns": -(-frames // grouped),
            "row_hz": bins * rate / stft.n_fft,
            "column_s": grouped * stft.hop_length / rate,
            "probabilities": _rounded(view.prediction.probabilities),
            "pass_seconds": view.pass_seconds,
        }

    def _made(self, made: Made) -> dict[str, Any]:
        return {
            "key": made.key,
            "method": made.method,
            "label": made.label,
            "seconds": round(made.seconds, 2),
            "mask": made.interpretation.mask is not None,
            "probability": made.probability(made.interpretation.prediction),
            "alone": made.probability(made.alone),
            "without": made.probability(made.without),
            "probabilities": _rounded(made.alone.probabilities) if made.method == BRUSH else None,
        }

    def _wav(self, waveform: Tensor) -> Response:
        file = io.BytesIO()
        samples = waveform[0].detach().cpu().numpy()
        soundfile.write(file, samples, self.workbench.classifier.sample_rate, subtype="FLOAT", format="WAV")
        return Response(file.getvalue(), media_type="audio/wav")


def _sound(sound: OpenedSound) -> dict[str, Any]:
    return {"id": sound.sound_id, "name": sound.name, "seconds": sound.seconds, "starts": sound.starts}


def _rounded(probabilities: Tensor) -> list[float]:
    return [round(each, 6) for each in probabilities[0].tolist()]


def _bytes(picture: np.ndarray) -> Response:
    return Response(np.ascontiguousarray(picture).tobytes(), media_type="application/octet-stream")


def _shown_name(given: str) -> str:
    """The file's name as shown to people: its last part, printable, short."""
    name = unquote(given).replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(each for each in name if each.isprintable()).strip()[:120] or "sound"


async def _body(request: Request, most: int, what: str) -> bytes:
    """The request's body, which must be of a stated size and arrive in time."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise HTTPException(413, f"too large; send {what}")
    parts, size = [], 0
    with anyio.move_on_after(BODY_SECONDS) as timer:
        async for each in request.stream():
            size += len(each)
            if size > most:
                raise HTTPException(413, f"too large; send {what}")
            parts.append(each)
    if timer.cancelled_caught:
        raise HTTPException(408, f"the file did not arrive within {BODY_SECONDS:g} s")
    return b"".join(parts)


def _part(request: Request) -> int:
    """The number of a part of a sound, from the address; -1, which no sound has, for any other text."""
    text = request.path_params["part"]
    return int(text) if re.fullmatch("[0-9]{1,6}", text) else -1


async def _json(request: Request, shape: dict[str, type]) -> dict[str, Any]:
    """The request's JSON object, with exactly the given keys and types."""
    data = await _body(request, MOST_JSON_BYTES, "less")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or {*value} != {*shape}:
        raise HTTPException(400, f"not a JSON object with the keys {', '.join(shape)}")
    for name, kind in shape.items():
        if not isinstance(value[name], kind) or isinstance(value[name], bool):
            raise HTTPException(400, f"{name} has the wrong type")
    return value


async def _answer(request: Request, work: Callable[[threading.Event], Any]) -> Response:
    """The result of a computation in another thread, which is stopped when nobody waits for it any more."""
    stop = threading.Event()

    async def watch() -> None:
        while not stop.is_set():
            if await request.is_disconnected():
                stop.set()
            await anyio.sleep(0.2)

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            try:
                result = await anyio.to_thread.run_sync(partial(_outcome, work, stop))
            finally:
                group.cancel_scope.cancel()
    finally:
        stop.set()
    return result if isinstance(result, Response) else JSONResponse(result)


def _outcome(work: Callable[[threading.Event], Any], stop: threading.Event) -> Any:
    """The result, or an error as the page shows it; anything may go wrong in a user's own classifier."""
    start = time.monotonic()
    try:
        return work(stop)
    except Missing as error:
        return _error(404, str(error))
    except Busy as error:
        return _error(503, str(error))
    except Stopped as error:
        return _error(504, str(error))
    except (ValueError, OSError) as error:
        return _error(400, " ".join(str(error).split()) or type(error).__name__)
    except Exception as error:
        logger.exception("a request failed after %.1f s", time.monotonic() - start)
        first = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {first[0]}" if first else type(error).__name__
        return _error(500, f"the classifier or method failed ({reason[:300]}); the terminal shows the traceback")


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail)
