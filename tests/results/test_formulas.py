"""Formulas in tables: what a spreadsheet would run is text in every CSV of the package, and is read back as given."""

import ast
import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from audiointerp.listening.analysis.formats import read_rows
from audiointerp.listening.making.blinding import write_key
from audiointerp.listening.study import KEY_COLUMNS
from audiointerp.results.reading import read_table
from audiointerp.results.tables import Scores
from audiointerp.results.writing import csv_text, defused, restored, write_table

PACKAGE = Path(__file__).parents[2] / "audiointerp"
FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "'=1",
    "''=1",
    "=",
    "-",
    "--1",
]
PLAIN = ["dog", "", "-3.5", "+1", "1e-5", "-1E+5", "'tis", "a=b", "-.5", "-inf", "nan"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_marked_and_restored(text):
    assert defused(text) == f"'{text}" and restored(defused(text)) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_cells_stay(text):
    assert defused(text) == text and restored(text) == text


def test_carriage_returns_end_no_row():
    assert defused("a\r=1") == "a =1"
    assert csv_text([["\r=1", "x\r=2"]]) == " =1,x =2\n"


def test_values_that_are_no_text_stay():
    assert [defused(each) for each in (-3, -0.5, None, True)] == [-3, -0.5, None, True]


def runs_a_formula(cell):
    return cell[:1] in "=+-@\t\r" and cell != "" and cell not in PLAIN


def cells_of(text):
    return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]


def test_tables_of_a_run(tmp_path):
    scores = Scores(tmp_path)
    for name in FORMULAS:
        scores.add_rows([{"item_id": name, "method": "piq", "source": name, "label": name, "ad": -3.5}])
    assert not any(map(runs_a_formula, cells_of((tmp_path / "scores.csv").read_text())))
    assert all(Scores(tmp_path).has(name, "piq") for name in FORMULAS)  # so that a resumed run repeats nothing
    table = read_table(tmp_path / "scores.csv")
    assert list(table["label"]) == FORMULAS and set(table["ad"]) == {-3.5}


def test_any_table(tmp_path):
    table = pd.DataFrame({"label": FORMULAS, "=name": -1.0, "category": pd.Categorical(FORMULAS)})
    text = write_table(tmp_path / "t.csv", table).read_text()
    assert not any(runs_a_formula(cell) for cell in cells_of(text) if cell != "-1.0")
    assert list(table.columns) == ["label", "=name", "category"] and list(table["label"]) == FORMULAS


def test_keys_and_answers(tmp_path):
    row = dict.fromkeys(KEY_COLUMNS, "=1+1")
    write_key(tmp_path / "key.csv", [row])
    assert not any(map(runs_a_formula, cells_of((tmp_path / "key.csv").read_text())))
    answers = [["trial_id", "stimulus_id", "answer", "participant_code"], ["t_1", "s_a", "3", "=cmd|x"]]
    (tmp_path / "a.csv").write_text(csv_text(answers))
    assert list(read_rows(tmp_path / "a.csv")["participant_code"]) == ["=cmd|x"]
    (tmp_path / "a.csv").write_text("trial_id,stimulus_id,answer,participant_code\nt_1,s_a,3,=cmd|x\n")
    found = read_rows(tmp_path / "a.csv")
    assert not any(map(runs_a_formula, cells_of(write_table(tmp_path / "r.csv", found).read_text())))


def test_every_csv_is_written_by_the_functions_that_defuse():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("csv.writer", "csv.DictWriter"):
                found.add(path.relative_to(PACKAGE).as_posix())
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "to_csv":
                found.add(path.relative_to(PACKAGE).as_posix())
    assert found == {"results/writing.py", "datasets/synthetic.py"}  # the latter writes class names of its own
