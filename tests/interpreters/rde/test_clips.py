"""RDE of clips: classifiers that hear one band only, planted components, distortions computed directly."""

import dataclasses

import pytest
import torch
from cases import external, vggsound
from torch import nn

from audiointerp.classifiers import External
from audiointerp.contracts import Classifier, Prediction
from audiointerp.interpreters import RDE
from audiointerp.interpreters.rde.solvers import Concrete, MatchingPursuit, Relaxed
from audiointerp.metrics.separation import si_sdr
from audiointerp.sound.components import Components
from audiointerp.sound.files import normalize_peak
from audiointerp.sound.masking import noise_floor
from audiointerp.sound.spectrogram import STFT

RATE, SAMPLES = 16000, 6400
FILLERS = ("silence", "noise_floor", "noise", "donor")
LOUD = slice(129, 257)  # the second of four tiles from below, 2 to 4 kHz
ENVELOPE = torch.sin(torch.arange(SAMPLES) / SAMPLES * 6 * torch.pi).abs()  # three swells


class Band(Classifier):
    """Logit 0 sums log-magnitudes between 2 and 4 kHz; logit 1 is 0.

    In the swells they count, in between they are subtracted: so noise of the clip's own mean level will not do instead.
    A steady one sums them all.
    """

    labels, sample_rate, multilabel = ("heard", "nothing"), RATE, False

    def __init__(self, reads_magnitude=True, steady=False):
        super().__init__()
        self.spectrogram, self.reads_magnitude = STFT(), reads_magnitude
        self.weight = torch.ones(35) if steady else (ENVELOPE[::186] - 0.64).sign()

    def features(self, waveform):
        return self.spectrogram(waveform).abs()

    def classify(self, features):
        heard = 0.004 * (self.weight * features[:, 132:252].log1p()).sum((1, 2))
        return Prediction.from_logits(torch.stack([heard, 0 * heard], 1), False)

    def classify_stft(self, stft, samples):
        return self.classify(stft.abs()) if self.reads_magnitude else self(self.spectrogram.inverse(stft, samples))


def noise(seed=0, rows=1):
    return normalize_peak(torch.randn(rows, SAMPLES, generator=torch.Generator().manual_seed(seed)))[0]


def tones(*hertz):
    time = torch.arange(SAMPLES) / RATE
    return sum(torch.sin(2 * torch.pi * each * time) for each in hertz)[None]


def clip():
    """Tones in every band, coming and going, over a little noise."""
    return normalize_peak(tones(500.0, 3000.0, 5000.0, 7000.0) * ENVELOPE + 0.02 * noise())[0]


def donors():
    """Sounds that are silent between 2 and 4 kHz, or nearly."""
    return torch.cat([tones(300.0, 6000.0), tones(900.0, 5000.0)])


def of(filler, classifier=None, **arguments):
    given = {"tiles": (4, 2), "donors": donors() if filler == "donor" else None}
    return RDE(classifier or Band(), filler=filler, **given | arguments)


# --- what it keeps


@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize("reads_magnitude", [True, False])
def test_the_band_that_is_heard_is_kept(filler, reads_magnitude):
    solver = Concrete(steps=60, samples=8, lr=0.3, weight=0.2)
    made = of(filler, Band(reads_magnitude), solver=solver).interpret(clip(), 0)
    theta = made.details["theta"].view(4, 2)
    assert theta[1].min() > 0.8 and theta[[0, 2, 3]].max() < 0.2
    assert made.mask[0, LOUD].min() > 0.8 and made.mask[0, 257:].max() < 0.2
    assert made.details["end"] < 0.05 * made.details["empty"]
    assert not made.details["all_zero"]


@pytest.mark.parametrize("solver", [MatchingPursuit(samples=2, weight=0.3), Relaxed(steps=60, samples=2, weight=0.1)])
@pytest.mark.parametrize("game", ["sufficient", "deletion"])
def test_every_solver_and_game_finds_the_band(solver, game):
    solver = dataclasses.replace(solver, game=game)
    made = of("noise", solver=solver, tiles=(4, 1)).interpret(clip(), 0)
    assert (made.mask[0, LOUD].mean() > 0.7) and made.mask[0, :129].max() == made.mask[0, 257:].max() == 0
    kept = made.details["theta"][0]
    assert kept.round().tolist() == ([0, 1, 0, 0] if game == "sufficient" else [1, 0, 1, 1])
    assert made.details["order"].shape == (1, 4)
    if isinstance(solver, MatchingPursuit):
        assert made.details["order"].tolist() == [[1, -1, -1, -1]]


def _dictionary(*sounds):
    spectra = [STFT()(each).abs().log1p().sum(2).T for each in sounds]
    return torch.cat(spectra, 1)


