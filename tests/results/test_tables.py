"""Tables that survive a kill, and what a row of them says."""

import csv
import hashlib
import math

import numpy as np
import pandas
import pytest
import soundfile

from audiointerp.results.tables import MANIFEST_COLUMNS, SCORE_COLUMNS, Manifest, Scores, forget_damaged


def rows(path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def score(item_id: str, method: str = "piq", **rest) -> dict:
    return {"item_id": item_id, "method": method, **rest}


def test_columns_and_keys(tmp_path):
    scores = Scores(tmp_path / "run")
    scores.add_rows([score("a", fidelity=1.0), score("a", "rise", fidelity=0.0)])
    assert scores.has("a", "piq")
    assert scores.has("a", "rise")
    assert not scores.has("b", "piq")
    written = rows(tmp_path / "run" / "scores.csv")
    assert tuple(written[0]) == SCORE_COLUMNS
    assert [(row["item_id"], row["method"], row["fidelity"]) for row in written] == [
        ("a", "piq", "1"),
        ("a", "rise", "0"),
    ]


def test_reopening_goes_on_where_it_was(tmp_path):
    Scores(tmp_path).add_rows([score("a")])
    again = Scores(tmp_path)
    assert again.has("a", "piq")
    again.add_rows([score("b")])
    assert [row["item_id"] for row in rows(tmp_path / "scores.csv")] == ["a", "b"]


def test_a_table_of_an_earlier_version_goes_on(tmp_path):
    """Scores over time and the chosen method are the last columns, which it lacks."""
    known = SCORE_COLUMNS[: SCORE_COLUMNS.index("time_auc")]
    row = {"item_id": "a", "method": "piq", "fidelity": "1"}
    with open(tmp_path / "scores.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, known)
        writer.writeheader()
        writer.writerow(row)
    scores = Scores(tmp_path)
    assert scores.has("a", "piq")
    scores.add_rows([score("b", chosen="lime")])
    written = rows(tmp_path / "scores.csv")
    assert [(each["item_id"], each["fidelity"], each["chosen"]) for each in written] == [
        ("a", "1", ""),
        ("b", "", "lime"),
    ]


def test_windows_of_an_item_are_rows_of_one_key(tmp_path):
    scores = Scores(tmp_path)
    scores.add_rows([score("a", start_s=0.0), score("a", start_s=29.0)])
    assert [row["start_s"] for row in rows(tmp_path / "scores.csv")] == ["0", "29"]
    assert Scores(tmp_path).keys == {("a", "piq")}


def test_missing_and_nan_cells_are_empty_and_numbers_short(tmp_path):
    Scores(tmp_path).add_rows([score("a", si_sdr=math.nan, ad=np.float64("nan"), ag=100 / 3, silent=True)])
    (row,) = rows(tmp_path / "scores.csv")
    assert (row["si_sdr"], row["ad"], row["fidelity"]) == ("", "", "")
    assert (row["ag"], row["silent"]) == ("33.3333", "True")
    table = pandas.read_csv(tmp_path / "scores.csv")
    assert table["si_sdr"].isna().all()
    assert table["silent"].dtype == bool


def test_commas_quotes_and_umlauts_come_back(tmp_path):
    label = 'Bär, "laut"; 犬'
    Scores(tmp_path).add_rows([score("a", label=label)])
    assert rows(tmp_path / "scores.csv")[0]["label"] == label


@pytest.mark.parametrize("lost", range(1, 30))
def test_a_half_written_last_line_is_dropped_and_its_key_free_again(tmp_path, lost):
    scores = Scores(tmp_path)
    scores.add_rows([score("a", label="Bär")])
    whole = (tmp_path / "scores.csv").read_bytes()
    scores.add_rows([score("b", label="Bär")])
    data = (tmp_path / "scores.csv").read_bytes()
    # Cuts reach into the umlaut, two bytes in UTF-8.
    (tmp_path / "scores.csv").write_bytes(data[:-lost])

    again = Scores(tmp_path)
    assert (tmp_path / "scores.csv").read_bytes() == whole
    assert again.has("a", "piq")
    assert not again.has("b", "piq")
    again.add_rows([score("b", label="Bär")])
    assert (tmp_path / "scores.csv").read_bytes() == data


@pytest.mark.parametrize("left", [0, 3, -1])
def test_a_half_written_header_is_written_again(tmp_path, left):
    Scores(tmp_path)
    header = (tmp_path / "scores.csv").read_bytes()
    (tmp_path / "scores.csv").write_bytes(header[:left])
    Scores(tmp_path).add_rows([score("a")])
    assert (tmp_path / "scores.csv").read_bytes().startswith(header)
    assert [row["item_id"] for row in rows(tmp_path / "scores.csv")] == ["a"]


def test_manifest_describes_each_wav_once(tmp_path):
    path = tmp_path / "audio" / "a" / "piq.wav"
    path.parent.mkdir(parents=True)
    samples = np.zeros((300000, 2), "float32")
    samples[299999, 1] = -0.5  # in the last of several blocks
    soundfile.write(path, samples, 22050, subtype="FLOAT")
    manifest = Manifest(tmp_path)
    for _ in range(2):
        manifest.add("a", [("interpretation", "piq", path)], {"pred_class": "dog", "snr_db": math.nan})
    Manifest(tmp_path).add("a", [("interpretation", "piq", path)], {})
    (row,) = rows(tmp_path / "manifest.csv")
    assert tuple(row) == MANIFEST_COLUMNS
    assert row["path"] == "audio/a/piq.wav"
    assert (row["sample_rate"], row["n_frames"], row["n_channels"]) == ("22050", "300000", "2")
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert float(row["peak_dbfs"]) == pytest.approx(-6.0206, abs=1e-4)
    assert (row["item_id"], row["role"], row["method"], row["pred_class"], row["snr_db"]) == (
        *("a", "interpretation", "piq", "dog", ""),
    )


def test_manifest_of_silence(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(10), 16000)
    Manifest(tmp_path).add("a", [("mixture", "", tmp_path / "a.wav")], {})
    assert float(rows(tmp_path / "manifest.csv")[0]["peak_dbfs"]) == -math.inf


def test_a_manifest_that_leads_out_of_its_folder_is_named(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(10), 16000)
    Manifest(tmp_path).add("a", [("mixture", "", tmp_path / "a.wav")], {})
    text = (tmp_path / "manifest.csv").read_text().replace(",a.wav,", ",../a.wav,")
    (tmp_path / "manifest.csv").write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.csv: path '\.\./a\.wav' must not hold '\.\.'"):
        forget_damaged(tmp_path)
