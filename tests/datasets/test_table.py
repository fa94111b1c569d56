"""A user's clips.csv."""

from pathlib import Path

import pytest

from audiointerp.datasets.clips import Clip
from audiointerp.datasets.table import read_table


@pytest.fixture
def table(tmp_path):
    """Writes a table beside two sound files and returns its path."""
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").touch()
    (tmp_path / "sounds" / "b, c.wav").touch()

    def write(text: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "clips.csv"
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_rows_become_clips(table, tmp_path):
    path = table('path,label,fold\nsounds/a.wav, dog ; Käuzchen;dog,1\n"sounds/b, c.wav",rain,2\n', "utf-8-sig")
    assert read_table(path) == [
        Clip(tmp_path / "sounds" / "a.wav", ("dog", "Käuzchen"), 1),
        Clip(tmp_path / "sounds" / "b, c.wav", ("rain",), 2),
    ]


def test_optional_columns_in_any_order(table, tmp_path):
    path = table("seconds,fold,path,start,label,note\n2.5,1,sounds/a.wav,1.5,dog,x\n,1,sounds/a.wav,,dog,y\n")
    sound = tmp_path / "sounds" / "a.wav"
    assert read_table(path) == [Clip(sound, ("dog",), 1, 1.5, 2.5), Clip(sound, ("dog",), 1, 0.0, None)]


def test_an_absolute_path_is_taken_as_it_is(table, tmp_path):
    sound = tmp_path / "sounds" / "a.wav"
    assert read_table(table(f"path,label,fold\n{sound},dog,1\n"))[0].path == sound


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\nsounds/a.wav,dog\n", "lacks column fold; it has path, label"),
        ("", "lacks column path, label, fold; it has none"),
        ("path,label,fold\n", "has a header but no rows"),
        ("path,label,fold\nsounds/a.wav,dog,1\nsounds/z.wav,dog,1\n", "row 3: no such file .*z.wav"),
        ("path,label,fold\n,dog,1\n", "row 2: no such file"),
        ("path,label,fold\nsounds/a.wav, ; ,1\n", "row 2: label is empty"),
        ("path,label,fold\nsounds/a.wav,dog,\n", "row 2: fold is ''; expected a whole number"),
        ("path,label,fold\nsounds/b, c.wav,dog,1\n", "row 2: does not have the header's 3 cells"),
        ("path,label,fold\nsounds/a.wav,dog\n", "row 2: does not have the header's 3 cells"),
        ("path,label,fold\nsounds/a.wav,dog,1\nsounds/a.wav,rain,1\n", "row 3: repeats row 2; .* separated by ';'"),
        ("path,label,fold,start\nsounds/a.wav,dog,1,soon\n", "row 2: start is 'soon'; expected a number"),
        ("path,label,fold,start\nsounds/a.wav,dog,1,nan\n", "row 2: start is 'nan'; expected a number"),
        ("path,label,fold,start\nsounds/a.wav,dog,1,-1\n", "row 2: start -1 s must be 0 or more"),
        ("path,label,fold,seconds\nsounds/a.wav,dog,1,0\n", "row 2: .* seconds, where given, more than 0"),
    ],
)
def test_errors_name_the_row(table, text, message):
    with pytest.raises(ValueError, match=message):
        read_table(table(text))


def test_a_table_that_cannot_be_read(table, tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv: no such file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_table(table("path,label,fold\nsounds/a.wav,Käuzchen,1\n", "latin-1"))


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "clips.csv").write_text("path,label,label,fold\na.wav,dog,cat,1\n")
    with pytest.raises(ValueError, match="has the column label twice"):
        read_table(tmp_path / "clips.csv")
