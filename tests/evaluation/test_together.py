"""Items explained together are explained as alone, in their order; a file that fails is named and the rest goes on."""

import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from cases import piq, vggsound

from audiointerp.contracts import LogitsError
from audiointerp.evaluation import explaining, together
from audiointerp.evaluation.background import WritingBehind, ahead
from audiointerp.evaluation.explaining import Wanted, evaluate
from audiointerp.evaluation.items import Item
from audiointerp.interpreters import RISE, Loudest, MostFaithful, Saliency, TargetMasking
from audiointerp.results.reading import read_likeliest
from audiointerp.sound.files import AudioError, normalize_peak
from audiointerp.sound.masking import StemMask

LENGTHS = (4800, 4800, 3000, 4800, 4800, 3000, 4800)


def sound(number: int, samples: int = 4800) -> torch.Tensor:
    generator = torch.Generator().manual_seed(number)
    swell = torch.sin(torch.linspace(0, 9 + number, samples)).square()
    return torch.randn(1, samples, generator=generator) * swell * 0.1 * (number + 1)


def items(mixed: bool = False) -> list[Item]:
    """Items of two lengths; `mixed`: of two classes that the classifier knows."""
    found = []
    for number, samples in enumerate(LENGTHS):
        one, other = sound(number, samples), sound(number + 50, samples)
        rest = {"label": "dog", "stems": {"dog": one, "rain": other}} if mixed else {}
        found.append(Item.of_waveform(f"clip_{number}", f"clip_{number}", one + other * mixed, 16000, **rest))
    return found


def methods(classifier) -> dict:
    masks = {"piq": piq(classifier), "loudest": Loudest(classifier)}
    return {
        **masks,
        "saliency": Saliency(classifier),
        "rise": RISE(classifier, n_masks=2),
        "faithful": MostFaithful(classifier, masks),
        "ideal": TargetMasking(classifier, StemMask()),
    }


def state(folder):
    """Scores as numbers and as text, and the samples of all WAVs."""
    table = pd.read_csv(folder / "scores.csv", keep_default_na=False, na_values=[""]).drop(columns="seconds")
    numbers = table.select_dtypes("number").columns
    wavs = {str(each.relative_to(folder)): soundfile.read(each)[0] for each in sorted(folder.rglob("*.wav"))}
    return table.drop(columns=numbers), table[numbers], wavs


@pytest.mark.parametrize("mixed", [False, True])
def test_items_are_explained_together_as_alone(mixed, tmp_path, monkeypatch):
    """Also methods that draw by a seed (RISE) or choose (MostFaithful), and both classes of mixtures."""
    classifier, wanted = vggsound(), Wanted(other_class=("piq", "rise"), figures=False, curves=True, embeddings=True)
    monkeypatch.setitem(together.MOST_AT_ONCE, "cpu", 4)
    sizes, explain = [], explaining.explain
    monkeypatch.setattr(explaining, "explain", lambda asked, *rest: sizes.append(len(asked)) or explain(asked, *rest))
    made = evaluate(items(mixed), methods(classifier), tmp_path / "together", wanted)
    assert max(sizes) > 1
    monkeypatch.setitem(together.MOST_AT_ONCE, "cpu", 1)
    sizes.clear()
    assert evaluate(items(mixed), methods(classifier), tmp_path / "alone", wanted) == made
    assert set(sizes) == {1}
    (texts, numbers, wavs), (own, alone, one) = state(tmp_path / "together"), state(tmp_path / "alone")
    pd.testing.assert_frame_equal(texts, own)
    np.testing.assert_allclose(numbers, alone, rtol=2e-5, atol=1e-6)  # the table has six digits
    assert wavs.keys() == one.keys() and len(wavs) >= 7 * 11
    for name, samples in wavs.items():
        # Two steps of 24 bits at the sound's level: float32 sums in another order.
        np.testing.assert_allclose(samples, one[name], rtol=0, atol=2**-22 * np.abs(samples).max(), err_msg=name)
    rows = list(zip(texts["item_id"], texts["method"]))
    assert rows == sorted(rows, key=lambda row: row[0]) and len(rows) == len(set(rows))
    embedded = [pd.read_csv(tmp_path / name / "embeddings.csv") for name in ("together", "alone")]
    pd.testing.assert_frame_equal(*embedded, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("at_once", [1, 4])
def test_a_sound_with_nan_logits_is_named_and_the_rest_goes_on(at_once, tmp_path, monkeypatch):
    monkeypatch.setitem(together.MOST_AT_ONCE, "cpu", at_once)
    classifier = vggsound()
    features = classifier.features(normalize_peak(sound(3))[0])
    original = type(classifier).classify

    def classify(self, given):
        made = original(self, given)
        wrong = given.shape[1:] == features.shape[1:] and ((given - features).abs().amax((1, 2)) < 1e-4)
        if torch.as_tensor(wrong).any():
            raise LogitsError("the classifier returned NaN or infinite logits")
        return made

    refused, done = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(classifier), "classify", classify)
        wanted = Wanted(likeliest=True, figures=False)
        given = [*items()[:2], AudioError("gone.wav: no such file"), *items()[2:]]
        made = evaluate(given, {"piq": piq(classifier)}, tmp_path, wanted, refused.append, lambda: done.append(1))
        with pytest.raises(LogitsError, match="clip_3: the classifier returned NaN"):
            evaluate(items(), {"piq": piq(classifier)}, tmp_path / "other", wanted)
    assert [str(each).split(":")[0] for each in refused] == ["gone.wav", "clip_3"]
    assert made == 6 and len(done) == 8
    names = [f"clip_{number}" for number in (0, 1, 2, 4, 5, 6)]
    assert list(pd.read_csv(tmp_path / "scores.csv")["item_id"]) == names
    assert list(read_likeliest(tmp_path)) == names
    assert list(pd.read_csv(tmp_path / "other" / "scores.csv")["item_id"]) == names[:3]  # made before the error


