"""The log-frequency front end and its ways back: against a literal version, tones, delays and real notes."""

import math

import numpy as np
import pytest
import soundfile
import torch
from references import logfrequency as reference

from audiointerp.sound.logfrequency import LogFrequency, level_to_magnitude, magnitude_to_level

SMALL = {"sample_rate": 16000, "bands": 40, "low": 50.0, "high": 8000.0, "n_fft": 2048, "onset": 0.1}


@pytest.fixture(scope="module")
def front_end():
    return LogFrequency(bands=64, n_fft=16384)


@pytest.fixture(scope="module")
def notes(nsynth_gm):
    """A real note of each of six families, (6, 64000)."""
    audio = nsynth_gm / "nsynth-test" / "audio"
    families = ("bass", "brass", "flute", "mallet", "organ", "string")
    paths = [sorted(audio.glob(f"{family}_*"))[5] for family in families]
    return torch.from_numpy(np.stack([soundfile.read(str(path), dtype="float32")[0] for path in paths]))


def noise(batch=2, samples=8000, seed=0):
    return 0.3 * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def tone(frequency, samples=8000, begin=0, phase=0.0, rate=16000):
    """A cosine that starts at `phase` on sample `begin`, (1, samples)."""
    n = torch.arange(samples, dtype=torch.float64) - begin
    return (torch.cos(2 * math.pi * frequency * n / rate + phase) * (n >= 0)).float()[None]


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def ones(waveform, bands=64):
    return torch.ones(len(waveform), 2, bands)


def band_of(front_end, frequency):
    return int((front_end.frequencies.log() - math.log(frequency)).abs().argmin())


def close(actual, expected, tolerance=1e-5):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=0, atol=tolerance)


# --- features


@pytest.mark.parametrize("samples", [2048, 1501, 700])
@pytest.mark.parametrize("bands, low", [(40, 50.0), (200, 50.0), (40, 1.0)])  # the last two: bands between two bins
def test_features_equal_the_literal_version(samples, bands, low):
    arguments = SMALL | {"bands": bands, "low": low}
    clips = noise(2, samples, seed=3)
    clips[1, :120] *= 1e-4  # an onset later than 0
    features = LogFrequency(**arguments)(clips)
    for clip, row in zip(clips.double().numpy(), features):
        close(row, reference.features(clip, **arguments), 2e-4)


def test_frequencies():
    frequencies = LogFrequency(bands=1024).frequencies
    assert frequencies.dtype == torch.float64 and frequencies.shape == (1024,)
    np.testing.assert_allclose(frequencies, np.geomspace(20, 8000, 1024), rtol=1e-12)
    assert (frequencies[1] / frequencies[0]).item() == pytest.approx(1.00587, abs=5e-6)


def test_clips_longer_than_n_fft_take_the_next_power_of_two():
    clip = noise(1, 3000)
    expected = reference.features(clip[0].double().numpy(), **(SMALL | {"n_fft": 4096}))
    close(LogFrequency(**SMALL)(clip)[0], expected, 2e-4)


@pytest.mark.parametrize("frequency", [30.0, 261.6, 1000.0, 5000.0])
def test_a_tone_is_in_its_band(frequency):
    front_end = LogFrequency()
    features = front_end(tone(frequency, 64000))
    near = band_of(front_end, frequency)
    power = level_to_magnitude(features[0, 0]).square()
    assert power.argmax() == near
    assert power.sum().item() == pytest.approx(1, abs=1e-4)
    assert power[max(near - 2, 0) : near + 3].sum() > 0.95


@pytest.mark.parametrize("phase", [0.0, 1.0, -2.5])
def test_phase_of_a_cosine_is_where_it_starts(phase):
    front_end = LogFrequency(n_fft=8000)  # 500 Hz is a bin: no leakage turns the phase
    _, cosine, sine = front_end(tone(500.0, 8000, phase=phase))[0, :, band_of(front_end, 500.0)]
    assert math.atan2(sine, cosine) == pytest.approx(phase, abs=1e-3)


