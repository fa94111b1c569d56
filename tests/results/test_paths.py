"""Names from files as paths: nothing leaves its folder, and no join avoids the one function for it."""

import ast
import re
from pathlib import Path

import pandas as pd
import pytest

from audiointerp.__main__ import main
from audiointerp.listening.study import Study
from audiointerp.results.page import write_report
from audiointerp.results.paths import input_file, inside, why_not_inside

PACKAGE = Path(__file__).parents[2] / "audiointerp"
OUTSIDE = ["../x", "a/../../x", "/x", "/", "..", ".", "", " ", "a\\..\\x", "C:x", "C:/x", "a\0b", "a\nb", ".hidden"]
OUTSIDE += ["a/.git/x", "x" * 300, "\u202ex"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_are_refused(tmp_path, name):
    assert why_not_inside(tmp_path, name)
    with pytest.raises(ValueError):
        inside(tmp_path, name)
    with pytest.raises(ValueError):
        inside(tmp_path, "a", name)


@pytest.mark.parametrize("name", ["a", "a/b.wav", "c_dog 1", "Hund (ä)", "a..b", "x" * 200])
def test_names_that_are_taken(tmp_path, name):
    assert inside(tmp_path, name) == tmp_path / name


def test_links_do_not_lead_out(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "out").symlink_to(tmp_path)
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    assert "symbolic link" in why_not_inside(tmp_path / "in", "out/x")
    (tmp_path / "link").symlink_to(tmp_path / "in")  # the folder itself may be a link
    assert inside(tmp_path / "link", "x") == tmp_path / "link" / "x"


def test_input_files_are_regular_files(tmp_path):
    (tmp_path / "a.wav").touch()
    assert input_file(tmp_path, "a.wav") == tmp_path / "a.wav"
    assert input_file("/nowhere", str(tmp_path / "a.wav")) == tmp_path / "a.wav"
    for name in ("", "b.wav", "/dev/zero", ".", "a\0b", "x" * 5000):
        assert input_file(tmp_path, name) is None


NAMES = {"item_id", "test_id", "session_id", "stimulus_id", "trial_id", "participant_code", "source"}
JOINS = {"joinpath", "with_name"}
FOLDERS = re.compile(
    r"folder|path|public|private|parent|aside|before|stimuli|configs|\b(out|root|run|Path|data)\b", re.I
)
# Joins of names that this program made itself.
MADE_HERE = {
    ("datasets/synthetic.py", "row['filename']"),  # rows that the same function made
    *(("datasets/mixtures.py", f"f'{{item_id}}_{part}.wav'") for part in ("mixture", "base", "other")),  # m_0001
    ("datasets/mixtures.py", "row['base']"),  # where a source was: noted, never read
    ("datasets/mixtures.py", "row['other']"),
    ("datasets/scenes.py", "f'{item_id}_scene.wav'"),  # scenes are numbered by their maker
    ("datasets/scenes.py", "f'{item_id}_stem{number}.wav'"),
    ("datasets/scenes.py", "f'{item_id}_background.wav'"),
    ("runs/experiment.py", "str(self.values['seed'])"),  # a number
}


def from_file(node):
    """Whether an expression holds a cell of a row, or a name that identifies something in a file."""
    for each in ast.walk(node):
        if isinstance(each, ast.Call) and getattr(each.func, "id", "") in ("inside", "input_file"):
            return False
        key = each.slice if isinstance(each, ast.Subscript) else None
        if isinstance(key, ast.Name) or (isinstance(key, ast.Constant) and isinstance(key.value, str)):
            return True
        if (each.attr if isinstance(each, ast.Attribute) else getattr(each, "id", "")) in NAMES:
            return True
    return False


def joins(source):
    """Source text of what is joined to a path with `/`, joinpath, with_name, os.path.join or Path(a, b)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        joined = []
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            joined = [node.right] if FOLDERS.search(ast.unparse(node.left)) else []  # else a division of numbers
        elif isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            paths = name in JOINS or (name == "join" and "path" in ast.unparse(node.func)) or name == "Path"
            joined = node.args[name == "Path" :] if paths else []
        found += [ast.unparse(each) for each in joined if from_file(each)]
    return found


def test_the_finder_of_joins_finds_them():
    assert joins("folder / row['path']") == ["row['path']"]
    assert joins("folder / 'audio' / item.item_id / f'{name}.wav'") == ["item.item_id"]
    assert joins("figure_folder / f'{item.item_id}.png'") == ["f'{item.item_id}.png'"]
    assert joins("folder.joinpath(test_id); os.path.join(folder, row['x']); Path(folder, each['y'])") == [
        *("test_id", "row['x']", "each['y']")
    ]
    assert joins("inside(folder, row['path']); x / 2; public / study.files[name]") == ["study.files[name]"]


def test_no_join_avoids_the_function():
    found = set()
    for path in PACKAGE.rglob("*.py"):
        where = path.relative_to(PACKAGE).as_posix()
        if where != "results/paths.py":
            found |= {(where, text) for text in joins(path.read_text())}
    assert found == MADE_HERE


@pytest.mark.parametrize("item_id", ["../../x", "/tmp/x", "a/../../../x", "a/b", ".unkept", "C:x"])
def test_mixtures_of_a_stranger_write_nothing_outside(tmp_path, tiny, capsys, item_id):
    """The item_id of a mixtures.csv names a folder of WAVs."""
    assert main(["mix", str(tiny.data), "-o", str(tmp_path / "m"), "--items", "2", "--seconds", "1"]) == 0
    table = pd.read_csv(tmp_path / "m" / "mixtures.csv")
    table.loc[1, "item_id"] = item_id
    table.to_csv(tmp_path / "m" / "mixtures.csv", index=False)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out"
    assert main(["evaluate", str(tiny.piq), str(tmp_path / "m" / "mixtures.csv"), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert "mixtures.csv, row 3: item_id" in error and "Traceback" not in error
    assert [
        each for each in sorted(tmp_path.rglob("*")) if each not in before and out not in (each, *each.parents)
    ] == []


@pytest.mark.parametrize("path", ["../secret.wav", "/etc/passwd", "audio/../../x.wav", "C:\\x.wav"])
def test_a_page_links_nothing_outside_of_its_run(tmp_path, path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"finished": true}')
    (run / "scores.csv").write_text("item_id,method\na,piq\n")
    (run / "manifest.csv").write_text(f"item_id,role,path\na,mixture,{path}\n")
    with pytest.raises(ValueError, match=r"manifest\.csv: path"):
        write_report([run])


def test_figures_are_looked_up_inside_only(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"finished": true}')
    (run / "scores.csv").write_text("item_id,method\n../../a,piq\n")
    (tmp_path / "a_piq.png").write_bytes(b"\x89PNG")
    (run / "figures").mkdir()
    assert "a_piq.png" not in write_report([run]).read_text()


@pytest.mark.parametrize("test_id", ["../lt_x", "/lt", "a/../../b", "", 7, None])
def test_studies_are_named_plainly(test_id):
    study = Study("lt_good", "mos", "t", "i", 0, 48000, (), (), {"s": "stimuli/s.wav"}, {"s": 1.0})
    text = study.to_json()
    assert Study.from_json(text) == study
    import json

    for change in ({"test_id": test_id}, {"files": {"s": test_id or "/x"}}):
        with pytest.raises(ValueError, match="not a study"):
            Study.from_json(json.dumps({**json.loads(text), **change}))
