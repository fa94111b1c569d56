"""Serves the page of an exported test and takes its answers: `audiointerp listen serve TEST`.

Only the page and, if they are not inside it, its sounds are served; nothing of the private folder. Every session is
one line of `<results>/<test>/sessions.jsonl`, written to disk before it is confirmed. Orders are given to
participants so that each is used equally often.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from audiointerp.listening.serving.foreign import public_address
from audiointerp.listening.serving.hosting import HOST, Handler, Host, path_of
from audiointerp.listening.serving.sessions import SESSIONS, Store
from audiointerp.listening.study import ANSWER_COLUMNS, SCALES, SCHEMA, Study
from audiointerp.results.paths import inside
from audiointerp.results.shapes import is_unicode, misshapen

logger = logging.getLogger(__name__)

PAGE = "listening_test.html"
MARK = '<meta name="collector" content="">'
ANSWERS, ORDER = "answers", "order"
ORDERS = "orders.jsonl"
MAX_BYTES = 4 * 2**20  # of a session; a long one has some hundred kilobytes
MAX_ORDER_BYTES = 4096
UNDER_WAY = 3 * 3600  # seconds after which a participant who has not finished is counted as gone
MAX_ORDERS = 100_000
_CELL = (str, int, float, None)
_ROW = {"trial_id": str, "stimulus_id": str, "answer": _CELL, "session_id": str, "test_id": str, "task": str}
_SESSION = {
    **{"schema": str, "test_id": str, "session_id": str, "participant_code": str, "order": int, "rows": [_ROW]},
    "questionnaire": {str: str},
}
_ASKED = {"test_id": str, "participant": str, "number": (int, None)}

__all__ = ["StudyServer", "make_study_server", "serve_study"]


def serve_study(
    test: Path, results: Path | None = None, port: int = 8000, *, host: str = HOST, address: str = "",
    completion: str = "",
) -> None:  # fmt: skip
    """Serves a test until Ctrl-C; prints the address to open and a line per session stored.

    Args:
        test, results, port, host, address, completion: see `make_study_server`.

    Raises:
        ValueError: if there is no test, the port is taken, or results cannot be written.
    """
    made = make_study_server(
        test, results, port, host=host, address=address, completion=completion,
        on_session=lambda line: print(line, flush=True),
    )  # fmt: skip
    with made as server:
        own = server.public or f"http://{HOST}:{server.server_port}/"
        print(f"{server.study.test_id}: {own}")
        print(f"with a participant's id: {own}?PROLIFIC_PID=...  or  {own}?participant=...")
        answers, key = server.store.path_of(server.study.test_id), server.folder.parent / "private" / "key.csv"
        print(f"answers go to {answers}; Ctrl-C ends", flush=True)
        own_key = shlex.quote(str(key)) if key.is_file() else "KEY"
        print(
            f"afterwards: audiointerp listen analyse {shlex.quote(str(answers))} --key {own_key} -o RESULT", flush=True
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:  # leaving the block completes sessions that are being received
            print("ended; nothing more is accepted")


def make_study_server(
    test: Path, results: Path | None = None, port: int = 8000, *, host: str = HOST, address: str = "",
    completion: str = "", on_session: Callable[[str], None] = logger.info,
) -> StudyServer:  # fmt: skip
    """A server that is bound but does not run yet.

    Args:
        test: the folder of an export, or its `public` folder.
        results: folder for the answers; None for `answers` in the test's folder.
        port: port; 0 takes a free one.
        host: address to bind; 0.0.0.0 accepts other computers, as in a container; then `address` is required.
        address: address that listeners open, if it is not this computer's: of the web server in front of this one.
        completion: code or address that a participant gets when all answers are stored.
        on_session: called with a line of text for each session stored.

    Raises:
        ValueError: in the same cases as `serve_study`.
    """
    public = test / "public" if (test / "public").is_dir() else test
    if not (public / PAGE).is_file() or not (public / "study.json").is_file():
        raise ValueError(
            f"{test}: no test with a page there; give the folder of `audiointerp listen export RUN -o TEST`"
        )
    if host not in (HOST, "localhost") and not address:
        raise ValueError(f"host {host} accepts other computers; give the address that listeners open with --address")
    folder = results if results is not None else (test if public != test else test.parent) / ANSWERS
    if folder.resolve().is_relative_to(public.resolve()):
        raise ValueError(f"{folder}: is in the folder for listeners; give another folder for the answers")
    try:
        store, study = Store(folder), Study.read(public / "study.json")
        for name in (SESSIONS, ORDERS):  # now, and not when the first listener has finished
            store.append(study.test_id, b"", name)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written ({error.strerror}); give another folder") from None
    try:
        return StudyServer(public, study, store, (host, port), public_address(address), completion, on_session)
    except (OSError, OverflowError) as error:
        raise ValueError(f"port {port} of {host} cannot be used ({error}); give another --port") from None


class Orders:
    """Who has which order of a test; remembered in `orders.jsonl`."""

    def __init__(self, store: Store, study: Study) -> None:
        self.store, self.study = store, study
        self._lock = threading.Lock()
        self._given: dict[str, tuple[int, float]] = {}  # participant -> order, seconds since 1970
        self._finished: set[str] = set()
        for each in _lines(store.path_of(study.test_id, ORDERS)):
            if not misshapen(each, {"participant": str, "order": int, "at": float}):
                self._given[each["participant"]] = (each["order"] % len(study.sessions), each["at"])

    def give(self, participant: str, number: int | None) -> int:
        """The order of a participant: the same as before, the one of the number, or one that fewest have.

        Participants count if they have finished or began within the last three hours.
        """
        count = len(self.study.sessions)
        with self._lock:
            if number is not None:
                order = number % count
            elif participant in self._given:
                return self._given[participant][0]
            else:
                order = self._rarest(count)
            if participant and len(self._given) < MAX_ORDERS:
                self._remember(participant, order)
            return order

    def finished(self, participant: str, order: int) -> None:
        """Counts a participant whose answers are stored."""
        with self._lock:
            self._given.setdefault(participant, (order % len(self.study.sessions), 0.0))
            self._finished.add(participant)

    def _rarest(self, count: int) -> int:
        load, now = [0] * count, time.time()
        for participant, (order, at) in self._given.items():
            load[order] += participant in self._finished or now - at < UNDER_WAY
        return load.index(min(load))

    def _remember(self, participant: str, order: int) -> None:
        if self._given.get(participant, (None,))[0] == order:
            return
        self._given[participant] = (order, time.time())
        entry = {"participant": participant, "order": order, "at": time.time()}
        try:
            self.store.append(self.study.test_id, json.dumps(entry).encode() + b"\n", ORDERS)
        except OSError as error:
            logger.error("the order of a participant could not be written: %s", error)


class StudyServer(Host):
    """The server of `make_study_server`."""

    def __init__(
        self, public: Path, study: Study, store: Store, at: tuple[str, int], address: str, completion: str,
        on_session: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.folder, self.store, self.public = public, store, address
        self.completion, self.on_session = completion, on_session
        self.study = study
        page = (public / PAGE).read_text("utf-8")
        if page.count(MARK) != 1 or self.study.test_id not in page:
            raise ValueError(
                f"{public / PAGE}: is not the page of this test, or of an earlier version; export it again"
            )
        self.page = page.replace(MARK, MARK.replace('content=""', f'content="{ANSWERS}"')).encode()
        self.orders = Orders(store, self.study)
        self._stored: dict[str, str] = {}  # session -> SHA-256 of its answers
        self._storing = threading.Lock()
        for session in _lines(store.path_of(self.study.test_id)):
            if not misshapen(session, _SESSION):
                self._note(session)
        super().__init__(*at, _Handler)

    def find(self, target: str) -> tuple[bytes, str] | None:
        """Content and type of the page, or of a sound of the test; None for anything else."""
        path = unquote(path_of(target))
        if path in ("/", f"/{PAGE}"):
            return self.page, "text/html; charset=utf-8"
        name = next((name for name in self.study.files.values() if path == f"/{name}"), None)
        sound = inside(self.folder, name) if name else None
        return (sound.read_bytes(), "audio/wav") if sound and sound.is_file() else None

    def keep(self, body: bytes) -> dict[str, Any]:
        """Stores a session; returns what its page is told. A session that is sent twice is stored once.

        Raises:
            ValueError: if it is not a session of this test.
            OSError: if it could not be written completely.
        """
        session = self._checked(body)
        digest = hashlib.sha256(json.dumps(session["rows"], sort_keys=True).encode()).hexdigest()
        with self._storing:
            if self._stored.get(session["session_id"]) != digest:
                self.store.append(self.study.test_id, json.dumps(session).encode() + b"\n")
                self._note(session)
                # Control characters would change the experimenter's terminal.
                who = ascii(session["participant_code"] or session["session_id"])[1:-1]
                self.on_session(f"kept {len(session['rows'])} answers of {who}")
        return {"stored": True, "completion": self.completion if self._is_complete(session) else ""}

    def _checked(self, body: bytes) -> dict[str, Any]:
        try:
            session = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON ({error})") from None
        if problem := misshapen(session, _SESSION):
            raise ValueError(f"not a session: {problem}")
        if not is_unicode(session):
            raise ValueError("not a session: it holds half of a surrogate pair, which is no character")
        if (session["schema"], session["test_id"]) != (SCHEMA, self.study.test_id):
            raise ValueError(
                f"answers of the test {session['test_id'][:40]!r}; this server collects {self.study.test_id}"
            )
        if not re.fullmatch("s_[0-9a-f]{16}", session["session_id"]) or len(session["participant_code"]) > 40:
            raise ValueError("the name of the session or of the participant is malformed")
        trials = {trial.trial_id: {*trial.stimuli, ""} for trial in self.study.trials}
        for row in session["rows"]:
            if row["stimulus_id"] not in trials.get(row["trial_id"], ()):
                raise ValueError(
                    f"the test has no sound {row['stimulus_id'][:40]!r} on a page {row['trial_id'][:40]!r}"
                )
            if (row["test_id"], row["session_id"]) != (session["test_id"], session["session_id"]):
                raise ValueError("a row belongs to another session")
            if row["task"] != self.study.task:
                raise ValueError(f"a row is of the task {row['task'][:40]!r}; the test's is {self.study.task}")
            if unknown := sorted(row.keys() - {*ANSWER_COLUMNS}):
                raise ValueError(f"a row has the column {unknown[0][:40]!r}, which answers do not have")
        return session

    def _note(self, session: dict[str, Any]) -> None:
        digest = hashlib.sha256(json.dumps(session["rows"], sort_keys=True).encode()).hexdigest()
        self._stored[session["session_id"]] = digest
        self.orders.finished(session["participant_code"] or session["session_id"], session["order"])

    def _is_complete(self, session: dict[str, Any]) -> bool:
        """Whether every question of the session's order has an answer that its page can give."""
        given = set()
        for row in session["rows"]:
            if self.study.takes(row["trial_id"], row["stimulus_id"], row["answer"]):
                given.add((row["trial_id"], row["stimulus_id"] if self.study.task in SCALES else ""))
        shown = self.study.sessions[session["order"] % len(self.study.sessions)]
        sounds = [(each.trial_id, each.stimuli if self.study.task in SCALES else ("",)) for each in shown]
        return given >= {(trial, sound) for trial, asked in sounds for sound in asked}


