"""Files mutated by a seeded fuzzer (hypothesis), and commands that must end with a result or with one line."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiointerp.__main__ import main

SECONDS = 10.0  # of processor time, most that a command may take

HOSTILE = [
    "",
    " ",
    "0",
    "-1",
    "1e308",
    "-1e308",
    "nan",
    "inf",
    "9" * 5000,
    "../../x",
    "/etc/passwd",
    "=cmd|x",
    "x" * 140_000,
]
HOSTILE += ["null", "[]", "{}", "\x00", "\n", '"', ",", ";", "é", "\u202e", "🥁", "True", "1,5", "-", "a/b", "{", "["]
VALUES = [None, True, 0, -1, 1.5, 1e308, float("nan"), 10**400, "", "x", [], {}, [1], {"a": 1}, "../x", ["a", "a"]]

PIECES = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1), st.just(b"")),
    st.tuples(
        st.just("put"), st.floats(0, 1), st.sampled_from([each.encode() for each in HOSTILE]) | st.binary(max_size=8)
    ),
    st.tuples(st.just("drop"), st.floats(0, 1), st.integers(1, 40).map(lambda n: b"x" * n)),
    st.tuples(st.just("flip"), st.floats(0, 1), st.binary(min_size=1, max_size=1)),
)
CHANGES = st.one_of(
    st.tuples(st.just("bytes"), st.lists(PIECES, min_size=1, max_size=3)),
    st.tuples(st.just("cells"), st.lists(st.tuples(st.floats(0, 1), st.sampled_from(HOSTILE)), min_size=1, max_size=3)),
    st.tuples(st.just("nodes"), st.lists(st.tuples(st.floats(0, 1), st.sampled_from(VALUES)), min_size=1, max_size=2)),
    st.tuples(
        st.just("whole"), st.sampled_from([b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"[]", b"{}", b"3"])
    ),
)


def mutated(data: bytes, change) -> bytes:
    kind, steps = change
    if kind == "whole":
        return steps
    if kind == "cells" and b"," in data:
        rows = [line.split(b",") for line in data.split(b"\n")]
        places = [(i, j) for i, row in enumerate(rows) for j in range(len(row))]
        for share, text in steps:
            i, j = places[int(share * (len(places) - 1))]
            rows[i][j] = text.encode()
        return b"\n".join(b",".join(row) for row in rows)
    if kind == "nodes":
        with contextlib.suppress(ValueError):
            return json.dumps(_with_nodes(json.loads(data), steps)).encode()
    if kind != "bytes":
        steps = [("put", share, str(value).encode()) for share, value in steps]
    for how, share, piece in steps:
        at = int(share * len(data))
        if how == "cut":
            data = data[:at]
        elif how == "put":
            data = data[:at] + piece + data[at:]
        elif how == "drop":
            data = data[:at] + data[at + len(piece) :]
        elif at < len(data):
            data = data[:at] + piece + data[at + 1 :]
    return data


def _with_nodes(value, steps):
    """JSON with some of its nodes replaced, or left out."""
    for share, new in steps:
        places = []

        def visit(node, places=places):
            for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                places.append((node, key))
                visit(node[key])

        visit(value)
        if places:
            owner, key = places[int(share * (len(places) - 1))]
            if new is None and isinstance(owner, dict):
                del owner[key]
            else:
                owner[key] = copy.deepcopy(new)  # a value put into itself would have no end
    return value


def ends_well(command: Sequence[object], name: str, totals: dict[int, int]) -> None:
    """A command ends with a result, or with one line that a user understands; any exception fails the test."""
    out, errors = io.StringIO(), io.StringIO()
    start = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status = main([str(each) for each in command])
    took, lines = time.process_time() - start, errors.getvalue().strip().splitlines()
    assert took < SECONDS, f"{took:.1f} s"
    assert status in (0, 2), status
    if status == 2:
        told = [line for line in lines if line.startswith("audiointerp: ")]
        assert len(told) == 1 and "Traceback" not in errors.getvalue(), lines
        assert len(told[0]) > 20 and name in errors.getvalue(), lines
    totals[status] = totals.get(status, 0) + 1


def fuzz(
    path: Path, command: Sequence[object], name: str, cases: int, before: Callable[[], object] = lambda: None
) -> dict[int, int]:
    """Mutates a valid file `cases` times and runs a command on each; the file is as it was afterwards.

    Args:
        path: the file.
        command: of the command line.
        name: what a refusal must name.
        before: called before each command.

    Returns:
        Status -> number of cases that ended with it.
    """
    valid, totals = path.read_bytes(), {}

    @settings(
        max_examples=cases, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(CHANGES)
    def case(change):
        before()
        path.write_bytes(mutated(valid, change))
        ends_well(command, name, totals)

    try:
        before()
        unharmed: dict[int, int] = {}
        ends_well(command, name, unharmed)
        assert unharmed == {0: 1}  # the file as it was made is good
        case()
    finally:
        path.write_bytes(valid)
    assert sum(totals.values()) >= min(cases, 6)
    return totals


def fuzz_tables(run: Path, folder: Path, cases: int) -> dict[str, dict[int, int]]:
    """`report` of a copy of a run, with each of its tables damaged in turn; table -> `fuzz`'s result."""
    copied = shutil.copytree(run, folder / run.name)
    tables = sorted(path for path in copied.glob("*.csv"))
    found = {each.name: fuzz(each, ["report", copied], copied.name, cases) for each in tables}
    assert any(totals.get(2) for totals in found.values())  # there are tables, and damage was noticed
    return found
