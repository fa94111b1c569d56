"""transformers' AST as a classifier: the features' numbers, the patches' places, pieces, labels, and a known answer."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

from audiointerp.classifiers import AST
from audiointerp.classifiers.audio_spectrogram_transformer import KaldiFeatures
from audiointerp.datasets.synthetic import synthesize
from audiointerp.interpreters import (
    LIME,
    RISE,
    GradCAM,
    GradientSHAP,
    IntegratedGradients,
    Occlusion,
    Saliency,
    SmoothGrad,
)

transformers = pytest.importorskip("transformers")
from transformers.models.audio_spectrogram_transformer import (  # noqa: E402
    feature_extraction_audio_spectrogram_transformer as reference,
)

RATE = 16000
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")  # transformers without torchaudio


def model(**changes):
    """A small AST with random weights; by default with the shape of AudioSet's checkpoints."""
    torch.manual_seed(0)
    settings = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ASTConfig(**settings | {"num_labels": 3} | changes)
    return transformers.ASTForAudioClassification(config).eval()


def sound(samples, label="siren", seed=0):
    return torch.from_numpy(synthesize(label, np.random.default_rng(seed), 15.0)[:samples])[None]


def burst(hertz, centre, samples, seconds=0.03):
    """A short tone under a Hann window, centred on a sample."""
    time = torch.arange(samples) - centre
    window = torch.where(time.abs() < seconds * RATE / 2, torch.cos(torch.pi * time / (seconds * RATE)) ** 2, 0.0)
    return (window * torch.sin(2 * torch.pi * hertz * time / RATE))[None].float()


# --- the front end


@pytest.fixture(params=["torchaudio", "numpy"])
def extractor(request, monkeypatch):
    """transformers' own, and how near we come: with numpy it works in float64, so that soft bands differ a little."""
    if request.param == "torchaudio" and importlib.util.find_spec("torchaudio") is None:
        pytest.skip("transformers computes features with torchaudio where that is installed")
    monkeypatch.setattr(reference, "is_speech_available", lambda: request.param == "torchaudio")
    return reference.ASTFeatureExtractor, {"torchaudio": 1e-4, "numpy": 3e-4}[request.param]


# 400 samples are the shortest that transformers takes; 164,080 make 1024 frames; what follows is cut.
@pytest.mark.parametrize("samples", [400, 559, 560, 8000, 80_000, 164_080, 170_000])
def test_features_are_those_of_transformers(extractor, samples):
    make, tolerance = extractor
    for label in ("siren", "clock"):
        waveform = sound(samples, label)
        expected = make()(waveform[0].numpy(), sampling_rate=RATE, return_tensors="pt").input_values
        assert expected.shape == (1, 1024, 128) and expected.std() > 0.01
        torch.testing.assert_close(KaldiFeatures()(waveform), expected, atol=tolerance, rtol=0)


def test_other_settings():
    pytest.importorskip("torchaudio")  # without, transformers has frames for 16 kHz only
    waveform = torch.cat([sound(20_000), sound(20_000, "bell")])
    settings = {"mean": -6.845978, "std": 5.5654526, "max_length": 90, "num_mel_bins": 64, "sampling_rate": 32000}
    make = transformers.ASTFeatureExtractor(**settings)
    expected = make(list(waveform.numpy()), sampling_rate=32000, return_tensors="pt").input_values
    ours = KaldiFeatures(32000, 64, 90, -6.845978, 5.5654526)
    torch.testing.assert_close(ours(waveform), expected, atol=1e-4, rtol=0)


def test_a_sound_shorter_than_a_frame_is_followed_by_silence():
    waveform = torch.randn(1, 123)
    made = KaldiFeatures()(waveform)
    torch.testing.assert_close(made, KaldiFeatures()(functional.pad(waveform, (0, 277))))
    assert KaldiFeatures().frames(123) == 1


def test_padding_is_zeros_before_normalisation():
    made = KaldiFeatures(mean=-3.0, std=2.0)(torch.randn(1, 560))
    torch.testing.assert_close(made[:, 2:], torch.full((1, 1022, 128), 0.75))  # (0 + 3) / (2 * 2)
    assert (made[:, :2] - 0.75).abs().min() > 0