@pytest.mark.parametrize("begin", [1, 777, 3001])
def test_a_delay_changes_nothing(begin):
    front_end = LogFrequency(bands=64, n_fft=16384)
    sound = noise(1, 4000) * torch.linspace(1, 0, 4000)
    sound[0, 0] = 0.5  # surely the onset
    pad = torch.nn.functional.pad
    early, late = pad(sound, (0, 4000)), pad(sound, (begin, 4000 - begin))
    assert (front_end.onset(early).item(), front_end.onset(late).item()) == (0, begin)
    close(front_end(late), front_end(early), 1e-3)
    unaligned = LogFrequency(bands=64, n_fft=16384, onset=0.0)  # every sample reaches 0: the note begins at 0
    assert (unaligned(late) - unaligned(early)).abs().max() > 0.5


def test_onset_is_the_first_sample_of_at_least_a_share_of_the_peak(front_end):
    clips = torch.tensor([[0.0, 0.0099, -0.011, 1.0], [0.0, 0.0, 0.0, 0.0], [-0.02, 0.0, 2.0, 0.0], [0, 0, 0, -1e-3]])
    assert front_end.onset(clips).tolist() == [2, 0, 0, 3]


def test_levels_do_not_matter_and_polarity_turns_the_phase(front_end):
    clips = noise()
    features = front_end(clips)
    close(front_end(1e-4 * clips), features)
    close(front_end(1e18 * clips), features)  # whose power no float32 holds
    close(front_end(-clips), features * torch.tensor([1.0, -1.0, -1.0])[:, None])


def test_magnitudes_have_unit_power_and_phasors_unit_length(front_end):
    level, cosine, sine = front_end(noise()).unbind(1)
    close(level_to_magnitude(level).square().sum(1), [1.0, 1.0])
    close(cosine.square() + sine.square(), torch.ones(2, 64))


def test_a_band_without_energy_has_no_phase_and_a_faint_one_has(front_end):
    """Rounding differs between processors, as a change of the clip by a last bit does: no feature may follow it."""
    loud = tone(200.0) * torch.hann_window(8000, periodic=False) ** 4  # its far bands hold nothing but rounding
    faint = 1e-5 * tone(3000.0) * torch.hann_window(8000, periodic=False) ** 4
    generator = torch.Generator().manual_seed(0)
    nudged = (loud + faint) * (1 + 6e-8 * torch.randn(loud.shape, generator=generator))
    first, again = front_end(loud + faint)[0], front_end(nudged)[0]
    length = first[1:].norm(dim=0)
    known = length > 0.5
    assert known[band_of(front_end, 200.0)] and known[band_of(front_end, 3000.0)]  # -100 dB below the loudest
    assert (length < 1e-3).any()
    assert float((first - again).abs().max()) < 0.02


def test_a_row_equals_a_batch_of_one(front_end):
    clips = torch.cat([noise(3), torch.zeros(1, 8000)])
    together = front_end(clips)
    close(together, torch.cat([front_end(clip[None]) for clip in clips]))
    assert not together[3].any()


@pytest.mark.parametrize("samples", [1, 2, 100])
def test_very_short_clips(front_end, samples):
    assert front_end(noise(2, samples)).isfinite().all()
    assert not front_end(torch.zeros(2, samples)).any()


@pytest.mark.parametrize("kind", ["silence", "nearly silence", "click", "zeros between", "constant", "alternating"])
def test_gradients_are_finite(front_end, kind):
    clip = torch.zeros(1, 4096)
    if kind == "nearly silence":
        clip[0, 5] = 1e-30
    elif kind == "click":
        clip[0, 5] = 1.0
    elif kind == "zeros between":
        clip[0, 1000:1100] = noise(1, 100)
    elif kind == "constant":
        clip += 1.0
    elif kind == "alternating":
        clip[0, ::2] = 1.0
    clip.requires_grad_()
    features = front_end(clip)
    features.square().sum().backward()
    assert features.isfinite().all()
    assert clip.grad is not None and clip.grad.isfinite().all()
    if "silence" in kind:
        assert not features.any() and not clip.grad.any()


def test_gradients_equal_differences():
    front_end = LogFrequency(bands=8, low=500.0, n_fft=64)
    clip = noise(1, 48, seed=5).double().requires_grad_()
    clip.data[0, 0] = 1.0  # the peak, and the onset, whatever the others do
    assert torch.autograd.gradcheck(lambda rest: front_end(torch.cat([clip[:, :1].detach(), rest], 1)), clip[:, 1:])


def test_tables_first_asked_for_in_inference_mode_serve_autograd():
    front_end, clip = LogFrequency(bands=17, n_fft=4096), noise(1, 999)
    with torch.inference_mode():
        expected = front_end.morphed_waveform(clip, front_end(clip))
    clip.requires_grad_()
    made = front_end.morphed_waveform(clip, front_end(clip))
    made.sum().backward()
    close(made.detach(), expected.clone())


