"""Small random models of transformers' audio families, against the same models fed by their own feature extractors."""

import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

import audiointerp
from audiointerp.__main__ import main
from audiointerp.classifiers import AST, HuggingFace
from audiointerp.classifiers.front_ends import UnitVariance, WhisperFeatures
from audiointerp.datasets.synthetic import synthesize
from audiointerp.interpreters import LIME, RDE, RISE, GradCAM, IntegratedGradients

transformers = pytest.importorskip("transformers")

RATE = 16000
LABELS = {"num_labels": 3, "id2label": {0: "dog", 1: "rain", 2: "bell"}}
SPEECH = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "conv_dim": (16, 16), "conv_stride": (20, 16), "conv_kernel": (40, 32), "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8,
}  # fmt: skip
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")  # transformers' features without torchaudio


def wav2vec2(**more):
    config = transformers.Wav2Vec2Config(**SPEECH, **LABELS, **more)
    return transformers.Wav2Vec2ForSequenceClassification(config), transformers.Wav2Vec2FeatureExtractor()


def hubert():
    config = transformers.HubertConfig(**SPEECH, **LABELS, feat_extract_norm="layer", do_stable_layer_norm=True)
    extractor = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    return transformers.HubertForSequenceClassification(config), extractor


def wavlm():
    config = transformers.WavLMConfig(**SPEECH, **LABELS, use_weighted_layer_sum=True)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
    return transformers.WavLMForSequenceClassification(config), extractor


def whisper():
    config = transformers.WhisperConfig(
        d_model=16, encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=16, decoder_layers=1,
        decoder_attention_heads=2, decoder_ffn_dim=16, num_mel_bins=80, max_source_positions=100,
        classifier_proj_size=8, vocab_size=10, pad_token_id=0, bos_token_id=1, eos_token_id=2,
        decoder_start_token_id=1, **LABELS,
    )  # fmt: skip
    return transformers.WhisperForAudioClassification(config), transformers.WhisperFeatureExtractor(chunk_length=2)


def ast():
    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16, max_length=128, **LABELS
    )
    return transformers.ASTForAudioClassification(config), transformers.ASTFeatureExtractor(max_length=128)


def wav2vec2_bert():
    """The family whose features are left to its extractor."""
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, classifier_proj_size=8,
        feature_projection_input_dim=160, conv_depthwise_kernel_size=3, **LABELS,
    )  # fmt: skip
    return transformers.Wav2Vec2BertForSequenceClassification(config), transformers.SeamlessM4TFeatureExtractor()


FAMILIES = {"wav2vec2": wav2vec2, "hubert": hubert, "wavlm": wavlm, "whisper": whisper, "ast": ast}
ALL = FAMILIES | {"wav2vec2_bert": wav2vec2_bert}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """family -> folder as save_pretrained writes it, the official model and feature extractor."""
    made = {}

    def save(family):
        if family not in made:
            torch.manual_seed(0)
            model, extractor = ALL[family]()
            for each in model.parameters():  # the models' own start is so small that every sound has the same logits
                if each.ndim > 1:
                    torch.nn.init.normal_(each, std=1.5 / each[0].numel() ** 0.5)
            folder = tmp_path_factory.mktemp(family)
            model.save_pretrained(folder)
            extractor.save_pretrained(folder)
            made[family] = folder, model.eval(), extractor
        return made[family]

    return save


def sound(samples, label="siren"):
    return 0.7 * torch.from_numpy(synthesize(label, np.random.default_rng(0), 3.0)[:samples])[None]


