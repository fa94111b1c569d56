"""Recipes from strangers: nothing that they name is called by `check`, nothing outside the allowed packages by `run`,
and a recipe that is made to be large ends soon, with one line."""

import sys
from pathlib import Path

import pytest

from audiointerp import recipe
from audiointerp.__main__ import main
from audiointerp.classifiers import named
from audiointerp.recipe.allowed import RUNS_CODE, locate
from audiointerp.recipe.merging import MAX_BYTES, MAX_FILES, MAX_VALUES

RECIPES = Path(__file__).resolve().parents[2] / "recipes" / "esc50"
RECIPE = f"""\
<<: !include:{RECIPES / "base.yaml"}
data_folder: data
epochs: 1
lr: 0.002
classifier: !name:audiointerp.classifiers.VGGSound
    channels: 4
"""
SPY = "from pathlib import Path\nPath('imported').touch()\ndef call(*args, **kwargs):\n    Path('called').touch()\n"
SPY += "class Call:\n    def __init__(self, *args, **kwargs):\n        call()\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "spy.py").write_text(SPY)
    yield tmp_path
    import sys

    sys.modules.pop("spy", None)


def refused(capsys, *command):
    """The lines on stderr of a refused command."""
    assert main([str(each) for each in command]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines and not any(line.startswith("Traceback") for line in lines)
    return lines


HOSTILE = {
    "apply": "x: !apply:os.system ['touch called']\nlr: !ref <x>\n",
    "apply of a hidden key": "__x: !apply:os.system ['touch called']\n",
    "new": "interpreter: !new:subprocess.Popen [[touch, called]]\n",
    "name, called later": "clips: !name:os.system\n    command: touch called\n",
    "own module": "interpreter: !new:spy.Call\n",
    "own module, only imported": "interpreter: !module:spy\n",
    "module of a module": "interpreter: !apply:torch.os.system ['touch called']\n",
    "module of ours": "interpreter: !apply:audiointerp.sound.files.os.system ['touch called']\n",
    "imported name": "interpreter: !apply:audiointerp.recipe.allowed.importlib.import_module [spy]\n",
    "built-in function": "interpreter: !apply:eval [\"open('called', 'w')\"]\n",
    "globals of a method": "interpreter: !apply:torch.nn.Module.forward.__globals__.get [x]\n",
    "pickle": "interpreter: !apply:torch.load [weights.pt]\n",
    "code from the network": "interpreter: !apply:torch.hub.load [owner/name, model]\n",
    "our loader": "interpreter: !apply:audiointerp.load ['python:spy:call']\n",
    "our named classifier": "interpreter: !apply:audiointerp.classifiers.named.load_named ['python:spy:call']\n",
    "our command line": "interpreter: !apply:audiointerp.__main__.main [[run, x.yaml]]\n",
    "classifier by name": "classifier: python:spy:call\n",
    "classifier by name, composed": "colon: ':'\nclassifier: !ref python<colon>spy<colon>call\n",
    "method by name": "methods: {mine: 'python:spy:call'}\n"
    "comparison: !new:audiointerp.runs.Comparison {conditions: {}}\n",
    "private attribute": "stft: !new:audiointerp.sound.STFT\ninterpreter: !ref <stft.__class__>\n",
    "python tag": "interpreter: !!python/object/apply:os.system ['touch called']\n",
    "python tag in a tuple": "train_folds: (!!python/object/apply:os.system ['touch called'])\n",
    "tuple made by a reference": "x: \"!!python/object/apply:os.system ['touch called']\"\nnumbers: !ref (<x>)\n"
    "interpreter: !ref <numbers>\n",
    "tag that HyperPyYAML calls at once": "interpreter: !applyref:os.system ['touch called']\n",
}


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=list(HOSTILE))
def test_nothing_of_a_hostile_recipe_is_called(here, capsys, command, hostile):
    """Nor imported, and nothing is written."""
    own = {line.partition(":")[0] for line in hostile.splitlines()}
    text = RECIPE
    if "classifier" in own:
        text = text[: text.index("classifier:")]
    (here / "hostile.yaml").write_text(text + hostile)
    refused(capsys, command, "hostile.yaml")
    assert sorted(each.name for each in here.iterdir() if each.name != "__pycache__") == ["hostile.yaml", "spy.py"]


