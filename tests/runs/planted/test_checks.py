"""Planted truth on a classifier that decides by 2 to 3 kHz alone: methods that must pass, and methods that must not."""

import json

import pandas as pd
import pytest
import torch
from browsing import check_page
from damage import fuzz_tables
from magnitude_classifiers import OfMagnitude

from audiointerp.datasets import Clip, ClipDataset
from audiointerp.interpreters import LIME, AllPass, Loudest, MaskInterpreter, RandomMask, TargetMasking
from audiointerp.runs.planted import checks, page
from audiointerp.runs.planted.truths import PlantedTruth
from audiointerp.sound import StemMask
from audiointerp.sound import files as audio

RATE, SAMPLES = 16000, 24000
WANTED = PlantedTruth(label="rain", clips=6, snr_db=-8.0, sounds=2)


def hears_beeps() -> OfMagnitude:
    """Says rain if more than a hundredth of the energy is between 2 and 3 kHz, else dog."""

    def logits(magnitude):
        power = magnitude.square().sum(2)
        share = power[:, 128:193].sum(1) / power.sum(1).clamp(min=1e-9)
        return 50 * torch.full_like(share, 0.01), 50 * share

    return OfMagnitude(logits, ("dog", "rain"))


class Bins(MaskInterpreter):
    """Keeps bins 128 to 192, 2 to 3 kHz, or all the others."""

    domain = "magnitude"

    def __init__(self, classifier, others=False):
        super().__init__(classifier)
        self.others = others

    def make_mask(self, scene):
        mask = torch.full_like(scene.stft.abs(), float(self.others))
        mask[:, 128:193] = 1.0 - self.others
        return mask, {}


@pytest.fixture
def test_clips(tmp_path):
    """Eight dogs below 1 kHz and two clips of rain, which must not be used."""
    clips = []
    for number in range(10):
        time = torch.arange(SAMPLES) / RATE
        hertz = torch.tensor([200.0 + 70 * number, 410 + 50 * number])[:, None]
        path = tmp_path / "data" / f"{number}.wav"
        audio.write(path, 0.2 * torch.sin(6.2832 * hertz * time).sum(0), RATE)
        clips.append(Clip(path, ("rain" if number > 7 else "dog",), 1))
    return ClipDataset(clips, ("dog", "rain"), RATE, 1.5, cache_folder=tmp_path / "cache")


def test_who_shows_the_cue_and_who_does_not(test_clips, tmp_path):
    classifier = hears_beeps()
    methods = {
        "its_bins": Bins(classifier),
        "other_bins": Bins(classifier, others=True),
        "lime": LIME(classifier, parts="bands", n_components=7),
        "loudest": Loudest(classifier, share=0.05),
        "all_pass": AllPass(classifier),
        "random": RandomMask(classifier),
        "ideal": TargetMasking(classifier, StemMask(), "magnitude"),
    }
    table = checks.check_methods({"cue": WANTED}, methods, test_clips, tmp_path / "run", 1).set_index("method")
    assert table["right"].to_dict() == {
        "its_bins": 1.0, "other_bins": 0.0, "lime": 1.0, "loudest": 0.0, "all_pass": 0.0, "random": 0.0, "ideal": 1.0,
    }  # fmt: skip
    assert set(table.loc[table["right"] == 1, "verdict"]) == {"pass"}
    assert set(table.loc[table["right"] == 0, "verdict"]) == {"fail"}
    assert (table["n"] == 6).all() and table.loc["all_pass", "to_used_db"] == pytest.approx(0, abs=0.01)
    rows = pd.read_csv(tmp_path / "run" / "planted.csv")
    assert set(rows["label"]) == {"dog"} and rows["source"].nunique() == 6
    # The mixture of the first clip is its cue and a clip 8 dB louder.
    folder = tmp_path / "run" / "audio" / rows["item_id"].iloc[0]
    mixture, cue = (audio.read(folder / f"{name}.wav") for name in ("mixture", "used"))
    level = 10 * torch.log10(cue.square().sum() / (mixture - cue).square().sum())
    assert level == pytest.approx(-8, abs=0.01)
    assert len(list((tmp_path / "run" / "audio").iterdir())) == WANTED.sounds


@pytest.mark.parametrize("name", ["cue", "001", "True", "1e5", "NA", "-x"])
def test_methods_that_are_done_are_not_run_again(name, test_clips, tmp_path, monkeypatch):
    """Whatever their names and those of truths look like in a table."""
    method = Bins(hears_beeps())
    first = checks.check_methods({name: WANTED}, {name: method}, test_clips, tmp_path, 1)
    written = (tmp_path / "planted.csv").read_bytes()
    monkeypatch.setattr(Bins, "make_mask", None)
    again = checks.check_methods({name: WANTED}, {name: method}, test_clips, tmp_path, 1)
    pd.testing.assert_frame_equal(first, again)
    assert (tmp_path / "planted.csv").read_bytes() == written


def test_a_table_that_lost_rows_is_completed(test_clips, tmp_path):
    method, path = Bins(hears_beeps()), tmp_path / "planted.csv"
    first = checks.check_methods({"cue": WANTED}, {"its_bins": method}, test_clips, tmp_path, 1)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    again = checks.check_methods({"cue": WANTED}, {"its_bins": method}, test_clips, tmp_path, 1)
    assert again["n"].tolist() == first["n"].tolist() == [6] and len(pd.read_csv(path)) == 6
    path.write_text(path.read_text().replace("truth", "other", 1))
    with pytest.raises(ValueError, match=r"planted\.csv: no column truth; it has other,"):
        checks.check_methods({"cue": WANTED}, {"its_bins": method}, test_clips, tmp_path, 1)


def test_a_classifier_that_does_not_know_the_cue_is_refused(test_clips, tmp_path):
    with pytest.raises(ValueError, match="none of 6 clips with a hum at -8 dB is classified as 'rain'"):
        wanted = PlantedTruth(label="rain", cue="hum", clips=6)
        checks.check_methods({"cue": wanted}, {"bins": Bins(hears_beeps())}, test_clips, tmp_path, 1)


def test_settings_that_cannot_work(test_clips):
    with pytest.raises(ValueError, match="1 to 100000 clips"):
        PlantedTruth(label="rain", clips=0)
    with pytest.raises(ValueError, match="the classes are dog, rain"):
        checks.known_sounds("cue", PlantedTruth(label="cow"), hears_beeps(), test_clips, 1)


@pytest.fixture
def done(test_clips, tmp_path):
    classifier, folder = hears_beeps(), tmp_path / "planted"
    methods = {"its_bins": Bins(classifier), "all_pass": AllPass(classifier)}
    checks.check_methods({"cue": WANTED}, methods, test_clips, folder, 1)
    about = {"name": "planted", "kind": "planted", "scored": False, "seed": 1, "labels": ["dog", "rain"]}
    (folder / "run.json").write_text(json.dumps(about))
    return folder


@pytest.mark.slow
def test_damaged_tables(done, tmp_path):
    fuzz_tables(done, tmp_path / "copy", 12)


def test_page_shows_sounds_and_verdicts(done):
    written = page.write(done).read_text()
    assert written.count("<audio") == WANTED.sounds * 4 and "✗ wrong" in written and "✓ right" in written
    assert "| its_bins | 6 | 1.00 [1.00, 1.00] |" in (done / "tables" / "cue.md").read_text()
    assert (done / "figures" / "cue.png").is_file()


@pytest.mark.slow
def test_nothing_is_wrong_with_the_page(done):
    check_page(page.write(done))