# --- ways back


@pytest.mark.parametrize("samples", [8000, 7999, 1000, 100, 1])
def test_both_ways_back_are_exact(front_end, samples):
    clips = torch.cat([noise(2, samples), torch.zeros(1, samples), 20 * noise(1, samples)])
    tolerance = 1e-5 * max(1, clips.abs().max().item())
    close(front_end.masked_waveform(clips, ones(clips), drawn()), clips, tolerance)
    close(front_end.morphed_waveform(clips, front_end(clips)), clips, tolerance)


def test_both_ways_back_are_exact_on_real_notes(notes):
    front_end = LogFrequency()
    features = front_end(notes)
    assert features.isfinite().all()
    close(front_end.masked_waveform(notes, ones(notes, 512), drawn()), notes)
    close(front_end.morphed_waveform(notes, features), notes)


def test_real_notes_begin_within_15_ms(notes):
    assert LogFrequency().onset(notes).max() < 0.015 * 16000  # their sampler starts them at 0


@pytest.mark.parametrize("samples", [1500, 1501])
def test_ways_back_equal_the_literal_version(samples):
    arguments = {name: SMALL[name] for name in ("sample_rate", "bands", "low", "high")}
    front_end, clip = LogFrequency(**SMALL), noise(1, samples)
    gain, turn = torch.rand(2, 40, generator=drawn(1)).mul(3).add(0.1).unbind()
    truth = clip[0].double().numpy()
    keep = torch.stack([gain, torch.ones(40)])[None]
    close(
        front_end.masked_waveform(clip, keep, drawn())[0],
        reference.changed(truth, **arguments, gain=gain.numpy(), turn=np.zeros(40)),
    )
    level, cosine, sine = front_end(clip)[0]
    angle = torch.atan2(sine, cosine) + turn
    wanted = torch.stack([magnitude_to_level(level_to_magnitude(level) * gain), angle.cos(), angle.sin()])[None]
    close(
        front_end.morphed_waveform(clip, wanted)[0],
        reference.changed(truth, **arguments, gain=gain.numpy(), turn=turn.numpy()),
    )


@pytest.mark.parametrize("samples", [8000, 7999])
def test_dropping_the_phase_keeps_every_magnitude(front_end, samples):
    clips, keep = noise(2, samples), ones(noise())
    keep[:, 1] = 0
    made = front_end.masked_waveform(clips, keep, drawn(1))
    before, after = np.fft.rfft(clips), np.fft.rfft(made)
    np.testing.assert_allclose(abs(after), abs(before), atol=2e-4)  # 0 Hz and half the rate too
    # Random phases are spread over the circle, and go their own way in each clip.
    turn = (after / before)[:, 1:-1]
    turn = turn / abs(turn)
    assert abs(turn.mean(1)).max() < 0.05 and abs((turn[0] * turn[1].conj()).mean()) < 0.05
    assert torch.equal(made, front_end.masked_waveform(clips, keep, drawn(1)))
    assert (made - front_end.masked_waveform(clips, keep, drawn(2))).abs().max() > 0.1


def test_only_dropped_bands_lose_their_phase(front_end):
    clips, keep = noise(1), ones(noise(1))
    keep[:, 1, :30], keep[:, 1, 30:] = 0.5, 0.49
    made = front_end.masked_waveform(clips, keep, drawn())
    before, after = np.fft.rfft(clips[0]), np.fft.rfft(made[0])
    border = math.sqrt(front_end.frequencies[29] * front_end.frequencies[30])
    kept = np.arange(4001) * 2 < border
    np.testing.assert_allclose(after[kept], before[kept], atol=1e-4)
    assert (abs(after - before)[~kept] > 1).mean() > 0.9


def test_random_signs_of_the_two_real_bins_are_both_drawn(front_end):
    clip, keep = 1 + torch.zeros(1, 10), ones(noise(1))
    keep[:, 1] = 0
    made = [front_end.masked_waveform(clip, keep, drawn(seed)).mean().item() for seed in range(20)]
    assert sorted({round(each, 5) for each in made}) == [-1, 1]


