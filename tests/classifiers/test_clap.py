"""Small random CLAP models whose classes are texts, against ClapModel's own forward and feature extractor."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

import audiointerp
from audiointerp.__main__ import main
from audiointerp.classifiers import CLAP
from audiointerp.classifiers.clap import ClapFeatures
from audiointerp.datasets.synthetic import synthesize
from audiointerp.interpreters import LIME, AllPass, IntegratedGradients
from audiointerp.sound.files import resample

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

RATE = 48000
TEXTS = ["a dog barks", "a gearbox whines", "rain"]  # of different lengths: shorter ones are padded
WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "dog", "barks", "gearbox", "whines", "rain"]
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")


def tokenizer():
    """Words are tokens; with the special tokens that RoBERTa's have."""
    made = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = tokenizers.processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def model(fusion):
    torch.manual_seed(0)
    text = {
        "vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 16, "max_position_embeddings": 20, "projection_dim": 8,
    }  # fmt: skip
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "window_size": 4, "depths": [1, 1], "num_attention_heads": [2, 2],
        "patch_embeds_hidden_size": 8, "hidden_size": 16, "num_hidden_layers": 2, "projection_dim": 8,
        "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None,
    }  # fmt: skip
    made = transformers.ClapModel(transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=8))
    for each in made.parameters():
        if each.ndim > 1:
            torch.nn.init.normal_(each, std=1.5 / each[0].numel() ** 0.5)
    for norm in made.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(norm.running_var, 400.0)  # decibels
            torch.nn.init.constant_(norm.running_mean, -20.0)
    torch.nn.init.constant_(made.logit_scale_a, 1.7)  # another scale than that of the texts
    return made.eval()


def extractor(fusion, **more):
    settings = {"feature_size": 16, "max_length_s": 2, "truncation": "fusion" if fusion else "rand_trunc"}
    return transformers.ClapFeatureExtractor(**settings | more)


@pytest.fixture(scope="module", params=[False, True], ids=["rand_trunc", "fusion"])
def saved(request, tmp_path_factory):
    """Folder of a model with its extractor and tokenizer; the same as transformers' objects."""
    folder = tmp_path_factory.mktemp("clap")
    parts = model(request.param), extractor(request.param), tokenizer()
    for part in parts:
        part.save_pretrained(folder)
    return folder, parts


@pytest.fixture(scope="module")
def heard(saved):
    return audiointerp.load(f"hf-clap:{saved[0]}", labels=TEXTS)


def sound(samples, label="siren"):
    clip = 0.7 * torch.from_numpy(synthesize(label, np.random.default_rng(0), 3.0))[None]
    return resample(clip, 16000, RATE)[:, :samples]


def official(parts, waveform, texts):
    """logits_per_audio of ClapModel's own forward."""
    whole, features, words = parts
    inputs = features(waveform[0].numpy(), sampling_rate=RATE, return_tensors="pt")
    inputs["input_features"] = inputs["input_features"].float()
    tokens = words(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        return whole(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], **inputs).logits_per_audio


# --- numbers


@pytest.mark.parametrize("samples", [1000, 30_000, 50_000, 96_000])
@pytest.mark.parametrize("padding", ["repeatpad", "repeat", "pad"])
@pytest.mark.parametrize("fusion", [False, True])
def test_features_are_those_of_transformers(fusion, padding, samples):
    official_one = extractor(fusion, feature_size=64, padding=padding)
    waveform = sound(samples)
    expected = official_one(waveform[0].numpy(), sampling_rate=RATE, return_tensors="pt").input_features.float()
    ours = ClapFeatures(max_samples=96_000, truncation="fusion" if fusion else "rand_trunc", padding=padding)(waveform)
    assert ours.shape == expected.shape == (1, 4 if fusion else 1, 201, 64)
    # dB in float32 against float64, whose floor of -100 dB is met by padding and by nothing else.
    torch.testing.assert_close(ours, expected, atol=0.05, rtol=0)
    assert (ours - expected).abs().mean() < 1e-3


@pytest.mark.parametrize("samples", [20_000, 60_000, 96_000])
def test_logits_are_those_of_clap(saved, heard, samples):
    waveform = sound(samples)
    expected = official(saved[1], waveform, TEXTS)
    assert expected.std() > 0.05 and (expected - official(saved[1], sound(samples, "bell"), TEXTS)).abs().max() > 1e-2
    with torch.no_grad():
        torch.testing.assert_close(heard(waveform).logits, expected, atol=1e-3, rtol=1e-3)
    assert heard.labels == tuple(TEXTS) and heard.sample_rate == RATE and not heard.multilabel


def test_texts_are_embedded_each_by_itself(saved, heard):
    """A text's logit does not depend on the others, nor on the padding that they cause."""
    fewer = audiointerp.load(f"hf-clap:{saved[0]}", labels=TEXTS[2:] + TEXTS[:1])
    with torch.no_grad():
        all_three, two = heard(sound(30_000)).logits, fewer(sound(30_000)).logits
    torch.testing.assert_close(two, all_three[:, [2, 0]], atol=1e-5, rtol=1e-4)


def test_gradients_reach_the_waveform(heard):
    waveform = sound(20_000).requires_grad_()
    heard(waveform).logits[0, 0].backward()
    assert waveform.grad is not None and torch.isfinite(waveform.grad).all() and waveform.grad.abs().max() > 0
    silence = torch.zeros(1, 20_000, requires_grad=True)
    heard(silence).logits.sum().backward()
    assert silence.grad is not None and torch.isfinite(silence.grad).all()


