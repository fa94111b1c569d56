"""What flows along the chain: targets in all their forms, results on disk, batches."""

import pytest
import torch
from torch import Tensor

from audiointerp.contracts import (
    Batch,
    Classifier,
    Interpretation,
    Prediction,
    Trainable,
    resolve_target,
)
from audiointerp.sound import files as audio
from audiointerp.sound.spectrogram import STFT


def prediction(*rows: list[float], multilabel: bool = False) -> Prediction:
    return Prediction.from_logits(torch.tensor(rows), multilabel)


THREE = prediction([0.0, 2.0, 1.0], [3.0, -1.0, 0.0])


# Predictions


def test_probabilities_are_one_softmax_or_one_sigmoid():
    logits = torch.tensor([[0.0, 2.0, 1.0]])
    exponentials = logits.exp()
    torch.testing.assert_close(prediction([0.0, 2.0, 1.0]).probabilities, exponentials / exponentials.sum())
    torch.testing.assert_close(prediction([0.0, 2.0, 1.0], multilabel=True).probabilities, 1 / (1 + 1 / exponentials))
    assert THREE.predicted.tolist() == [1, 0]


# Targets


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (2, [[0, 0, 1], [0, 0, 1]]),
        (torch.tensor(2), [[0, 0, 1], [0, 0, 1]]),
        (torch.tensor([2, 0]), [[0, 0, 1], [1, 0, 0]]),
        (torch.tensor([2, 0], dtype=torch.int32), [[0, 0, 1], [1, 0, 0]]),
        (torch.tensor([[True, True, False], [False, False, True]]), [[1, 1, 0], [0, 0, 1]]),
    ],
)
@pytest.mark.parametrize("multilabel", [False, True])
def test_every_form_of_target_becomes_a_set_of_classes(target, expected, multilabel):
    resolved = resolve_target(target, THREE, multilabel)
    assert resolved.dtype == torch.bool
    assert resolved.int().tolist() == expected


def test_without_a_target_the_predicted_class_is_explained():
    assert resolve_target(None, THREE, False).int().tolist() == [[0, 1, 0], [1, 0, 0]]


def test_multilabel_takes_every_label_above_the_threshold_or_else_the_strongest():
    said = prediction([2.0, 1.0, -1.0], [-3.0, -1.0, -2.0], multilabel=True)
    assert resolve_target(None, said, True).int().tolist() == [[1, 1, 0], [0, 1, 0]]
    assert resolve_target(None, said, True, threshold=0.2).int().tolist() == [[1, 1, 1], [0, 1, 0]]
    assert resolve_target(None, said, True, threshold=0.8).int().tolist() == [[1, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, r"target \[3, 3\] names a class outside 0\.\.2"),
        (-1, r"target \[-1, -1\] names a class outside 0\.\.2"),
        (torch.tensor([0, 3]), r"target \[0, 3\] names a class outside 0\.\.2"),
        (torch.tensor([0, 1, 2]), r"shape \(3,\).*expected \(2,\) class indices"),
        (torch.tensor([[0], [1]]), r"shape \(2, 1\).*expected \(2,\) class indices"),
        (torch.tensor([0.0, 1.0]), r"torch\.float32; expected \(2,\) class indices"),
        (torch.ones(2, 2, dtype=torch.bool), r"shape \(2, 2\); a set of classes is \(2, 3\)"),
        (torch.tensor([[True, False, False], [False, False, False]]), "an empty set of classes"),
        ("dog", r"target is 'dog'; give the class index"),
    ],
)
@pytest.mark.parametrize("multilabel", [False, True])
def test_targets_that_cannot_be(target, message, multilabel):
    with pytest.raises(ValueError, match=message) as caught:
        resolve_target(target, THREE, multilabel)
    assert "\n" not in str(caught.value)


# Interpretations


def interpretation(batch: int) -> Interpretation:
    waveform, residual = torch.randn(2, batch, 500)
    target = torch.ones(batch, 1, dtype=torch.bool)
    return Interpretation(
        waveform=3 * waveform,
        residual=residual,
        target=target,
        prediction=prediction(*[[0.0]] * batch),
        input_gain=torch.ones(batch),
        sample_rate=22050,
    )


