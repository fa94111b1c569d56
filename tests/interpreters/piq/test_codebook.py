"""The codebook: which code is chosen, whose it is, where gradients go, how codes start, die and move."""

import math

import pytest
import torch
from references.official_piq import official_offsets
from references.piq_formulas import nearest_codes, official_owner
from torch.nn import functional

from audiointerp.interpreters.piq.codebook import ClassCodebook, even_offsets


def codebook(classes=3, codes=11, dim=4, shared=2, normalize=False, **rest):
    torch.manual_seed(0)
    made = ClassCodebook(classes, codes, dim, shared, normalize, **rest)
    torch.nn.init.normal_(made.weight)
    return made


def vectors(batch=4, dim=4, freq=3, time=5):
    return torch.randn(batch, dim, freq, time, generator=torch.Generator().manual_seed(1))


ALLOWED = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1]]).bool()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("shared", [0, 2])
@pytest.mark.parametrize("training", [False, True])
def test_nearest_code_equals_brute_force(normalize, shared, training):
    made, x = codebook(shared=shared, normalize=normalize).train(training), vectors()
    out = made(x, ALLOWED)
    weight = functional.normalize(made.weight, dim=1) if normalize else made.weight
    scaled = functional.normalize(x, dim=1) if normalize else x
    owner = [0, 0, 0, 1, 1, 1, 2, 2, 2, -1, -1] if shared else [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert made.owner.tolist() == owner
    expected = nearest_codes(scaled, weight.detach(), owner, ALLOWED)
    assert torch.equal(out.codes, expected)
    assert len(out.codes.unique()) > 6  # the comparison is about something
    chosen = weight[expected].permute(0, 3, 1, 2)
    torch.testing.assert_close(out.quantized, chosen, atol=1e-6, rtol=1e-5)
    distance = (scaled - chosen).square().mean()
    torch.testing.assert_close(out.codebook_loss, distance)
    torch.testing.assert_close(out.commitment_loss, distance)
    if shared:
        assert (out.codes >= 9).any()  # shared codes may be chosen, in training too


def test_codes_stay_in_the_asked_blocks():
    made, x = codebook(), 3 * vectors(batch=4)
    for _ in range(3):
        codes = made(x, ALLOWED).codes
        for row, allowed in enumerate(ALLOWED):
            owners = made.owner[codes[row]].unique().tolist()
            assert set(owners) <= {-1, *allowed.nonzero()[:, 0].tolist()}
        x = 2 * x


def test_even_partition():
    sizes = even_offsets(1024, 50).diff().tolist()
    assert sorted(sizes) == [20] * 26 + [21] * 24  # the numbers of the released rule, at other places
    for codes, classes in ((7, 7), (10, 3), (256, 10), (4096, 10), (1000, 7)):
        offsets = even_offsets(codes, classes).tolist()
        assert offsets == [math.floor(c * codes / classes) for c in range(classes + 1)]
        sizes = torch.tensor(offsets).diff()
        assert sizes.sum() == codes and sizes.max() - sizes.min() <= 1


def test_official_partition():
    # 1024 codes, 50 classes, as measured on the released code
    offsets = official_offsets(1024, 50)
    assert offsets[:6].tolist() == [0, 21, 41, 62, 82, 103]
    sizes = offsets.diff().tolist()
    assert sorted(sizes) == [20] * 26 + [21] * 24
    large = [c for c in range(50) if sizes[c] == 21]
    assert large[:8] == [0, 2, 4, 6, 8, 10, 12, 15] and large[8] == 17 and large[-1] == 49
    assert sorted(official_offsets(256, 10).diff().tolist()) == [25] * 4 + [26] * 6
    assert sorted(official_offsets(4096, 10).diff().tolist()) == [406] + [410] * 9
    for codes, classes in ((1024, 50), (256, 10), (100, 7)):
        made = ClassCodebook(classes, codes, 2, offsets=official_offsets(codes, classes))
        assert made.owner.tolist() == official_owner(codes, classes)


def test_gradient_passes_straight_through():
    made, x = codebook(), vectors().requires_grad_()
    weights = torch.randn_like(x)
    (made(x, ALLOWED).quantized * weights).sum().backward()
    torch.testing.assert_close(x.grad, weights)
    assert made.weight.grad is None


@pytest.mark.parametrize("normalize", [False, True])
def test_gradient_of_a_soft_choice_written_out(normalize):
    made, x = codebook(normalize=normalize, temperature=0.7), vectors().requires_grad_()
    hard = codebook(normalize=normalize)(x, ALLOWED)
    out = made(x, ALLOWED)
    assert torch.equal(out.codes, hard.codes)  # the choice itself stays hard
    torch.testing.assert_close(out.quantized, hard.quantized)
    weights = torch.randn_like(x)
    grads = torch.autograd.grad((out.quantized * weights).sum(), [x, made.weight])

    scaled = functional.normalize(x, dim=1) if normalize else x
    codes = functional.normalize(made.weight, dim=1) if normalize else made.weight
    soft = []
    for row, allowed in zip(scaled, ALLOWED):
        mine = codes[[k for k in range(11) if made.owner[k] < 0 or allowed[made.owner[k]]]]
        points = row.flatten(1).t()
        share = (-(points[:, None] - mine[None]).square().sum(2) / 0.7).softmax(1)
        soft.append((share @ mine).t().view_as(row))
    expected = torch.autograd.grad((torch.stack(soft) * weights).sum(), [x, made.weight])
    for grad, wanted in zip(grads, expected):
        torch.testing.assert_close(grad, wanted, atol=1e-5, rtol=1e-4)


def test_codebook_loss_moves_codes_and_commitment_loss_moves_vectors():
    made, x = codebook(), vectors().requires_grad_()
    out = made(x, ALLOWED)
    (grad,) = torch.autograd.grad(out.codebook_loss, made.weight, retain_graph=True)
    expected = torch.zeros_like(made.weight)
    flat = x.detach().permute(0, 2, 3, 1).reshape(-1, 4)
    for vector, code in zip(flat, out.codes.flatten()):
        expected[code] += 2 * (made.weight.detach()[code] - vector) / flat.numel()
    torch.testing.assert_close(grad, expected)
    assert torch.autograd.grad(out.codebook_loss, x, retain_graph=True, allow_unused=True) == (None,)

    (grad,) = torch.autograd.grad(out.commitment_loss, x, retain_graph=True)
    torch.testing.assert_close(grad, 2 * (x - out.quantized).detach() / x.numel())
    assert torch.autograd.grad(out.commitment_loss, made.weight, allow_unused=True) == (None,)


def test_no_code_of_another_class_gets_a_gradient():
    made = codebook()
    made(vectors(batch=1), torch.tensor([[False, True, False]])).codebook_loss.backward()
    moved = made.weight.grad.abs().sum(1) > 0
    assert moved.any() and set(made.owner[moved].tolist()) <= {1, -1}


def test_start_from_finds_the_clusters_of_each_class():
    centres = torch.tensor([[[0.0, 0], [4, 0]], [[0, 8], [4, 8]]])  # class, cluster, dim
    noise = 0.01 * torch.randn(2, 50, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    made = ClassCodebook(classes=2, codes=4, dim=2)
    batches = []
    for label in range(2):
        points = (centres[label].repeat(50, 1, 1) + noise[label]).reshape(1, 10, 10, 2).permute(0, 3, 1, 2)
        batches.append((points, functional.one_hot(torch.tensor([label]), 2).bool()))
    made.start_from(batches)
    for label in range(2):
        block = made.weight[made.owner == label]
        found = block[block[:, 0].argsort()]
        torch.testing.assert_close(found, centres[label] + noise[label].mean(0), atol=1e-5, rtol=0)


def test_start_from_ends_at_a_fixed_point_of_k_means_and_fills_the_shared_block():
    made, x = codebook(classes=2, codes=8, shared=2), vectors(batch=2, freq=6, time=6)
    allowed = torch.eye(2).bool()
    made.start_from([(x, allowed)], rounds=100)
    points = x.permute(0, 2, 3, 1).reshape(2, -1, 4)
    pools = {0: points[0], 1: points[1], -1: points.flatten(0, 1)}
    for label, pool in pools.items():
        block = made.weight[made.owner == label].detach()
        nearest = torch.cdist(pool, block).argmin(1)
        means = torch.stack([pool[nearest == k].mean(0) for k in range(len(block))])
        torch.testing.assert_close(block, means, atol=1e-5, rtol=1e-4)


def test_start_from_leaves_a_class_without_clips_and_takes_fewer_points_than_codes():
    made = codebook(classes=2, codes=8, shared=0)
    before = made.weight.detach().clone()
    made.start_from([(vectors(batch=1, freq=1, time=2), torch.tensor([[False, True]]))])
    assert torch.equal(made.weight[:4], before[:4]) and not torch.equal(made.weight[4:], before[4:])
    assert torch.isfinite(made.weight).all()


def test_only_dead_codes_move_and_onto_the_vectors_served_worst():
    made = ClassCodebook(classes=2, codes=8, dim=2)
    with torch.no_grad():
        made.weight.copy_(torch.arange(8.0)[:, None].expand(8, 2) * 10)
    first = torch.tensor([[True, False]])
    points = torch.zeros(1, 2, 1, 6)
    points[0, :, 0] = torch.tensor([0.0, 0, 0, 10, 13, 16])  # codes 0, 1 (10) and 2 (20; 16 is nearer to 20 than to 10)
    made.train()
    assert sorted(made(points, first).codes.unique().tolist()) == [0, 1, 2]
    made.end_epoch()
    # Code 3 went unused; class 1's codes had no clip at all, so nothing is known of them.
    assert made.dead.tolist() == [False, False, False, True, False, False, False, False]
    assert made.usage.sum() == 0
    before = made.weight.detach().clone()

    made.eval()
    made(points, first)
    assert torch.equal(made.weight, before)  # nothing moves while interpreting
    made.train()
    made(points, torch.tensor([[False, True]]))
    assert torch.equal(made.weight, before) and made.dead[3]  # nor when another class comes by
    points[0, :, 0, 5] = 29.0  # 9 off code 2, farther than any other; that dead code 3 is nearer does not help it
    made(points, first)
    moved = (made.weight != before).any(1)
    assert moved.tolist() == [False, False, False, True, False, False, False, False]
    assert made.weight[3].tolist() == [29.0, 29.0]
    assert not made.dead.any()


def test_perplexity_by_hand():
    made = ClassCodebook(classes=3, codes=12, dim=2)
    made.usage += torch.tensor([5, 5, 5, 5, 9, 0, 0, 0, 0, 0, 0, 0])
    # all four alike, one only, none at all
    torch.testing.assert_close(made.perplexity(), torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64))
    made.usage[:4] = torch.tensor([1, 1, 2, 0])
    entropy = -(0.25 * math.log(0.25) * 2 + 0.5 * math.log(0.5))
    assert float(made.perplexity()[0]) == pytest.approx(math.exp(entropy))


def test_usage_counts_training_only():
    made, x = codebook(), vectors()
    made.eval()(x, ALLOWED)
    assert made.usage.sum() == 0
    made.train()
    codes = made(x, ALLOWED).codes
    assert torch.equal(made.usage, codes.flatten().bincount(minlength=11))


@pytest.mark.parametrize("classes, codes, shared", [(5, 4, 0), (5, 6, 2)])
def test_too_few_codes(classes, codes, shared):
    with pytest.raises(ValueError, match=f"{codes} codes, {shared} of them shared"):
        ClassCodebook(classes, codes, 2, shared)
    ClassCodebook(classes, classes + shared, 2, shared)


def test_soft_gradient_chooses_the_same_codes_and_trains_them():
    hard = ClassCodebook(classes=2, codes=8, dim=4)
    soft = ClassCodebook(classes=2, codes=8, dim=4, temperature=0.5)
    soft.load_state_dict(hard.state_dict())
    vectors = torch.randn(2, 4, 3, 5, requires_grad=True)
    allowed = torch.tensor([[True, False], [True, True]])
    one, two = hard(vectors, allowed), soft(vectors, allowed)
    assert torch.equal(one.codes, two.codes)
    torch.testing.assert_close(one.quantized, two.quantized)
    one.quantized.square().sum().backward()
    two.quantized.square().sum().backward()
    assert hard.weight.grad is None
    assert soft.weight.grad is not None
    assert (soft.weight.grad.abs().sum(1) > 0).all(), "every candidate takes part in the soft choice"


def test_soft_gradient_is_that_of_a_softmax_over_the_candidates():
    codebook = ClassCodebook(classes=1, codes=3, dim=2, temperature=0.7)
    vectors = torch.randn(1, 2, 1, 4, requires_grad=True)
    made = codebook(vectors, torch.tensor([[True]]))
    weight = torch.randn(1, 2, 1, 4)
    (made.quantized * weight).sum().backward()
    literal = vectors.detach().clone().requires_grad_()
    flat = literal[0, :, 0].T
    distance = (flat[:, None] - codebook.weight.detach()[None]).square().sum(2)
    blend = (-distance / 0.7).softmax(1) @ codebook.weight.detach()
    (blend.T[None, :, None] * weight).sum().backward()
    torch.testing.assert_close(vectors.grad, literal.grad)
