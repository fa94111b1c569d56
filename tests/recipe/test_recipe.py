"""Recipes: every mistake named with its line and the nearest right name; HyperPyYAML's values where there is none."""

import fractions
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import hyperpyyaml
import pytest
import torch

from audiointerp import recipe
from audiointerp.recipe import RecipeError
from audiointerp.recipe.signatures import Signature, fits
from audiointerp.sound.spectrogram import STFT

SCHEMA = {
    "seed": int,
    "data_folder": str,
    "output_folder": Path,
    "train_folds": list[int],
    "lr": float,
    "device": Literal["auto", "cpu", "cuda"],
    "resume": bool,
    "epochs": int | None,
    "weights": Mapping[str, float],
    "clips": Callable,
    "classifier": torch.nn.Module,
    "interpreter": object,
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file of the folder that becomes the working folder; its name is then its path in messages."""
    monkeypatch.chdir(tmp_path)

    def _write(text: str, name: str = "r.yaml") -> str:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        return name

    return _write


ALLOW = ("fractions", "math", "decimal", "builtins", "loud_target", "broken_target", "named_target")


def load(path, **overrides):
    return recipe.load(path, {key.replace("__", "."): value for key, value in overrides.items()}, SCHEMA, ALLOW)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1\nlrr: 3", "r.yaml:2: unknown key 'lrr', and no !ref uses it (did you mean 'lr'?)"),
        ("seed: x", "r.yaml:1: 'seed' is 'x', expected int"),
        ("seed: true", "r.yaml:1: 'seed' is True, expected int"),
        ("seed: 1.5", "r.yaml:1: 'seed' is 1.5, expected int"),
        ("seed: null", "r.yaml:1: 'seed' is None, expected int"),
        ("lr: 1e-3x", "r.yaml:1: 'lr' is '1e-3x', expected float"),
        ("lr: nan", "r.yaml:1: 'lr' is 'nan', expected float (write .nan)"),
        ("epochs: None", "r.yaml:1: 'epochs' is 'None', expected int | None (write null)"),
        ("data_folder: 12", "r.yaml:1: 'data_folder' is 12, expected str (put it in quotes)"),
        ("\nresume: no", "r.yaml:2: 'resume' is 'no', expected bool (write true or false)"),
        (
            "device: cdua",
            "r.yaml:1: 'device' is 'cdua', expected Literal['auto', 'cpu', 'cuda'] (did you mean 'cuda'?)",
        ),
        ("train_folds: [1, x]", "r.yaml:1: 'train_folds' is [1, 'x'], expected list[int]"),
        ("train_folds: 1", "r.yaml:1: 'train_folds' is 1, expected list[int] (write [a, b])"),
        ("weights: {fid: x}", "r.yaml:1: 'weights' is {'fid': 'x'}, expected Mapping[str, float]"),
        ("clips: 3", "r.yaml:1: 'clips' is 3, expected Callable"),
        ("lr: !ref <x>\nx: fast", "r.yaml:1: 'lr' is 'fast' (from <x>), expected float"),
        ("seed: !ref <x> / 2\nx: 5", "r.yaml:1: 'seed' is 2.5 (from <x> / 2), expected int"),
        ("lr: !new:fractions.Fraction", "r.yaml:1: 'lr' is an object of class Fraction, expected float"),
        (
            "classifier: !new:fractions.Fraction",
            "r.yaml:1: 'classifier' is an object of class Fraction, expected Module",
        ),
        ("lr: !ref <x> / 0\nx: 1", "r.yaml:1: 'lr: <x> / 0' cannot be computed: division by zero"),
        (
            "interpreter:\n  n: 1",
            "r.yaml:1: 'interpreter' is a plain mapping; write !new:module.Class in front of its arguments",
        ),
        (
            "seed: 1\n\ndata_folder: !PLACEHOLDER",
            "r.yaml:3: 'data_folder' is not filled in; give --data_folder VALUE or write a value",
        ),
        (
            "interpreter: !name:fractions.Fraction\n  numerator: !PLACEHOLDER",
            "r.yaml:2: 'interpreter.numerator' is not filled in; give --interpreter.numerator VALUE or write a value",
        ),
        (
            "interpreter: !name:fractions.Fraction\n  - !PLACEHOLDER",
            "r.yaml:2: 'interpreter.numerator' is not filled in; write a value",
        ),
        (
            "classifier: !new:torch.nn.Linear\n  in_features: 2\n  out_featurs: 3\n  out_features: 3",
            "r.yaml:3: torch.nn.Linear takes no argument 'out_featurs' (did you mean 'out_features'?)",
        ),
        (
            "classifier: !new:torch.nn.Linear\n  in_features: 2",
            "r.yaml:1: torch.nn.Linear lacks its argument 'out_features'",
        ),
        ("classifier: !new:torch.nn.Linear [2]", "r.yaml:1: torch.nn.Linear lacks its argument 'out_features'"),
        (
            "classifier: !new:torch.nn.Linear [1, 2, true, cpu, null, 9]",
            "r.yaml:1: !new:torch.nn.Linear takes 5 arguments at most, 6 are given",
        ),
        (
            "classifier: !new:torch.nn.Linear [1,\n  b]",
            "r.yaml:2: 'classifier.out_features' is 'b', expected int",
        ),
        (
            "interpreter: !new:audiointerp.sound.spectrogram.STFT\n  hop_length: yes",
            "r.yaml:2: 'interpreter.hop_length' is 'yes', expected int",
        ),
        (
            "classifier: !new:torch.nn.Linear 3",
            "r.yaml:1: !new:torch.nn.Linear takes its arguments as a mapping or a list, not as '3'",
        ),
        (
            "classifier: !new:torch.nn.Linaer [1, 2]",
            "r.yaml:1: !new:torch.nn.Linaer: module 'torch.nn' has no 'Linaer' (did you mean 'Linear'?)",
        ),
        (
            "interpreter: !new:audiointerp.sound.spectogram.STFT",
            "r.yaml:1: !new:audiointerp.sound.spectogram.STFT: module 'audiointerp.sound' has no 'spectogram' "
            "(did you mean 'spectrogram'?)",
        ),
        (
            "interpreter: !new:fractoins.Fraction",
            "r.yaml:1: !new:fractoins.Fraction: there is no module 'fractoins' (did you mean 'fractions'?)",
        ),
        ("clips: !new:math.gcd", "r.yaml:1: !new:math.gcd is not a class; use !apply: to call a function"),
        (
            "interpreter: !new:audiointerp.contracts.Interpreter",
            "r.yaml:1: !new:audiointerp.contracts.Interpreter is an abstract class; name one that derives from it",
        ),
        (
            "interpreter: !apply:fractions.Fraction [1]",
            "r.yaml:1: !apply:fractions.Fraction is not a function; use !new: to make an object of a class",
        ),
        (
            "interpreter: !name:math.pi [1]",
            "r.yaml:1: !name:math.pi is neither a class nor a function, so it takes no arguments",
        ),
        ("seed: 1\nseed: 2", "r.yaml:2: duplicate key 'seed', first given on r.yaml:1"),
        (
            "interpreter: !name:fractions.Fraction {numerator: 1, numerator: 2}",
            "r.yaml:1: duplicate key 'numerator', first given on r.yaml:1",
        ),
        (
            "batches: 1\nseed: !ref <batchs>\nepochs: !ref <batches>",
            "r.yaml:2: !ref <batchs> names no key of this recipe (did you mean '<batches>'?)",
        ),
        (
            "sizes: {codes: 3}\nseed: !ref <sizes[code]>\nepochs: !ref <sizes[codes]>",
            "r.yaml:2: !ref <sizes[code]> names no key of this recipe (did you mean '<sizes[codes]>'?)",
        ),
        (
            "sizes: {codes: 3}\nseed: !ref <sizes.codes>\nepochs: !ref <sizes[codes]>",
            "r.yaml:2: !ref <sizes.codes>: only objects have attributes (did you mean '<sizes[codes]>'?)",
        ),
        (
            "sizes:\n  codes: 3\n  band: 4\nseed: !ref <sizes[codes]>",
            "r.yaml:3: unknown key 'sizes.band', and no !ref uses it",
        ),
        (
            "epochs: !ref <seed>\nseed: !copy <n>\nn: 1",
            "r.yaml:1: !ref <seed> must be below 'seed'",
        ),
        (
            "interpreter: !copy <train_folds>\ntrain_folds: [!ref <n>]\nn: 1",
            "r.yaml:1: !copy <train_folds> must be below 'train_folds'",
        ),
        ("seed: !ref 3", "r.yaml:1: !ref names no <key>"),
        (
            "classifier: !new:torch.nn.ReLU\ndata_folder: !ref <classifier>/x",
            "r.yaml:2: !ref <classifier>/x: <classifier> is not a number or text, so it must be the whole value",
        ),
        ("seed: !ref <lr>\nlr: !ref <seed>", "r.yaml:1: cyclic reference <lr> -> <seed>"),
        ("seed: !ref <seed>", "r.yaml:1: cyclic reference <seed>"),
        (
            "interpreter: !name:fractions.Fraction\n  numerator: !ref <interpreter>",
            "r.yaml:2: cyclic reference <interpreter>",
        ),
        ("train_folds: &x [*x]", "r.yaml:1: an alias (*) is inside the value that it names"),
        ("seed: [1\nlr: 3", "r.yaml:2: broken YAML: expected ',' or ']', but got ':'"),
        ("seed: 1\n\tlr: 3", "r.yaml:2: broken YAML: found character '\\t' that cannot start any token"),
        ("", "r.yaml: is empty"),
        ("- 1", "r.yaml:1: a recipe is a mapping, `key: value` on each line"),
        (
            "interpreter: !!python/name:os.system",
            "r.yaml:1: '!!python/name:os.system' is refused; use !new:, !name: or !apply:",
        ),
        (
            "interpreter: !nwe:fractions.Fraction",
            "r.yaml:1: unknown tag '!nwe:fractions.Fraction' (did you mean '!new'?)",
        ),
        ("train_folds: !tuple [1, 2]", "r.yaml:1: !tuple takes text: (1, 2)"),
        ("seed: !include:nowhere.yaml", "r.yaml:1: there is no file 'nowhere.yaml'"),
        ("<<: !include:rr.yaml\nseed: 1", "r.yaml:1: there is no file 'rr.yaml' (did you mean 'r.yaml'?)"),
        ("<<: !include:r.yaml", "r.yaml:1: cyclic !include: r.yaml -> r.yaml"),
        (
            "weights:\n  <<: !include:r.yaml",
            "r.yaml:2: `<<` takes an alias, or at the top of a recipe !include:FILE",
        ),
    ],
)
def test_each_mistake_is_one_line_and_the_only_one(write, text, problem):
    path = write(text)
    assert recipe.check(path, {}, SCHEMA, ALLOW) == [problem]
    with pytest.raises(RecipeError) as raised:
        recipe.load(path, {}, SCHEMA, ALLOW)
    assert str(raised.value) == problem and raised.value.problems == [problem]


def test_an_override_adds_a_name_where_names_are_the_users_own(write):
    path, schema = write("seed: 1\nmethods: {rise: results/rise}\n"), {**SCHEMA, "methods": Mapping}
    found = recipe.load(path, {"methods.piq": "results/piq"}, schema, ALLOW)
    assert found["methods"] == {"rise": "results/rise", "piq": "results/piq"}
    problem = "command line: unknown option --methods.rize (did you mean '--methods.rise'?)"
    assert recipe.check(path, {"methods.rize": "null"}, schema, ALLOW) == [problem]
    assert recipe.check(path, {"methods.rize.n_masks": "2"}, schema, ALLOW) == [problem]


def test_keys_of_a_method_that_is_left_out_need_not_be_used(write):
    """`donors`, and `files`, which only donors use; keys that nothing used before are still a mistake."""
    text = "seed: 1\nfiles: [a]\ndonors: !ref <files>\nmethods: {rise: a, rde: !ref <donors>, tiles: !ref <donors>}\n"
    schema = {**SCHEMA, "methods": Mapping}
    path, left_out = write(text), {"methods.rde": "null", "methods.tiles": "null"}
    assert recipe.load(path, {"methods.rde": "null"}, schema, ALLOW)["methods"]["tiles"] == ["a"]
    assert recipe.load(path, left_out, schema, ALLOW)["methods"] == {"rise": "a", "rde": None, "tiles": None}
    (problem,) = recipe.check(path, left_out | {"files": "[b]"}, schema, ALLOW)
    assert "unknown key 'files', and no !ref uses it" in problem
    again = write(recipe.resolve(path, left_out, schema, ALLOW))
    assert recipe.check(again, {}, schema, ALLOW) == []
    (problem,) = recipe.check(write(text + "other: 2\n"), left_out, schema, ALLOW)
    assert "unknown key 'other', and no !ref uses it" in problem


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"sede": "3"}, "command line: unknown option --sede (did you mean '--seed'?)"),
        ({"interpreter.numeratr": "3"}, "takes no argument 'numeratr' (did you mean 'numerator'?)"),
        ({"interpretr.numerator": "3"}, "command line: unknown option --interpretr (did you mean '--interpreter'?)"),
        ({"weights.fdi": "3"}, "command line: unknown option --weights.fdi (did you mean '--weights.fid'?)"),
        ({"seed.x": "3"}, "command line: --seed.x: 'seed' has no named arguments in this recipe"),
        ({"lr": "fast"}, "command line: 'lr' is 'fast', expected float"),
        ({"resume": "off"}, "command line: 'resume' is 'off', expected bool (write true or false)"),
        ({"train_folds": "1,x"}, "command line: 'train_folds' is [1, 'x'], expected list[int]"),
        ({"lr": "[1"}, "command line: --lr '[1' is broken YAML: "),
    ],
)
def test_a_wrong_override_is_named_as_such(write, overrides, problem):
    path = write("seed: 1\nweights: {fid: 1}\ninterpreter: !new:fractions.Fraction\n")
    assert recipe.check(path, {}, SCHEMA, ALLOW) == []
    (found,) = recipe.check(path, overrides, SCHEMA, ALLOW)
    assert found.startswith("command line: ") and problem in found


def test_all_problems_come_together_with_the_file_each_stands_in(write):
    write("data_folder: !PLACEHOLDER\nlr: slow\nclassifier: !new:torch.nn.Linear\n  in_features: 2\n", "base.yaml")
    path = write("<<: !include:../base.yaml\n\nclassifier:\n  outfeatures: 3\nsede: 3\n", "sub/r.yaml")
    assert recipe.check(path, {"resme": "true"}, SCHEMA, ALLOW) == [
        "command line: unknown option --resme (did you mean '--resume'?)",
        "sub/../base.yaml:1: 'data_folder' is not filled in; give --data_folder VALUE or write a value",
        "sub/../base.yaml:2: 'lr' is 'slow', expected float",
        "sub/r.yaml:4: torch.nn.Linear takes no argument 'outfeatures' (did you mean 'out_features'?)",
        "sub/../base.yaml:3: torch.nn.Linear lacks its argument 'out_features'",
        "sub/r.yaml:5: unknown key 'sede', and no !ref uses it (did you mean 'seed'?)",
    ]


def test_a_missing_recipe_names_the_nearest_file(write):
    write("seed: 1", "piq.yaml")
    assert recipe.check("pqi.yaml", {}, SCHEMA, ALLOW) == ["there is no file 'pqi.yaml' (did you mean 'piq.yaml'?)"]


def test_check_instantiates_nothing_and_names_a_module_that_cannot_be_imported(write, monkeypatch):
    write("class Loud:\n    def __init__(self, n: int):\n        raise RuntimeError('made')\n", "loud_target.py")
    write("raise OSError('no device')\n", "broken_target.py")
    monkeypatch.syspath_prepend(".")
    path = write("interpreter: !new:loud_target.Loud {n: 1}")
    assert recipe.check(path, {}, SCHEMA, ALLOW) == []
    with pytest.raises(RuntimeError, match="made"):
        recipe.load(path, {}, SCHEMA, ALLOW)
    path = write("interpreter: !new:broken_target.X")
    assert recipe.check(path, {}, SCHEMA, ALLOW) == [
        "r.yaml:1: !new:broken_target.X: module 'broken_target' cannot be imported: OSError: no device"
    ]


DOCUMENT = """\
__set_seed: !apply:torch.manual_seed [!ref <seed>]
seed: 1986
data_folder: data
output_folder: !ref results/<data_folder>/<seed>
n_fft: 512
size: (2, 3)
lr: 1e-3
epochs: !ref <n_fft> // 100 + 1
train_folds: [1, !ref <fold>, 3]
fold: 2
weights: &weights {fid: !ref <lr> * 2, l1: 1}
clips: !name:fractions.Fraction
    denominator: !ref <n_fft>
plain: !name:math.gcd
shared: !new:fractions.Fraction [3, 4]
interpreter: !apply:builtins.sorted
    - [!ref <shared>, !ref <shared>, 0.5]
stft: !new:audiointerp.sound.spectrogram.STFT
    n_fft: !ref <n_fft>
classifier: !new:torch.nn.Linear
    in_features: !ref <n_fft> // 2 + 1
    out_features: !ref <stft.hop_length>
copied: !copy <stft>
use: [!ref <size>, !ref <copied>, !ref <plain>, !ref <stft>]
again: {<<: *weights, fid: 3}
"""
MORE = {**SCHEMA, "use": list, "again": dict}


def simple(value):
    """Values in a form that `==` compares."""
    if isinstance(value, torch.nn.Linear):
        return (value.in_features, value.out_features, value.weight.tolist())
    if isinstance(value, STFT):
        return value.config
    if hasattr(value, "func"):
        return (value.func, value.args, value.keywords)
    if isinstance(value, dict):
        return {key: simple(each) for key, each in value.items()}
    return [simple(each) for each in value] if isinstance(value, list) else value


def test_values_are_those_of_hyperpyyaml(write):
    values = recipe.load(write(DOCUMENT), {}, MORE, ALLOW)
    expected = hyperpyyaml.load_hyperpyyaml(DOCUMENT)
    assert simple(values) == simple(expected)
    assert values["output_folder"] == "results/data/1986" and values["epochs"] == 6 and values["size"] == (2, 3)
    assert values["use"][3] is values["stft"] and values["use"][1] is not values["stft"]
    assert values["interpreter"] == [0.5, fractions.Fraction(3, 4), fractions.Fraction(3, 4)]


def test_the_resolved_recipe_stands_alone(write, tmp_path):
    write(DOCUMENT, "base.yaml")
    write(
        "n_fft: 8\nstft: !new:audiointerp.sound.spectrogram.STFT {n_fft: !ref <n_fft>, win_length: 4, hop_length: 2}",
        "i.yaml",
    )
    path = write("<<: !include:base.yaml\nseed: 3\nfold: 4\nclassifier: {bias: false}\nagain: !include:i.yaml\n")
    overrides = {"data_folder": "123", "lr": "2", "again.stft.win_length": "5", "device": "cpu"}
    text = recipe.resolve(path, overrides, MORE)
    assert "include" not in text and "!ref <n_fft> // 2 + 1" in text
    alone = tmp_path / "results.yaml"
    alone.write_text(text)
    Path("base.yaml").unlink()
    Path("i.yaml").unlink()
    values = recipe.load(alone, {}, MORE, ALLOW)
    assert values["output_folder"] == "results/123/3" and values["lr"] == 2 and values["train_folds"] == [1, 4, 3]
    assert values["classifier"].bias is None and values["device"] == "cpu"
    assert values["again"]["n_fft"] == 8 and values["again"]["stft"].config["win_length"] == 5
    assert values["again"]["stft"].n_fft == 8 and values["stft"].n_fft == 512
    assert recipe.resolve(alone, {}, MORE) == text


def test_resolved_and_original_give_the_same_values(write):
    path = write(DOCUMENT)
    again = write(recipe.resolve(path, {"seed": "5"}), "again.yaml")
    assert simple(recipe.load(again, {}, MORE, ALLOW)) == simple(recipe.load(path, {"seed": "5"}, MORE, ALLOW))


def test_a_child_merges_with_its_base_and_its_base_s_base(write):
    write("seed: 1\nsize: 2\nlr: 0.5\nclassifier: !new:torch.nn.Linear\n  in_features: !ref <size>\n", "root.yaml")
    write(
        "<<: !include:root.yaml\nclassifier:\n  out_features: 7\nweights: {a: 1, b: 2}\nclips: !name:math.gcd\n",
        "mid.yaml",
    )
    values = load(write("<<: !include:mid.yaml\nsize: 5\nweights: {b: 3, c: 4}\nclips: !name:math.lcm\n"))
    assert (values["classifier"].in_features, values["classifier"].out_features) == (5, 7)
    assert values["weights"] == {"a": 1, "b": 3, "c": 4}
    assert values["clips"](4, 6) == 12 and values["lr"] == 0.5


def test_another_class_replaces_the_base_s_and_the_same_class_merges(write):
    base = "interpreter: !new:fractions.Fraction {numerator: 1, denominator: 2}\n"
    write(base, "base.yaml")
    assert load(write("<<: !include:base.yaml\ninterpreter: !new:fractions.Fraction {numerator: 3}"))[
        "interpreter"
    ] == fractions.Fraction(3, 2)
    other = "<<: !include:base.yaml\ninterpreter: !new:decimal.Decimal {value: '3'}"
    assert str(load(write(other))["interpreter"]) == "3"
    write("interpreter: !new:fractions.Fraction\n", "base.yaml")
    assert load(write("<<: !include:base.yaml\ninterpreter: {numerator: 3}"))["interpreter"] == 3


def test_two_files_may_use_one_anchor_name(write):
    write("train_folds: &x [1]\nvalid: *x\n", "base.yaml")
    path = write("<<: !include:base.yaml\nweights: &x {a: 1}\nmore: *x\n")
    values = recipe.load(path, {}, {**SCHEMA, "valid": list, "more": dict})
    assert values["valid"] == [1] and values["more"] == {"a": 1}


def test_a_chain_of_references_may_point_downwards(write):
    text = "epochs: !ref <a>\na: !ref <seed>\nseed: !ref <b>\nb: 4\n"
    with pytest.raises(Exception, match="could not determine a constructor"):
        hyperpyyaml.load_hyperpyyaml(io.StringIO(text))
    assert load(write(text)) == {"epochs": 4, "a": 4, "seed": 4, "b": 4}


def test_a_list_in_brackets_may_refer_to_a_block_further_down(write):
    text = "interpreter: [!ref <part>, 1]\npart: !new:fractions.Fraction\n    numerator: 2\n"
    assert load(write(text))["interpreter"] == [fractions.Fraction(2), 1]


def test_an_attribute_that_is_missing_is_an_error_of_the_recipe(write):
    path = write("classifier: !new:torch.nn.Linear [2, 3]\nseed: !ref <classifier.in_feature>\n")
    with pytest.raises(RecipeError, match="'Linear' object has no attribute 'in_feature'"):
        load(path)


def test_overrides_reach_arguments_and_follow_the_expected_type(write):
    path = write(
        "data_folder: !PLACEHOLDER\nname: x\nlr: 1\ninterpreter: !new:fractions.Fraction\n"
        "weights: {a: 1}\noutput_folder: !ref <data_folder>/<name>\n"
    )
    values = load(
        path,
        data_folder="123",
        train_folds="1,2",
        lr="-1e-3",
        interpreter__numerator="-4",
        weights__a="2.5",
        resume="true",
        epochs="null",
    )
    assert values["data_folder"] == "123" and values["output_folder"] == "123/x"
    assert values["train_folds"] == [1, 2] and values["lr"] == -1e-3 and values["interpreter"] == -4
    assert values["weights"] == {"a": 2.5} and values["resume"] is True and values["epochs"] is None
    assert load(path, data_folder="!ref <name>/y")["output_folder"] == "x/y/x"
    assert load(path, data_folder="(1, 2)")["data_folder"] == "(1, 2)"
    assert load(path, data_folder="a", train_folds="[3]")["train_folds"] == [3]
    assert load(path, data_folder="a", train_folds="3")["train_folds"] == [3]


def test_a_text_argument_keeps_text_that_looks_like_a_number(write, monkeypatch):
    write(
        "class Named:\n    def __init__(self, name: 'str | None' = None):\n        self.name = name\n",
        "named_target.py",
    )
    monkeypatch.syspath_prepend(".")
    path = write("interpreter: !new:named_target.Named")
    assert load(path, interpreter__name="010")["interpreter"].name == "010"
    assert load(path, interpreter__name="null")["interpreter"].name is None


def test_parse_overrides():
    arguments = ["--lr", "-1", "--a.b=3=4", "--flag", "--folds", "[1, 2]", "--empty=", "--last"]
    assert recipe.parse_overrides(arguments) == {
        "lr": "-1",
        "a.b": "3=4",
        "flag": "true",
        "folds": "[1, 2]",
        "empty": "",
        "last": "true",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr", "3"], "'lr' is not an option"),
        (["--lr", "3", "4"], "'4' is not an option"),
        (["--lr=3", "--lr", "4"], "--lr is given twice"),
        (["--"], "'--' is not an option"),
        (["--a..b", "1"], "'--a..b' is not an option"),
    ],
)
def test_parse_overrides_refuses(arguments, message):
    with pytest.raises(RecipeError, match=message):
        recipe.parse_overrides(arguments)


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (3, float, True),
        (True, float, False),
        (None, float, False),
        (None, float | None, True),
        ([1, 2], tuple[int, int], True),
        ([1, 2, 3], tuple[int, int], False),
        ((1, 2, 3), tuple[int, ...], True),
        ((1, 2), list[int], False),
        ([1, "a"], list[int | str], True),
        ("results", Path, True),
        (3, Path, False),
        (1, Literal[True], False),
        ("cpu", torch.device, True),
        ("abc", list[str], False),
        (len, Callable, True),
        (STFT, type, True),
    ],
)
def test_fits(value, annotation, expected):
    assert fits(value, annotation) is expected


def test_annotations_that_cannot_be_evaluated_hide_no_others():
    def function(first: "Nowhere", second: "int", *rest: "str", third: float = 0.0):  # noqa: F821
        """Target."""

    signature = Signature.of(function)
    assert signature is not None and signature.required == ["first", "second"]
    assert signature.annotation(1) is int and signature.annotation(5) is str and signature.annotation("third") is float
    assert fits("anything", signature.annotation("first"))