def test_gradients_are_right_and_finite_at_silence():
    torch.manual_seed(0)
    features = KaldiFeatures(bands=8, max_length=4).double()
    waveform, step = torch.randn(2, 900, dtype=torch.float64), torch.randn(2, 900, dtype=torch.float64)
    weight = torch.randn(2, 4, 8, dtype=torch.float64)
    (features(waveform.requires_grad_()) * weight).sum().backward()
    assert waveform.grad is not None
    slope, waveform = (waveform.grad * step).sum(), waveform.detach()
    eps = 1e-6
    ends = [(features(waveform + side * eps * step) * weight).sum() for side in (1, -1)]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * eps), rtol=1e-6, atol=1e-6)
    silence = torch.zeros(1, 8000, requires_grad=True)
    AST(model())(silence).logits.sum().backward()
    assert silence.grad is not None and torch.isfinite(silence.grad).all()


# --- logits


@pytest.mark.parametrize("samples", [4000, 80_000, 164_000])
def test_logits_are_those_of_transformers(samples):
    wrapped = model()
    waveform = sound(samples)
    values = transformers.ASTFeatureExtractor()(waveform[0].numpy(), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(AST(wrapped)(waveform).logits, wrapped(**values).logits, atol=1e-4, rtol=1e-4)


def test_long_sounds_are_judged_in_pieces_of_at_most_1024_frames():
    classifier = AST(model(hidden_size=8), blocks=(0,))
    assert (
        classifier.max_samples == 164_239 and KaldiFeatures().frames(164_239) == KaldiFeatures().frames(10**6) == 1024
    )
    waveform = sound(170_000)
    with torch.no_grad():
        whole, halves = classifier(waveform), [classifier(each) for each in waveform.split(85_000, 1)]
    torch.testing.assert_close(whole.logits, (halves[0].logits + halves[1].logits) / 2)
    torch.testing.assert_close(whole.feature_maps[0], torch.cat([each.feature_maps[0] for each in halves], 3))


def test_a_model_in_half_precision():
    prediction = AST(model().to(torch.bfloat16))(sound(4000))
    assert prediction.logits.dtype == torch.float32 and torch.isfinite(prediction.logits).all()


# --- where patches are

# Centre of the patch in row 8, column 9, by hand: bands 80 to 95, that is mel 31.75 + 88.5 * 2808.3 / 129, and frames
# 90 to 105, that is samples 97.5 * 160 + 200.
HERTZ, SAMPLE = 3280.0, 15_800


@pytest.mark.parametrize("block", [0, -1])
def test_a_planted_burst_is_in_its_row_and_column(block):
    classifier = AST(model(), blocks=(block,))
    with torch.no_grad():
        (with_burst,), (without,) = (
            classifier(each).feature_maps for each in (burst(HERTZ, SAMPLE, 32_000), torch.zeros(1, 32_000))
        )
    assert with_burst.shape == (1, 16, 12, 19)
    changed = (with_burst - without).square().sum(1)[0]
    assert divmod(int(changed.argmax()), 19) == (8, 9)


@pytest.mark.parametrize("samples, columns", [(100, 1), (4000, 2), (16_000, 9), (80_000, 49), (163_840, 101)])
def test_patches_in_the_padding_are_left_out(samples, columns):
    # A patch is 16 frames, the next begins 10 later; it counts if its centre is in the sound: 80,000 samples are 498
    # frames, and (498 - 8) / 10 = 49.
    with torch.no_grad():
        (maps,) = AST(model(hidden_size=8)).eval()(torch.zeros(1, samples)).feature_maps
    assert maps.shape == (1, 8, 12, columns)


@pytest.mark.parametrize("seconds, start", [(2, 0), (10, 0), (20, 10)])
def test_a_patch_is_placed_at_its_frequency_and_time(seconds, start):
    classifier = AST(model(hidden_size=8))
    samples = seconds * RATE
    with torch.no_grad():
        (maps,) = classifier(torch.zeros(1, samples)).feature_maps
    values = torch.zeros(1, *maps.shape[2:])
    values[0, 8, 9 + start * maps.shape[3] // seconds] = 1  # in the second of two pieces where it starts at 10 s
    placed = classifier.place(values, samples)
    assert placed.shape == classifier.spectrogram(torch.zeros(1, samples)).shape
    freq, frame = divmod(int(placed.argmax()), placed.shape[2])
    assert freq * RATE / 1024 == pytest.approx(HERTZ, abs=RATE / 1024)
    assert frame * 186 == pytest.approx(start * RATE + SAMPLE, abs=186)
    assert placed.max() > 0.9 and placed.min() == 0


def test_other_patches():
    classifier = AST(model(frequency_stride=16, time_stride=16, max_length=128, num_mel_bins=64))
    with torch.no_grad():
        assert classifier(sound(RATE)).feature_maps[0].shape == (1, 16, 4, 6)  # 98 frames; the model has 8 columns
    assert classifier.max_samples == 400 + 160 * 128 - 1


def test_grad_cam_shows_a_patch_where_it_is():
    """A head that reads one patch: the map has its peak there, at the patch's own pitch."""
    classifier = AST(model(num_hidden_layers=1))
    torch.nn.init.zeros_(classifier.module.model.classifier.dense.weight)
    layer = classifier.module.get_submodule(classifier.layers[0])
    token = 2 + 8 * 101 + 9
    layer.register_forward_hook(lambda _, __, out: read.append(out[:, token].square().sum(1)))
    head = classifier.module.model.classifier
    head.register_forward_hook(lambda _, __, out: out + torch.stack([read.pop(), 0 * out[:, 0], 0 * out[:, 0]], 1))
    read: list = []
    made = GradCAM(classifier).interpret(burst(HERTZ, SAMPLE, 32_000) + 1e-3 * torch.randn(1, 32_000), 0)
    attribution = made.details["attribution"][0]
    freq, frame = divmod(int(attribution.argmax()), attribution.shape[1])
    assert freq * RATE / 1024 == pytest.approx(HERTZ, abs=2 * RATE / 1024)
    assert frame * 186 == pytest.approx(SAMPLE, abs=2 * 186)


# --- labels, layers, loading, errors


def test_labels_come_with_the_model():
    labels = {0: "dog", 1: "cat", 2: "rain"}
    assert AST(model(id2label=labels)).labels == ("dog", "cat", "rain")
    assert AST(model(), labels=["a", "b", "c"]).labels == ("a", "b", "c")
    with pytest.raises(ValueError, match="2 labels do not fit the model's 3 logits"):
        AST(model(), labels=["a", "b"])


@pytest.mark.parametrize(
    "config, given, expected",
    [
        ({}, None, False),
        ({}, True, True),
        ({"num_labels": 527}, None, True),
        ({"num_labels": 527, "problem_type": "single_label_classification"}, None, False),
        ({"problem_type": "multi_label_classification"}, None, True),
        ({"problem_type": "multi_label_classification"}, False, False),
    ],
)
def test_several_labels(config, given, expected):
    classifier = AST(model(**config), multilabel=given)
    with torch.no_grad():
        prediction = classifier(sound(2000))
    total = prediction.logits.sigmoid() if expected else prediction.logits.softmax(1)
    torch.testing.assert_close(prediction.probabilities, total)
    assert classifier.multilabel == expected


def test_blocks_are_found_by_class():
    classifier = AST(model(num_hidden_layers=3), blocks=(0, -1))
    blocks = [each for each in classifier.modules() if type(each).__name__ == "ASTLayer"]
    kept = [classifier.module.get_submodule(name) for name in classifier.layers]
    assert kept == [blocks[0].layernorm_before, blocks[2].layernorm_before]
    with pytest.raises(ValueError, match=r"blocks \[3\] do not exist; this AST has 3"):
        AST(model(num_hidden_layers=3), blocks=(0, 3))


def test_the_last_map_reaches_the_logits():
    classifier = AST(model())
    classifier(sound(4000))
    maps = []
    layer = classifier.module.get_submodule(classifier.layers[-1])
    layer.register_forward_hook(lambda _, __, out: maps.append(out))
    gradient = torch.autograd.grad(classifier(sound(4000)).logits[:, 0].sum(), maps)[0]
    assert gradient[:, 2:].abs().max() > 0


@pytest.mark.parametrize("other", [torch.nn.Linear(2, 3), "MIT/ast-finetuned-audioset-10-10-0.4593", None])
def test_another_kind_of_model(other):
    with pytest.raises(ValueError, match="AST wraps transformers' ASTForAudioClassification, not a"):
        AST(other)


def test_from_pretrained(tmp_path):
    saved = model(num_labels=2, id2label={0: "on", 1: "off"}, max_length=128)
    saved.save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(mean=-6.8, std=5.5, max_length=128).save_pretrained(tmp_path)
    classifier = AST.from_pretrained(tmp_path, blocks=(0,))
    assert classifier.labels == ("on", "off") and classifier.sample_rate == RATE
    assert (classifier.module.features.mean, classifier.module.features.std) == (-6.8, 5.5)
    waveform = sound(9000)
    with torch.no_grad():
        torch.testing.assert_close(classifier(waveform).logits, AST(saved, mean=-6.8, std=5.5)(waveform).logits)
    raw = tmp_path / "raw"
    saved.save_pretrained(raw)
    transformers.ASTFeatureExtractor(do_normalize=False, max_length=128).save_pretrained(raw)
    values = AST.from_pretrained(raw).module.features(waveform)
    torch.testing.assert_close(values, 11 * classifier.module.features(waveform) - 6.8, atol=1e-4, rtol=1e-4)


def test_from_pretrained_says_what_is_wrong(tmp_path):
    with pytest.raises(ValueError, match="cannot be loaded as an audio classifier") as caught:
        AST.from_pretrained(tmp_path / "nothing")
    assert "\n" not in str(caught.value)
    config = transformers.Wav2Vec2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, conv_dim=(8,), conv_stride=(5,),
        conv_kernel=(10,), num_feat_extract_layers=1, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
    )  # fmt: skip
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"not a Wav2Vec2ForSequenceClassification \(wav2vec2\); for others"):
        AST.from_pretrained(tmp_path)