def test_likeliest_labels_are_those_of_the_classifier(tmp_path):
    classifier = vggsound()
    evaluate(items(), {"loudest": Loudest(classifier)}, tmp_path, Wanted(likeliest=True, figures=False))
    for item in items():
        with torch.no_grad():
            probabilities = classifier(normalize_peak(next(item.windows()).waveform)[0]).probabilities[0]
        values, order = probabilities.sort(descending=True)
        found = read_likeliest(tmp_path)[item.item_id]
        assert [name for name, _ in found] == [classifier.labels[index] for index in order[:5]]
        assert [value for _, value in found] == pytest.approx(values[:5].tolist(), rel=1e-5)


def test_an_item_listed_twice_is_explained_once(tmp_path):
    one, other = items()[:2]
    assert evaluate([one, one, other, one], {"piq": piq(vggsound())}, tmp_path, Wanted(figures=False)) == 2
    assert list(pd.read_csv(tmp_path / "scores.csv")["item_id"]) == ["clip_0", "clip_1"]


def test_items_before_one_that_ends_the_evaluation_are_written(tmp_path):
    def given():
        yield from items()[:2]
        raise ValueError("the third is broken")

    with pytest.raises(ValueError, match="the third is broken"):
        evaluate(given(), {"piq": piq(vggsound())}, tmp_path, Wanted(figures=False))
    assert list(pd.read_csv(tmp_path / "scores.csv")["item_id"]) == ["clip_0", "clip_1"]
    assert threading.active_count() == 1 or not any(each.name.startswith("ahead") for each in threading.enumerate())


def test_few_items_are_read_before_they_are_needed(tmp_path):
    """So that memory does not grow with the number of items."""
    read, most = [], []
    template = Item.of_waveform("a", "a", sound(0), 16000)

    def given():
        for number in range(40):
            read.append(number)
            yield replace(template, item_id=f"clip_{number:02}")

    done = []

    def step():
        done.append(1)
        most.append(len(read) - len(done))

    evaluate(given(), {"loudest": Loudest(vggsound())}, tmp_path, Wanted(figures=False), done=step)
    assert len(done) == 40 and max(most) <= explaining.WAITING + 1


# --- threads


def test_values_come_in_their_order_and_errors_in_their_place():
    def values():
        yield 1
        yield 2
        raise OSError("gone")

    found = ahead(values(), 3)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(found)


def test_a_reader_that_is_closed_reads_no_further():
    read = []
    found = ahead((read.append(each) or each for each in range(100)), 2)
    assert next(found) == 0
    found.close()
    assert len(read) <= 4 and not any(each.name.startswith("ahead") for each in threading.enumerate())


def test_jobs_are_done_in_their_order_and_none_after_one_that_failed():
    done = []

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), WritingBehind(2) as background:
        for job in [lambda: done.append(1), fail, lambda: done.append(3)]:
            background.do(job)
    assert done == [1]


def test_jobs_given_before_an_error_are_done():
    done, go = [], threading.Event()
    with pytest.raises(ZeroDivisionError), WritingBehind(5) as background:
        background.do(go.wait)
        background.do(lambda: done.append(2))
        go.set()
        raise ZeroDivisionError
    assert done == [2]


def test_as_many_jobs_wait_as_stated():
    go, given = threading.Event(), []

    def give():
        with WritingBehind(2) as background:
            for number in range(4):
                background.do(go.wait)
                given.append(number)

    giver = threading.Thread(target=give)
    giver.start()
    while len(given) < 2:
        time.sleep(0.01)
    giver.join(0.2)
    assert given == [0, 1]
    go.set()
    giver.join(10)
    assert given == [0, 1, 2, 3]