@pytest.mark.parametrize("game", ["sufficient", "deletion"])
def test_the_planted_component_is_picked_first(game):
    wanted, others = tones(3000.0), [tones(500.0), tones(5000.0), tones(7000.0)]
    mixture = wanted + 0.5 * sum(others)
    dictionary = _dictionary(others[0], others[1], wanted, others[2])
    solver = MatchingPursuit(game=game)
    made = RDE(Band(steady=True), parts="nmf", dictionary=dictionary, filler="silence", solver=solver).interpret(
        mixture, 0
    )
    assert made.details["order"].tolist() == [[2, -1, -1, -1]]
    assert made.details["theta"].tolist() == [[0, 0, 1, 0] if game == "sufficient" else [1, 1, 0, 1]]
    assert made.details["saturated"] == 1 and made.details["rate"] == 0.25
    assert si_sdr(made.waveform, wanted) > 20
    assert si_sdr(made.residual, mixture - wanted) > 10


def test_an_nmf_of_the_clip_finds_it_too():
    early = (torch.arange(SAMPLES) < SAMPLES / 2).float()
    wanted, other = tones(3000.0) * early, tones(600.0) * (1 - early)
    made = RDE(Band(steady=True), parts="nmf", n_components=2, filler="silence").interpret(wanted + other, 0)
    assert si_sdr(made.waveform, wanted) > 10 > 0 > si_sdr(made.waveform, other)


def test_kept_and_left_out_add_up():
    for filler in FILLERS:
        made = of(filler, vggsound(), solver=Concrete(steps=2, samples=1)).interpret(0.1 * clip())
        torch.testing.assert_close(made.waveform + made.residual, 0.1 * clip(), atol=1e-6, rtol=0)
        expected = made.mask * vggsound().spectrogram(made.input_gain[:, None] * 0.1 * clip())
        heard = vggsound().spectrogram.inverse(expected, SAMPLES) / made.input_gain[:, None]
        torch.testing.assert_close(made.waveform, heard, atol=1e-5, rtol=1e-4)


def test_the_mask_is_the_solution_itself():
    made = of("noise", solver=Concrete(steps=5, samples=2, weight=0.05)).interpret(clip(), 0)
    expected = Components.tiles(STFT()(clip()), 4, 2).mask(made.details["theta"])
    assert torch.equal(made.mask, expected) and torch.equal(made.details["attribution"], expected)
    assert made.mask.max() < 0.9  # no quantile brings it to 1


def test_nothing_worth_its_price_is_flagged():
    for solver in (MatchingPursuit(penalty=1e9), Concrete(steps=5, samples=1, penalty=1e9)):
        made = of("silence", solver=solver).interpret(clip(), 0)
        assert made.details["all_zero"].tolist() == [True] and made.mask.max() == 0 == made.waveform.abs().max()
        assert made.details["end"] == made.details["empty"] > 0
    made = of("silence").interpret(clip(), 1)  # logit 1 never changes
    assert made.details["all_zero"] and made.details["empty"] == made.details["rate"] == 0
    assert not of("silence", solver=MatchingPursuit()).interpret(clip(), 0).details["all_zero"]


# --- what it measures


@pytest.mark.parametrize("classifier", [vggsound, external])
def test_distortion_with_silence_and_the_noise_floor_by_hand(classifier):
    classifier = classifier()
    stft = classifier.spectrogram(clip())
    magnitude = stft.abs()
    floor = stft * torch.minimum(noise_floor(magnitude), magnitude) / magnitude.clamp(min=1e-12)
    with torch.no_grad():
        whole, silent, steady = (
            classifier.classify_stft(each, SAMPLES).logits for each in (stft, torch.zeros_like(stft), floor)
        )
    for filler, other in (("silence", silent), ("noise_floor", steady)):
        change = (whole - other)[0]
        made = of(filler, classifier, solver=MatchingPursuit(picks=1)).interpret(clip(), 2)
        assert made.details["empty"] == pytest.approx(float(change[2] ** 2 / 2), rel=1e-3)
        assert made.details["penalty"] == pytest.approx(float(change[2] ** 2 / 4), rel=1e-3)
        asked = torch.tensor([[True, False, True, False]])
        both = of(filler, classifier, solver=MatchingPursuit(picks=1)).interpret(clip(), asked)
        assert both.details["empty"] == pytest.approx(float((change[0] + change[2]) ** 2 / 8), rel=1e-3)
        every = of(filler, classifier, solver=MatchingPursuit(picks=1), outputs="all").interpret(clip(), 2)
        assert every.details["empty"] == pytest.approx(float(change.square().sum() / 2), rel=1e-3)