def test_saved_sounds_are_the_sounds(tmp_path):
    one = interpretation(1)
    paths = one.save(tmp_path / "new")
    assert [path.name for path in paths] == ["interpretation.wav", "residual.wav"]
    assert sorted((tmp_path / "new").iterdir()) == paths
    assert torch.equal(audio.read(paths[0]), one.waveform)
    assert torch.equal(audio.read(paths[1]), one.residual)
    assert audio.probe(paths[0]).samplerate == 22050


def test_a_batch_is_saved_row_by_row(tmp_path):
    two = interpretation(2)
    paths = two.save(str(tmp_path))
    names = ["interpretation_0.wav", "residual_0.wav", "interpretation_1.wav", "residual_1.wav"]
    assert [path.name for path in paths] == names
    assert torch.equal(audio.read(tmp_path / "interpretation_1.wav")[0], two.waveform[1])
    assert torch.equal(audio.read(tmp_path / "residual_0.wav")[0], two.residual[0])


def test_sounds_with_gradients_can_be_saved(tmp_path):
    one = interpretation(1)
    one.waveform.requires_grad_()
    assert torch.equal(audio.read(one.save(tmp_path)[0]), one.waveform.detach())


# Batches


def test_batches_move_and_change_as_copies():
    maps = (torch.zeros(2, 1, 3, 4), torch.zeros(2, 2, 1, 1))
    batch = Batch(torch.zeros(2, 10), torch.tensor([0, 1]), torch.tensor([5, 6]), feature_maps=maps)
    moved = batch.to("meta")
    assert len(moved) == 2
    assert moved.waveform.is_meta
    assert moved.index.is_meta
    assert moved.feature_maps is not None
    assert [each.is_meta for each in moved.feature_maps] == [True, True]
    assert moved.stem is None
    changed = batch.replace(label=torch.tensor([1, 1]))
    assert changed.label.tolist() == [1, 1]
    assert batch.label.tolist() == [0, 1]
    assert changed.feature_maps is maps


# Classifiers and trainables


class Loudness(Classifier):
    """Says how loud the waveform is; reads no spectrogram."""

    def __init__(self) -> None:
        super().__init__()
        self.labels, self.sample_rate, self.multilabel, self.spectrogram = ("quiet", "loud"), 16000, False, STFT()

    def features(self, waveform: Tensor) -> Tensor:
        return waveform.abs().mean(1, keepdim=True)

    def classify(self, features: Tensor) -> Prediction:
        return Prediction.from_logits(torch.cat([-features, features], 1), self.multilabel)


def test_forward_is_features_then_classify_and_a_masked_stft_goes_through_its_sound():
    classifier, waveform = Loudness(), torch.randn(2, 1000)
    heard = classifier(waveform)
    torch.testing.assert_close(heard.logits[:, 1], waveform.abs().mean(1))
    assert heard.embedding is None
    assert heard.feature_maps == ()
    again = classifier.classify_stft(classifier.spectrogram(waveform) * 0.5, 1000)
    torch.testing.assert_close(again.logits, heard.logits * 0.5, rtol=1e-4, atol=1e-6)


def test_a_classifier_must_say_how_it_classifies():
    class Half(Classifier):
        def features(self, waveform: Tensor) -> Tensor:
            return waveform

    with pytest.raises(TypeError, match="classify"):
        Half()  # pyright: ignore[reportAbstractUsage]


def test_trainable_is_a_matter_of_two_methods_and_its_hooks_do_nothing():
    class Half(Trainable):
        def losses(self, batch, group):
            return {}

    class Whole(Half):
        def parameter_groups(self):
            return {}

    with pytest.raises(TypeError, match="parameter_groups"):
        Half()  # pyright: ignore[reportAbstractUsage]
    made = Whole()
    batches = iter([1, 2])
    made.on_start(batches)
    made.on_epoch(0)
    assert list(batches) == [1, 2]  # nothing is read that no hook asks for
    assert made.scores(None) == made.epoch_scores() == {} and not made.repeats and not made.lr_scales
