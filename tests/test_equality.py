"""The same numbers as SpeechBrain, Quantus, librosa and torchaudio on the same weights and sounds.

pip install -e '.[dev,equality]'
pytest -m equality
"""

import importlib
import os
import warnings

import librosa
import numpy as np
import pytest
import torch
from references import official_lmac, official_piq
from torch import nn
from torch.nn import functional

from audiointerp.classifiers import VGGSound
from audiointerp.classifiers.vggsound import Encoder
from audiointerp.contracts import Batch, frozen
from audiointerp.datasets.mixtures import gains_from_snr, mix
from audiointerp.interpreters import LMAC, PIQ, mask_losses
from audiointerp.metrics import compactness, faithfulness
from audiointerp.sound import files as audio
from audiointerp.sound.masking import ThresholdMask
from audiointerp.sound.spectrogram import STFT, log_magnitude

pytestmark = pytest.mark.equality

SAMPLES = 80_000
OFFICIAL_FRAMES = 417  # of the 431 that five seconds have
SAME_FRAMES = 352  # the later ones see how the latent is padded, where ours departs
SAME_CODES = 12  # likewise, of SpeechBrain's 13 codes in time


def oracle(name):
    """A module of another package; where CI is "true" a missing one is a failure. Only its import may warn."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        reason = f"{error}; install the extra `equality`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def piq():
    return oracle("speechbrain.lobes.models.PIQ")


@pytest.fixture(scope="module")
def features():
    return oracle("speechbrain.processing.features")


def noise(batch, samples=SAMPLES, seed=0):
    """White noise that swells from 0.01 to 0.3."""
    white = torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))
    return white * torch.linspace(0.01, 0.3, samples)


@torch.no_grad()
def randomize(module):
    """Batch norms as after training; fresh ones, of mean 0 and variance 1, would hide a statistic copied wrongly."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 2)
            norm.weight.uniform_(0.5, 2.5)
            norm.bias.normal_(0, 0.3)
    return module.eval()


# --- the classifier's encoder


def test_encoder(piq):
    torch.manual_seed(0)
    theirs = randomize(piq.Conv2dEncoder_v2(16))
    ours = Encoder(16).eval()
    official_piq.copy_weights(theirs, ours)
    level = log_magnitude(STFT()(noise(2)))
    with torch.no_grad():
        expected = theirs(level.transpose(1, 2)).transpose(2, 3)
        maps = ours(level)[-1]
    assert expected.shape == (2, 16, 32, 26) and expected.std() > 0.3
    torch.testing.assert_close(maps, expected, atol=1e-4, rtol=0)


# --- codes and masks


@torch.no_grad()
def pair(piq, codes, classes, stft, channels=8):
    """SpeechBrain's encoder and PIQ, and ours with their weights; codes lie where the latents do: many are used."""
    torch.manual_seed(1)
    encoder = randomize(piq.Conv2dEncoder_v2(channels))
    psi = randomize(piq.VectorQuantizedPSI_Audio(channels, codes, numclasses=classes))
    latent = psi.down(psi.adapter(encoder(log_magnitude(stft).transpose(1, 2))))
    vectors = latent.transpose(0, 1).flatten(1).T
    drawn = vectors[torch.randint(len(vectors), (codes,))]
    psi.codebook.embedding.weight.copy_(drawn + 0.01 * torch.randn(codes, channels))
    classifier = VGGSound([str(each) for each in range(classes)], channels).eval()
    interpreter = PIQ(classifier, codes=codes).eval()
    official_piq.copy_piq(encoder, psi, classifier, interpreter)
    return encoder, psi, classifier, interpreter