@pytest.mark.parametrize("classifier", [vggsound, external])
def test_a_donor_is_heard_with_its_own_phase(classifier):
    classifier, donor = classifier(), 0.3 * noise(7)[:, :4000]
    long = normalize_peak(torch.cat([donor, donor], 1)[:, :SAMPLES])[0]
    with torch.no_grad():
        heard = [classifier.classify_stft(classifier.spectrogram(each), SAMPLES) for each in (clip(), long)]
    change = heard[0].logits[0, 1] - heard[1].logits[0, 1]
    for given in (donor, lambda: donor):
        made = RDE(classifier, tiles=(2, 2), filler="donor", donors=given, solver=MatchingPursuit(samples=3, picks=1))
        assert made.interpret(clip(), 1).details["empty"] == pytest.approx(float(change**2 / 2), rel=1e-3)


def test_a_clip_is_not_its_own_donor():
    bank = torch.cat([0.5 * clip(), donors()])
    solver = MatchingPursuit(samples=40, picks=1)
    with_copy, without = (
        RDE(Band(), tiles=(2, 1), filler="donor", donors=each, solver=solver).interpret(clip(), 0).details["empty"]
        for each in (bank, bank[1:])
    )
    assert torch.equal(with_copy, without)
    with pytest.raises(ValueError, match=r"each of 2 donors is the clip itself"):
        RDE(Band(), filler="donor", donors=clip().repeat(2, 1)).interpret(clip(), 0)


def first_after_the_clip(heard, samples):
    """The versions classified first after the prediction and the clip, put together from their pieces."""
    return torch.cat(heard[2:])[:samples]


def test_the_noise_has_the_clips_mean_and_deviation():
    heard = []

    class Listens(Band):
        def classify_stft(self, stft, samples):
            heard.append(stft)
            return super().classify_stft(stft, samples)

    loud = clip() + 0.3 * noise()  # so that hardly a magnitude is cut at 0
    solver = MatchingPursuit(samples=60, picks=1)
    RDE(Listens(), tiles=(1, 1), filler="noise", solver=solver, max_batch=60).interpret(loud, 0)
    drawn = first_after_the_clip(heard, 60)  # nothing kept
    original = STFT()(normalize_peak(loud)[0]).abs()[0]
    mean, spread = original.mean(1), original.std(1, correction=0)
    steady = spread < mean / 3
    assert drawn.shape == (60, 513, 35)
    magnitude = drawn.abs().transpose(0, 1).flatten(1)
    broad = spread < mean
    torch.testing.assert_close(magnitude.mean(1)[broad], mean[broad], rtol=0.1, atol=0)
    if steady.any():
        torch.testing.assert_close(magnitude.std(1)[steady], spread[steady], rtol=0.1, atol=0)
    turns = (drawn / drawn.abs().clamp(min=1e-9)).mean((0, 2))
    assert turns.abs().max() < 0.12  # every phase alike
    assert not torch.equal(drawn[0], drawn[1])


def test_fill_fraction_fills_some_and_silences_the_rest():
    heard = []

    class Listens(Band):
        def classify_stft(self, stft, samples):
            heard.append(stft)
            return super().classify_stft(stft, samples)

    solver = MatchingPursuit(samples=60, picks=1)
    given = RDE(
        Listens(),
        tiles=(4, 5),
        filler="donor",
        donors=noise(5),
        fill_fraction=0.25,
        solver=solver,
        max_batch=60,
    )
    given.interpret(clip(), 0)
    donor, drawn = STFT()(noise(5))[0], first_after_the_clip(heard, 60)
    index = Components.tiles(donor, 4, 5)
    filled = 0
    for part in range(20):
        inside = index.mask(torch.eye(20)[part : part + 1])[0] == 1
        same = ((drawn - donor).abs()[:, inside].amax(1) < 1e-3).float()
        silent = (drawn[:, inside].abs().amax(1) == 0).float()
        assert torch.equal(same + silent, torch.ones(60))  # one or the other, a whole part at a time
        filled += float(same.mean()) / 20
    assert filled == pytest.approx(0.25, abs=0.03)
    assert torch.equal(torch.cat(heard[2:])[60], STFT()(clip())[0])  # everything kept: the clip


# --- cost and repeatability


@pytest.mark.parametrize("filler", FILLERS)
@pytest.mark.parametrize("solver", [Concrete(steps=2, samples=3), MatchingPursuit(samples=3, penalty=0.0, picks=1)])
def test_passes_are_as_announced(filler, solver):
    classifier, heard = vggsound(), []
    classifier.head.register_forward_hook(lambda _, inputs, out: heard.append((len(out), out.requires_grad)))
    made = of(filler, classifier, solver=solver, max_batch=2)
    made.interpret(clip(), 1)
    assert sum(rows * (3 if gradient else 1) for rows, gradient in heard[1:]) == made.passes
    assert max(rows for rows, _ in heard) <= 2