@pytest.mark.parametrize("command", [["interpret"], ["evaluate"]])
def test_other_commands_call_nothing_either(here, capsys, command):
    (here / "hostile.yaml").write_text(RECIPE + HOSTILE["apply"])
    (here / "a.wav").touch()
    refused(capsys, *command, "hostile.yaml", "a.wav", "-o", "out")
    assert not (here / "called").exists()
    # Of a good recipe they use the folder of its run only: nothing is made.
    (here / "good.yaml").write_text(
        RECIPE.replace("audiointerp.classifiers.VGGSound", "spy.Call") + "clips: !name:spy.call\n"
    )
    lines = refused(capsys, *command, "good.yaml", "a.wav", "-o", "out", "--allow", "spy")
    assert "has no finished run" in lines[0] and not (here / "called").exists()


def test_interpret_calls_what_is_allowed_of_a_recipe_that_trains_nothing(here, capsys):
    """Only then, and `evaluate` not even then."""
    (here / "a.wav").touch()
    for text in ("classifier: python:spy:call\n", "classifier: !new:spy.Call\n", "classifier: !apply:spy.call\n"):
        (here / "mine.yaml").write_text(text)
        lines = refused(capsys, "interpret", "mine.yaml", "a.wav", "-o", "out")
        assert "give --allow spy" in lines[0] and not (here / "imported").exists()
        refused(capsys, "evaluate", "mine.yaml", "a.wav", "-o", "out", "--allow", "spy")
        assert not (here / "called").exists()
        refused(capsys, "interpret", "mine.yaml", "a.wav", "-o", "out", "--allow", "spy")
        assert (here / "called").exists()
        for left in ("called", "imported"):
            (here / left).unlink(missing_ok=True)


@pytest.mark.parametrize("value", ["!apply:os.system [touch called]", "!new:spy.Call", "!name:spy.call {a: 1}"])
@pytest.mark.parametrize("key", ["lr", "train_folds", "seconds", "epochs", "classifier.channels"])
@pytest.mark.parametrize("command", ["check", "run"])
def test_options_take_plain_values(here, capsys, command, key, value):
    """Also of a package that is allowed."""
    (here / "good.yaml").write_text(RECIPE)
    for allow in ([], ["--allow", "spy", "--allow", "os"]):
        refused(capsys, command, "good.yaml", *allow, f"--{key}", value)
        assert not (here / "called").exists()


def test_an_option_replaces_a_callable_by_an_allowed_one(here, capsys):
    (here / "good.yaml").write_text(RECIPE)
    assert main(["check", "good.yaml", "--classifier", "!name:audiointerp.classifiers.InstrumentClassifier"]) == 0
    lines = refused(capsys, "check", "good.yaml", "--classifier", "!name:spy.call")
    assert "if you trust this recipe, give --allow spy" in lines[0]
    assert not (here / "imported").exists()
    assert main(["check", "good.yaml", "--classifier", "!name:spy.call", "--allow", "spy"]) == 0
    assert (here / "imported").exists() and not (here / "called").exists()


def test_a_classifier_that_the_command_line_names_is_the_users_own(here, capsys):
    """As for `interpret python:spy:call`; the same text in the recipe is refused, and `check` calls neither."""
    (here / "good.yaml").write_text(RECIPE)
    assert main(["check", "good.yaml", "--classifier", "python:spy:call"]) == 0
    assert not (here / "called").exists()
    assert "--allow" not in refused(capsys, "run", "good.yaml", "--classifier", "python:spy:call")[0]
    (here / "theirs.yaml").write_text("<<: !include:good.yaml\nclassifier: python:spy:call\n")
    assert "give --allow spy" in refused(capsys, "run", "theirs.yaml")[0]
    assert not (here / "called").exists()


def test_run_calls_what_is_allowed_and_check_does_not(here, capsys):
    (here / "spied.yaml").write_text(RECIPE + "clips: !name:spy.call\n__made: !new:spy.Call\n")
    assert main(["check", "spied.yaml", "--allow", "spy"]) == 0
    assert not (here / "called").exists()
    with pytest.raises(TypeError):  # `spy.call` returns no clips
        main(["run", "spied.yaml", "--allow", "spy"])
    assert (here / "called").exists()


def test_classifiers_by_name_that_run_code_are_those_that_recipes_refuse():
    assert [f"{kind}:" for kind in named.RUNS_CODE] == [RUNS_CODE]


def test_check_still_asks_settings_whether_their_values_are_right(here, capsys):
    """Their constructors keep and check numbers and text; an argument that is an object is not made."""
    (here / "r.yaml").write_text(
        RECIPE + "augment: !new:audiointerp.datasets.Chain\n    steps:\n"
        "        - !new:audiointerp.datasets.Mixup {alpha: -1.0}\n"
    )
    assert "Mixup's alpha is -1.0; it must be above 0" in " ".join(refused(capsys, "check", "r.yaml"))


