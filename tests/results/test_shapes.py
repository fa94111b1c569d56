"""JSON of every wrong shape: what is said of it, by hand."""

from __future__ import annotations

import json

import pytest

from audiointerp.results import shapes
from audiointerp.results.shapes import misshapen, read_json, text_of

BUNDLE = {
    "type": str,
    "labels?": [str],
    "size": (int, None),
    "arguments": {str: (float, bool)},
    "inner?": {"rate": int},
}
WHOLE = {"type": "PIQ", "labels": ["dog"], "size": None, "arguments": {"lr": 0.1, "on": True}, "inner": {"rate": 1}}


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        ("text", str),
        (3, int),
        (3, float),
        (3.5, float),
        (-0.0, float),
        (True, bool),
        (None, None),
        (None, type(None)),
        ([], [int]),
        ([1, 2], [int]),
        ([[1], []], [[int]]),
        ([1, "a", None], list),
        ({}, dict),
        ({}, {str: int}),
        ({"a": {"b": 1}}, {str: {"b": int}}),
        ({}, {"a?": int}),
        ({"a": 1, "more": object()}, {"a": int}),  # further names are not looked at
        (None, (int, None)),
        ([1], (str, [int])),
        (WHOLE, BUNDLE),
        ({"type": "", "size": 0, "arguments": {}}, BUNDLE),
    ],
)
def test_right_shapes(value, shape):
    assert misshapen(value, shape) == ""


@pytest.mark.parametrize(
    ("value", "shape", "said"),
    [
        (3, str, "it is 3, expected text"),
        ("3", int, "it is '3', expected a whole number"),
        (3.0, int, "it is 3.0, expected a whole number"),
        (True, int, "it is True, expected a whole number"),
        (True, float, "it is True, expected a number"),
        ("0.1", float, "it is '0.1', expected a number"),
        (float("nan"), float, "it is nan, expected a number"),
        (float("-inf"), float, "it is -inf, expected a number"),
        (1, bool, "it is 1, expected true or false"),
        (0, None, "it is 0, expected null"),
        (None, str, "it is None, expected text"),
        ({}, list, "it is {}, expected a list"),
        ([], dict, "it is [], expected an object"),
        ("abc", [str], "it is 'abc', expected a list"),
        ({"a": 1}, [int], "it is {'a': 1}, expected a list"),
        ([], {"a": int}, "it is [], expected an object"),
        ([1, "2"], [int], "it[1] is '2', expected a whole number"),
        ([[1], [2, None]], [[int]], "it[1][1] is None, expected a whole number"),
        ({"a": "x"}, {str: int}, "it.a is 'x', expected a whole number"),
        ({}, {"a": int}, "it lacks 'a'"),
        ({"a": None}, {"a": int}, "a is None, expected a whole number"),
        ({"a": None}, {"a?": int}, "a is None, expected a whole number"),
        ({"a": {}}, {"a": {"b": int}}, "a lacks 'b'"),
        ({"a": {"b": [0, []]}}, {"a": {"b": [int]}}, "a.b[1] is [], expected a whole number"),
        ("x", (int, None), "it is 'x', expected a whole number or null"),
        (["x"], (str, [int]), "it is ['x'], expected text or a list"),
        (WHOLE | {"labels": "dog"}, BUNDLE, "labels is 'dog', expected a list"),
        (WHOLE | {"labels": ["dog", 7]}, BUNDLE, "labels[1] is 7, expected text"),
        (WHOLE | {"size": True}, BUNDLE, "size is True, expected a whole number or null"),
        (WHOLE | {"arguments": {"lr": "a"}}, BUNDLE, "arguments.lr is 'a', expected a number or true or false"),
        (WHOLE | {"inner": None}, BUNDLE, "inner is None, expected an object"),
    ],
)
def test_wrong_shapes(value, shape, said):
    assert misshapen(value, shape) == said


def test_what_is_said_is_short_and_named():
    assert misshapen("x" * 1000, int) == f"it is '{'x' * 56}..., expected a whole number"
    assert misshapen(3, str, "the rate") == "the rate is 3, expected text"
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert misshapen(deep, str) == "it is a list, expected text"
    while deep:  # or deleting it recurses too deeply
        deep = deep.pop()


def test_numbers_that_no_float_holds():
    assert misshapen(10**400, float) == f"it is {str(10**400)[:57]}..., expected a number"
    assert misshapen(10**400, int) == ""
    assert misshapen(10**5000, float) == "it is a int, expected a number"  # repr has at most 4,300 digits


@pytest.mark.parametrize(
    ("data", "shape", "said"),
    [
        (b"", dict, "not valid JSON"),
        (b"{", dict, "not valid JSON"),
        (b"[" * 100_000, list, "not valid JSON (nested too deeply)"),
        (b"9" * 5000, int, "not valid JSON"),
        (b"\xff\xfe", dict, "is not UTF-8 text"),
        (b"[]", dict, "must hold a JSON object, not a list"),
        (b"null", {"a": int}, "must hold a JSON object, not a NoneType"),
        (b"{}", {"a": int}, "it lacks 'a'"),
        (b'{"a": NaN}', {"a": float}, "a is nan, expected a number"),
        (b'{"a": 1e999}', {"a": float}, "a is inf, expected a number"),
        (b'"text"', [str], "it is 'text', expected a list"),
    ],
)
def test_files_of_wrong_shapes_are_named(data, shape, said, tmp_path):
    path = tmp_path / "about.json"
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_json(path, shape)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and said in message and "\n" not in message


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    for path, said in ((tmp_path, "is not a regular file"), (tmp_path / "absent", "cannot be read (No such file")):
        with pytest.raises(ValueError, match="^" + str(path)) as caught:
            text_of(path)
        assert said in str(caught.value)
    (tmp_path / "large").write_text("x" * 11)
    monkeypatch.setattr(shapes, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="has more than 0 MB"):
        text_of(tmp_path / "large")


def test_whole_files(tmp_path):
    path = tmp_path / "about.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(WHOLE).encode())  # with the mark that some editors put in front
    assert read_json(path, BUNDLE) == WHOLE
    path.write_text("[1]")
    assert read_json(path, [int]) == [1]