def test_a_row_of_a_batch_is_a_batch_of_one(heard):
    both = torch.cat([sound(20_000), 0.1 * sound(20_000, "bell")])
    with torch.no_grad():
        torch.testing.assert_close(heard(both).logits[1:], heard(both[1:]).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("samples", [1, 700])
def test_short_sounds_and_silence(heard, samples):
    with torch.no_grad():
        assert torch.isfinite(heard(torch.zeros(2, samples)).logits).all()


def test_long_sounds_are_judged_in_pieces(heard):
    waveform = sound(120_000)
    with torch.no_grad():
        whole, halves = heard(waveform), [heard(each) for each in waveform.split(60_000, 1)]
    torch.testing.assert_close(whole.logits, (halves[0].logits + halves[1].logits) / 2)


def test_methods_explain_it(heard):
    waveform = sound(24_000)
    for method in (IntegratedGradients(heard, steps=2), LIME(heard, tiles=(2, 2)), AllPass(heard)):
        made = method.interpret(waveform, 1)
        torch.testing.assert_close(made.waveform + made.residual, waveform, atol=1e-5, rtol=0)


# --- texts, loading


def test_wrong_texts_are_one_line(saved):
    name = f"hf-clap:{saved[0]}"
    for labels, says in (
        (None, "give at least two"),
        (["a dog barks"], "give at least two"),
        (["rain", "rain "], "'rain' is given twice"),
        (["rain", ""], "a name is empty"),
    ):
        with pytest.raises(ValueError, match=says) as caught:
            audiointerp.load(name, labels=labels)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="'rain' is given twice"):
        CLAP(*saved[1], labels=["rain", "rain"])


def test_other_models_are_refused(saved, tmp_path):
    with pytest.raises(ValueError, match="nothing: cannot be loaded as a CLAP model"):
        audiointerp.load(f"hf-clap:{tmp_path / 'nothing'}", labels=TEXTS)
    with pytest.raises(ValueError, match="CLAP wraps transformers' ClapModel"):
        CLAP(torch.nn.Linear(2, 2), saved[1][1], saved[1][2], TEXTS)
    half = tmp_path / "half"
    shutil.copytree(saved[0], half)
    saved[1][0].audio_model.save_pretrained(half)
    with pytest.raises(ValueError, match="half: "):
        audiointerp.load(f"hf-clap:{half}", labels=TEXTS)


# --- by name


def test_by_name_on_the_command_line(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved[0], tmp_path / "mine")
    audiointerp.write("my.wav", sound(24_000)[0], RATE)
    command = ["interpret", "hf-clap:mine", "my.wav", "--no_figures", "-o"]
    assert main([*command, "out", "--target", "a dog barks", "--labels", *TEXTS]) == 0
    assert pd.read_csv("out/scores.csv")["target"].tolist() == ["a dog barks"]
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    assert main([*command, "out2", "--method", "saliency", "--labels", "texts.txt"]) == 0
    capsys.readouterr()
    assert main(["layers", "hf-clap:mine", "--labels", *TEXTS]) == 0
    assert "audio_model.audio_encoder" in capsys.readouterr().out
    assert main([*command, "out3"]) == 2
    assert "give at least two, as in --labels" in capsys.readouterr().err
    assert main([*command, "out3", "--labels", "rain", "rain"]) == 2
    assert "'rain' is given twice" in capsys.readouterr().err
    assert main(["layers", "hf-clip:mine", "--labels", *TEXTS]) == 2
    assert "(did you mean 'hf-clap'?)" in capsys.readouterr().err


def test_a_recipe_gives_the_texts(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        audiointerp.write(f"{number}.wav", sound(24_000, ("siren", "bell")[number % 2])[0] / (1 + number), RATE)
    rows = [f"{number}.wav,{('a dog barks', 'rain')[number % 2]},{1 + number // 2}" for number in range(4)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,fold", *rows]) + "\n")
    text = f"""seed: 1
train_folds: [1]
test_folds: [2]
output_folder: results
batch_size: 2
seconds: 0.5
device: cpu
clips: !name:audiointerp.datasets.read_table
    csv_path: clips.csv
classifier: hf-clap:{saved[0]}
labels: [a dog barks, a gearbox whines, rain]
methods:
    saliency: !name:audiointerp.interpreters.Saliency
comparison: !new:audiointerp.runs.Comparison
    conditions:
        clean: !new:audiointerp.evaluation.CleanClips
"""
    (tmp_path / "mine.yaml").write_text(text)
    assert main(["run", "mine.yaml"]) == 0
    scores = pd.read_csv("results/mine/1/scores.csv")
    assert scores["method"].tolist() == ["saliency"] * 2 and set(scores["target"]) <= set(TEXTS)
    (tmp_path / "less.yaml").write_text(text.replace(", rain]", "]"))
    capsys.readouterr()
    assert main(["run", "less.yaml"]) == 2
    assert "the data has classes that the classifier lacks: rain" in capsys.readouterr().err
    (tmp_path / "wrong.yaml").write_text(text.replace("[a dog barks, a gearbox whines, rain]", "3"))
    assert main(["check", "wrong.yaml"]) == 2
    assert "labels" in capsys.readouterr().err