def official(model, extractor, waveform):
    """Logits as the model's card shows how to get them."""
    inputs = extractor(waveform[0].numpy(), sampling_rate=RATE, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("samples", [4000, 15_999, 20_000])
@pytest.mark.parametrize("family", ALL)
def test_logits_are_those_of_the_official_features(saved, family, samples):
    folder, model, extractor = saved(family)
    classifier = audiointerp.load(f"hf:{folder}")
    assert classifier.labels == ("dog", "rain", "bell") and classifier.sample_rate == RATE
    assert isinstance(classifier, AST if family == "ast" else HuggingFace) and not classifier.training
    waveform = sound(samples)
    expected = official(model, extractor, waveform)
    other = official(model, extractor, sound(samples, "bell"))
    assert (expected - other).abs().max() > 1e-2  # the logits tell sounds apart
    with torch.no_grad():
        torch.testing.assert_close(classifier(waveform).logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_the_waveform(saved, family):
    """The slope along a direction equals the difference quotient."""
    classifier = audiointerp.load(f"hf:{saved(family)[0]}").double()
    waveform, step = sound(6000).double(), torch.randn(1, 6000, dtype=torch.float64)
    waveform.requires_grad_()

    def logit(at):
        module = classifier.module
        module_input = module.features(at)
        return module.model(module_input).logits[0, 0]

    logit(waveform).backward()
    assert waveform.grad is not None
    slope, eps = float((waveform.grad * step).sum()), 1e-7
    with torch.no_grad():
        ends = [float(logit(waveform + side * eps * step)) for side in (1, -1)]
    assert slope != 0 and (ends[0] - ends[1]) / (2 * eps) == pytest.approx(slope, rel=1e-3)
    silence = torch.zeros(1, 6000, requires_grad=True)
    audiointerp.load(f"hf:{saved(family)[0]}")(silence).logits.sum().backward()
    assert silence.grad is not None and torch.isfinite(silence.grad).all()


@pytest.mark.parametrize("family", ALL)
def test_a_row_of_a_batch_is_a_batch_of_one(saved, family):
    classifier = audiointerp.load(f"hf:{saved(family)[0]}")
    both = torch.cat([sound(9000), 0.1 * sound(9000, "bell")])
    with torch.no_grad():
        torch.testing.assert_close(classifier(both).logits[1:], classifier(both[1:]).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("samples", [1, 399, 1600])
@pytest.mark.parametrize("family", ALL)
def test_short_sounds_and_silence(saved, family, samples):
    classifier = audiointerp.load(f"hf:{saved(family)[0]}")
    with torch.no_grad():
        assert torch.isfinite(classifier(torch.zeros(2, samples)).logits).all()


def test_features_are_those_of_transformers():
    waveform = torch.cat([sound(30_000), sound(30_000, "bell")])
    for normalize in (True, False):
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalize)
        expected = extractor(list(waveform.numpy()), sampling_rate=RATE, return_tensors="pt").input_values
        torch.testing.assert_close(UnitVariance(normalize)(waveform), expected, atol=1e-5, rtol=0)
    for settings in ({}, {"feature_size": 128, "chunk_length": 1}):
        extractor = transformers.WhisperFeatureExtractor(**settings)
        expected = extractor(list(waveform.numpy()), sampling_rate=RATE, return_tensors="pt").input_features
        ours = WhisperFeatures(bands=extractor.feature_size, max_samples=extractor.n_samples)
        torch.testing.assert_close(ours(waveform), expected, atol=1e-4, rtol=0)


def test_long_sounds_are_judged_in_pieces_by_whisper(saved):
    classifier = audiointerp.load(f"hf:{saved('whisper')[0]}")
    waveform = sound(48_000)
    with torch.no_grad():
        whole, halves = classifier(waveform), [classifier(each) for each in waveform.split(24_000, 1)]
    assert classifier.max_samples == 32_000
    torch.testing.assert_close(whole.logits, (halves[0].logits + halves[1].logits) / 2)
    assert whole.feature_maps[0].shape == (1, 16, 1, 150)  # 1.5 s of 2 s are 75 of 100 columns, twice


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm", "whisper"])
def test_a_burst_is_placed_at_its_time(saved, family):
    """The feature map has one row; its columns are times."""
    classifier = audiointerp.load(f"hf:{saved(family)[0]}")
    time = torch.arange(24_000)
    burst = (0.5 * torch.sin(0.3 * time) * torch.exp(-0.5 * ((time - 9000) / 200.0) ** 2))[None]
    with torch.no_grad():
        maps = [classifier(each + 1e-3 * torch.sin(0.1 * time)).feature_maps[0] for each in (burst, 0 * burst)]
    assert maps[0].shape[2] == 1
    change = (maps[0] - maps[1]).square().sum(1)
    change = change - change.median()  # normalisation changes every column alike
    placed = classifier.place(change, 24_000)[0, 100]
    assert int(placed.argmax()) * classifier.spectrogram.hop_length == pytest.approx(9000, abs=700)


@pytest.mark.parametrize("family", FAMILIES)
def test_methods_explain_it(saved, family):
    classifier = audiointerp.load(f"hf:{saved(family)[0]}")
    waveform = sound(8000)
    for method in (GradCAM(classifier), IntegratedGradients(classifier, steps=2), LIME(classifier, tiles=(2, 2))):
        made = method.interpret(waveform, 1)
        torch.testing.assert_close(made.waveform + made.residual, waveform, atol=1e-5, rtol=0)


def test_features_in_numpy_are_perturbed_but_have_no_gradients(saved):
    classifier = audiointerp.load(f"hf:{saved('wav2vec2_bert')[0]}")
    waveform = sound(8000)
    for method in (LIME(classifier, tiles=(2, 2)), RISE(classifier, n_masks=4)):
        assert torch.isfinite(method.interpret(waveform, 1).mask).all()
    reason = (
        "none reaches the waveform through HuggingFace: transformers' SeamlessM4TFeatureExtractor computes the feat"
    )
    for refused in (IntegratedGradients, GradCAM, RDE):
        with pytest.raises(ValueError, match=reason):
            refused(classifier)


# --- labels and loading


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, False),
        ({"problem_type": "multi_label_classification"}, True),
        ({"num_labels": 527, "id2label": None}, True),
    ],
)
def test_several_labels(config, expected):
    given = {key: each for key, each in (LABELS | config).items() if each is not None}
    model = transformers.Wav2Vec2ForSequenceClassification(transformers.Wav2Vec2Config(**SPEECH, **given)).eval()
    classifier = HuggingFace(model, transformers.Wav2Vec2FeatureExtractor())
    with torch.no_grad():
        prediction = classifier(sound(4000))
    total = prediction.logits.sigmoid() if expected else prediction.logits.softmax(1)
    torch.testing.assert_close(prediction.probabilities, total)
    assert classifier.multilabel == expected


