"""Progress of long work: silent if it is short, a line a minute in a file, a bar in a terminal."""

import sys

import pytest

from audiointerp.training import progress
from audiointerp.training.progress import Progress, tracked


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves; its only item is the time in seconds."""
    now = [1000.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def work(clock, steps: int, seconds: float, **given) -> None:
    with Progress(given.pop("total", steps), "training", **given) as made:
        for _ in range(steps):
            clock[0] += seconds
            made.step()


def test_a_file_gets_a_line_a_minute_with_the_time_left(clock, capsys):
    work(clock, 20, 25.0)
    said = capsys.readouterr().err.splitlines()
    # After 75, 150, ... 450 s of 500 s.
    assert said == [
        "training: 15% done, about 7 min left",
        "training: 30% done, about 6 min left",
        "training: 45% done, about 5 min left",
        "training: 60% done, about 3 min left",
        "training: 75% done, about 2 min left",
        "training: 90% done, about 50 s left",
    ]


def test_the_time_left_is_of_the_steps_of_this_process(clock, capsys):
    """Eighteen of twenty were done before; the nineteenth takes an hour."""
    work(clock, 1, 3600.0, total=20, done=18)
    assert capsys.readouterr().err == "training: 95% done, about 1 h 0 min left\n"


@pytest.mark.parametrize("given", [{}, {"shown": False}])
def test_short_work_and_further_processes_write_nothing(clock, given, capsys):
    work(clock, 10, 100.0 if given else 5.0, **given)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_a_bar(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Progress(10, "training", done=4) as made:
        made.rename("training, epoch 2 of 5")
        for _ in range(2):
            clock[0] += 100.0
            made.step()
        assert not made.bar.disable and (made.bar.n, made.bar.total) == (6, 10)
    said = capsys.readouterr().err
    assert "epoch 2 of 5" in said and " left\n" not in said


def test_tracked_items_come_one_by_one(clock, capsys):
    """The step of an item ends when the next one is asked for."""
    seen = []
    for item in tracked("abc", 3, "explaining"):
        seen.append(item)
        clock[0] += 61.0
    assert seen == ["a", "b", "c"]
    assert capsys.readouterr().err.splitlines() == [
        "explaining: 33% done, about 2 min left",
        "explaining: 67% done, about 60 s left",
    ]
