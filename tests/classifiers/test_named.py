"""Classifiers by name, for the command line, recipes and Python; code runs only where the user names it."""

import json

import pandas as pd
import pytest
import torch
from references.cnn14 import official_state
from torch import nn

import audiointerp
from audiointerp.__main__ import main
from audiointerp.bundles import bundle
from audiointerp.bundles.bundle import BundleError
from audiointerp.classifiers import EfficientAT, External, named
from audiointerp.interpreters import LIME, PIQ, RISE, Occlusion

MODULE = """
import torch
from audiointerp import External

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.maps = torch.nn.Conv2d(1, 4, 3, stride=16, padding=1)

    def forward(self, waveform):
        spectrum = torch.stft(waveform, 512, window=torch.hann_window(512), return_complex=True).abs()
        return {returned}

def make():
    return {made}

def bare():
    return Net()
"""
MADE = "External(Net(), ['Dog', 'Rain'], 16000, layers=['maps'])"


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Writes a module of the user's own into the working folder; its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, returned="self.maps(spectrum[:, None]).mean((2, 3))[:, :2]", made=None):
        made = made or "External(Net(), ['one', 'two'], 16000, layers=['maps'])"
        (tmp_path / f"{name}.py").write_text(MODULE.format(returned=returned, made=made))
        return f"python:{name}:make"

    return write


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    torch.save(EfficientAT(0.1).module.state_dict(), tmp_path / "tiny.pt")
    return tmp_path / "tiny.pt"


def test_names_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd:folder").mkdir()
    assert named.is_named("efficientat:x") and named.is_named("python:a.b:c")
    for path in ("esc10-piq", "results/piq/1234", "C:\\runs\\piq", "odd:folder", "a/b:c", "x:"):
        assert not named.is_named(path), path


def test_load_takes_a_name_and_keeps_it(weights, mine):
    tagger = audiointerp.load(f"efficientat:{weights}")
    assert tagger.source == f"efficientat:{weights.resolve()}" and not tagger.training
    own = audiointerp.load(mine("good"))
    assert own.labels == ("one", "two") and own.source == "python:good:make"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("efficientnet:mn04", r"no kind of classifier 'efficientnet' \(did you mean 'efficientat'\?\)"),
        ("python:nowhere:make", "no module 'nowhere'"),
        ("python:good:build", "module good has no 'build'"),
        ("python:good", "name a function too"),
        ("python:good:bare", r"gives a Net, not a classifier; wrap it: External"),
    ],
)
def test_what_no_name_stands_for_is_one_line(mine, name, says):
    mine("good")
    with pytest.raises(ValueError, match=says) as caught:
        audiointerp.load(name)
    assert "\n" not in str(caught.value)


def test_code_that_fails_is_told_in_one_line(mine, tmp_path, capsys):
    """Its own error, also of a module that cannot be imported; --debug shows the traceback."""
    mine("failing", made="[][0]")
    (tmp_path / "broken.py").write_text("def make(:\n")
    for name, says in (
        ("failing", "your code fails (IndexError: list index out of range)"),
        ("broken", "your code fails (SyntaxError: "),
    ):
        assert main(["layers", f"python:{name}:make"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"audiointerp: python:{name}:make: {says}") and line.endswith("; --debug shows where")


def test_methods_that_need_no_gradients_explain_it(mine):
    maps = "self.maps(spectrum[:, None]).mean((2, 3))[:, :2]"
    own = audiointerp.load(mine("numpied", f"torch.from_numpy({maps}.detach().numpy().copy())"))
    waveform = 0.1 * torch.randn(1, 16000)
    for method in (LIME(own, tiles=(2, 2)), RISE(own, n_masks=4), Occlusion(own, patch=(4000.0, 0.5))):
        made = method.interpret(waveform)
        torch.testing.assert_close(made.waveform + made.residual, waveform, atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", ["saliency", "smoothgrad", "integratedgradients", "gradientshap", "gradcam", "rde"])
def test_methods_that_need_gradients_refuse_a_module_without(mine, method, tmp_path, capsys):
    """A module that leaves torch: perturbation explains it, gradients cannot."""
    maps = "self.maps(spectrum[:, None]).mean((2, 3))[:, :2]"
    name = mine("numpied", f"torch.from_numpy({maps}.detach().numpy().copy())")
    audiointerp.write("my.wav", 0.1 * torch.randn(16000), 16000)
    assert main(["interpret", name, "my.wav", "-o", "no", "--no_figures", "--method", method]) == 2
    (line,) = [each for each in capsys.readouterr().err.splitlines() if each.startswith("audiointerp: ")]
    assert "gradient" in line and ("none reaches the waveform" in line or "take the solver MatchingPursuit" in line)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("self.maps(spectrum[:, None]).mean((2, 3))[:, :2].softmax(1)", "returns probabilities"),
        ("self.maps(spectrum[:, None]).mean((2, 3))[:, :2] / 0", "NaN or infinite logits"),
        ("self.maps(spectrum[:, None]).mean((2, 3))", r"logits of shape \(2, 4\); expected \(batch, 2\)"),
        (
            "self.maps(spectrum[:, None].repeat(10, 1, 1, 1)).mean((2, 3)).view(10, -1, 4).mean(0)[:, :2]",
            "another batch size than the input's 2; does forward fold crops",
        ),
    ],
)
def test_a_module_that_cannot_be_explained_is_refused_when_it_is_named(mine, returned, says):
    with pytest.raises(ValueError, match=says):
        audiointerp.load(mine(f"bad{abs(hash(returned))}", returned))