@pytest.mark.parametrize("codes, classes", [(1024, 50), (256, 10)])
@torch.no_grad()
def test_mask_logits_and_codes(piq, codes, classes):
    stft = STFT()(torch.cat([noise(2), noise(2, seed=1) ** 3]))
    label = torch.tensor([0, classes - 1, classes // 2, 1])
    encoder, psi, classifier, interpreter = pair(piq, codes, classes, stft)

    theirs, latent, _ = psi(encoder(log_magnitude(stft).transpose(1, 2)), label)
    expected = theirs.squeeze(1).transpose(1, 2)
    vectors, weight = latent.permute(0, 2, 3, 1).contiguous(), psi.codebook.embedding.weight
    expected_codes = piq.VectorQuantization.apply(vectors, weight, label, classes, True, 0, False).transpose(1, 2)
    allowed = functional.one_hot(label, classes).bool()
    logits, quantized = interpreter.mask_logits(classifier.classify_stft(stft, SAMPLES), allowed, stft)

    assert expected.shape == (4, 513, OFFICIAL_FRAMES) and expected_codes.shape == (4, 16, 13)
    assert expected[..., :SAME_FRAMES].std() > 0.1
    assert min(len(each.unique()) for each in expected_codes) > 10
    assert torch.equal(quantized.codes[..., :SAME_CODES], expected_codes[..., :SAME_CODES])
    torch.testing.assert_close(logits[..., :SAME_FRAMES], expected[..., :SAME_FRAMES], atol=1e-3, rtol=0)
    assert (logits - functional.pad(expected, (0, 14)))[..., SAME_FRAMES].abs().max() > 1e-3  # no frame too few
    # What SpeechBrain cuts off is there, and as lively as the rest.
    assert logits.shape == (4, 513, 431)
    assert logits[..., OFFICIAL_FRAMES:].std() > 0.1


@pytest.mark.parametrize("codes, classes", [(1024, 50), (256, 10), (4096, 10), (100, 7)])
def test_partition(piq, codes, classes):
    barred = piq.get_irrelevant_regions(torch.arange(classes), codes, classes, N_shared=0)
    assert (~barred).sum(0).eq(1).all()
    offsets = official_piq.official_offsets(codes, classes)
    assert (~barred).sum(1).tolist() == offsets.diff().tolist()
    assert barred.int().argmin(1).tolist() == offsets[:-1].tolist()


# --- the front end


def test_stft_magnitude(features):
    waveform = noise(2)
    theirs = features.STFT(**official_piq.WINDOW, n_fft=official_piq.N_FFT)(waveform)
    expected = features.spectral_magnitude(theirs, power=0.5).transpose(1, 2)
    assert expected.shape == (2, 513, 431)
    torch.testing.assert_close(STFT()(waveform).abs(), expected, atol=1e-4, rtol=0)


def test_inverse_stft(features):
    """On a spectrogram that no waveform has; SpeechBrain's ends with the last whole hop."""
    stft = STFT()(noise(2))
    stft *= torch.rand(stft.shape, generator=torch.Generator().manual_seed(1))
    expected = features.ISTFT(**official_piq.WINDOW)(torch.view_as_real(stft.transpose(1, 2)))
    assert expected.shape == (2, 430 * 186)
    torch.testing.assert_close(STFT().inverse(stft, SAMPLES)[:, : 430 * 186], expected, atol=1e-5, rtol=0)


def test_target_mask(features):
    theirs = features.STFT(**official_piq.WINDOW, n_fft=official_piq.N_FFT)(noise(2) ** 3)
    level = features.spectral_magnitude(theirs, power=0.5).log1p()
    expected = official_piq.target_mask(level)
    mask = ThresholdMask()(torch.view_as_complex(theirs).transpose(1, 2)).transpose(1, 2)
    # The two magnitudes round differently; a bin on the very threshold may fall on either side.
    clear = (level - 0.35 * level.amax((1, 2), keepdim=True)).abs() > 1e-6
    assert clear.float().mean() > 0.999 and 0.01 < expected.mean() < 0.5
    assert torch.equal(mask[clear], expected[clear])


# --- scores


def masks():
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(513, 417, generator=generator)
    peaky = torch.full((513, 417), 1e-4)
    peaky[100, 200], peaky[101, 200] = 0.9, 0.3
    single = torch.zeros(513, 417)
    single[7, 9] = 0.02
    return {
        "random": random,
        "saturated": (30 * (random - 0.6)).sigmoid(),
        "binary": (random > 0.93).float(),
        "peaky": peaky,
        "single": single,
    }


@pytest.mark.parametrize("kind", list(masks()))
@pytest.mark.parametrize("score", ["Sparseness", "Complexity"])
def test_compactness(score, kind):
    mask = masks()[kind][None].double()
    # As the recipe calls it, a clip at a time: Quantus scales by the largest value of the whole batch.
    metric = getattr(oracle("quantus"), score)(return_aggregate=True, abs=True, disable_warnings=True)
    maps = mask[:, None].numpy()
    expected = metric(model=None, x_batch=maps, a_batch=maps.copy(), y_batch=np.zeros(1, int), softmax=False)
    ours = {"Sparseness": compactness.sparseness, "Complexity": compactness.complexity}[score](mask)
    assert float(ours) == pytest.approx(float(expected[0]), abs=1e-6)


def test_average_drop_without_a_second_softmax():
    """A fall from 0.9 to 0.1 among 50 classes: the recipe says 54.6, it is 88.9."""
    before, after = torch.full((1, 50), 0.1 / 49), torch.full((1, 50), 0.9 / 49)
    before[0, 3], after[0, 3] = 0.9, 0.1
    assert float(official_piq.average_drop(after, before)) == pytest.approx(54.6, abs=0.05)
    target = functional.one_hot(torch.tensor([3]), 50).bool()
    p, o = (faithfulness.target_probability(each, target) for each in (before, after))
    assert float(faithfulness.average_drop(p, o)) == pytest.approx(88.9, abs=0.05)


# --- signals


@pytest.mark.parametrize("n_fft, win_length, hop_length", [(1024, 372, 186), (256, 200, 80)])
def test_librosa_stft(n_fft, win_length, hop_length):
    waveform = noise(1)
    expected = librosa.stft(
        waveform[0].numpy(),
        n_fft=n_fft,
        win_length=win_length,
        hop_length=hop_length,
        window="hamming",
        center=True,
        pad_mode="constant",
    )
    stft = STFT(16000, n_fft, win_length, hop_length)(waveform)[0]
    np.testing.assert_allclose(stft.numpy(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("rates", [(44100, 16000), (22050, 16000), (8000, 16000), (48000, 32000)])
def test_librosa_resample(rates):
    waveform = noise(2, 10_001)
    expected = [
        librosa.resample(row, orig_sr=rates[0], target_sr=rates[1], res_type="soxr_hq") for row in waveform.numpy()
    ]
    assert torch.equal(audio.resample(waveform, *rates), torch.from_numpy(np.stack(expected)))


@pytest.mark.parametrize("snr_db", [-12.0, 0.0, 7.5])
def test_torchaudio_add_noise(snr_db):
    """Up to scale: ours has peak 1."""
    base, other = noise(3), 5 * noise(3, seed=1).flip(1)
    base_gain, other_gain = gains_from_snr(snr_db)
    mixture, _, _ = mix(base, other, base_gain=base_gain, other_gain=other_gain)
    expected = oracle("torchaudio.functional").add_noise(base, other, torch.full((3,), snr_db))
    torch.testing.assert_close(mixture, expected / expected.abs().amax(1, keepdim=True), atol=1e-6, rtol=0)


# --- L-MAC


@pytest.fixture(scope="module")
def lmac(features):
    """A batch of noise, SpeechBrain's modules with random weights, and our L-MAC on the same modules."""
    cnn14, head = oracle("speechbrain.lobes.models.Cnn14"), oracle("speechbrain.lobes.models.ECAPA_TDNN")
    torch.manual_seed(0)
    embedding = randomize(cnn14.Cnn14(mel_bins=80, emb_dim=2048, return_reps=True))
    embedding.norm0.running_mean.uniform_(0, 0.1)
    classes = randomize(head.Classifier(2048, out_neurons=official_lmac.CLASSES, lin_blocks=1, lin_neurons=192))
    fbank = features.Filterbank(n_mels=80, n_fft=1024, sample_rate=16_000, log_mel=False)
    classifier = official_lmac.OfficialClassifier(fbank, embedding, classes).eval()
    psi, waveform = cnn14.CNN14PSI_stft(dim=2048, outdim=1), noise(2, official_lmac.samples_for(3))
    ours = official_lmac.OfficialDecoder(classifier, conditional=False).use(psi)
    with torch.no_grad():  # fresh weights give nearly the same value to every bin
        logits = ours.mask_logits(classifier(waveform), torch.empty(0), torch.empty(0), 0)
        psi.convt9.weight.div_(logits.std())
        psi.convt9.bias.sub_(logits.mean() / logits.std())
    return waveform, classifier, ours


def test_lmac_loss(lmac, features):
    waveform, classifier, ours = lmac
    official_stft = features.STFT(**official_piq.WINDOW, n_fft=official_piq.N_FFT)
    level = torch.log1p(features.spectral_magnitude(official_stft(waveform), power=0.5))
    with torch.no_grad(), frozen(classifier):
        embedded, maps = classifier.embedding(classifier.fbank(level.expm1()).log1p())
        predicted = classifier.head(embedded).squeeze(1).argmax(1)
        mask = ours.decoder(maps).squeeze(1).sigmoid()
        assert mask.shape == level.shape and mask.std() > 0.1

        def classify(mel):
            return classifier.head(classifier.embedding(mel)[0]).squeeze(1)

        expected = official_lmac.official_loss(classify, classifier.fbank, mask, level, predicted)

        stft, prediction = classifier.spectrogram(waveform), classifier(waveform)
        target = functional.one_hot(predicted, official_lmac.CLASSES).bool()
        own = ours.mask_logits(prediction, target, stft, waveform.shape[1]).sigmoid()
        kept, left = mask_losses.classify_parts(classifier, stft, own, waveform.shape[1], "log_magnitude")
    torch.testing.assert_close(own.transpose(1, 2), mask, atol=1e-4, rtol=1e-4)
    terms = {
        "masked_in": mask_losses.masked_in(kept.logits, target, False),
        "masked_out": mask_losses.masked_out(left.logits, target, False, bounded=False),
        "area": len(mask) * mask_losses.mean_area(own),  # the released code sums it over the batch
    }
    found = sum(official_lmac.WEIGHTS[name] * value for name, value in terms.items())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_lmac_training_step_has_the_same_terms(lmac):
    """`LMAC.losses`, which classifies both parts in one pass, on the released decoder's mask."""
    waveform, classifier, ours = lmac
    assert isinstance(ours, LMAC) and not ours.conditional
    index = torch.arange(len(waveform))
    with torch.no_grad():
        losses = ours.losses(Batch(waveform, torch.zeros_like(index), index))
        prediction = classifier(waveform)
        own = ours.mask_logits(prediction, torch.empty(0), classifier.spectrogram(waveform), 0).sigmoid()
        level = log_magnitude(classifier.spectrogram(waveform)).transpose(1, 2)
        target = prediction.predicted
        parts = (own.transpose(1, 2) * level, (1 - own).transpose(1, 2) * level)
        kept, left = (
            classifier.head(classifier.embedding(classifier.fbank(each.expm1()).log1p())[0]).squeeze(1)
            for each in parts
        )
    torch.testing.assert_close(losses["masked_in"], functional.cross_entropy(kept, target), atol=1e-4, rtol=1e-4)
    probability = left.softmax(1).gather(1, target[:, None])
    torch.testing.assert_close(losses["masked_out"], -(1 - probability).log().mean(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(losses["area"], own.mean(), atol=1e-6, rtol=1e-5)