def test_the_default_pursuit_is_cheap():
    assert RDE(vggsound(), parts="nmf", filler="silence").passes == 1 + 55 + 3
    assert RDE(vggsound(), parts="nmf", filler="noise_floor", fill_fraction=0.5).passes == 1 + 16 * 55 + 33
    assert RDE(vggsound()).passes == 1 + 3 * 400 + 3


@pytest.mark.parametrize("filler", FILLERS)
def test_the_size_of_batches_does_not_matter(filler):
    made = [
        of(filler, vggsound(), solver=Concrete(steps=3, samples=4), max_batch=size).interpret(clip(), 1)
        for size in (1, 3, 16)
    ]
    for other in made[1:]:
        torch.testing.assert_close(other.details["theta"], made[0].details["theta"], atol=1e-3, rtol=0)


def test_each_row_draws_alike_and_the_seed_decides():
    waveform = torch.cat([clip(), clip(), noise(3)])
    build = lambda seed: of("noise", vggsound(), solver=Concrete(steps=3, samples=2, seed=5), seed=seed)  # noqa: E731
    state = torch.get_rng_state()
    made = build(0).interpret(waveform, 1).details
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(made["theta"][0], made["theta"][1])
    assert not torch.allclose(build(1).interpret(waveform, 1).details["theta"], made["theta"], atol=1e-3)
    shapes = {name: tuple(value.shape) for name, value in made.items()}
    assert shapes == {
        "attribution": (3, 513, 35),
        "all_zero": (3,),
        "theta": (3, 8),
        "order": (3, 8),
        **dict.fromkeys(("empty", "end", "rate", "saturated", "penalty"), (3,)),
    }
    assert made["order"].dtype == torch.long and (made["order"] == -1).all()


# --- bad input


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"parts": "stripes"}, "parts are 'stripes'"),
        ({"tiles": (0, 3)}, "(0, 3)"),
        ({"parts": "nmf", "n_components": 0}, "n_components 0"),
        ({"parts": "nmf", "dictionary": torch.ones(7, 2)}, "(7, 2); expected (513, components)"),
        ({"filler": "zeros"}, "filler is 'zeros'; choose from silence, noise_floor, noise, donor"),
        ({"filler": "donor"}, "filler is 'donor', donors are missing"),
        ({"donors": torch.ones(1, 9)}, "filler is 'noise_floor', donors are given"),
        ({"filler": "donor", "donors": torch.ones(9)}, "donors have shape (9,)"),
        ({"filler": "donor", "donors": torch.full((1, 9), torch.nan)}, "finite"),
        ({"fill_fraction": 0.0}, "fill_fraction is 0.0"),
        ({"fill_fraction": 1.5}, "fill_fraction is 1.5"),
        ({"outputs": "logits"}, "outputs are 'logits'"),
        ({"outputs": "all", "solver": Concrete(game="deletion")}, "outputs 'all' have no direction"),
        ({"max_batch": 0}, "max_batch is 0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError) as caught:
        RDE(vggsound(), **arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_bad_donors_of_a_function_are_named():
    with pytest.raises(ValueError, match=r"donors have shape list; expected \(clips, samples\)"):
        RDE(Band(), filler="donor", donors=lambda: [1.0]).interpret(clip(), 0)


def test_a_waveform_model_is_explained():
    class Model(nn.Module):
        def forward(self, waveform):
            power = torch.stft(waveform, 256, window=torch.hann_window(256), return_complex=True).abs().mean(2)
            return torch.stack([5 * power[:, 40:56].mean(1), power.new_zeros(len(power))], 1)  # 2.5 to 3.5 kHz

    solver = Concrete(steps=40, samples=2, lr=0.3, weight=0.3)
    classifier = External(Model(), ("yes", "no"), RATE)
    made = RDE(classifier, tiles=(4, 1), filler="donor", donors=donors(), solver=solver).interpret(clip(), 0)
    assert made.details["theta"][0].round().tolist() == [0, 1, 0, 0]


def test_sounds_too_faint_for_a_normal_float_have_a_gradient():
    faint = torch.cat([noise(1)[:, :3200], 1e-41 * noise(2)[:, :3200]], 1)
    sound = torch.cat([clip()[:, :3200], 0 * clip()[:, 3200:]], 1)
    made = of("donor", donors=faint, solver=Concrete(steps=2, samples=2)).interpret(sound)
    assert torch.isfinite(made.details["theta"]).all()
