"""What a mask of ones, one of zeros and hand-made predictions score; the written WAVs score as the files say."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from band_classifiers import reads as band_reader
from cases import CLASSIFIERS, has_feature_maps, l2i, piq, vggsound
from references.curves import kept_energy_of_bins

from audiointerp.contracts import Prediction
from audiointerp.evaluation import judging
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item
from audiointerp.interpreters import RDE, AllPass, BandRDE, Empty, Loudest
from audiointerp.interpreters.rde.solvers import Concrete
from audiointerp.metrics.curves import SHARES
from audiointerp.sound.files import fit_length, resample
from audiointerp.sound.recordings import windows


def sounds(rows: int = 2, seed: int = 0) -> torch.Tensor:
    """Noise that swells in turns, each row at another level."""
    noise = torch.randn(rows, 4800, generator=torch.Generator().manual_seed(seed))
    swell = torch.sin(torch.linspace(0, 9, 4800) + torch.arange(rows)[:, None]).square()
    return noise * swell * torch.tensor([0.5, 0.02])[:rows, None]


@pytest.fixture(scope="module", params=CLASSIFIERS, ids=str)
def classifier(request):
    return CLASSIFIERS[request.param]()


def hear_again(interpretation, classifier):
    """`judge_waveforms` of an interpretation's own waveforms."""
    heard = judging.hear(interpretation.waveform, interpretation.residual, interpretation.input_gain, classifier)
    return judging.judge_waveforms(interpretation.prediction, *heard, interpretation.target)


@pytest.mark.parametrize("domain", ["magnitude", "log_magnitude"])
def test_a_mask_of_ones(classifier, domain):
    """Bit for bit on the features; on the waveform up to what analysing again adds, which the tolerance allows."""
    method = AllPass(classifier)
    method.domain = domain
    waveform = sounds()
    made = method.interpret(waveform)
    scores = judging.judge(made, waveform, classifier, with_curves=True)
    for name in ("ai", "ad", "ag"):
        assert scores[name].tolist() == [0, 0], name
    assert scores["fidelity"].tolist() == [1, 1] and scores["silent"].tolist() == [False, False]
    torch.testing.assert_close(scores["kept_energy"], torch.ones(2, dtype=torch.float64), atol=1e-5, rtol=0)
    bins = math.prod(made.mask.shape[1:])
    assert scores["sparseness"].tolist() == pytest.approx([0, 0]) and scores["mean_mask"].tolist() == [1, 1]
    assert scores["complexity"].tolist() == pytest.approx([math.log(bins)] * 2)
    # A flat mask: what is kept of each share is what is left of its complement, and the shares are symmetric.
    torch.testing.assert_close(scores["insertion"], scores["deletion"], atol=1e-4, rtol=0)
    again = hear_again(made, classifier)
    assert again["wav_ai"].tolist() == [0, 0] and again["wav_fidelity"].tolist() == [1, 1]
    assert again["wav_ad"].max() < 0.01 and again["wav_ag"].max() < 0.01


def test_a_mask_of_zeros(classifier):
    """Nothing is taken out, so nothing falls; what is heard alone is silence."""
    waveform = sounds()
    made = Empty(classifier).interpret(waveform)
    scores = judging.judge(made, waveform, classifier, stems=(waveform, waveform.flip(1)))
    assert scores["faithfulness"].abs().max() < 1e-5 and scores["faithfulness_logit"].abs().max() < 1e-4
    assert scores["silent"].tolist() == [True, True] and scores["kept_energy"].tolist() == [0, 0]
    for name in ("si_sdr", "si_sdr_improvement", "other_si_sdr", "other_si_sdr_improvement"):
        assert scores[name].isnan().all(), name
    with torch.no_grad():
        silence = classifier(torch.zeros_like(waveform)).probabilities
    p, o = ((each * made.target).sum(1) / made.target.sum(1) for each in (made.prediction.probabilities, silence))
    torch.testing.assert_close(scores["ad"], 100 * (1 - o / p).clamp(min=0), atol=0.05, rtol=1e-3)
    assert hear_again(made, classifier)["wav_faithfulness"].abs().max() < 1e-5


def said(*rows: tuple[float, ...]) -> Prediction:
    """A prediction of stated probabilities; the logits are their logarithms, plus 3."""
    probabilities = torch.tensor(rows, dtype=torch.float64)
    return Prediction(probabilities.log() + 3, probabilities)


