"""Sounds, bundles and tables that would take endless time or memory: bounded, or refused in a line before the work."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from memory import peak_of

from audiointerp import read
from audiointerp.__main__ import main
from audiointerp.datasets import table
from audiointerp.results.tables import SCORE_COLUMNS, Scores
from audiointerp.sound import STFT, recordings
from audiointerp.sound.files import AudioError
from audiointerp.sound.recordings import Recording


def noise(frames: int, channels: int = 1) -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal((frames, channels))).astype("float32")


def wav(path: Path, samples: np.ndarray, rate: int = 16000) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def refused(capsys, *command) -> str:
    capsys.readouterr()
    assert main([str(each) for each in command]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize("rate", [1, 999, 10_000_001, 2_000_000_000])
def test_rates_of_no_sound(tiny, tmp_path, capsys, rate):
    path = wav(tmp_path / "a.wav", noise(100))
    whole = bytearray(path.read_bytes())
    whole[24:28] = struct.pack("<I", rate)
    path.write_bytes(whole)
    line = refused(capsys, "interpret", tiny.piq, path, "-o", tmp_path / "out")
    assert f"a.wav: has a sample rate of {rate} Hz, not between 1000 and 10000000 Hz" in line
    with pytest.raises(AudioError, match=f"{rate} Hz"):
        read(path)


def test_hops_that_would_fill_the_memory(tiny, tmp_path, capsys):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for each in (tiny.classifier / "best").iterdir():
        (bundle / each.name).write_bytes(each.read_bytes())
    config = json.loads((bundle / "config.json").read_text())
    path = wav(tmp_path / "a.wav", noise(100))
    for change in ({"hop_length": 1}, {"n_fft": 1 << 40}, {"hop_length": 2, "sample_rate": 48000}):
        changed = {**config, "spectrogram": {**config["spectrogram"], **change}}
        (bundle / "config.json").write_text(json.dumps(changed))
        line = refused(capsys, "interpret", bundle, path, "-o", tmp_path / "out")
        assert str(bundle) in line and "take a longer hop_length or a smaller n_fft" in line
        assert not (tmp_path / "out").exists()
    STFT(48000, 4096, 4096, 256)  # far finer than the default, and possible


def test_any_number_of_channels(tmp_path, monkeypatch):
    """Their mean, in blocks whose size does not grow with them."""
    samples = noise(16000, 7)
    path = wav(tmp_path / "seven.wav", samples)
    assert np.abs(read(path)[0].numpy() - samples.mean(1)).max() < 1e-6
    assert (read(path, channel=6)[0].numpy() == samples[:, 6]).all()
    monkeypatch.setattr(recordings, "BLOCK_VALUES", 7 * 500)
    blocks = list(Recording(path, 16000).blocks())
    assert {len(each) for each in blocks} == {500}
    assert np.abs(np.concatenate(blocks) - samples.mean(1)).max() < 1e-6
    assert (np.concatenate(list(Recording(path, 16000, channel=3).blocks())) == samples[:, 3]).all()


def test_channels_that_cancel(tiny, tmp_path, capsys):
    left = noise(16000)
    path = wav(tmp_path / "opposite.wav", np.concatenate([left, -left], 1))
    out = tmp_path / "out"
    line = refused(capsys, "interpret", tiny.piq, path, "-o", out)
    assert "opposite.wav: its 2 channels cancel to silence" in line and "--channel N" in line and "0 to 1" in line
    with pytest.raises(AudioError, match="cancel to silence"):
        read(path)
    assert "channels 0 to 1, and no channel 2" in refused(
        capsys, "interpret", tiny.piq, path, "-o", tmp_path / "other", "--channel", "2"
    )
    assert "--channel is -1" in refused(capsys, "interpret", tiny.piq, path, "-o", tmp_path / "x", "--channel", "-1")
    command = ["interpret", str(tiny.piq), str(path), "-o", str(out), "--no_figures", "--force", "--channel"]
    assert main([*command, "1"]) == 0
    (mixture,) = out.glob("audio/*/mixture.wav")
    assert (soundfile.read(mixture, dtype="float32")[0] == -left[:, 0]).all()
    # The explanation of another channel would hide behind this one.
    assert "another recipe" in refused(capsys, *command, "0")


def test_silence_and_almost_opposite_channels_are_sounds(tmp_path):
    quiet = wav(tmp_path / "silent.wav", np.zeros((16000, 2), "float32"))
    assert not read(quiet).any() and not np.concatenate(list(Recording(quiet, 16000).blocks())).any()
    left = noise(16000)
    partly = wav(tmp_path / "partly.wav", np.concatenate([left, -0.99 * left], 1))
    assert float(read(partly).abs().max()) > 0
    # Silent for longer than a block before the sound begins.
    late = wav(tmp_path / "late.wav", np.concatenate([np.zeros((400000, 2), "float32"), np.tile(left, 2)]))
    assert len(np.concatenate(list(Recording(late, 16000).blocks()))) == 416000


@pytest.mark.slow
def test_memory_of_many_short_files_is_that_of_few(tiny, tmp_path):
    """2,000 files: `python benchmarks/memory.py files 2000`."""
    peaks = []
    for count in (5, 100):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            wav(folder / f"{number:04}.wav", noise(8000))
        command = ["interpret", tiny.piq, folder, "-o", tmp_path / f"out_{count}", "--method", "loudest"]
        peaks.append(peak_of(tmp_path, *command, "--no_figures"))
    assert peaks[1] < peaks[0] + 40, peaks


@pytest.mark.slow
def test_memory_of_a_long_recording_is_that_of_a_short_one(tiny, tmp_path):
    """Three hours: `python benchmarks/memory.py hours 3`."""
    peaks = []
    for minutes in (2, 12):
        path = wav(tmp_path / f"{minutes}.wav", np.tile(noise(16000), (60 * minutes, 1)))
        command = ["interpret", tiny.piq, path, "-o", tmp_path / f"out_{minutes}", "--method", "loudest"]
        peaks.append(peak_of(tmp_path, *command, "--no_figures"))
    assert peaks[1] < peaks[0] + 40, peaks  # ten minutes of samples alone are 38 MB, and four WAVs are written


def test_three_hours_are_read_as_they_are_explained(tmp_path, monkeypatch):
    """A sparse file of three hours: before a window is asked for, at most a block of 10 s beyond it is read."""
    rate, frames = 16000, 3 * 3600 * 16000
    path = tmp_path / "long.wav"
    shape = (16, 1, 1, rate, 2 * rate, 2, 16)  # size of the chunk, PCM, mono, rate, bytes a second, a frame, bits
    head = struct.pack("<4sI4s", b"RIFF", 36 + 2 * frames, b"WAVE") + struct.pack("<4sIHHIIHH", b"fmt ", *shape)
    head += struct.pack("<4sI", b"data", 2 * frames)
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + 2 * frames)
    read_so_far, real = [0], Recording._next

    def counted(recording, file):
        piece = real(recording, file)
        read_so_far[0] += len(piece)
        return piece

    monkeypatch.setattr(Recording, "_next", counted)
    recording = Recording(path, rate)
    assert read_so_far == [0]
    tracemalloc.start()
    count = 0
    for window in recording.windows():
        end = window.start + window.waveform.shape[1]
        assert read_so_far[0] <= end + 10 * rate and window.waveform.shape[1] <= 30 * rate
        count += 1
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == -(-(frames - rate) // (29 * rate)) and read_so_far == [frames]
    assert peak < 8 << 20, "more than a few blocks of 10 s were held"


def test_tables_of_too_many_rows(tmp_path, monkeypatch, capsys):
    wav(tmp_path / "a.wav", noise(100))
    rows = "".join(f"a.wav,dog,1,{start}\n" for start in range(4))
    (tmp_path / "clips.csv").write_text("path,label,fold,start\n" + rows)
    monkeypatch.setattr(table, "MAX_ROWS", 4)
    assert len(table.read_table(tmp_path / "clips.csv")) == 4
    monkeypatch.setattr(table, "MAX_ROWS", 3)
    line = refused(capsys, "mix", tmp_path / "clips.csv", "-o", tmp_path / "out")
    assert "clips.csv: has more than 3 rows; split it" in line and not (tmp_path / "out").exists()


def test_scores_of_many_items_are_not_held(tmp_path):
    """Opening a run's table keeps its keys only."""
    with open(tmp_path / "scores.csv", "w") as file:
        file.write(",".join(SCORE_COLUMNS) + "\n")
        rest = ",".join(["0.123456"] * (len(SCORE_COLUMNS) - 2))
        file.writelines(f"c_{number:06},piq,{rest}\n" for number in range(5000))
    size = (tmp_path / "scores.csv").stat().st_size
    tracemalloc.start()
    scores = Scores(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(scores.keys) == 5000
    assert peak < 4 * size, f"{peak / size:.1f} times the file"
    scores.forget({"c_000007"})
    assert len(pd.read_csv(tmp_path / "scores.csv")) == len(scores.keys) == 4999
    assert not scores.has("c_000007", "piq") and scores.has("c_000008", "piq")