@pytest.mark.parametrize(
    ("name", "found"),
    [("torch.nn.Linear", True), ("torch.float16", True), ("torch.device", True), ("torch.load", False)],
)
def test_names_of_torch(name, found):
    if found:
        assert locate(name) is not None
    else:
        with pytest.raises(LookupError, match="give --allow torch"):
            locate(name)
        assert locate(name, ["torch"]) is not None


def bomb_files(folder: Path) -> dict[str, str]:
    """name -> text of recipes that are small on disk and huge once expanded."""
    laughs = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    laughs += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    for number in range(500):
        (folder / f"i{number}.yaml").write_text(f"<<: !include:i{number + 1}.yaml\n" if number < 499 else "seed: 1\n")
    for number in range(12):
        more = f"a: !include:t{number + 1}.yaml\nb: !include:t{number + 1}.yaml\n" if number < 11 else "seed: 1\n"
        (folder / f"t{number}.yaml").write_text(more)
    (folder / "large.yaml").write_text("# " + "x" * (2 << 20))
    return {
        "aliases": laughs,
        "flow depth": "seed: " + "[" * 2000 + "]" * 2000 + "\n",
        "block depth": "\n".join("  " * n + "a:" for n in range(2000)) + " 1\n",
        "chain of includes": "<<: !include:i0.yaml\n",
        "tree of includes": "a: !include:t0.yaml\n",
        "device": "a: !include:/dev/zero\n",
        "large include": "a: !include:large.yaml\n",
        "many keys": "".join(f"a{n}: 1\n" for n in range(100_000)),
        "long number": "seed: " + "9" * 900_000 + "\n",
        "references doubled": "a0: 1\n" + "".join(f"a{n}: !ref <a{n - 1}> + <a{n - 1}>\n" for n in range(1, 60)),
        "text doubled": "a0: xx\n" + "".join(f"a{n}: !ref <a{n - 1}><a{n - 1}>\n" for n in range(1, 60)),
        "power": "a: 9\nseed: !ref <a> ** <a> ** <a>\n",
        "text times number": "a: 999999999\nname: !ref '\"x\" * <a>'\nseed: !ref <name>\n",
        "nested arithmetic": "a: 1\nseed: !ref " + "(" * 300 + "<a>" + ")" * 300 + "\n",
        "list of bases": "x: &x {a: 1}\n<<: [" + ", ".join(["*x"] * 50_000) + "]\n",
    }


BOMBS = ["aliases", "flow depth", "block depth", "chain of includes", "tree of includes", "device", "large include"]
BOMBS += ["many keys", "long number", "references doubled", "text doubled", "power", "text times number"]
BOMBS += ["nested arithmetic", "list of bases"]


def calls_of(work) -> int:
    """Function calls that `work` makes: a measure of its cost that no other load on the machine changes."""
    count = 0

    def see(frame, event, given):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


# Under a second. Expanding aliases, includes or references takes billions of calls; a power or a long text, if it were
# computed, would fill the memory, which no test survives.
MOST_CALLS = 2_000_000


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_soon_with_one_line(here, capsys, name):
    bombs = bomb_files(here)
    assert list(bombs) == BOMBS
    (here / "bomb.yaml").write_text(bombs[name])
    recipe.check("i499.yaml", {}, {"seed": int})  # imports
    problems = []
    count = calls_of(lambda: problems.extend(recipe.check("bomb.yaml", {}, {"seed": int})))
    assert problems and all("\n" not in each and len(each) < 400 for each in problems)
    assert count < MOST_CALLS
    with pytest.raises(recipe.RecipeError):
        recipe.load("bomb.yaml", {}, {"seed": int})


def test_bounds_leave_room_for_real_recipes():
    values, texts = [], []
    for path in RECIPES.parent.rglob("*.yaml"):
        text = recipe.resolve(path, {})
        texts.append(text)
        values.append(text.count("\n"))
    assert max(values) * 5 < MAX_VALUES and MAX_FILES > 10 and max(map(len, texts)) * 5 < MAX_BYTES


def test_a_bomb_on_the_command_line(here, capsys):
    (here / "good.yaml").write_text(RECIPE)
    for value in ("[" * 2000, "[" * 2000 + "]" * 2000, "&a [*a]", "9" * 100_000):
        lines = []
        count = calls_of(lambda: lines.extend(refused(capsys, "check", "good.yaml", "--train_folds", value)))  # noqa: B023
        assert len(lines) == 1 and len(lines[0]) < 400 and count < MOST_CALLS
    # A key that takes text takes any text as it is.
    assert main(["check", "good.yaml", "--data_folder", "!apply:os.system ['touch called']"]) == 0
    assert not (here / "called").exists()
