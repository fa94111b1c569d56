"""A run's manifest: what is refused, all at once and by row, and what is kept."""

import hashlib
import os

import numpy as np
import pytest
import soundfile
from listening_runs import Sound, make_run, noise, read_rows, write_rows, write_run

from audiointerp.listening.making.manifest import ListeningError, read_manifest


def change(run, row, **cells):
    """Row 2 is the first after the header, as a spreadsheet counts."""
    rows = read_rows(run)
    rows[row - 2].update(cells)
    write_rows(run, rows)
    return run


def problems(run):
    with pytest.raises(ListeningError) as caught:
        read_manifest(run)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_reads_what_a_run_wrote(tmp_path):
    run = make_run(tmp_path, items=2, references=True, leave_out=[(1, "l2i")])
    sounds = read_manifest(run)
    assert [(each.item_id, each.role, each.method) for each in sounds] == [
        ("c_00", "mixture", ""),
        ("c_00", "reference", ""),
        ("c_00", "interpretation", "piq"),
        ("c_00", "interpretation", "l2i"),
        ("c_01", "mixture", ""),
        ("c_01", "reference", ""),
        ("c_01", "interpretation", "piq"),
    ]
    first = sounds[0]
    assert (first.sample_rate, first.frames, first.channels, first.silent) == (16000, 8000, 1, False)
    assert (first.pred_class, first.distractor_class) == ("dog", "church_bells")
    assert first.path == run / "audio/c_00/mixture.wav" and first.source == "audio/c_00/mixture.wav"


def test_reads_a_run_of_this_package(tiny):
    roles = {sound.role for sound in read_manifest(tiny.piq)}
    assert {"mixture", "interpretation"} <= roles <= {"mixture", "interpretation", "reference"}


def test_residual_and_listening_are_not_even_looked_at(tmp_path):
    run = make_run(tmp_path, items=1)
    for path in run.glob("audio/*/residual_*.wav"):
        path.unlink()
    assert {sound.role for sound in read_manifest(run)} == {"mixture", "interpretation"}


@pytest.mark.parametrize(
    "cells, expected",
    [
        ({"item_id": "9lives"}, "item_id is '9lives'; it must be a letter"),
        ({"item_id": "c" * 33}, "it must be a letter a-z, then at most 31"),
        ({"role": "stem"}, "role is 'stem'; it must be one of mixture, interpretation"),
        ({"method": ""}, "method is ''; role interpretation needs the name of one"),
        ({"role": "catch"}, "method is 'piq'; role catch must leave it blank"),
        ({"pred_prob": "1.5"}, "pred_prob is '1.5'; it must be blank or a number in [0, 1]"),
        ({"snr_db": "loud"}, "snr_db is 'loud'; it must be blank or a number"),
        ({"path": "../run/audio/c_00/mixture.wav"}, "must not hold '..'"),
        ({"path": "/etc/passwd"}, "must be relative to the run folder"),
        ({"path": "C:/sound.wav"}, "must be relative to the run folder"),
        ({"path": "audio\\c_00\\mixture.wav"}, "with forward slashes"),
        ({"path": ""}, "path is ''; name a WAV"),
        ({"path": "audio/none.wav"}, "there is no such file in the run folder"),
        ({"path": "manifest.csv"}, "not readable as audio"),
        ({"sample_rate": "44100"}, "sample_rate is '44100', but audio/c_00/interpretation_piq.wav has 16000"),
        ({"n_frames": "8001"}, "n_frames is '8001', but audio/c_00/interpretation_piq.wav has 8000"),
        ({"n_channels": "2"}, "n_channels is '2', but audio/c_00/interpretation_piq.wav has 1"),
        ({"sha256": "0" * 64}, "the file changed after the manifest was written"),
    ],
)
def test_a_bad_cell_is_named_with_its_row(tmp_path, cells, expected):
    run = change(make_run(tmp_path / "run", items=1), 3, **cells)
    found = problems(run)
    assert any(expected in line and "manifest.csv, row 3: " in line for line in found), found


def test_a_mixture_needs_the_decision(tmp_path):
    assert "row 2: pred_class is blank" in problems(change(make_run(tmp_path, items=1), 2, pred_class=""))[0]


def test_all_problems_at_once(tmp_path):
    run = make_run(tmp_path, items=3, methods=("piq",))
    rows = [row for row in read_rows(run) if row["role"] in ("mixture", "interpretation")]
    rows[0]["n_frames"] = "1"
    rows[1]["path"] = "nowhere.wav"
    rows[4]["item_id"] = rows[2]["item_id"]  # a second mixture there, none where it was
    write_rows(run, rows)
    found = problems(run)
    assert [line.split("manifest.csv, ")[1].split(": ")[0] for line in found] == ["row 2", "row 3", "row 6", "row 7"]
    assert "c_01 mixture is in row 4 already" in found[2]
    assert "item c_02 has no row of role mixture" in found[3]


