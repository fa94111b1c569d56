"""Files in and out: levels, rates, and every way in which a file can be broken."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.sound import files as audio
from audiointerp.sound.files import AudioError


def tone(frequency: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal((samples, channels)).astype("float32")


def level_db(waveform: torch.Tensor) -> float:
    """RMS of the middle half in dB: edges ring."""
    middle = waveform[..., waveform.shape[-1] // 4 : -waveform.shape[-1] // 4]
    return 10 * math.log10(float(middle.double().square().mean()))


# Reading


def test_channels_are_averaged(tmp_path):
    left, right = noise(1000)[:, 0], tone(440, 1000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([left, right], 1), 16000, subtype="FLOAT")
    waveform = audio.read(tmp_path / "stereo.wav")
    assert waveform.shape == (1, 1000)
    assert waveform.dtype == torch.float32
    np.testing.assert_allclose(waveform[0].numpy(), (left + right) / 2, atol=1e-7)


def test_the_level_of_the_file_is_kept(tmp_path):
    soundfile.write(tmp_path / "quiet.wav", tone(440, 16000, amplitude=1e-3), 16000, subtype="FLOAT")
    assert float(audio.read(tmp_path / "quiet.wav").abs().max()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_any_rate_becomes_the_asked_one(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(1000, rate), rate, subtype="FLOAT")
    waveform = audio.read(tmp_path / "a.wav", 16000)
    assert waveform.shape == (1, 16000)
    middle = slice(4000, 12000)
    np.testing.assert_allclose(waveform[0, middle].numpy(), tone(1000, 16000)[middle], atol=1e-4)


def test_a_tone_above_the_new_nyquist_frequency_is_gone(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(9000, 44100, amplitude=1), 44100, subtype="FLOAT")
    assert level_db(audio.read(tmp_path / "a.wav", 16000)) < -80
    assert level_db(audio.read(tmp_path / "a.wav")) == pytest.approx(10 * math.log10(0.5), abs=0.01)


def test_resampled_length_is_rounded_up_and_leading_axes_stay():
    for samples in (1, 2, 441, 442, 1000):
        assert audio.resample(torch.zeros(2, 3, samples), 44100, 16000).shape == (2, 3, math.ceil(samples * 160 / 441))


def test_resampling_to_the_same_rate_changes_nothing():
    waveform = torch.from_numpy(noise(100).T)
    assert torch.equal(audio.resample(waveform, 16000, 16000), waveform)


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".aiff"])
def test_other_formats(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, tone(1000, 44100), 44100)
    assert level_db(audio.read(path, 16000)) == pytest.approx(10 * math.log10(0.125), abs=0.1)
    assert audio.probe(path).samplerate == 44100


# Broken files: AudioError, with the file's name and the cause in one line, and nothing else on the terminal


def broken(path: Path, capfd) -> str:
    """What is said of a file that `read` must refuse."""
    capfd.readouterr()
    with pytest.raises(AudioError) as caught:
        audio.read(path, 16000)
    assert capfd.readouterr() == ("", ""), "the decoder's own remarks must not reach the terminal"
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_missing_file_and_folder(tmp_path, capfd):
    assert "no such file" in broken(tmp_path / "absent.wav", capfd)
    assert "no such file" in broken(tmp_path, capfd)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".ogg", ".flac"])
def test_empty_file(tmp_path, capfd, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert "empty (0 bytes)" in broken(path, capfd)


@pytest.mark.parametrize("suffix", [".wav", ".mp3", ".ogg", ".flac", ".raw", ".txt", ""])
@pytest.mark.parametrize("content", [b"not a sound at all\n" * 200, b"ID3" + bytes(2000), b"OggS" + bytes(300)])
def test_garbage(tmp_path, capfd, suffix, content):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert "not readable as audio" in broken(path, capfd)


def test_zero_frames(tmp_path, capfd):
    soundfile.write(tmp_path / "a.wav", np.zeros((0, 1)), 16000)
    assert "0 frames" in broken(tmp_path / "a.wav", capfd)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_sample_that_is_no_number(tmp_path, capfd, value):
    samples = noise(1000)
    samples[500] = value
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert "NaN or infinite" in broken(tmp_path / "a.wav", capfd)


def cut(path: Path, missing: int) -> Path:
    os.truncate(path, path.stat().st_size - missing)
    return path


@pytest.mark.parametrize("missing", [1, 300, 3000, 20000])
@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".caf", ".flac", ".ogg"])
def test_truncated(tmp_path, capfd, suffix, missing):
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, noise(200000), 48000)
    assert len(audio.read(path)[0]) == 200000
    broken(cut(path, missing), capfd)


def test_truncated_opus(tmp_path, capfd):
    path = tmp_path / "a.opus"
    soundfile.write(path, noise(48000), 48000, format="OGG", subtype="OPUS")
    audio.read(path)
    assert "truncated" in broken(cut(path, 100), capfd)


def test_truncated_mp3(tmp_path, capfd):
    path = tmp_path / "a.mp3"
    soundfile.write(path, noise(100000), 44100)
    assert abs(len(audio.read(path)[0]) - 100000) <= 4608
    assert "truncated" in broken(cut(path, path.stat().st_size // 2), capfd)


def test_a_truncated_wav_says_how_much_is_missing(tmp_path, capfd):
    soundfile.write(tmp_path / "a.wav", noise(1000), 16000, subtype="PCM_16")
    assert "122 bytes of audio are missing" in broken(cut(tmp_path / "a.wav", 122), capfd)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000])
def test_a_streamed_wav_of_unknown_length_is_read(tmp_path, size):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1000), 16000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    where = data.index(b"data") + 4
    data[where : where + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    assert audio.read(path).shape == (1, 1000)


# Writing


def test_written_samples_come_back_exactly_even_above_full_scale(tmp_path):
    waveform = torch.tensor([0.1, -3.7, 1.0000001, 1e-30, 0.0])
    audio.write(tmp_path / "new" / "folder" / "a.wav", waveform, 22050)
    assert torch.equal(audio.read(tmp_path / "new" / "folder" / "a.wav"), waveform[None])
    info = soundfile.info(tmp_path / "new" / "folder" / "a.wav")
    assert (info.samplerate, info.subtype, info.channels, info.frames) == (22050, "FLOAT", 1, 5)


def test_a_failed_write_leaves_the_old_file_and_nothing_aside(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    audio.write(path, torch.ones(10), 16000)

    def killed(file, samples, *rest, **options):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(audio.soundfile, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        audio.write(path, torch.zeros(10), 16000)
    monkeypatch.undo()
    assert [each.name for each in tmp_path.iterdir()] == ["a.wav"]
    assert torch.equal(audio.read(path), torch.ones(1, 10))


def test_the_new_file_appears_whole(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def look(source, target):
        seen.append((Path(target).exists(), soundfile.info(source).frames))
        replace(source, target)

    monkeypatch.setattr(audio.os, "replace", look)
    audio.write(tmp_path / "a.wav", torch.ones(10), 16000)
    assert seen == [(False, 10)]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / ".a.wav.part").mkdir()
    with pytest.raises(OSError, match=r"a\.wav"):
        audio.write(tmp_path / "a.wav", torch.zeros(10), 16000)


def test_a_batch_is_not_written_as_channels(tmp_path):
    with pytest.raises(ValueError, match=r"shape \(1, 10\).*\(samples,\)"):
        audio.write(tmp_path / "a.wav", torch.zeros(1, 10), 16000)
    assert not list(tmp_path.iterdir())


# Lengths and levels


def test_fit_length_crops_or_pads_the_end():
    waveform = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert audio.fit_length(waveform, 1).tolist() == [[1], [3]]
    assert audio.fit_length(waveform, 3).tolist() == [[1, 2, 0], [3, 4, 0]]
    assert audio.fit_length(torch.zeros(0), 2).tolist() == [0, 0]


def test_normalize_peak_uses_the_absolute_peak_and_leaves_silence():
    # The signed maximum, as in released code, would scale the first row to a peak of 10.
    waveform = torch.tensor([[-1.0, 0.1], [0.0, 0.0], [1e-9, 0.0], [0.25, -0.5]])
    scaled, gain = audio.normalize_peak(waveform)
    assert gain.tolist() == [1, 1, 1, 2]
    assert torch.equal(scaled, torch.tensor([[-1.0, 0.1], [0.0, 0.0], [1e-9, 0.0], [0.5, -1.0]]))
