"""Several runs as the groups of one test."""

import csv
import json

import pytest
from listening_runs import make_run

from audiointerp.listening.making.export import export_study
from audiointerp.listening.making.groups import gather
from audiointerp.listening.making.manifest import ListeningError


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_paper_s_study_from_two_runs(tmp_path):
    """Four mixtures explained by three methods, four by two: the runs' folders name the groups."""
    first = make_run(tmp_path / "l2i_site", 4, ("piq", "l2i_1", "l2i_2"), seconds=0.2)
    second = make_run(tmp_path / "esc50", 4, ("piq", "l2i_2"), seconds=0.2, seed=1)
    done = export_study([first, second], tmp_path / "out", target="folder", practice=0)
    assert (done.trials, done.stimuli, done.warnings) == (8, 4 * 4 + 4 * 3, ())
    methods: dict[str, set[str]] = {}
    for row in table(done.private / "key.csv"):
        assert row["item_id"].startswith(f"{row['group']}_c_0")
        assert row["source"].startswith(f"{row['group']}/audio/c_0")
        if row["role"] == "interpretation":
            methods.setdefault(row["group"], set()).add(row["method"])
    assert methods == {"l2i_site": {"piq", "l2i_1", "l2i_2"}, "esc50": {"piq", "l2i_2"}}
    assert [each["name"] for each in json.loads((done.private / "settings.json").read_text())["runs"]] == ["fake"] * 2


def test_names_that_do_not_clash_and_groups_of_a_manifest_stay(tmp_path):
    run, other = make_run(tmp_path / "Run 1", 1, groups=("site",)), make_run(tmp_path / "b", 2, labels=("pig", "cow"))
    material = gather([run, other])
    assert list(dict.fromkeys((sound.item_id, sound.group) for sound in material.sounds)) == [
        ("run_1_c_00", "site"), ("b_c_00", "b"), ("c_01", "b")
    ]  # fmt: skip
    assert material.labels == ["dog", "church bells", "crying baby", "cat", "pig", "cow"]
    assert material.digest != gather([run]).digest
    (alone,) = {sound.group for sound in gather([other]).sounds}
    assert alone == ""  # one run is no group


def test_runs_that_cannot_be_told_apart_are_refused(tmp_path):
    run = make_run(tmp_path / "a" / "run")
    with pytest.raises(ValueError, match=r"two runs are called run; .*different names"):
        gather([run, make_run(tmp_path / "b" / "run")])
    with pytest.raises(ValueError, match="two runs are called run"):
        gather([run, tmp_path / "b" / ".." / "a" / "run"])
    with pytest.raises(ValueError, match="no run is given"):
        gather([])
    with pytest.raises(ListeningError, match=r"2024_c_00: .*rename the folder"):
        gather([run, make_run(tmp_path / "2024")])
