"""Long recordings: streamed windows, cross-fades, and files that are whole or not there."""

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.sound import files as audio
from audiointerp.sound import recordings
from audiointerp.sound.files import AudioError
from audiointerp.sound.recordings import Recording, WindowWriter, listening_copy, windows


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Blocks of 0.1 s, so that a second of sound is long."""
    monkeypatch.setattr(recordings, "BLOCK_SECONDS", 0.1)


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return (0.3 * np.random.default_rng(0).standard_normal((samples, channels))).astype("float32")


def recorded(path: Path, samples: np.ndarray, rate: int) -> Path:
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def overlaps(pieces: list[recordings.Window]) -> list[int]:
    """What each window shares with the next."""
    return [each.overlap for each in pieces[1:]] + [0]


# Windows


@pytest.mark.parametrize("total", [1, 5, 6, 7, 10, 11, 100])
@pytest.mark.parametrize("block", [1, 4, 100])
def test_windows_cover_everything_once_beside_the_overlap(total, block):
    signal = torch.arange(float(total))
    pieces = list(windows(iter(signal.split(block)), 6, 2))
    assert pieces[0].overlap == 0
    assert pieces[0].start == 0
    end = 0
    for piece in pieces:
        size = piece.waveform.shape[1]
        assert piece.overlap < size <= 6
        assert piece.start == end - piece.overlap
        assert torch.equal(piece.waveform[0], signal[piece.start : piece.start + size])
        end = piece.start + size
    assert end == total
    assert len(pieces) == max(1, math.ceil((total - 2) / 4)), "one window more than needed is one explanation too many"


def test_nothing_gives_no_window():
    assert list(windows(iter([]), 6, 2)) == []


@pytest.mark.parametrize("overlap", [6, 7, -1])
def test_an_overlap_that_would_never_end_is_refused(overlap):
    with pytest.raises(ValueError, match=f"6 samples cannot overlap by {overlap}"):
        next(windows(iter([torch.zeros(10)]), 6, overlap))


# Reading


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.02, 1.03])
def test_the_stream_is_the_file_resampled_at_once(tmp_path, rate, seconds):
    path = recorded(tmp_path / "a.wav", noise(int(seconds * rate) + 1, channels=2), rate)
    streamed = torch.cat(list(Recording(path, 16000).blocks()))
    at_once = audio.read(path, 16000)[0]
    assert streamed.shape == at_once.shape
    assert (streamed - at_once).abs().max() < 1e-5


def test_windows_of_a_recording(tmp_path):
    path = recorded(tmp_path / "a.wav", noise(20000), 16000)
    pieces = list(Recording(path, 16000).windows(0.5, 0.125))
    assert [(each.start, each.waveform.shape, each.overlap) for each in pieces] == [
        (0, (1, 8000), 0),
        (6000, (1, 8000), 2000),
        (12000, (1, 8000), 2000),
    ]
    assert torch.equal(pieces[2].waveform, audio.read(path)[:, 12000:])


def test_windows_can_be_read_again(tmp_path):
    recording = Recording(recorded(tmp_path / "a.wav", noise(20000), 22050), 16000)
    first, second = (torch.cat([each.waveform for each in recording.windows(0.3, 0.1)], 1) for _ in range(2))
    assert torch.equal(first, second)


def test_a_file_is_refused_when_opened(tmp_path):
    with pytest.raises(AudioError, match=r"absent\.wav: no such file"):
        Recording(tmp_path / "absent.wav", 16000)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_in_the_middle_is_found_when_it_is_reached(tmp_path, value):
    samples = noise(32000)
    samples[20000] = value
    pieces = Recording(recorded(tmp_path / "a.wav", samples, 16000), 16000).windows(0.5, 0.1)
    next(pieces)
    with pytest.raises(AudioError, match=r"a\.wav: has NaN or infinite samples"):
        list(pieces)


def test_a_stream_that_breaks_off_names_the_file(tmp_path, capfd):
    path = tmp_path / "a.flac"
    soundfile.write(path, noise(48000), 16000)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    recording = Recording(path, 16000)
    with pytest.raises(AudioError, match=r"a\.flac: "):
        list(recording.windows(0.5, 0.1))
    assert capfd.readouterr() == ("", "")


def test_a_lossy_file_that_ends_early_names_the_file(tmp_path, capfd):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(100000), 44100)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(AudioError, match=r"a\.mp3: "):
        list(Recording(path, 44100).blocks())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
def test_lossy_files_stream_as_they_are_read(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(50000), 44100)
    recording = Recording(path, 16000)
    streamed, at_once = torch.cat(list(recording.blocks())), audio.read(path, 16000)[0]
    assert streamed.shape == at_once.shape
    assert (streamed - at_once).abs().max() < 1e-5


def test_frames_are_those_that_were_read(tmp_path):
    """An MP3's header only estimates them: here it promises an end that is cut off, by too little to be refused."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(48000), 48000)
    path.write_bytes(path.read_bytes()[:-300])
    recording = Recording(path, 48000)
    promised = recording.frames
    heard = sum(len(block) for block in recording.blocks())
    assert recording.frames == heard < promised


