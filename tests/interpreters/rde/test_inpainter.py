"""The inpainter: its masks, its networks, who gets which gradient, and what survives a round trip."""

import pytest
import torch
from band_notes import BANDS, notes, seeded
from torch.nn import functional

from audiointerp.contracts import Batch, Trainable
from audiointerp.interpreters.rde.fillers import Donors, compose
from audiointerp.interpreters.rde.inpainter import Discriminator, Generated, Generator, Inpainter, sample_masks
from audiointerp.sound.logfrequency import LogFrequency
from audiointerp.training.loop import Trainer, TrainingSettings


def batch_of(features):
    count = len(features)
    label, index = torch.zeros(count, dtype=torch.long), torch.arange(count)
    return Batch(torch.zeros(count, 0), label, index, features=features)


def small(**changes):
    torch.manual_seed(0)
    return Inpainter(**{"bands": BANDS, "width": 8, "blocks": 3, "donors": 8} | changes)


# Masks


def test_masks_come_in_the_stated_shares():
    count, bands = 20_000, 64
    masks = sample_masks(count, bands, seeded())
    assert masks.shape == (count, 2, bands)
    assert set(masks.unique().tolist()) == {0, 1}
    whole = (masks == masks[:, :, :1]).all(2).all(1)
    in_blocks = (masks.view(count, 2, 16, 4) == masks.view(count, 2, 16, 4)[..., :1]).flatten(1).all(1) & ~whole
    # n fair trials with p ~ U(0, 1) all agree with probability 2 / (n + 1), in each of two channels.
    expected = 0.3 + 0.4 * (2 / 17) ** 2 + 0.3 * (2 / 65) ** 2
    assert float(whole.float().mean()) == pytest.approx(expected, abs=0.012)
    assert float(in_blocks.float().mean()) == pytest.approx(0.4 * (1 - (2 / 17) ** 2), abs=0.012)
    corners = masks[whole][:, :, 0] @ torch.tensor([1.0, 2.0])
    shares = corners.long().bincount(minlength=4) / whole.sum()
    torch.testing.assert_close(shares, torch.full((4,), 0.25), atol=0.025, rtol=0)


def test_masks_of_level_and_phase_are_independent_and_of_every_density():
    masks = sample_masks(20_000, 64, seeded())
    share = masks[~(masks == masks[:, :, :1]).all(2).all(1)].mean(2)
    assert abs(float(torch.corrcoef(share.T)[0, 1])) < 0.03
    spread = torch.histc(share, 5, 0, 1) / share.numel()
    assert spread.min() > 0.15 and spread.max() < 0.25


def test_masks_come_from_the_generator_or_else_from_torchs_own():
    assert torch.equal(sample_masks(9, 20, seeded(3)), sample_masks(9, 20, seeded(3)))
    before = torch.get_rng_state()
    sample_masks(9, 20, seeded(3))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(3)
    assert torch.equal(sample_masks(9, 20), sample_masks(9, 20, seeded(3)))


# Networks


def lively(bands=BANDS, width=8, blocks=4):
    """A generator as after training: an untrained one changes nothing."""
    torch.manual_seed(0)
    made = Generator(bands, width, blocks)
    torch.nn.init.normal_(made.last.weight, std=0.1)
    torch.nn.init.normal_(made.last.bias)
    return made