def test_a_bundle_finds_the_classifier_that_it_names(weights, tmp_path):
    tagger = audiointerp.load(f"efficientat:{weights}")
    torch.manual_seed(1)
    saved = bundle.save(PIQ(tagger, channels=4, codes=527), tmp_path / "piq")
    assert json.loads((saved / "config.json").read_text())["source"] == tagger.source
    assert bundle.needs_classifier(saved)
    again = audiointerp.load(saved)
    assert isinstance(again.classifier, EfficientAT)
    waveform = 0.1 * torch.randn(1, 32000)
    assert torch.equal(again.interpret(waveform).mask, audiointerp.load(saved, tagger).interpret(waveform).mask)
    weights.unlink()
    with pytest.raises(BundleError, match=r"is not in the bundle: .*tiny.pt: no such file"):
        audiointerp.load(saved)


def test_a_strangers_bundle_cannot_name_code(mine, tmp_path):
    own = audiointerp.load(mine("spied"))
    saved = bundle.save(PIQ(own, channels=4, codes=8), tmp_path / "piq")
    (tmp_path / "spied.py").write_text("raise SystemExit('ran')")
    with pytest.raises(BundleError, match=r"'python:spied:make' runs code; name it yourself"):
        audiointerp.load(saved)
    assert audiointerp.load(saved, own).classifier is own


def test_packages_add_kinds(monkeypatch):
    class Point:
        name = "mine"

        @staticmethod
        def load():
            return lambda text: External(nn.Sequential(nn.Linear(8, 2)), [f"{text}1", f"{text}2"], 8000)

    monkeypatch.setattr(named, "entry_points", lambda group: [Point()] if group == named.GROUP else [])
    assert audiointerp.load("mine:x").labels == ("x1", "x2")


def test_labels_are_names_or_a_file_of_them(tmp_path, mine, monkeypatch):
    (tmp_path / "names.txt").write_text("a dog barks\n  a gearbox whines\n")
    assert named.read_labels([str(tmp_path / "names.txt")]) == ("a dog barks", "a gearbox whines")
    assert named.read_labels(str(tmp_path / "names.txt")) == named.read_labels(("a dog barks ", "a gearbox whines"))
    (tmp_path / "twice.txt").write_text("a\na\n")
    (tmp_path / "empty.txt").write_text("a\n\nb\n")
    for wrong, says in (
        (["a", "a "], "'a' is given twice"),
        (["a", ""], "a name is empty"),
        ([], "a name is empty"),
        (["nothing.txt"], "labels nothing.txt: not a text file"),
        ([str(tmp_path / "twice.txt")], r"labels .*twice\.txt: 'a' is given twice"),
        ([str(tmp_path / "empty.txt")], r"labels .*empty\.txt: a name is empty"),
    ):
        with pytest.raises(ValueError, match=says):
            named.read_labels(wrong)
    with pytest.raises(ValueError, match="'python:good:make' has labels of its own; leave out"):
        audiointerp.load(mine("good"), labels=["a", "b"])
    with pytest.raises(BundleError, match="esc10-piq: has labels of its own"):
        audiointerp.load("esc10-piq", labels=["a", "b"])


def test_a_bundle_keeps_the_labels_that_were_given(tmp_path):
    torch.manual_seed(0)
    torch.save(EfficientAT(0.1, ("a", "b")).module.state_dict(), tmp_path / "two.pt")
    tagger = audiointerp.load(f"efficientat:{tmp_path / 'two.pt'}", labels=["a", "b"])
    saved = bundle.save(PIQ(tagger, channels=4, codes=8), tmp_path / "piq")
    assert audiointerp.load(saved).classifier.labels == ("a", "b")


# --- on the command line


