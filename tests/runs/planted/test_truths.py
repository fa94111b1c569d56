"""Truths by construction on classifiers whose hearing is a formula: sounds, rules, methods that must pass or fail."""

import pandas as pd
import pytest
import torch
from magnitude_classifiers import OfMagnitude
from tiny_runs import RECIPES, linked, results_of, run

from audiointerp.classifiers import first_seconds
from audiointerp.datasets import Clip, ClipDataset
from audiointerp.interpreters import AllPass, Empty, Loudest, MaskInterpreter, RandomMask, TargetMasking, Threshold
from audiointerp.runs import DeafTruth, FirstSecondTruth, SwappedTruth
from audiointerp.runs.planted import checks
from audiointerp.runs.planted.checks import known_sounds
from audiointerp.sound import StemMask
from audiointerp.sound import files as audio

RATE, SAMPLES = 16000, 24000
LABELS = ("high", "low", "nothing")
LOW, HIGH = slice(13, 65), slice(230, 300)  # bins of 200 to 1000 and of 3600 to 4680 Hz


def two_bands() -> OfMagnitude:
    """Says low or high, whichever band has more energy, unless both have little."""

    def logits(magnitude):
        power = magnitude.square().mean(2)
        high, low = power[:, HIGH].sum(1), power[:, LOW].sum(1)
        return high, low, torch.full_like(high, 1.0)

    return OfMagnitude(logits, LABELS)


class InBand(MaskInterpreter):
    """Keeps a band of bins, by the target class; where `frames` is given, only before that frame."""

    domain = "magnitude"

    def __init__(self, classifier, bands, frames=None):
        super().__init__(classifier)
        self.bands, self.frames = bands, frames

    def make_mask(self, scene):
        mask = torch.zeros_like(scene.stft.abs())
        for row, target in enumerate(scene.target.int().argmax(1).tolist()):
            mask[row, self.bands[target], : self.frames] = 1
        return mask, {}


@pytest.fixture
def test_clips(tmp_path):
    """Four clips of three tones in each band, lasting throughout; the beep's band is between the two bands."""
    clips = []
    for number in range(8):
        label = LABELS[number % 2]
        hertz = torch.tensor([250.0, 420, 610]) + 30 * number + (3500 if label == "high" else 0)
        time = torch.arange(SAMPLES, dtype=torch.float64) / RATE
        path = tmp_path / "data" / f"{number}.wav"
        audio.write(path, 0.2 * torch.sin(2 * torch.pi * hertz[:, None] * time).sum(0).float(), RATE)
        clips.append(Clip(path, (label,), 1))
    return ClipDataset(clips, LABELS, RATE, 1.5, cache_folder=tmp_path / "cache")


def energy_db(first, second):
    return float(10 * torch.log10(first.square().sum() / second.square().sum()))


def shares(truth, methods, test_clips, folder):
    """Share of right explanations of each method, and the rows."""
    table = checks.check_methods({"known": truth}, methods, test_clips, folder, 1).set_index("method")
    assert (table["verdict"] == ["pass" if share >= 0.95 else "fail" for share in table["right"]]).all()
    return table["right"].to_dict(), pd.read_csv(folder / "planted.csv")


def controls(classifier):
    """Methods that know nothing of the classifier: they must fail each truth."""
    return {
        "loudest": Loudest(classifier, share=0.05),
        "threshold": Threshold(classifier),
        "random": RandomMask(classifier),
        "all_pass": AllPass(classifier),
        "empty": Empty(classifier),
    }


FAILED = dict.fromkeys(("loudest", "threshold", "random", "all_pass", "empty"), 0.0)