def test_what_a_mask_and_its_complement_keep_adds_up(front_end):
    clips = noise() + 0.1  # an offset, below the lowest band
    keep = ones(clips)
    keep[:, 0] = torch.rand(2, 64, generator=drawn())
    rest = torch.stack([1 - keep[:, 0], keep[:, 1]], 1)
    made = [front_end.masked_waveform(clips, each, drawn()) for each in (keep, rest)]
    close(made[0] + made[1], clips)


def test_keeping_the_band_of_one_tone_keeps_that_tone(front_end):
    low, high = tone(440.0), tone(3000.0, phase=1.0)
    keep = torch.zeros(1, 2, 64)
    keep[:, 1] = 1
    keep[:, 0, band_of(front_end, 440.0)] = 1
    close(front_end.masked_waveform(low + high, keep, drawn()), low)
    keep[:, 0] = 1 - keep[:, 0]
    close(front_end.masked_waveform(low + high, keep, drawn()), high)


@pytest.mark.parametrize("factor", [2.0, -1.0, 0.25])
def test_morphing_level_and_phase_of_all_bands(front_end, factor):
    clips = noise(2, 7999)
    level, cosine, sine = front_end(clips).unbind(1)
    level, sign = magnitude_to_level(abs(factor) * level_to_magnitude(level)), math.copysign(1, factor)
    # Phasors of any length count as their angle.
    wanted = torch.stack([level, 0.3 * sign * cosine, 0.3 * sign * sine], 1)
    close(front_end.morphed_waveform(clips, wanted), factor * clips)


def test_a_phasor_of_length_0_counts_as_angle_0(front_end):
    wanted = front_end(noise())
    wanted[:, 1], wanted[:, 2] = 1, 0
    made = front_end.morphed_waveform(noise(), wanted)
    wanted[:, 1] = 0
    close(front_end.morphed_waveform(noise(), wanted), made)


def test_morphing_to_another_note_gives_its_features():
    front_end = LogFrequency(bands=32, low=200.0, n_fft=4096)
    source, other = noise(1, 4096, seed=1), noise(1, 4096, seed=2)
    source[0, 0] = other[0, 0] = 1.5  # both begin at 0
    wanted = front_end(other)
    close(front_end(front_end.morphed_waveform(source, wanted))[:, 0], wanted[:, 0], 2e-3)


def test_a_band_taken_to_nothing_is_120_db_down(front_end):
    clip = tone(500.0) + tone(4000.0)
    wanted = front_end(clip)
    wanted[:, :, 50:] = 0
    assert front_end.frequencies[50] < 4000
    close(front_end.morphed_waveform(clip, wanted), tone(500.0))


def test_silence_stays_silent_whatever_is_asked(front_end):
    silence = torch.zeros(1, 500)
    assert not front_end.morphed_waveform(silence, front_end(noise(1, 500))).any()


# --- levels and bad input


def test_levels():
    magnitude = torch.tensor([0.0, 0.001, 1.0])
    close(magnitude_to_level(magnitude), [0, math.log(2), math.log(1001)])
    close(level_to_magnitude(magnitude_to_level(magnitude)), magnitude)


def test_config_makes_it_again():
    arguments = SMALL | {"onset": 0.02}
    assert LogFrequency(**arguments).config == arguments
    assert not LogFrequency(**arguments).state_dict()


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"bands": 1}, "bands is 1; an axis from low to high needs at least two"),
        ({"low": 0.0}, "low is 0.0 Hz"),
        ({"high": 20.0}, "high 20.0 Hz"),
        ({"sample_rate": 8000}, "at 8000 Hz, 0 < low < high <= 4000 must hold"),
        ({"n_fft": 1}, "n_fft is 1"),
        ({"onset": 1.5}, "onset is 1.5; it is a share of the peak"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        LogFrequency(**arguments)


def test_bad_shapes(front_end):
    with pytest.raises(ValueError, match=r"waveform has shape \(100,\); give \(batch, samples\)"):
        front_end(torch.zeros(100))
    with pytest.raises(ValueError, match="at least one sample"):
        front_end(torch.zeros(2, 0))
    with pytest.raises(ValueError, match=r"keep has shape \(1, 64\); this clip and these bands need \(2, 2, 64\)"):
        front_end.masked_waveform(noise(), torch.ones(1, 64), drawn())
    with pytest.raises(ValueError, match=r"features has shape \(2, 3, 32\).* need \(2, 3, 64\)"):
        front_end.morphed_waveform(noise(), torch.ones(2, 3, 32))