class _Handler(Handler):
    server: StudyServer

    def do_POST(self) -> None:
        if self.is_foreign():
            return self.refuse()
        target = path_of(self.path)
        if target not in (f"/{ANSWERS}", f"/{ORDER}"):
            return self.answer(404, f"answers go to {ANSWERS}")
        most = MAX_BYTES if target == f"/{ANSWERS}" else MAX_ORDER_BYTES
        length = self.announced(most, 4 * most)
        if length is None:
            return None
        with self.server.receiving():
            status, told = (self._answers if target == f"/{ANSWERS}" else self._order)(self.body(length))
            return self.answer(status, json.dumps(told), "application/json")

    def _answers(self, body: bytes) -> tuple[int, dict[str, Any]]:
        server = self.server
        try:
            try:
                return 200, server.keep(body)
            except ValueError as error:
                aside = server.store.reject(body)
                where = f"kept aside as {aside}" if aside else "not kept, as rejected/ is full: look what sends it"
                logger.warning("not a session: %s; %s", error, where)
                return 400, {"stored": False, "error": str(error)}
        except OSError as error:
            logger.error("a session could not be kept: %s", error)
            return 500, {"stored": False, "error": "the answers could not be written"}

    def _order(self, body: bytes) -> tuple[int, dict[str, Any]]:
        try:
            asked = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
            if problem := misshapen(asked, _ASKED):
                raise ValueError(problem)
            if asked["test_id"] != self.server.study.test_id or len(asked["participant"]) > 40:
                raise ValueError("another test, or no name of a participant")
        except (ValueError, RecursionError) as error:
            return 400, {"error": " ".join(str(error).split())}
        return 200, {"order": self.server.orders.give(asked["participant"], asked["number"])}

    def file(self, send: bool) -> None:
        """Answers with the file of the address; only its headers if not `send`."""
        # A link from another site, such as Prolific's, may open the page, but no other site may embed or read it.
        opened = self.headers.get("Sec-Fetch-Mode") == "navigate" and self.headers.get("Sec-Fetch-Dest") == "document"
        if opened:
            del self.headers["Sec-Fetch-Site"]
        if self.is_foreign():
            return self.refuse()
        found = self.server.find(self.path)
        if found is None:
            return self.answer(404, "not found")
        headers = {"Content-Security-Policy": "frame-ancestors 'none'", "Referrer-Policy": "no-referrer"}
        return self.send(*found, send, headers)


def _lines(path: Path) -> list[Any]:
    """The JSON values of a file's lines; lines that are none are left out."""
    found = []
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        try:
            found.append(json.loads(line.decode("utf-8")))
        except (ValueError, RecursionError):
            continue
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")
