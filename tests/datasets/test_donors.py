"""Donor clips: whose they are, how they are drawn, and when they are read."""

import numpy as np
import pytest
import soundfile
import torch

from audiointerp.datasets import Clip, DonorClips

RATE, SECONDS = 16000, 0.1


@pytest.fixture
def clips(tmp_path) -> list[Clip]:
    """Twelve tones of 0.1 s, four in each of three folds; clip i has i + 1 periods, at a level of its own."""
    made = []
    for i in range(12):
        path = tmp_path / f"{i:02d}.wav"
        tone = np.sin(2 * np.pi * (i + 1) * 10 * np.arange(1600) / RATE)
        soundfile.write(path, 0.05 * (1 + i) * tone, RATE, subtype="FLOAT")
        made.append(Clip(path, ("dog" if i % 2 else "rain",), 1 + i // 4))
    return made


def periods(waveforms: torch.Tensor) -> list[int]:
    """Which clip each row is."""
    return torch.fft.rfft(waveforms).abs().argmax(1).tolist()


def test_donors_are_clips_of_the_folds_at_peak_1(clips):
    donors = DonorClips(lambda: clips, [1, 3], count=32, seconds=SECONDS)()
    assert donors.shape == (8, 1600) and donors.dtype == torch.float32
    assert sorted(periods(donors)) == [1, 2, 3, 4, 9, 10, 11, 12]
    torch.testing.assert_close(donors.abs().amax(1), torch.ones(8), atol=1e-5, rtol=0)


def test_as_many_as_asked_by_the_seed(clips):
    def drawn(seed):
        return periods(DonorClips(lambda: clips, [1, 2, 3], count=5, seed=seed, seconds=SECONDS)())

    first, again, other = drawn(0), drawn(0), drawn(1)
    assert len(set(first)) == 5 and first == again and first != other


def test_lengths(clips):
    longer, shorter = (DonorClips(lambda: clips, [2], seconds=each)() for each in (0.15, 0.05))
    assert longer.shape == (4, 2400) and longer[:, 1600:].abs().max() == 0
    assert shorter.shape == (4, 800)


def test_several_labels(clips):
    both = [Clip(each.path, ("dog", "rain"), each.fold) for each in clips]
    assert DonorClips(lambda: both, [1], seconds=SECONDS)().shape == (4, 1600)


def test_they_are_read_when_they_are_first_asked_for(clips):
    asked = []

    def read():
        asked.append(1)
        return clips

    donors = DonorClips(read, (1,), seconds=SECONDS)
    assert not asked
    first = donors()
    assert donors() is first and len(asked) == 1


def test_what_cannot_be(clips):
    with pytest.raises(ValueError, match="count is 0; give at least 1"):
        DonorClips(lambda: clips, [1], count=0)
    with pytest.raises(ValueError, match=r"no clip is in folds \[7\]"):
        DonorClips(lambda: clips, [7])()