def test_a_named_classifier_is_explained_without_more_words(weights, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    audiointerp.write("my.wav", 0.1 * torch.randn(48000), 48000)
    command = ["interpret", f"efficientat:{weights}", "my.wav", "--no_figures"]
    assert main([*command, "-o", "out"]) == 0
    printed = capsys.readouterr()
    assert "explained by lime_nmf, 64 passes" in printed.err
    scores = pd.read_csv("out/scores.csv")
    assert scores["method"].tolist() == ["lime_nmf"]
    likeliest = pd.read_csv("out/likeliest.csv")
    assert likeliest["rank"].tolist() == [1, 2, 3, 4, 5] and likeliest["probability"].is_monotonic_decreasing
    assert likeliest["label"][0] == scores["predicted"][0]
    assert "Likeliest labels" in (tmp_path / "out" / "report.html").read_text()
    # Several targets, each by itself: names with commas, a set, the two likeliest of the recording.
    more = ["--method", "gradcam", "--target", "baby cry, infant cry", "--target", "dog+rain", "--target", "top2"]
    assert main([*command, "-o", "out2", *more]) == 0
    targets = pd.read_csv("out2/scores.csv").set_index("method")["target"]
    assert targets["gradcam_baby_cry_infant_cry"] == "Baby cry, infant cry"
    assert targets["gradcam_dog_and_rain"] == "Dog;Rain"
    assert set(targets) >= set(likeliest["label"][:2])
    assert main([*command, "-o", "out3", "--target", "Raiin"]) == 2
    assert "did you mean 'Rain'" in capsys.readouterr().err


def test_a_bundle_of_ones_own_classifier_takes_it_by_name(mine, tmp_path, capsys):
    name = mine("served")
    saved = bundle.save(PIQ(audiointerp.load(name), channels=4, codes=8), tmp_path / "piq")
    audiointerp.write("my.wav", 0.1 * torch.randn(16000), 16000)
    assert main(["interpret", str(saved), "my.wav", "-o", "out", "--no_figures"]) == 2
    assert "runs code; name it yourself, with --classifier" in capsys.readouterr().err
    assert main(["interpret", str(saved), "my.wav", "-o", "out", "--no_figures", "--classifier", name]) == 0
    assert pd.read_csv("out/scores.csv")["method"].tolist() == ["piq"]


def test_layers_are_listed_with_what_can_read_them(mine, capsys):
    assert main(["layers", mine("shown")]) == 0
    _, line = capsys.readouterr().out.splitlines()
    assert line.split(None, 1)[0] == "maps" and "in use: Grad-CAM, PIQ, L2I" in line


def test_layers_of_a_module_of_one_length(tmp_path, monkeypatch, capsys):
    """Its maps do not grow with the sound, which is filled up to the same length."""
    (tmp_path / "one_length_only.py").write_text(
        "import torch\nfrom torch import nn\nfrom audiointerp import External\n\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, (1, 8))\n\n"
        "    def forward(self, waveform):\n"
        "        return self.second(self.first(waveform.view(-1, 1, 300, 100))).mean((2, 3))\n\n"
        "def make(**given):\n"
        "    return External(Net(), ['a', 'b'], 16000, layers=['second'], **given)\n\n"
        "def fixed():\n"
        "    return make(samples=30000)\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["layers", "python:one_length_only:fixed"]) == 0
    told = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "in use: Grad-CAM, PIQ, L2I" in told["second"] and told["first"].endswith("Grad-CAM, PIQ, L2I")
    assert main(["layers", "python:one_length_only:make"]) == 2
    error = capsys.readouterr().err
    assert "Net fails for waveforms of shape (2, 16000)" in error and error.count("\n") == 1


@pytest.fixture(params=["efficientat", "cnn14", "hf", "python"])
def recipe_keys(request, weights, mine, tmp_path):
    """The keys of a recipe that name a classifier of each kind, all with the labels Dog and Rain."""
    torch.manual_seed(0)
    if request.param == "efficientat":
        return f"classifier: efficientat:{weights}\nmultilabel: true"
    if request.param == "cnn14":
        torch.save(official_state(channels=1, classes=2), tmp_path / "two.pth")
        return "classifier: cnn14:two.pth\nlabels: [Dog, Rain]\nmultilabel: true"
    if request.param == "python":
        return f"classifier: {mine('recipe', made=MADE)}"
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2Config(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, conv_dim=(8,),
        conv_stride=(320,), conv_kernel=(400,), num_feat_extract_layers=1, num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, classifier_proj_size=8, id2label={0: "Dog", 1: "Rain"},
    )  # fmt: skip
    transformers.Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path / "speech")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path / "speech")
    return "classifier: hf:speech"


def test_a_recipe_takes_a_named_classifier(recipe_keys, tmp_path, monkeypatch):
    """Clips of labels that the classifier has, and a comparison of two methods on it."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        audiointerp.write(f"{number}.wav", 0.1 * torch.randn(8000), 16000)
    rows = [f"{number}.wav,{('Dog', 'Rain')[number % 2]},{1 + number // 2}" for number in range(4)]
    (tmp_path / "clips.csv").write_text("\n".join(["path,label,fold", *rows]) + "\n")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(f"""seed: 1
train_folds: [1]
test_folds: [2]
output_folder: results
batch_size: 2
seconds: 0.5
device: cpu
clips: !name:audiointerp.datasets.read_table
    csv_path: clips.csv
{recipe_keys}
methods:
    gradcam: !name:audiointerp.interpreters.GradCAM
    loudest: !name:audiointerp.interpreters.Loudest
comparison: !new:audiointerp.runs.Comparison
    conditions:
        clean: !new:audiointerp.evaluation.CleanClips
""")
    assert main(["run", str(recipe), "--allow", "recipe"]) == 0
    scores = pd.read_csv("results/mine/1/scores.csv")
    assert sorted(set(scores["method"])) == ["gradcam", "loudest"] and len(scores) == 4
