"""Clips with another classifier's labels, and folds that no source recording crosses."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from audiointerp import datasets
from audiointerp.datasets import Clip, relabel, split_recordings
from audiointerp.datasets.synthetic import CLASSES

CLIPS = [
    Clip(Path(f"{label}{i}.wav"), (label,), 4, recording=f"{label}-{i // 2}")
    for label in ("dog", "rain", "can")
    for i in range(8)
]


def write(path: Path, text: str) -> Path:
    path.write_text("class,label\n" + text)
    return path


def test_labels_of_the_table_and_clips_left_out(tmp_path):
    table = write(tmp_path / "map.csv", 'dog,Dog;Bark\nrain,"Rain, heavy"\ncan,\n')
    clips = relabel(lambda: CLIPS, table)
    assert Counter(clip.labels for clip in clips) == {("Dog", "Bark"): 8, ("Rain, heavy",): 8}
    assert [clip.path for clip in clips] == [clip.path for clip in CLIPS[:16]]
    assert [clip.source for clip in clips] == [clip.source for clip in CLIPS[:16]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("dog,Dog\nrain,Rain\n", r"map.csv: has no row for class 'can' \(can0.wav\)"),
        ("dog,Dog\ndog,Bark\nrain,Rain\ncan,\n", "row 3: class 'dog' has an earlier row"),
        ("dog,\nrain,\ncan,\n", "no clip is left"),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, problem):
    with pytest.raises(ValueError, match=problem):
        relabel(lambda: CLIPS, write(tmp_path / "map.csv", text))


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_no_recording_is_in_two_folds_and_every_class_in_each(folds):
    clips = split_recordings(lambda: CLIPS, folds, seed=3)
    owners: dict[str, set[int]] = {}
    for clip in clips:
        owners.setdefault(clip.source, set()).add(clip.fold)
    assert all(len(found) == 1 for found in owners.values())
    per_class = Counter((clip.labels[0], clip.fold) for clip in clips)
    assert set(per_class) == {(label, fold) for label in ("dog", "rain", "can") for fold in range(1, folds + 1)}
    assert max(per_class.values()) - min(per_class.values()) <= 2  # one recording, which has two clips
    assert clips == split_recordings(lambda: CLIPS, folds, seed=3)
    assert [clip.fold for clip in clips] != [clip.fold for clip in split_recordings(lambda: CLIPS, folds, seed=4)]


def test_too_few_recordings_or_folds():
    with pytest.raises(ValueError, match=r"class 'can' has 4 source recordings \(.+, .+\); 5 folds need 5"):
        split_recordings(lambda: CLIPS, 5)
    with pytest.raises(ValueError, match="at least 2"):
        split_recordings(lambda: CLIPS, 1)


def test_the_shipped_map_names_audioset_labels():
    """Every class of ESC-50 has a row, and every label is one of AudioSet's 527."""
    folder = Path(datasets.__file__).parent
    with open(folder / "label_maps" / "esc50_to_audioset.csv", newline="") as file:
        rows = {row["class"]: row["label"] for row in csv.DictReader(file)}
    known = set((folder.parent / "classifiers" / "audioset_labels.txt").read_text().splitlines())
    assert len(rows) == 50 and {label for label in rows.values() if label} <= known
    assert [name for name, label in rows.items() if not label] == ["can_opening", "drinking_sipping", "washing_machine"]
    found = relabel(
        lambda: [Clip(Path("a.wav"), ("dog",), 1), Clip(Path("b.wav"), ("can_opening",), 1)], "esc50_to_audioset"
    )
    assert found == [Clip(Path("a.wav"), ("Dog",), 1)]


def test_the_map_of_the_synthetic_classes_names_labels_of_the_shipped_classifier():
    """Every synthetic class has a row; at least two sounds are known, so that they can be mixed."""
    folder = Path(datasets.__file__).parent
    with open(folder / "label_maps" / "synthetic_to_esc10.csv", newline="") as file:
        rows = {row["class"]: row["label"] for row in csv.DictReader(file)}
    config = json.loads((folder.parent / "bundles" / "esc10-piq" / "config.json").read_text())
    known = {label for label in rows.values() if label}
    assert list(rows) == list(CLASSES) and len(known) >= 2 and known <= set(config["classifier"]["labels"])