def test_an_item_needs_an_interpretation(tmp_path):
    run = make_run(tmp_path, items=2, methods=("piq",), leave_out=[(1, "piq")])
    assert problems(run) == [f"{run / 'manifest.csv'}, row 6: item c_01 has no row of role interpretation"]


def test_a_run_without_interpretations(tmp_path):
    run = make_run(tmp_path, items=0, practice=1)
    assert "nothing to judge" in problems(run)[0]


def test_practice_and_catch_sounds_need_no_item(tmp_path):
    roles = [sound.role for sound in read_manifest(make_run(tmp_path, items=1, practice=2, catch=1))]
    assert roles == ["mixture", "interpretation", "interpretation", "practice", "practice", "catch"]


def test_links_may_lead_about_inside_but_not_out(tmp_path):
    run = make_run(tmp_path / "run", items=1)
    sound = run / "audio/c_00/interpretation_piq.wav"
    inside = run / "kept.wav"
    os.replace(sound, inside)
    sound.symlink_to(inside)
    assert len(read_manifest(run)) == 3
    outside = tmp_path / "outside.wav"
    os.replace(inside, outside)
    sound.unlink()
    sound.symlink_to(outside)
    assert (
        "row 3: path is 'audio/c_00/interpretation_piq.wav'; it leads out of the folder through a symbolic link"
        in problems(run)[0]
    )


def test_silence_is_kept_and_marked(tmp_path):
    quiet = {"zeros": 0.0, "hum": 0.9e-4, "faint": 1.1e-4}  # -80 dBFS is 1e-4
    sounds = [Sound("a", "mixture", "", noise(8000, 0), facts={"pred_class": "dog"})]
    sounds += [Sound("a", "interpretation", name, np.full(8000, peak, "float32")) for name, peak in quiet.items()]
    found = {sound.method: sound.silent for sound in read_manifest(write_run(tmp_path, sounds))}
    assert found == {"": False, "zeros": True, "hum": True, "faint": False}


def test_samples_that_are_no_numbers(tmp_path):
    bad = noise(8000, 1)
    bad[10] = np.nan
    sounds = [Sound("a", "mixture", "", noise(8000, 0), facts={"pred_class": "dog"})]
    run = write_run(tmp_path, [*sounds, Sound("a", "interpretation", "piq", bad)])
    assert problems(run) == [
        f"{run / 'manifest.csv'}, row 3: audio/a/interpretation_piq.wav has NaN or infinite samples"
    ]


def test_more_than_two_channels(tmp_path):
    many = np.stack([noise(8000, 1)] * 3, 1)
    sounds = [Sound("a", "mixture", "", noise(8000, 0), facts={"pred_class": "dog"})]
    run = write_run(tmp_path, [*sounds, Sound("a", "interpretation", "piq", many)])
    assert "has 3 channels" in problems(run)[0]


def test_a_truncated_file(tmp_path):
    run = make_run(tmp_path, items=1)
    path = run / "audio/c_00/mixture.wav"
    path.write_bytes(path.read_bytes()[:-1000])
    change(run, 2, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert "truncated, 1000 bytes of audio are missing" in problems(run)[0]


def test_spreadsheets_save_it_with_a_mark_and_other_line_ends(tmp_path):
    run = make_run(tmp_path, items=1)
    text = (run / "manifest.csv").read_text()
    (run / "manifest.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode() + b"\r\n")
    assert len(read_manifest(run)) == 3


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "no column item_id, role, method"),
        ("item_id;role\n", "no column item_id, role, method, .*; it has item_id;role"),
        (b"\xff\xfe\x00", "not readable as UTF-8 CSV"),
    ],
)
def test_no_manifest(tmp_path, text, expected):
    (tmp_path / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=expected):
        read_manifest(tmp_path)
    with pytest.raises(ValueError, match="no such file; give a folder that"):
        read_manifest(tmp_path / "elsewhere")


def test_an_unquoted_comma(tmp_path):
    run = make_run(tmp_path, items=1)
    text = (run / "manifest.csv").read_text()
    (run / "manifest.csv").write_text(text.replace("clip_00.wav", "clip, 00.wav", 1))
    assert "row 2: 20 cells, the header has 19; quote cells" in problems(run)[0]


def test_other_formats_than_wav(tmp_path):
    run = make_run(tmp_path, items=1)
    path = run / "audio/c_00/mixture.flac"
    soundfile.write(path, noise(8000, 5), 16000)
    change(run, 2, path="audio/c_00/mixture.flac", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    assert read_manifest(run)[0].path == path