def test_our_package_does_not_import_transformers():
    code = "import sys, audiointerp.classifiers, audiointerp.interpreters; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- methods


@pytest.fixture(scope="module")
def small():
    return AST(model(max_length=64, problem_type="multi_label_classification", initializer_range=0.3))


@pytest.mark.parametrize(
    "build",
    [
        Saliency,
        lambda it: SmoothGrad(it, n_samples=2),
        lambda it: IntegratedGradients(it, steps=3),
        lambda it: GradientSHAP(it, n_samples=2),
        GradCAM,
        lambda it: Occlusion(it, patch=(4000.0, 0.3)),
        lambda it: LIME(it, tiles=(2, 2)),
        lambda it: RISE(it, n_masks=4),
    ],
    ids=["saliency", "smoothgrad", "ig", "shap", "gradcam", "occlusion", "lime", "rise"],
)
@pytest.mark.parametrize("samples", [300, 6000, 13_000])
def test_every_method_explains_sounds_of_any_length(small, build, samples):
    waveform = torch.cat([sound(samples), torch.zeros(1, samples)])
    made = build(small).interpret(waveform)
    assert made.mask.shape == small.spectrogram(waveform).shape and torch.isfinite(made.waveform).all()
    torch.testing.assert_close(made.waveform + made.residual, waveform)
    assert made.mask[1].max() == 0 and (made.mask[0].max() > 0 or samples < 400)
    assert not any(each._forward_hooks or each._backward_hooks for each in small.modules())
    assert all(each.grad is None for each in small.parameters())


