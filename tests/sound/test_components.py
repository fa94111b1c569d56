"""Parts of a clip: shares add up to 1, all parts are the clip, none is the filler."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from audiointerp.sound.components import Components, Part, Splitter, component_waveforms
from audiointerp.sound.masking import apply_mask, noise_floor
from audiointerp.sound.nmf import NMF
from audiointerp.sound.spectrogram import STFT, log_magnitude

RATE, SAMPLES = 16000, 4000


def two_tones() -> torch.Tensor:
    """500 Hz in the first 60 % of the clip, 3 kHz in the last 60 %."""
    place = torch.arange(SAMPLES) / SAMPLES
    low = torch.sin(2 * torch.pi * 500 / RATE * torch.arange(SAMPLES)) * (place < 0.6)
    high = torch.sin(2 * torch.pi * 3000 / RATE * torch.arange(SAMPLES)) * (place >= 0.4)
    return 0.5 * (low + high)[None]


STFT16 = STFT()
CLIP = STFT16(two_tones())[0]


def factorised(clip: torch.Tensor = CLIP, components: int = 4) -> Components:
    generator = torch.Generator().manual_seed(0)
    spectra = torch.rand(len(clip), components, generator=generator)
    activations = torch.rand(components, clip.shape[1], generator=generator)
    activations[:, 3] = 0  # a frame of which no component knows
    activations[2] = 0
    return Components.nmf(clip, spectra, activations)


MADE = {
    "tiles": Components.tiles(CLIP, 3, 4),
    "mel": Components.bands(CLIP, 10, RATE),
    "linear": Components.bands(CLIP, 7, RATE, "linear"),
    "borders": Components.bands(CLIP, [1000.0, 4000.0], RATE),
    "nmf": factorised(),
    "layers": Components.harmonic_percussive(CLIP),
    "two layers": Components.harmonic_percussive(CLIP, 1.0),
    "segments": Components.segments(CLIP, 5),
    "onsets": Components.onsets(CLIP, 4),
    "layers in segments": Components.product(Components.harmonic_percussive(CLIP), Components.onsets(CLIP, 4)),
    "nmf in segments": Components.product(factorised(), Components.segments(CLIP, [3, 11])),
    "bands of nmf": Components.product(Components.bands(CLIP, 3, RATE), factorised()),
    "three": Components.product(
        Components.product(Components.harmonic_percussive(CLIP), Components.bands(CLIP, 2, RATE)),
        Components.segments(CLIP, 2),
    ),
}
all_kinds = pytest.mark.parametrize("components", MADE.values(), ids=MADE.keys())


@all_kinds
def test_parts_are_a_partition_of_unity(components):
    masks = components.mask(torch.eye(components.count))
    assert masks.shape == (components.count, *CLIP.shape)
    assert masks.min() >= 0 and masks.max() <= 1
    torch.testing.assert_close(masks.sum(0), torch.ones(CLIP.shape))
    alone = components.render(torch.eye(components.count)).sum(0)
    torch.testing.assert_close(alone, CLIP)
    torch.testing.assert_close(components.energy(), (masks * CLIP.abs()).square().sum((1, 2)), rtol=1e-3, atol=1e-4)


@all_kinds
@pytest.mark.parametrize("kind", ["silence", "noise_floor", "donor", "donors"])
def test_all_is_the_clip_and_none_is_the_filler(components, kind):
    donors = torch.randn(2, *CLIP.shape, dtype=CLIP.dtype)
    floor = torch.minimum(noise_floor(CLIP.abs()[None]), CLIP.abs()) * torch.exp(1j * CLIP.angle())
    filler = {"donor": donors[0], "donors": donors}.get(kind, kind)
    expected = {"silence": torch.zeros_like(floor), "noise_floor": floor, "donor": donors[:1], "donors": donors}[kind]
    expected = expected.expand(2, *CLIP.shape)
    count = components.count
    both = components.render(torch.stack([torch.ones(count), torch.zeros(count)]), filler)
    assert torch.equal(both[0], CLIP)
    torch.testing.assert_close(both[1], expected[1], atol=1e-5, rtol=1e-5)
    some = torch.rand(2, count, generator=torch.Generator().manual_seed(3))
    mask = components.mask(some)
    torch.testing.assert_close(components.render(some, filler), mask * CLIP + (1 - mask) * expected)


@all_kinds
def test_masks_are_linear_in_the_selection(components):
    some = torch.rand(3, components.count, generator=torch.Generator().manual_seed(3))
    masks = components.mask(torch.eye(components.count))
    torch.testing.assert_close(components.mask(some), torch.einsum("bk,kft->bft", some, masks), atol=1e-5, rtol=1e-5)


def test_tiles_by_hand():
    components = Components.tiles(torch.ones(1, 4, 5, dtype=torch.complex64), freq_parts=2, time_parts=2)
    selection = torch.tensor([[0.1, 0.2, 0.3, 0.4]])
    rows = [[0.1, 0.1, 0.1, 0.2, 0.2], [0.3, 0.3, 0.3, 0.4, 0.4]]
    torch.testing.assert_close(components.mask(selection)[0], torch.tensor([rows[0], rows[0], rows[1], rows[1]]))
    assert components.energy().tolist() == [6, 4, 6, 4]


def test_tiles_and_bands_hold_the_tones():
    """Tiles: two frequency parts, two time parts; 500 and 3000 Hz both lie below 4 kHz. Bands part the tones."""
    total = CLIP.abs().square().sum()
    tiles = Components.tiles(CLIP, 2, 2).energy() / total
    torch.testing.assert_close(tiles, torch.tensor([0.5, 0.5, 0.0, 0.0]), atol=0.04, rtol=0)
    bands = Components.bands(CLIP, [2000.0], RATE)
    torch.testing.assert_close(bands.energy() / total, torch.tensor([0.5, 0.5]), atol=0.02, rtol=0)
    low = STFT16.inverse(bands.render(torch.tensor([[1.0, 0.0]])), SAMPLES)[0]
    assert low[3000:].square().mean() < 1e-3 * low[:2000].square().mean()


def test_bands_by_their_frequencies():
    """Borders in mel by librosa; a bin on a border belongs to the band above."""
    librosa = pytest.importorskip("librosa")
    hertz = np.linspace(0, RATE / 2, 513)
    borders = librosa.mel_frequencies(11, fmin=0, fmax=RATE / 2, htk=True)[1:-1]
    index = np.searchsorted(borders, hertz, side="right")
    masks = Components.bands(CLIP, 10, RATE).mask(torch.eye(10))
    np.testing.assert_array_equal(masks[:, :, 0].argmax(0), index)
    masks = Components.bands(CLIP, [1000.0, 4000.0], RATE).mask(torch.eye(3))[:, :, 0]
    assert masks[1].nonzero()[:, 0].tolist() == list(range(64, 256))  # bins are 15.625 Hz apart


def test_shares_of_a_factorisation_by_hand():
    """One frame, levels 1 and 3; the second bin, of which neither component knows, is shared alike."""
    clip = torch.full((2, 1), 10.0, dtype=torch.complex64)
    components = Components.nmf(clip, torch.tensor([[1.0, 3.0], [0.0, 0.0]]), torch.tensor([[1.0], [1.0]]))
    torch.testing.assert_close(components.mask(torch.tensor([[1.0, 0.0]]))[0], torch.tensor([[0.25], [0.25]]))
    torch.testing.assert_close(components.energy(), torch.tensor([2 * 2.5**2, 2 * 7.5**2]))


def test_energy_tells_silent_parts():
    assert (Components.tiles(torch.zeros(4, 4, dtype=torch.complex64), 2, 2).energy() == 0).all()
    energy = factorised().energy()
    assert energy[2] == 0 and (energy[[0, 1, 3]] > 0).all()


@all_kinds
def test_sounds_of_all_parts_add_up_to_the_clip(components):
    sounds = components.waveforms(STFT16, SAMPLES)
    assert sounds.shape == (components.count, SAMPLES)
    torch.testing.assert_close(sounds.sum(0), two_tones()[0], atol=1e-5, rtol=0)


def test_a_product_is_every_part_within_every_part():
    layers, segments = Components.harmonic_percussive(CLIP), Components.segments(CLIP, [3, 11])
    made = Components.product(layers, segments)
    assert made.count == 3 * 3
    shares = made.shares()
    for i, layer in enumerate(layers.shares()):
        for j, (start, stop) in enumerate([(0, 3), (3, 11), (11, CLIP.shape[1])]):
            expected = torch.zeros_like(layer)
            expected[:, start:stop] = layer[:, start:stop]
            torch.testing.assert_close(shares[3 * i + j], expected)


@pytest.mark.parametrize("parts", get_args(Part))
def test_a_splitter_says_how_many_parts_it_makes(parts):
    splitter = Splitter.checked(parts, (3, 4), 5, None, STFT16, 6, 2.0)
    assert splitter(CLIP[None], 0).count == splitter.count
    other = "segments" if parts != "segments" and parts != "onsets" else "bands"
    product = Splitter.checked([parts, other], (3, 4), 5, None, STFT16, 6, 1.0)
    assert product(CLIP[None], 0).count == product.count
    # A clip of one frame has one segment, and its parts are still the clip.
    torch.testing.assert_close(product(CLIP[None, :, 5:6], 0).shares().sum(0), torch.ones(513, 1))


@all_kinds
def test_silence_gives_silence(components):
    silent = torch.zeros_like(CLIP)
    made = factorised(silent) if components is MADE["nmf"] else Components.tiles(silent, 3, 4)
    for filler in ("silence", "noise_floor"):
        assert (made.render(torch.rand(2, made.count), filler) == 0).all()
    assert Components.nmf(silent, NMF(3)).mask(torch.ones(1, 3)).isfinite().all()


def test_nmf_finds_the_two_tones():
    """Each component, alone, is one of the tones; in the magnitude domain they add up to the clip."""
    nmf = NMF(2)
    nmf.fit(log_magnitude(CLIP), 200)
    components = Components.nmf(CLIP, nmf)
    activations = nmf(log_magnitude(CLIP)[None])[0]
    torch.testing.assert_close(
        components.mask(torch.eye(2)), Components.nmf(CLIP, nmf.dictionary, activations).mask(torch.eye(2))
    )
    sounds = component_waveforms(nmf.dictionary, activations, CLIP, STFT16, SAMPLES)
    assert sounds.shape == (2, SAMPLES)
    peaks = torch.fft.rfft(sounds).abs().argmax(1) * RATE / SAMPLES
    assert sorted(peaks.tolist()) == pytest.approx([500, 3000], abs=20)
    spectra = torch.fft.rfft(sounds).abs()
    low, high = spectra[:, 500 * SAMPLES // RATE], spectra[:, 3000 * SAMPLES // RATE]
    ratio = (low / high).sort().values
    assert ratio[0] < 0.1 and ratio[1] > 10
    summed = component_waveforms(nmf.dictionary, activations, CLIP, STFT16, SAMPLES, "magnitude").sum(0)
    torch.testing.assert_close(summed, two_tones()[0], atol=1e-5, rtol=0)


def test_component_waveforms_are_the_masked_clip():
    generator = torch.Generator().manual_seed(0)
    spectra, activations = torch.rand(513, 3, generator=generator), torch.rand(3, CLIP.shape[1], generator=generator)
    sounds = component_waveforms(spectra, activations, CLIP, STFT16)
    assert sounds.shape == (3, (CLIP.shape[1] - 1) * STFT16.hop_length)
    share = spectra[:, 1:2] * activations[1] / (spectra @ activations)
    expected = STFT16.inverse(apply_mask(CLIP[None], share, "log_magnitude"), sounds.shape[1])
    torch.testing.assert_close(sounds[1], expected[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Components.tiles(CLIP.abs(), 1, 1), "expected one clip's complex"),
        (lambda: Components.tiles(torch.stack([CLIP, CLIP]), 1, 1), "expected one clip's complex"),
        (lambda: Components.tiles(CLIP, 0, 1), "each needs a bin"),
        (lambda: Components.tiles(CLIP, 1, 10_000), "each needs a bin"),
        (lambda: Components.bands(CLIP, 0, RATE), "bands is 0"),
        (lambda: Components.bands(CLIP, 400, RATE), "hold no bin"),
        (lambda: Components.bands(CLIP, [2000.0, 1000.0], RATE), "must rise"),
        (lambda: Components.bands(CLIP, [9000.0], RATE), "up to 8000 Hz"),
        (lambda: Components.bands(CLIP, [float("nan")], RATE), "must rise"),
        (lambda: Components.bands(CLIP, 3, RATE, "bark"), "scale is 'bark'"),  # type: ignore[arg-type]
        (lambda: Components.nmf(CLIP, torch.rand(513, 2)), "needs activations"),
        (lambda: Components.nmf(CLIP, torch.rand(513, 2), torch.rand(3, CLIP.shape[1])), "do not make up"),
        (lambda: Components.nmf(CLIP, -torch.rand(513, 2), torch.rand(2, CLIP.shape[1])), "negative or NaN"),
        (lambda: Components.segments(CLIP, 0), "0 segments of"),
        (lambda: Components.segments(CLIP, [5, 5]), "must rise"),
        (lambda: Components.segments(CLIP, [0]), "must rise"),
        (lambda: Components.segments(CLIP, [CLIP.shape[1]]), "must rise"),
        (lambda: Components.onsets(CLIP, 0), "0 segments of"),
        (lambda: Components.onsets(CLIP, 100), "100 segments of 22 frames"),
        (lambda: Components.harmonic_percussive(CLIP, 0.5), "margin is 0.5"),
        (lambda: Components.product(MADE["mel"], Components.segments(CLIP[:, :4], 2)), "a product is of one clip"),
        (lambda: Splitter.checked("stems", (1, 1), 1, None, STFT16), "parts are 'stems'"),  # type: ignore[arg-type]
        (lambda: Splitter.checked((), (1, 1), 1, None, STFT16), "choose from tiles"),
        (lambda: Splitter.checked(("nmf", "nmf"), (1, 1), 1, None, STFT16), "different kinds"),
        (lambda: Splitter.checked(("segments", "onsets"), (1, 1), 1, None, STFT16), "divides time"),
        (lambda: Splitter.checked("onsets", (1, 1), 1, None, STFT16, 0), "n_segments 0"),
        (lambda: Splitter.checked("harmonic_percussive", (1, 1), 1, None, STFT16, 1, 0.9), "margin is 0.9"),
        (lambda: MADE["tiles"].mask(torch.ones(12)), r"expected \(batch, 12\)"),
        (lambda: MADE["tiles"].mask(torch.full((1, 12), 1.5)), "is not in"),
        (lambda: MADE["tiles"].mask(torch.full((1, 12), torch.nan)), "is not in"),
        (lambda: MADE["tiles"].render(torch.ones(1, 12), "noise"), "filler is 'noise'"),  # type: ignore[arg-type]
        (lambda: MADE["tiles"].render(torch.ones(1, 12), CLIP[1:]), "donor"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(ValueError, match=message):
        make()
