"""The PIQ paper's CNN: size, shapes, short clips, heads, and its two ways in."""

import pytest
import torch
from torch import nn

from audiointerp.classifiers import VGGSound
from audiointerp.classifiers.vggsound import Encoder, ResidualBlock
from audiointerp.sound.spectrogram import STFT


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    return VGGSound(["a", "b", "c"], channels=4).eval()


def size(module):
    return sum(each.numel() for each in module.parameters())


def test_parameters_at_the_papers_width():
    with torch.device("meta"):
        assert size(Encoder(256)) == 3_809_792
        paper = VGGSound([str(k) for k in range(50)], relu=False, dropout=0)
    # batch norm, Linear 256 -> 256, Linear 256 -> 50
    assert size(paper.head) == 2 * 256 + 257 * 256 + 257 * 50


def test_map_shapes_of_five_seconds(classifier):
    prediction = classifier(torch.randn(1, 80_000))
    shapes = [tuple(each.shape[2:]) for each in prediction.feature_maps]
    assert shapes == [(256, 215), (128, 107), (64, 53), (32, 26), (32, 26)]
    assert prediction.logits.shape == (1, 3) and prediction.embedding.shape == (1, 4)
    torch.testing.assert_close(prediction.embedding, prediction.feature_maps[-1].mean((2, 3)))
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(1))


def test_residual_block_written_out():
    block = ResidualBlock(3).eval()
    conv, norm, relu, mix, last = block.block
    assert (conv.kernel_size, mix.kernel_size, type(relu)) == ((3, 3), (1, 1), nn.ReLU)
    x = torch.randn(1, 3, 5, 7)
    torch.testing.assert_close(block(x), x + last(mix(relu(norm(conv(x))))))
    assert (block(x) < 0).any()  # no ReLU after the sum


@pytest.mark.parametrize("frames", [1, 5, 15])
def test_short_clips_are_padded_with_silence(classifier, frames):
    samples = (frames - 1) * 186 + 1
    features = classifier.features(torch.randn(1, samples))
    assert features.shape == (1, 513, frames)
    padded = torch.cat([features, torch.zeros(1, 513, 16 - frames)], 2)
    torch.testing.assert_close(classifier.classify(features).logits, classifier.classify(padded).logits)


def test_sixteen_frames_are_not_padded(classifier):
    features = classifier.features(torch.randn(1, 15 * 186))
    assert features.shape[2] == 16
    assert classifier.classify(features).feature_maps[-1].shape == (1, 4, 32, 1)


def test_features_are_log1p_of_linear_magnitude(classifier):
    waveform = torch.randn(2, 3000)
    stft = torch.stft(waveform, 1024, 186, 372, torch.hamming_window(372), pad_mode="constant", return_complex=True)
    expected = torch.log(1 + (stft.real**2 + stft.imag**2).sqrt())
    torch.testing.assert_close(classifier.features(waveform), expected, atol=1e-5, rtol=1e-4)


def test_classify_stft_and_maps_equal_forward(classifier):
    waveform = torch.randn(2, 4000)
    whole = classifier(waveform)
    of_stft = classifier.classify_stft(classifier.spectrogram(waveform), 4000)
    of_maps = classifier.classify_maps(whole.feature_maps)
    for other in (of_stft, of_maps):
        torch.testing.assert_close(other.logits, whole.logits)
        torch.testing.assert_close(other.embedding, whole.embedding)


def test_head_options():
    kinds = [type(each) for each in VGGSound(["a", "b"], channels=4).head]
    assert kinds == [nn.BatchNorm1d, nn.Linear, nn.ReLU, nn.Dropout, nn.Linear]
    plain = VGGSound(["a", "b"], channels=4, hidden=7, relu=False, dropout=0.5)
    assert [type(each) for each in plain.head] == [nn.BatchNorm1d, nn.Linear, nn.Dropout, nn.Linear]
    assert plain.head[1].out_features == 7 and plain.head[2].p == 0.5
    assert plain.config["hidden"] == 7 and VGGSound(["a"], channels=4).config["hidden"] == 4


def test_multilabel_is_a_sigmoid():
    classifier = VGGSound(["a", "b"], channels=4, multilabel=True).eval()
    prediction = classifier(torch.randn(1, 3000))
    torch.testing.assert_close(prediction.probabilities, 1 / (1 + torch.exp(-prediction.logits)))


def test_config_builds_the_same_classifier(classifier):
    again = VGGSound(**classifier.config, spectrogram=STFT(**classifier.spectrogram.config)).eval()
    again.load_state_dict(classifier.state_dict())
    waveform = torch.randn(1, 3000)
    torch.testing.assert_close(again(waveform).logits, classifier(waveform).logits)


@pytest.mark.parametrize("labels", [[], (), "dog"])
def test_labels_that_are_none(labels):
    with pytest.raises(ValueError, match="give a list of class names"):
        VGGSound(labels, channels=4)


def test_level_is_taken_as_it_is(classifier):
    waveform = torch.randn(1, 3000)
    assert not torch.allclose(classifier.features(waveform), classifier.features(0.5 * waveform))