def test_scores_of_predictions_by_hand():
    target = torch.tensor([[True, False, False], [False, True, False]])
    whole, kept, left = (
        said((0.9, 0.05, 0.05), (0.3, 0.4, 0.3)),
        said((0.1, 0.8, 0.1), (0.1, 0.7, 0.2)),
        said((0.3, 0.3, 0.4), (0.6, 0.2, 0.2)),
    )
    scores = judging.judge_waveforms(whole, kept, left, target)
    assert scores["wav_ad"].tolist() == pytest.approx([88.9, 0], abs=0.05)
    assert scores["wav_ag"].tolist() == pytest.approx([0, 50])
    assert scores["wav_ai"].tolist() == [0, 100] and scores["wav_fidelity"].tolist() == [0, 1]
    assert scores["wav_faithfulness"].tolist() == pytest.approx([0.6, 0.2])


@pytest.mark.parametrize(("more", "increase"), [(0.0, 0), (0.9e-5, 0), (1.1e-5, 100)])
def test_an_increase_of_a_written_waveform_counts_above_the_tolerance(more, increase):
    whole, kept = said((0.7, 0.3)), said((0.7 + more, 0.3 - more))
    scores = judging.judge_waveforms(whole, kept, kept, torch.tensor([[True, False]]))
    assert scores["wav_ai"].tolist() == [increase]


def literal_scores(made, waveform, classifier) -> dict[str, list[float]]:
    """The same scores a clip at a time: magnitudes by the definition of the domain, curves in exact fractions."""
    scores: dict[str, list[float]] = {}
    for i in range(len(waveform)):
        clip = waveform[i : i + 1] * made.input_gain[i]
        stft = classifier.spectrogram(clip)
        mask, target = made.mask[i : i + 1], made.target[i]

        def heard(kept, stft=stft, clip=clip):
            with torch.no_grad():
                return classifier.classify_stft(torch.polar(kept, stft.angle()), clip.shape[1])

        def chance(prediction, target=target):
            return float(prediction.probabilities[0][target].mean())

        def part(mask, stft=stft):
            return mask * stft.abs() if made.domain == "magnitude" else (1 + stft.abs()) ** mask - 1

        whole, kept, left = heard(stft.abs()), heard(part(mask)), heard(part(1 - mask))
        p, o, q = chance(whole), chance(kept), chance(left)
        power = stft.abs().square().flatten().tolist()
        inserted, deleted = [], []
        for share in SHARES:
            energy = torch.tensor(kept_energy_of_bins(mask.flatten().tolist(), power, share)).view_as(mask)
            inserted.append(chance(heard(stft.abs() * energy.sqrt())))
            deleted.append(chance(heard(stft.abs() * (1 - energy).sqrt())))
        found = {
            "fidelity": float(target[kept.probabilities.argmax()]),
            "faithfulness": p - q,
            "faithfulness_logit": float((whole.logits - left.logits)[0][target].mean()),
            "ai": 100.0 * (o > p),
            "ad": 100 * max(0, p - o) / p,
            "ag": 100 * max(0, o - p) / (1 - p),
            "insertion": np.mean(inserted),
            "deletion": np.mean(deleted),
        }
        for name, value in found.items():
            scores.setdefault(name, []).append(float(value))
    return scores


@pytest.mark.parametrize("build", [piq, l2i, Loudest])
def test_every_score_of_the_features_a_clip_at_a_time(classifier, build):
    if build is not Loudest and not has_feature_maps(classifier):
        pytest.skip("no feature maps for this method to read")
    waveform = sounds(2)[:, 1200:2400]
    interpreter = build(classifier)
    made = interpreter.interpret(waveform, torch.tensor([[True, True, False, False], [False, False, True, False]]))
    scores = judging.judge(made, waveform, classifier, with_curves=True)
    for name, expected in literal_scores(made, waveform, classifier).items():
        assert scores[name].tolist() == pytest.approx(expected, abs=2e-3 if name in ("ad", "ag") else 2e-4), name


def test_a_method_without_a_mask_is_judged_on_its_waveforms(classifier):
    waveform = sounds()
    made = replace(Loudest(classifier).interpret(waveform), mask=None, domain=None)
    scores, again = judging.judge(made, waveform, classifier, with_curves=True), hear_again(made, classifier)
    for name in ("fidelity", "faithfulness", "ad", "ag"):
        assert torch.equal(scores[name], again[f"wav_{name}"])
    assert not {"insertion", "deletion", "sparseness", "complexity", "mean_mask"} & set(scores)