def test_deaf(test_clips, tmp_path):
    classifier = two_bands()
    truth = DeafTruth(clips=6, snr_db=-3.0, sounds=1)
    explained, sounds = known_sounds("known", truth, classifier, test_clips, 1)
    for sound in sounds:
        torch.testing.assert_close(sound.used + sound.unused, sound.mixture, atol=1e-6, rtol=0)
        assert sound.target == sound.label
        # The clip has no sound in the band of the beep: level, and what the classifier says, are known.
        assert energy_db(sound.used, sound.unused) == pytest.approx(-3, abs=0.05)
        assert explained(sound.mixture).logits.allclose(explained(sound.used).logits, rtol=1e-4)
    methods = {
        "its_band": InBand(classifier, [HIGH, LOW]),
        "with_the_beep": InBand(classifier, [slice(100, 400), slice(0, 210)]),
        "other_band": InBand(classifier, [slice(118, 202)] * 2),
        "ideal": TargetMasking(classifier, StemMask(), "magnitude"),
        **controls(classifier),
    }
    right, rows = shares(truth, methods, test_clips, tmp_path / "run")
    assert right == {"its_band": 1.0, "with_the_beep": 0.0, "other_band": 0.0, "ideal": 1.0} | FAILED
    by_method = rows.groupby("method")
    # 3 dB below the beep: a third of the energy can be heard.
    assert by_method["audible_before"].mean().to_dict() == pytest.approx(
        dict.fromkeys(methods, 10**-0.3 / (1 + 10**-0.3)), abs=0.01
    )
    assert rows.loc[rows.method == "all_pass", "audible"].mean() == pytest.approx(0.334, abs=0.01)
    assert rows.loc[rows.method == "other_band", "audible"].max() < 0.01
    assert len(list((tmp_path / "run" / "audio").iterdir())) == 1 and len(sounds) == by_method.size()["ideal"] == 6


