"""When a sound is active: against sounds that are switched on and off at known times."""

import pytest
import torch

from audiointerp.sound.activity import active_times, shifted, union

RATE = 8000


def burst(seconds: float, *times: tuple[float, float], floor: float = 0.0) -> torch.Tensor:
    """Noise that is loud in the given times, and at the floor's amplitude in the others."""
    noise = torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    gain = torch.full_like(noise, floor)
    for start, end in times:
        gain[round(start * RATE) : round(end * RATE)] = 1
    return noise * gain


@pytest.mark.parametrize("floor", [0.0, 0.01, 0.1])
def test_bursts_over_silence_or_a_background(floor):
    found = active_times(burst(3.0, (0.5, 1.0), (2.0, 2.25), floor=floor), RATE)
    assert [each for times in found for each in times] == pytest.approx([0.5, 1.0, 2.0, 2.25], abs=0.011)


@pytest.mark.parametrize("gain", [1e-4, 30.0])
def test_the_level_does_not_matter(gain):
    sound = burst(2.0, (0.5, 1.0), floor=0.01)
    assert active_times(gain * sound, RATE) == active_times(sound, RATE)


def test_short_pauses_are_bridged_and_short_sounds_left_out():
    sound = burst(3.0, (0.5, 0.8), (0.95, 1.2), (2.0, 2.02))
    assert [each for times in active_times(sound, RATE) for each in times] == pytest.approx([0.5, 1.2])
    apart = active_times(sound, RATE, bridge=0.1, least=0.0)
    assert [each for times in apart for each in times] == pytest.approx([0.5, 0.8, 0.95, 1.2, 2.0, 2.02])


def test_steady_and_silent_sounds():
    assert active_times(burst(1.0, (0.0, 1.0)), RATE) == ((0.0, 1.0),)
    assert active_times(torch.zeros(RATE), RATE) == ()
    # The last block is cut off by the end of the clip.
    assert active_times(torch.ones(RATE + 13), RATE)[0][1] == (RATE + 13) / RATE


@pytest.mark.parametrize("wrong", [torch.zeros(0), torch.zeros(1, 5), torch.tensor([1.0, torch.nan])])
def test_what_is_no_sound_is_refused(wrong):
    with pytest.raises(ValueError, match="activity is of"):
        active_times(wrong, RATE)


def test_times_are_joined_and_moved():
    assert union(((1.0, 2.0), (1.5, 1.7), (2.0, 3.0))) == ((1.0, 3.0),)
    assert shifted(((0.0, 1.0), (2.0, 3.0)), 1.0) == ((1.0, 2.0),)