def test_own_prediction_is_compared_with_the_classifiers():
    classifier = vggsound()
    waveform = sounds()
    made = l2i(classifier).interpret(waveform)
    predicted = int(made.prediction.predicted[0])
    third = torch.full((2, 4), 0.2)
    third[:, predicted], third[:, (predicted + 1) % 4], third[:, (predicted + 2) % 4] = 0.1, 0.4, 0.3
    made.details["theta_probabilities"] = torch.where(torch.tensor([[True], [False]]), third, 1 - third)
    scores = judging.judge(made, waveform, classifier)
    tops = [scores[f"theta_top{k}"].tolist() for k in (1, 3, 5)]
    assert [each[0] for each in tops] == [0, 0, 1]  # the last of four: k = 5 asks for all
    if int(made.prediction.predicted[1]) == predicted:
        assert [each[1] for each in tops] == [1, 1, 1]
    assert not [
        name for name in judging.judge(piq(classifier).interpret(waveform), waveform, classifier) if "top" in name
    ]


DISTORTION = {"distortion_empty": "empty", "distortion": "end", "rate": "rate", "saturated": "saturated"}


def test_what_rate_distortion_minimised_is_kept():
    """Of both kinds, row by row; no such score where the details are not those of a rate-distortion explanation."""
    waveform = sounds()
    for method in (
        BandRDE(band_reader("magnitude"), solver=Concrete(steps=4, samples=2)),
        RDE(vggsound(), tiles=(2, 3), solver=Concrete(steps=4, samples=2)),
    ):
        made = method.interpret(waveform)
        scores = judging.judge(made, waveform, method.classifier)
        for name, key in DISTORTION.items():
            assert scores[name].shape == (2,) and torch.equal(scores[name], made.details[key]), name
        assert scores["rate"].tolist() == pytest.approx(made.details["theta"].flatten(1).mean(1).tolist(), abs=1e-5)
        assert (scores["distortion_empty"] > 0).all()
        del made.details["saturated"]
        assert not {*DISTORTION} & set(judging.judge(made, waveform, method.classifier))


def test_distortion_in_the_table(tmp_path):
    classifier = band_reader("phase")
    methods = {"rde": BandRDE(classifier, solver=Concrete(steps=4, samples=2)), "all": AllPass(classifier)}
    item = Item.of_waveform("clip", "clip", sounds(1), 16000)
    evaluate([item], methods, tmp_path, Wanted(figures=False))
    table = pd.read_csv(tmp_path / "scores.csv").set_index("method")
    expected = methods["rde"].interpret(sounds(1)).details
    for name, key in DISTORTION.items():
        assert table[name]["rde"] == pytest.approx(float(expected[key]), rel=1e-4, abs=1e-6) and np.isnan(
            table[name]["all"]
        )


def test_a_method_writes_what_it_alone_has_to_show(tmp_path):
    """Once for each method and window, with the interpretation that is judged; not where no sound is kept."""
    classifier, told = vggsound(), []
    items = [
        replace(
            Item.of_waveform("long", "long", sounds(1), 16000), windows=lambda: windows(iter([sounds(1)[0]]), 2000, 200)
        ),
        Item.of_waveform("gone", "gone", sounds(1, seed=1), 16000),
    ]
    wanted = Wanted(figures=False, sounds=lambda item_id: item_id == "long", more=lambda *given: told.append(given))
    evaluate(items, {"loudest": Loudest(classifier), "all": AllPass(classifier)}, tmp_path, wanted)
    assert [(item.item_id, name, window.start) for item, name, window, _ in told] == [
        ("long", name, start) for name in ("loudest", "all") for start in (0, 1800, 3600)
    ]
    for _, name, window, made in told:
        torch.testing.assert_close(made.waveform + made.residual, window.waveform, atol=1e-5, rtol=1e-4)
        assert name != "all" or made.residual.abs().max() < 1e-4


