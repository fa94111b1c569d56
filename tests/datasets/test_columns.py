"""Clips as columns: the same clips as in a list, in a fraction of the memory."""

import pickle
import tracemalloc
from pathlib import Path

import pytest

from audiointerp.datasets import ClipDataset, class_names, shuffle_labels, split
from audiointerp.datasets.clip import Clip, Member
from audiointerp.datasets.columns import ClipColumns

PLAIN = [
    Clip(Path("sounds/a.wav"), ("dog",), 1),
    Clip(Path("sounds/b.wav"), ("rain", "dog"), 2),
    Clip(Path("/other/ü\udcff.wav"), ("rain",), -3, start=1.5, seconds=2.0, recording="r", events=((0.5, 1.0),)),
    Clip(Path("c.wav"), ("rain",), 1),
    Clip(Path("sounds/deep/b.wav"), ("dog",), 2),
]
PACKED = [Clip(Path(f"{n}.tar"), ("dog",), n, member=Member(f"k{n}.wav", 512 * n, 10 + n)) for n in range(4)]


@pytest.mark.parametrize("clips", [PLAIN, PACKED], ids=["files", "members"])
def test_columns_are_the_clips(clips):
    columns = ClipColumns(iter(clips))
    assert len(columns) == len(clips) and list(columns) == clips and columns == clips
    for place in range(-len(clips), len(clips)):
        for name in Clip.__dataclass_fields__:
            assert getattr(columns[place], name) == getattr(clips[place], name)
    for part in (slice(1, 4), slice(None, None, -1), slice(3, 1)):
        assert columns[part] == clips[part]
        assert columns[1:][part] == clips[1:][part]
    assert list(columns.paths()) == [str(clip.path) for clip in clips]
    assert columns.folds.tolist() == [clip.fold for clip in clips]
    with pytest.raises(IndexError):
        columns[len(clips)]
    assert columns != clips[:-1] and columns != [*clips[:-1], clips[0]]
    assert list(pickle.loads(pickle.dumps(columns))) == clips


def test_split_of_columns_is_that_of_the_list():
    clips = [Clip(Path(f"{n}.wav"), (("dog", "rain", "wind")[n % 3],), n % 4) for n in range(40)]
    ours, theirs = (split(each, [0, 1], [2], [3]) for each in (ClipColumns(clips), clips))
    assert (list(ours.train), list(ours.valid), list(ours.test), ours.labels) == (
        theirs.train, theirs.valid, theirs.test, theirs.labels,
    )  # fmt: skip
    assert isinstance(ours.train, ClipColumns) and class_names(ours.test) == class_names(theirs.test)
    assert shuffle_labels(ours.train, 3) == shuffle_labels(theirs.train, 3) != theirs.train
    assert ClipDataset(ours.train, ours.labels).labels_of().tolist() == [int(clip.path.stem) % 3 for clip in ours.train]


def test_split_of_columns_refuses_what_that_of_a_list_refuses():
    clips = [Clip(Path("a"), ("dog",), 1), Clip(Path("b"), ("dog",), 1), Clip(Path("c"), ("rain",), 2)]
    with pytest.raises(ValueError, match=r"class 'rain' \(c, valid\) has no training clip"):
        split(ClipColumns(clips), [1], [2], [])
    twice = ClipColumns([*clips[:2], Clip(Path("x/../b"), ("dog",), 2, start=2.0)])
    with pytest.raises(
        ValueError, match=r"x/\.\./b is in both train and valid; give all clips of a file the same fold"
    ):
        split(twice, [1], [2], [])


def test_files_and_members_are_not_mixed():
    with pytest.raises(ValueError, match=r"0\.tar#k0\.wav: clips of shards and clips of files"):
        ClipColumns([PLAIN[0], PACKED[0]])


def test_a_clip_takes_less_than_64_bytes(tmp_path):
    """Names as VGGSound's; the list of the same clips takes ten times as much."""
    many = 20_000

    def clips():
        return (Clip(tmp_path / f"v{n:010d}_{n % 300:06d}.wav", (f"class {n % 309}",), 1 + n % 2) for n in range(many))

    taken = {}
    for _ in clips():  # pathlib interns names: Python's own table of them grows here, not below
        pass
    for make in (ClipColumns, list):
        tracemalloc.start()
        made = make(clips())
        taken[make] = tracemalloc.get_traced_memory()[0] / many
        tracemalloc.stop()
        assert len(made) == many
    assert taken[ClipColumns] < 64 and taken[list] > 10 * taken[ClipColumns]
    assert ClipColumns(clips()).nbytes / many < 48