def test_first_second(test_clips, tmp_path):
    classifier, length = two_bands(), RATE // 2
    truth = FirstSecondTruth(seconds=0.5, clips=8, snr_db=-6.0)
    explained, sounds = known_sounds("known", truth, classifier, test_clips, 1)
    assert len(sounds) == 8 and {each.target for each in sounds} == {"high", "low"}
    for sound in sounds:
        assert not sound.used[:, length:].any() and not sound.unused[:, :length].any()
        mean_used, mean_unused = sound.used.square().sum() / length, sound.unused.square().sum() / (SAMPLES - length)
        assert float(10 * torch.log10(mean_used / mean_unused)) == pytest.approx(-6, abs=0.01)
        assert len(set(sound.recordings)) == 2 and sound.label == sound.target
        # What follows is of the other class, which the classifier itself would say.
        assert explained(sound.mixture).predicted != classifier(sound.mixture).predicted
        assert torch.equal(explained(sound.mixture).logits, explained(sound.used).logits)
    whole = [slice(0, 513)] * 2
    methods = {
        "its_time": InBand(classifier, whole, frames=length // 186),
        "its_band": InBand(classifier, [HIGH, LOW]),
        "a_quarter_more": InBand(classifier, whole, frames=int(0.75 * RATE) // 186),
        "ideal": TargetMasking(classifier, StemMask(), "magnitude"),
        **controls(classifier),
    }
    right, rows = shares(truth, methods, test_clips, tmp_path)
    # Half a second of A at -6 dB and one of B: 1/9 of the energy; a band of its own is enough to tell A from B.
    assert right == {"its_time": 1.0, "its_band": 1.0, "a_quarter_more": 0.0, "ideal": 1.0} | FAILED
    assert rows["audible_before"].mean() == pytest.approx(10**-0.6 / (10**-0.6 + 2), abs=0.005)
    more = rows.loc[rows.method == "a_quarter_more", "audible"].mean()
    assert more == pytest.approx(10**-0.6 / (10**-0.6 + 0.5), abs=0.03)


def test_a_class_of_silence_is_left_out(test_clips):
    """A classifier that calls silence low: only high beginnings are explained."""
    silence_is_low = OfMagnitude(
        lambda it: (it[:, HIGH].square().mean((1, 2)), torch.full_like(it[:, 0, 0], 0.01), 0 * it[:, 0, 0]), LABELS
    )
    assert first_seconds(silence_is_low, 0.5)(torch.zeros(1, SAMPLES)).predicted == 1
    _, sounds = known_sounds("known", FirstSecondTruth(seconds=0.5, clips=8), silence_is_low, test_clips, 1)
    assert {each.target for each in sounds} == {"high"}


def test_swapped(test_clips, tmp_path):
    classifier = two_bands()
    truth = SwappedTruth(pairs=[["low", "high"]], clips=3)
    explained, sounds = known_sounds("known", truth, classifier, test_clips, 1)
    assert [each.target for each in sounds] == ["high", "low"] * 3
    for sound in sounds:
        assert energy_db(sound.used, sound.unused) == pytest.approx(0, abs=0.01)
        assert torch.allclose(sound.used + sound.unused, sound.mixture) and sound.label != sound.target
        # The clip of the label low drives the logit of the label high.
        index = LABELS.index(sound.target)
        assert explained(sound.used).predicted == index and classifier(sound.used).predicted == 1 - index
    methods = {
        "of_the_logit": InBand(classifier, [LOW, HIGH]),
        "of_the_label": InBand(classifier, [HIGH, LOW]),
        "ideal": TargetMasking(classifier, StemMask(), "magnitude"),
        **controls(classifier),
    }
    right, rows = shares(truth, methods, test_clips, tmp_path)
    assert right == {"of_the_logit": 1.0, "of_the_label": 0.0, "ideal": 1.0} | FAILED
    assert rows["audible"].isna().all()
    # Three mixtures of two clips each; both rows of a mixture name both recordings.
    assert all(len(each.split(";")) == 2 for each in rows["recordings"]) and rows["item_id"].nunique() == 6


def test_several_truths_in_one_run(test_clips, tmp_path, monkeypatch):
    classifier = two_bands()
    truths = {"deaf": DeafTruth(clips=2), "swapped": SwappedTruth(pairs=[["low", "high"]], clips=1)}
    methods = {"its_band": InBand(classifier, [HIGH, LOW])}
    first = checks.check_methods(truths, methods, test_clips, tmp_path, 1)
    assert first[["truth", "method", "right"]].to_numpy().tolist() == [
        ["deaf", "its_band", 1],
        ["swapped", "its_band", 0],
    ]
    monkeypatch.setattr(InBand, "make_mask", None)
    pd.testing.assert_frame_equal(checks.check_methods(truths, methods, test_clips, tmp_path, 1), first)


def test_an_impossible_truth_ends_the_run_before_it_begins(test_clips, tmp_path):
    classifier = two_bands()
    truths = {"deaf": DeafTruth(clips=2), "swapped": SwappedTruth(pairs=[["low", "nothing"]], clips=1)}
    with pytest.raises(ValueError, match="no audible clip of 'nothing'"):
        checks.check_methods(truths, {"all": AllPass(classifier)}, test_clips, tmp_path / "run", 1)
    truths = {"deaf": DeafTruth(clips=2), "late": FirstSecondTruth(seconds=1.5)}
    with pytest.raises(ValueError, match=r"clips of 1.5 s have nothing after a beginning of 1.5 s"):
        checks.check_methods(truths, {"all": AllPass(classifier)}, test_clips, tmp_path / "run", 1)
    never = OfMagnitude(lambda it: (0 * it[:, 0, 0], 0 * it[:, 0, 0], 1 + 0 * it[:, 0, 0]), LABELS)
    with pytest.raises(ValueError, match="deaf: the classifier finds the target class in none of 2 sounds"):
        checks.check_methods({"deaf": DeafTruth(clips=2)}, {"all": AllPass(never)}, test_clips, tmp_path / "run", 1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DeafTruth(cue="whistle"), "choose one of beep, band, hum"),
        (lambda: DeafTruth(min_audible=1.5), "min_audible is 1.5; give a share from 0 to 1"),
        (lambda: DeafTruth(min_probability=float("nan")), "min_probability is nan"),
        (lambda: FirstSecondTruth(seconds=0.0), "seconds is 0;"),
        (lambda: FirstSecondTruth(clips=0), "clips is 0"),
        (lambda: SwappedTruth(pairs=[]), "give a list of pairs"),
        (lambda: SwappedTruth(pairs=[["a", "b"]], margin_db=float("inf")), "margin_db is inf"),
    ],
)
def test_settings_that_cannot_work(make, says):
    with pytest.raises(ValueError, match=says):
        make()