@pytest.mark.parametrize("kept", [True, False])
def test_wav_scores_are_those_of_the_files_read_again(tmp_path, kept):
    """Also where the files are taken away afterwards, and where they have another rate than the model."""
    classifier = vggsound()
    interpreter, waveform = piq(classifier), sounds(1)
    plain = Item.of_waveform("clip", "clip", waveform, 16000, label="dog")
    item = replace(plain, file_rate=22050, frames=lambda: -(-4800 * 22050 // 16000))
    for each in (replace(plain, item_id="plain"), item):
        evaluate([each], {"piq": interpreter}, tmp_path, Wanted(figures=False, embeddings=True, sounds=lambda _: kept))
    evaluate([item], {"piq": interpreter}, tmp_path / "files", Wanted(figures=False))
    table = pd.read_csv(tmp_path / "scores.csv").set_index("item_id")
    assert any((tmp_path / "audio").rglob("*.wav")) == kept
    assert len(pd.read_csv(tmp_path / "manifest.csv")) == (8 if kept else 0)
    folder = tmp_path / "files" / "audio" / "clip"
    made = interpreter.interpret(waveform)
    predicted, gain = int(made.prediction.predicted), float(made.input_gain)
    p = float(made.prediction.probabilities[0, predicted])
    heard = {}
    for name in ("piq", "piq_residual"):
        samples, rate = soundfile.read(folder / f"{name}.wav", dtype="float32")
        assert rate == 22050 and len(samples) == item.frames()
        again = fit_length(resample(torch.from_numpy(samples)[None], rate, 16000), 4800)
        with torch.no_grad():
            heard[name] = float(classifier(again * gain).probabilities[0, predicted])
    o, q = heard["piq"], heard["piq_residual"]
    row = table.loc["clip"]
    assert row.wav_faithfulness == pytest.approx(p - q, abs=1e-5)
    assert row.wav_ad == pytest.approx(100 * max(0, p - o) / p, abs=1e-2)
    assert row.wav_ai == 100 * (o > p + 1e-5)
    direct = hear_again(made, classifier)
    for name, value in direct.items():
        assert table.loc["plain", name] == pytest.approx(float(value), rel=1e-4, abs=1e-6), name
    embeddings = pd.read_csv(tmp_path / "embeddings.csv")
    with torch.no_grad():
        expected = classifier(made.waveform * gain).embedding[0]
    np.testing.assert_allclose(embeddings.iloc[0, 3:].astype(float), expected, atol=1e-4)


def test_a_long_sound_is_judged_a_window_at_a_time(tmp_path):
    """Each window has its wav scores, though the file is one."""
    classifier = vggsound()
    waveform = sounds(1)
    item = replace(
        Item.of_waveform("long", "long", waveform, 16000), windows=lambda: windows(iter([waveform[0]]), 2000, 200)
    )
    evaluate([item], {"loudest": Loudest(classifier)}, tmp_path, Wanted(figures=False))
    table = pd.read_csv(tmp_path / "scores.csv")
    assert len(table) == 3 and table[["wav_ad", "wav_faithfulness", "wav_ai"]].notna().all(axis=None)


def test_the_classifier_is_asked_as_often_as_stated():
    """One interpretation costs the stated number of classifier passes."""
    classifier = vggsound()
    waveform = sounds()
    made = Loudest(classifier).interpret(waveform)
    rows = []
    handle = classifier.head.register_forward_hook(lambda module, given, out: rows.append(len(out)))
    judging.judge(made, waveform, classifier, with_curves=True)
    hear_again(made, classifier)
    handle.remove()
    assert sum(rows) == (judging.PASSES + judging.CURVE_PASSES) * len(waveform)


# --- several labels, and mixtures


def test_right_answers_by_hand():
    """A kept half of a mixture of two equally loud tones: nearer to its own tone; unchanged or silent: not right."""
    classifier = vggsound()
    time = torch.arange(8000) / 16000
    one, two = (torch.sin(2 * math.pi * hertz * time)[None] * 0.4 for hertz in (500.0, 5000.0))
    frequency = torch.arange(513)[None, :, None] / 1024 * 16000
    found = {}
    for name, mask in {
        "low": frequency < 2000,
        "high": frequency >= 2000,
        "all": frequency >= 0,
        "none": frequency < 0,
    }.items():
        made = AllPass(classifier).interpret(one + two, 1)
        stft = classifier.spectrogram(one + two)
        kept = classifier.spectrogram.inverse(stft * mask, 8000)
        made = replace(made, waveform=kept, residual=one + two - kept, mask=mask.expand(1, 513, stft.shape[2]).float())
        found[name] = judging.judge(made, one + two, classifier, [one, two])["right"].item()
    assert found == {"low": 1, "high": 0, "all": 0, "none": 0}


def test_fidelity_of_several_labels_counts_the_likeliest_tenth():
    """Of 40 labels the explained one is the third likeliest: among four, but not the first."""
    probabilities = torch.linspace(0.9, 0.1, 40)[None]
    prediction = Prediction(probabilities.logit(), probabilities)
    target = torch.zeros(1, 40, dtype=torch.bool)
    target[0, 2] = True
    several = judging.judge_waveforms(prediction, prediction, prediction, target, multilabel=True)
    single = judging.judge_waveforms(prediction, prediction, prediction, target)
    assert several["wav_fidelity"].tolist() == [1] and single["wav_fidelity"].tolist() == [0]
    target[0, 2], target[0, 4] = False, True  # the fifth
    assert judging.judge_waveforms(prediction, prediction, prediction, target, multilabel=True)["wav_fidelity"] == 0
