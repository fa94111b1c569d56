"""Every format that libsndfile writes, whole and cut short: never is a part read as the whole."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiointerp.sound import files as audio
from audiointerp.sound.files import AudioError

FRAMES = 9999
WITHOUT_LENGTH = ("IRCAM", "PAF", "PVF", "XI")  # by their headers; XI as libsndfile writes it
WITHOUT_RATE = ("RAW", "SD2")  # no header; a header in a file of its own


def variants(name: str) -> list[tuple[str, int, int]]:
    """Subtype, channels and rate of the files that libsndfile can write in a format."""
    rates = (16000, 8000)
    found = [(subtype, channels) for subtype in soundfile.available_subtypes(name) for channels in (1, 2)]
    return [
        (subtype, channels, rate)
        for subtype, channels in found
        if (rate := next((each for each in rates if writable(name, subtype, channels, each)), 0))
    ]


def writable(name: str, subtype: str, channels: int, rate: int) -> bool:
    try:
        soundfile.write(io.BytesIO(), np.zeros((9, channels), "float32"), rate, format=name, subtype=subtype)
    except (soundfile.LibsndfileError, ValueError):
        return False
    return True


def written(folder: Path, name: str, subtype: str, channels: int, rate: int) -> Path:
    path = folder / f"a.{name.lower()}"
    samples = 0.3 * np.random.default_rng(0).standard_normal((FRAMES, channels))
    soundfile.write(path, samples.astype("float32"), rate, format=name, subtype=subtype)
    return path


@pytest.mark.parametrize("name", sorted({*soundfile.available_formats()} - {*WITHOUT_RATE, *WITHOUT_LENGTH}))
def test_a_part_is_never_read_as_the_whole(name, tmp_path):
    tried = 0
    for subtype, channels, rate in variants(name):
        path = written(tmp_path, name, subtype, channels, rate)
        data, case = path.read_bytes(), (subtype, channels)
        try:
            frames = audio.read(path).shape[1]
        except AudioError as error:
            assert "decoding failed" in str(error), (case, error)  # libsndfile cannot read all that it writes
            continue
        assert FRAMES <= frames <= FRAMES + 4608, case  # codecs fill up their last block
        for part in (0.3, 0.5, 0.85):
            path.write_bytes(data[: int(part * len(data))])
            with pytest.raises(AudioError) as caught:
                audio.read(path)
            assert str(caught.value).startswith(f"{path}: "), case
        tried += 1
    assert tried >= 1


@pytest.mark.parametrize("name", WITHOUT_LENGTH)
def test_formats_without_a_length_are_refused(name, tmp_path):
    path = written(tmp_path, name, *variants(name)[0])
    with pytest.raises(AudioError, match=f"is in the format {name}, whose header states no length"):
        audio.read(path)


def test_sizes_by_hand(tmp_path):
    """Files of other programs: a SPHERE header with its fields in another order, an 8SVX body, an MP3 after a tag."""
    samples = np.arange(1000, dtype=">i2").tobytes()
    header = b"NIST_1A\n   1024\nsample_count -i 500\nsample_n_bytes -i 2\nchannel_count -i 2\nsample_rate -i 16000\n"
    header += b"sample_byte_format -s2 10\nsample_coding -s3 pcm\nend_head\n"
    path = tmp_path / "a.sph"
    path.write_bytes(header.ljust(1024) + samples)
    assert audio.read(path).shape == (1, 500)
    path.write_bytes(header.ljust(1024) + samples[:-4])
    with pytest.raises(AudioError, match="4 bytes of audio are missing"):
        audio.read(path)

    soundfile.write(tmp_path / "a.mp3", np.random.default_rng(0).standard_normal(44100) * 0.1, 44100)
    data = (tmp_path / "a.mp3").read_bytes()
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)  # sizes have 7 bits a byte
    (tmp_path / "a.mp3").write_bytes(tag + data)
    assert audio.read(tmp_path / "a.mp3").shape[1] >= 44100
    (tmp_path / "a.mp3").write_bytes(tag + data[: int(0.8 * len(data))])
    with pytest.raises(AudioError, match="bytes of audio are missing"):
        audio.read(tmp_path / "a.mp3")