@pytest.mark.parametrize("family", ["wav2vec2", "ast"])
def test_given_labels(saved, family):
    name = f"hf:{saved(family)[0]}"
    assert audiointerp.load(name, labels=["a", "b", "c"]).labels == ("a", "b", "c")
    with pytest.raises(ValueError, match="2 labels do not fit the model's 3 logits"):
        audiointerp.load(name, labels=["a", "b"])


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def _folder(kind, tmp_path, good):
    folder = tmp_path / "model"
    shutil.copytree(good, folder)
    if kind == "no head":
        config = transformers.Wav2Vec2Config(**SPEECH)
        transformers.Wav2Vec2Model(config).save_pretrained(folder)
    elif kind == "bomb":
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"classifier.weight": Bomb()}))
    elif kind == "code":
        text = (folder / "config.json").read_text()
        auto = '"auto_map": {"AutoConfig": "mine.Mine", "AutoModelForAudioClassification": "mine.Mine"}, "model_type"'
        (folder / "config.json").write_text(text.replace('"model_type": "wav2vec2"', f'{auto}: "mine"'))
        (folder / "mine.py").write_text("import os; os.system('touch exploded')")
    elif kind == "text":
        (folder / "model.safetensors").write_text("hello")
    elif kind == "no extractor":
        (folder / "preprocessor_config.json").unlink()
    elif kind == "a text model":
        config = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
        transformers.BertModel(config).save_pretrained(folder)
    elif kind == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    return folder


@pytest.mark.parametrize("kind", ["no head", "bomb", "code", "text", "no extractor", "a text model", "empty"])
def test_hostile_and_wrong_folders_are_one_line_and_run_nothing(saved, tmp_path, monkeypatch, kind):
    folder = _folder(kind, tmp_path, saved("wav2vec2")[0])
    monkeypatch.chdir(tmp_path)
    says = "holds no classifier, its weights lack classifier" if kind == "no head" else "cannot be loaded as an audio"
    with pytest.raises(ValueError, match=f"model: {says}") as caught:
        audiointerp.load(f"hf:{folder}")
    assert "\n" not in str(caught.value) and not list(tmp_path.rglob("exploded"))


@pytest.mark.slow
def test_without_a_network_or_transformers_the_error_is_one_line(tmp_path):
    """In a process of its own: transformers reads the variable when it is imported."""
    script = (
        "import sys, audiointerp\n"
        "if sys.argv[1] == 'hidden': import importlib.util; importlib.util.find_spec = lambda name: None\n"
        "for module in ('audiointerp.classifiers.hub',): __import__(module)\n"
        "try: audiointerp.load('hf:somebody/nothing')\n"
        "except ValueError as error: print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    for how, says in (("offline", "somebody/nothing: cannot be loaded as an audio classifier ("), ("hidden", "[hf]")):
        command = [sys.executable, "-c", script, how]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert says in done.stdout and len(done.stdout.splitlines()) == 1, done.stderr[-500:]


# --- by name


def test_by_name_on_the_command_line(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved("hubert")[0], tmp_path / "mine")
    audiointerp.write("my.wav", sound(16000)[0], RATE)
    assert main(["interpret", "hf:mine", "my.wav", "-o", "out", "--no_figures", "--target", "rain"]) == 0
    assert pd.read_csv("out/scores.csv")["target"].tolist() == ["rain"]
    assert audiointerp.load("hf:mine").source == f"hf:{tmp_path / 'mine'}"
    capsys.readouterr()
    assert main(["layers", "hf:mine"]) == 0
    assert "model.hubert.feature_extractor" in capsys.readouterr().out
    assert main(["layers", "hf:mine", "--labels", "a", "b"]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("audiointerp: ")]
    assert "2 labels do not fit the model's 3 logits" in line
    assert main(["layers", "hff:mine"]) == 2
    assert "(did you mean 'hf'?)" in capsys.readouterr().err


def test_a_torchaudio_for_another_torch_is_one_line(tmp_path, monkeypatch):
    """As its library fails to load: transformers imports torchaudio wherever it is installed."""
    (tmp_path / "torchaudio").mkdir()
    broken = "raise OSError('torchaudio/lib/_torchaudio.so: undefined symbol: _ZN2at')\n"
    (tmp_path / "torchaudio" / "__init__.py").write_text(broken)
    for name in [each for each in sys.modules if each.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"torchaudio does not work with torch .*undefined symbol") as caught:
        audiointerp.load(f"hf:{tmp_path}")
    assert "uninstall it" in str(caught.value) and "\n" not in str(caught.value)