# --- a known answer

# The call fills a patch: row 10 of 12, bands 100 to 115, and 16 frames. Patches overlap, so its neighbours have a part.
CALL, OTHER, HUM, SAMPLES = 5156.0, 300.0, 7000.0, 32_000


def scene(call, other, calls_at, other_at, generator):
    """A steady hum, louder than anything else, and two tones of 160 ms; levels re the hum in dB, times in seconds."""
    clip = 0.003 * torch.randn(1, SAMPLES, generator=generator)
    clip += torch.sin(2 * torch.pi * HUM * torch.arange(SAMPLES) / RATE)
    for hertz, level, start in ((CALL, call, calls_at), (OTHER, other, other_at)):
        pitch = hertz * float(1 + 0.03 * (2 * torch.rand(1, generator=generator) - 1))
        clip += 10 ** (level / 20) * burst(pitch, (start + 0.08) * RATE, SAMPLES, seconds=0.16)
    return clip / clip.abs().max()


@pytest.fixture(scope="module")
def trained():
    """An AST of two blocks that says how loud the call is: sure at 0 dB, sure that there is none at -40 dB."""
    return train()


def train(steps=100, seed=0):
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "max_length": 204}
    labels = {"num_labels": 2, "id2label": {0: "call", 1: "never"}, "problem_type": "multi_label_classification"}
    classifier = AST(model(**shape, **labels, initializer_range=0.2))
    torch.nn.init.normal_(classifier.module.model.audio_spectrogram_transformer.embeddings.position_embeddings, std=0.3)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(classifier.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        draws = torch.rand(16, 6, generator=generator)
        call, other = (torch.where(draws[:, n] < 0.6, -40 * draws[:, n + 1], -100.0) for n in (0, 2))
        starts = (1.84 * draws[:, 4:]).tolist()
        clips = torch.cat([scene(float(a), float(b), *at, generator) for a, b, at in zip(call, other, starts)])
        # Whole clips are quieter, too: so the path of integrated gradients, from silence, is familiar ground.
        quieter = -60 * (2 * torch.rand(16, generator=generator) - 1).clamp(min=0)
        wanted = torch.stack([(1 + (call + quieter) / 40).clamp(0, 1), torch.zeros(16)], 1) * 0.96 + 0.02
        heard = classifier(clips * 10 ** (quieter / 20)[:, None]).logits
        loss = functional.binary_cross_entropy_with_logits(heard, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return classifier.eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, other, hertz, seconds",  # how far from the call's middle the peak may be: its patch, its tone, half a tile
    [
        # Later blocks have mixed the patches of so small a network: their maps know that there is a call, not where. In
        # the first, a patch is its sound plus its place, which Grad-CAM cannot tell apart from another tone for sure.
        (lambda it: GradCAM(AST(it.module.model, blocks=(0,))), -100, 100.0, 0.05),
        (lambda it: IntegratedGradients(it, steps=50), -10, 250.0, 0.12),
        (lambda it: LIME(it, tiles=(8, 8), n_samples=200), -10, 700.0, 0.26),
    ],
    ids=["gradcam", "ig", "lime"],
)
def test_a_planted_call_is_found_at_its_time_and_frequency(trained, build, other, hertz, seconds):
    generator = torch.Generator().manual_seed(5)
    for column in (2, 5, 9, 13, 17):
        start = 0.0075 + 0.1 * column  # in the middle of a column, see SAMPLE
        clip = scene(-10, other, start, (start + 0.9) % 1.8, generator)
        with torch.no_grad():
            assert trained(clip).probabilities[0, 0] > 0.5 > trained(clip).probabilities[0, 1]
        made = build(trained).interpret(clip, 0)
        assert made.details.get("completeness", torch.zeros(1)) < 0.01
        attribution = made.details["attribution"][0]
        # A tile is one value all over: its middle.
        freq, frame = (attribution >= attribution.max() * 0.999).nonzero().float().mean(0).tolist()
        assert freq * RATE / 1024 == pytest.approx(CALL, abs=hertz), column
        assert frame * 186 / RATE == pytest.approx(start + 0.08, abs=seconds), column