MODULE = """
import torch
from audiointerp import External


class TwoBands(torch.nn.Module):
    def forward(self, waveform):
        hertz = torch.fft.rfftfreq(waveform.shape[1], 1 / 16000)
        power = torch.fft.rfft(waveform).abs().square() / waveform.shape[1]
        high, low = (power[:, (hertz > a) & (hertz < b)].sum(1) for a, b in ((3600, 4700), (200, 1000)))
        return torch.stack([high, low, torch.ones_like(low)], 1)


def classifier():
    return External(TwoBands(), ["high", "low", "nothing"], 16000)
"""


@pytest.mark.slow
def test_recipe_from_the_command_to_the_page(test_clips, tmp_path, monkeypatch):
    """planted_untrained.yaml on ESC-50's layout; right rows are counted again from their numbers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "two_bands_of_planted.py").write_text(MODULE)
    table = [f"{number}.wav,4,0,{clip.labels[0]},True,{number},A" for number, clip in enumerate(test_clips.clips)]
    (tmp_path / "esc" / "meta").mkdir(parents=True)
    (tmp_path / "data").rename(tmp_path / "esc" / "audio")
    (tmp_path / "esc" / "meta" / "esc50.csv").write_text(
        "\n".join(["filename,fold,target,category,esc10,src_file,take", *table])
    )
    left_out = ["piq", "l2i", "lime_nmf", "lime", "most_faithful", "rise", "occlusion", "gradcam", "guided_gradcam"]
    left_out += ["smoothgrad", "integrated_gradients", "gradient_shap"]
    command = ["run", RECIPES / "planted_untrained.yaml", "--data_folder", "esc", "--output_folder", "out"]
    command += ["--seconds", 1.5, "--classifier", "python:two_bands_of_planted:classifier", "--device", "cpu"]
    command += [each for name in left_out for each in (f"--methods.{name}", "null")]
    command += ["--planted.deaf.clips", 3, "--planted.first_second.clips", 4, "--planted.first_second.seconds", 0.5]
    command += ["--planted.swapped.clips", 2, "--planted.swapped.pairs", "[[low, high]]"]
    run(command)
    folder = tmp_path / "out" / "planted_untrained" / "1234"
    rows, verdicts = pd.read_csv(folder / "planted.csv"), pd.read_csv(folder / "verdicts.csv")
    assert results_of(folder)["recognised"] == {"deaf": 3, "first_second": 4, "swapped": 4}
    for row in verdicts.to_dict("records"):
        own = rows[(rows.truth == row["truth"]) & (rows.method == row["method"])]
        nearer = own.to_used_db.gt(0) & (own.to_used_db - own.to_unused_db >= 3)
        right = nearer if row["truth"] == "swapped" else own.audible >= 0.9
        assert (own.right == right).all() and row["right"] == right.mean() and row["n"] == len(own)
    verdict = verdicts.set_index(["truth", "method"])["verdict"].unstack()
    assert (verdict[["all_pass", "empty", "random", "loudest", "threshold"]] == "fail").all(axis=None)
    assert (verdict[["saliency", "ideal_ratio", "ideal_binary"]] == "pass").all(axis=None)
    files = {f"{where}/{name}" for name in verdict.index for where in ("tables", "figures")}
    written = {name.rpartition(".")[0] for name in linked(folder / "report.html")}
    assert files <= written
    before = (folder / "planted.csv").read_bytes()
    run(command)
    assert (folder / "planted.csv").read_bytes() == before