@pytest.mark.parametrize("bands", [20, 32, 33])
def test_generator_gives_levels_and_unit_phasors(bands):
    generator, x = lively(bands), notes(5, bands)
    out = generator(x, sample_masks(5, bands, seeded()), generator.draw(5))
    assert out.shape == x.shape
    assert out[:, 0].min() >= 0
    torch.testing.assert_close(out[:, 1:].square().sum(1), torch.ones(5, bands))
    assert Discriminator(4)(out).shape == (5, -(-bands // 16))


def test_generator_sees_only_what_is_kept():
    generator = lively()
    x, keep, noise = notes(5), sample_masks(5, BANDS, seeded()), generator.draw(5)
    other = compose(x, keep, notes(5, seed=1))
    assert not torch.equal(other, x)
    torch.testing.assert_close(generator(other, keep, noise), generator(x, keep, noise))


def test_noise_in_every_place_changes_the_output():
    generator, x, keep = lively(), notes(1), torch.zeros(1, 2, BANDS)
    noise = generator.draw(1)
    assert noise.shape == (1, 9, BANDS) and (noise[:, 6:] == 0).all()
    assert (noise[:, 1] == noise[:, 1, :1]).all()
    assert noise[:, 0].std() > 0.5
    with torch.no_grad():
        out = generator(x, keep, noise)
        for channel in range(9):
            changed = noise.clone()
            changed[:, channel] += 1
            assert (generator(x, keep, changed) - out).abs().max() > 1e-4


def test_an_untrained_generator_gives_the_donor():
    generator, donor = Generator(BANDS, 8, 2), notes(4, seed=1)
    out = generator(notes(4), sample_masks(4, BANDS, seeded()), generator.draw(4, donor=donor))
    torch.testing.assert_close(out[:, 0], donor[:, 0].clamp(min=0.05), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(out[:, 1:], donor[:, 1:], atol=1e-3, rtol=1e-3)


def test_gradient_is_finite_where_the_phasor_vanishes():
    generator = Generator(BANDS, 8, 2)
    torch.nn.init.zeros_(generator.last.weight)
    torch.nn.init.zeros_(generator.last.bias)
    out = generator(torch.zeros(1, 3, BANDS), torch.zeros(1, 2, BANDS), generator.draw(1))
    out.sum().backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in generator.parameters())
    assert generator.last.weight.grad is not None and generator.last.weight.grad.abs().max() > 0


def test_block_is_the_convolution_of_the_concatenated_noise():
    torch.manual_seed(0)
    block = Generator(BANDS, 8, 3).blocks[2]
    hidden, noise = torch.randn(2, 8, BANDS), torch.randn(2, 1, BANDS)
    weight = torch.cat([block.spread.weight, block.noise.weight], 1)
    joined = torch.cat([functional.leaky_relu(hidden, 0.2), noise], 1)
    inner = functional.leaky_relu(functional.conv1d(joined, weight, block.spread.bias, padding=16, dilation=4), 0.2)
    expected = hidden + block.mix(inner) + block.common(inner.mean(2)).unsqueeze(2)
    torch.testing.assert_close(block(hidden, noise), expected)


# The generator as a filler


def test_filler_is_exact_where_kept_and_random_elsewhere():
    filler, x, keep = Generated(lively()), notes(), sample_masks(12, BANDS, seeded(1))
    drawn = filler.draw(12, seeded(2))
    filled = filler.fill(x, keep, drawn)
    z, each = compose(x, keep, filled), keep[:, [0, 1, 1]].bool()
    assert torch.equal(z[each], x[each])
    assert torch.equal(z[~each], filled[~each])
    assert torch.equal(filler.draw(12, seeded(2)), drawn)
    assert not torch.equal(filler.fill(x, keep, filler.draw(12, seeded(3))), filled)


def test_filler_that_starts_from_donors_gives_them_where_it_was_never_trained():
    """So that a relaxed mask, which lets a little of the filler through, lets through something plausible."""
    generator, donors = lively(), Donors(notes(1, seed=4))
    x, keep = notes(6), sample_masks(6, BANDS, seeded(1))
    filled = Generated(generator, donors).fill(x, keep, Generated(generator, donors).draw(6, seeded(2)))
    donor, kept = donors.bank.expand_as(x), keep[:, [0, 1, 1]].bool()
    assert torch.equal(filled[kept], donor[kept])
    assert not torch.isclose(filled[~kept], donor[~kept]).all()


def test_filler_takes_masks_rounded_and_gives_no_gradient():
    filler, x = Generated(lively()), notes(4)
    drawn = filler.draw(4, seeded())
    keep = torch.rand(4, 2, BANDS, generator=seeded(), requires_grad=True)
    filled = filler.fill(x, keep, drawn)
    assert not filled.requires_grad
    assert torch.equal(filled, filler.fill(x, (keep > 0.5).float(), drawn))


# Training


def test_losses_are_what_they_say():
    inpainter, x = small(), notes(6)
    assert isinstance(inpainter, Trainable)
    torch.manual_seed(5)
    losses = inpainter.losses(batch_of(x), "generator")
    torch.manual_seed(5)
    keep = sample_masks(6, BANDS)
    donor = x.roll(int(torch.randint(1, 6, ())), 0)
    filled = inpainter.generator(x, keep, inpainter.generator.draw(6, donor=donor))
    z = x * keep[:, [0, 1, 1]] + filled * (1 - keep[:, [0, 1, 1]])
    errors = []
    for note in range(6):
        gone = keep[note, 0] == 0
        errors.append((filled[note, 0] - x[note, 0])[gone].abs().mean() if gone.any() else torch.zeros(()))
    assert sorted(losses) == ["adversarial", "reconstruction"]
    torch.testing.assert_close(losses["reconstruction"], torch.stack(errors).mean())
    torch.testing.assert_close(losses["adversarial"], -inpainter.discriminator(z).sigmoid().log().mean())
    torch.manual_seed(5)
    losses = inpainter.losses(batch_of(x), "discriminator")
    real, fake = inpainter.discriminator(x), inpainter.discriminator(z)
    expected = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    torch.testing.assert_close(losses["discrimination"], expected)
    slopes = [torch.func.grad(lambda each: inpainter.discriminator(each[None]).mean())(note) for note in x]
    torch.testing.assert_close(losses["gradient_penalty"], 0.5 * torch.stack(slopes).square().sum((1, 2)).mean())


@pytest.mark.parametrize(("group", "other"), [("discriminator", "generator"), ("generator", "discriminator")])
def test_gradient_reaches_its_own_group_only(group, other):
    inpainter = small()
    torch.nn.init.normal_(inpainter.generator.last.weight, std=0.1)
    sum(inpainter.losses(batch_of(notes()), group).values()).backward()
    groups = inpainter.parameter_groups()
    assert all(each.grad is None for each in groups[other])
    moved = [each.grad is not None and bool(each.grad.abs().max() > 0) for each in groups[group]]
    assert all(moved)
    assert all(each.requires_grad for each in inpainter.parameters())
    known = {id(each) for parameters in groups.values() for each in parameters}
    assert known == {id(each) for each in inpainter.parameters()}


def trained(folder, epochs, inpainter=None, steps=3):
    inpainter = inpainter or small()
    batches = [batch_of(each) for each in notes(12 * steps).split(12)]
    trainer = Trainer(inpainter, folder, TrainingSettings(epochs, lr=1e-3, loss_weights={"reconstruction": 0.5}), steps)
    trainer.fit(lambda epoch: iter(batches), lambda: iter(batches[:1]))
    return inpainter, trainer


def test_training_moves_both_networks_and_logs_its_losses(tmp_path):
    before = small().state_dict()
    inpainter, trainer = trained(tmp_path, epochs=2)
    for name, parameters in inpainter.parameter_groups().items():
        assert len(parameters) > 3
        assert any(not torch.equal(value, before[key]) for key, value in inpainter.state_dict().items() if name in key)
    row = trainer.history[-1]
    assert {"discriminator_discrimination", "generator_adversarial", "generator_reconstruction"} <= set(row)
    assert {"valid_level_error", "valid_real", "valid_composite"} <= set(row)
    assert int(inpainter.notes) == 8 and sorted(inpainter.fillers()) == ["donor", "generator", "noise", "zeros"]


def test_training_teaches_levels(tmp_path):
    """With the reconstruction alone in the generator's loss, levels come near to what they were."""
    x, inpainter = notes(48), small(blocks=2, from_donors=False)
    torch.nn.init.constant_(inpainter.generator.last.bias, 2.0)
    optimizer = torch.optim.Adam(inpainter.generator.parameters(), 1e-2)
    before = float(inpainter.scores(batch_of(x))["level_error"].mean())
    for _ in range(60):
        optimizer.zero_grad()
        inpainter.losses(batch_of(x), "generator")["reconstruction"].backward()
        optimizer.step()
    assert float(inpainter.scores(batch_of(x))["level_error"].mean()) < 0.6 * before


def test_killed_run_ends_with_the_same_weights(tmp_path):
    straight, _ = trained(tmp_path / "a", epochs=2)

    class Killed(Exception):
        pass

    def until(number, batches):
        for count, each in enumerate(batches):
            if count == number:
                raise Killed
            yield each

    batches = [batch_of(each) for each in notes(36).split(12)]
    settings = TrainingSettings(epochs=2, lr=1e-3, loss_weights={"reconstruction": 0.5}, checkpoint_minutes=0)
    trainer = Trainer(small(), tmp_path / "b", settings, 3)
    with pytest.raises(Killed):
        trainer.fit(lambda epoch: until(2, batches) if epoch else iter(batches), lambda: iter(batches[:1]))
    again = small()
    torch.nn.init.ones_(again.generator.last.weight)  # overwritten by the checkpoint
    resumed, _ = trained(tmp_path / "b", epochs=2, inpainter=again)
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_scores_are_the_same_every_time_and_leave_random_numbers_alone():
    inpainter, before = small().eval(), torch.get_rng_state()
    first, again = inpainter.scores(batch_of(notes())), inpainter.scores(batch_of(notes()))
    assert set(first) == {"level_error", "real", "composite"}
    for name, value in first.items():
        assert value.shape == (12,) and torch.equal(value, again[name])
    assert torch.equal(before, torch.get_rng_state())


# Fillers, features, bundles


def test_few_notes_leave_no_empty_donors():
    inpainter, x = small(donors=100), notes(5)
    with pytest.raises(ValueError, match="has no fitted fillers"):
        inpainter.fillers()
    inpainter.set_fillers(x)
    drawn = inpainter.fillers()["donor"].draw(100, seeded())
    assert (drawn[:, None] == x).flatten(2).all(2).any(1).all()
    torch.testing.assert_close(inpainter.fillers()["noise"].mean, x[:, 0].mean(0))


def test_features_are_those_given_or_the_waveforms():
    inpainter, x = small(), notes(2)
    assert inpainter.features_of(batch_of(x)) is x
    waveform = torch.sin(0.2 * torch.arange(4000.0))[None]
    batch = Batch(waveform, torch.zeros(1, dtype=torch.long), torch.arange(1))
    torch.testing.assert_close(inpainter.features_of(batch), LogFrequency(bands=BANDS)(waveform))
    with pytest.raises(ValueError, match=r"this inpainter needs \(batch, 3, 32\)"):
        inpainter.features_of(batch_of(notes(2, bands=40)))


def test_config_and_state_make_it_again():
    inpainter = small()
    inpainter.set_fillers(notes())
    torch.manual_seed(9)
    again = Inpainter(**inpainter.config)
    again.load_state_dict(inpainter.state_dict())
    x, keep = notes(3, seed=4), sample_masks(3, BANDS, seeded())
    for name, filler in inpainter.fillers().items():
        other = again.fillers()[name]
        expected = filler.fill(x, keep, filler.draw(3, seeded(7)))
        assert torch.equal(other.fill(x, keep, other.draw(3, seeded(7))), expected)


@pytest.mark.parametrize("changes", [{"width": 0}, {"blocks": 0}, {"donors": 0}])
def test_sizes_below_one_are_refused(changes):
    with pytest.raises(ValueError, match="at least 1"):
        small(**changes)