# Writing


@pytest.mark.parametrize("total", [3000, 16000, 20001])
def test_cross_fading_windows_of_one_signal_gives_it_back_exactly(tmp_path, total):
    signal = torch.from_numpy(noise(total)[:, 0])
    pieces = list(windows(iter(signal.split(1600)), 4000, 700))
    writer = WindowWriter(tmp_path / "a.wav", 16000)
    for piece, keep in zip(pieces, overlaps(pieces)):
        writer.add(piece.waveform[0], piece.overlap, keep)
    writer.close(total)
    assert torch.equal(audio.read(tmp_path / "a.wav")[0], signal)


def test_the_cross_fade_is_a_straight_line_between_two_sounds(tmp_path):
    writer = WindowWriter(tmp_path / "a.wav", 16000)
    writer.add(torch.zeros(10), overlap=0, keep=4)
    writer.add(torch.ones(10), overlap=4, keep=0)
    writer.close(16)
    expected = [0.0] * 6 + [0.2, 0.4, 0.6, 0.8] + [1.0] * 6
    assert audio.read(tmp_path / "a.wav")[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("file_rate", [8000, 16000, 22050, 44100, 48000])
def test_any_file_rate(tmp_path, file_rate):
    signal = torch.from_numpy(noise(20000)[:, 0])
    pieces = list(windows(iter([signal]), 4000, 700))
    frames = math.ceil(20000 * file_rate / 16000)
    writer = WindowWriter(tmp_path / "a.wav", 16000, file_rate)
    for piece, keep in zip(pieces, overlaps(pieces)):
        writer.add(piece.waveform[0], piece.overlap, keep)
    writer.close(frames)
    written = audio.read(tmp_path / "a.wav")
    assert soundfile.info(tmp_path / "a.wav").samplerate == file_rate
    assert written.shape == (1, frames)
    assert (written[0] - audio.resample(signal, 16000, file_rate)).abs().max() < 1e-5


@pytest.mark.parametrize("file_rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("frames", [1, 100, 4410, 30011])
def test_a_recording_explained_at_its_own_rate_keeps_its_length(tmp_path, file_rate, frames):
    recording = Recording(recorded(tmp_path / "in.wav", noise(frames), file_rate), 16000)
    pieces = list(recording.windows(0.5, 0.1))
    writer = WindowWriter(tmp_path / "out.wav", 16000, recording.file_rate)
    for piece, keep in zip(pieces, overlaps(pieces)):
        writer.add(piece.waveform[0], piece.overlap, keep)
    writer.close(recording.frames)
    assert soundfile.info(tmp_path / "out.wav").frames == frames


def test_a_file_appears_only_when_closed_and_not_at_all_when_discarded(tmp_path):
    for end, left in ((lambda writer: writer.close(10), ["a.wav"]), (lambda writer: writer.discard(), [])):
        folder = tmp_path / str(len(left))
        writer = WindowWriter(folder / "a.wav", 16000)
        writer.add(torch.ones(10), 0, 0)
        assert not (folder / "a.wav").exists()
        end(writer)
        assert [each.name for each in folder.iterdir()] == left


def test_discarding_keeps_an_older_file(tmp_path):
    path = recorded(tmp_path / "a.wav", noise(5), 16000)
    before = path.read_bytes()
    writer = WindowWriter(path, 16000)
    writer.add(torch.ones(10), 0, 0)
    writer.discard()
    assert path.read_bytes() == before


def test_written_samples_are_not_clipped(tmp_path):
    writer = WindowWriter(tmp_path / "a.wav", 16000)
    writer.add(torch.tensor([3.0, -7.5]), 0, 0)
    writer.close(2)
    assert audio.read(tmp_path / "a.wav").tolist() == [[3.0, -7.5]]


# Copies to listen to


def test_listening_copy_is_the_sound_at_peak_one(tmp_path):
    samples = 0.01 * noise(20000)[:, 0]
    source = recorded(tmp_path / "a.wav", samples, 16000)
    listening_copy(source, tmp_path / "copy.wav")
    copy, rate = soundfile.read(tmp_path / "copy.wav", dtype="float32")
    assert (rate, np.abs(copy).max()) == (16000, pytest.approx(1))
    np.testing.assert_allclose(copy, samples / np.abs(samples).max(), rtol=1e-6)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.wav", "copy.wav"]


def test_listening_copy_of_silence_is_silence(tmp_path):
    listening_copy(recorded(tmp_path / "a.wav", np.zeros(20000), 16000), tmp_path / "copy.wav")
    copy, _ = soundfile.read(tmp_path / "copy.wav")
    assert copy.shape == (20000,)
    assert not copy.any()
