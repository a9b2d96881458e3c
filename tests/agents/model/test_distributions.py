from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent, Normal, kl_divergence

from perturbrl.agents.model.distributions import Categorical, Gaussian, joined

RUNS, BATCH, SIZE = 2, 5, 3
LARGEST_UNIFORM = 1 - 2**-24  # the largest float32 that torch.rand can give


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(seed: int) -> Gaussian:
    return Gaussian(draw(seed, RUNS, BATCH, SIZE), 0.5 * draw(seed + 1, RUNS, SIZE))


def peer(dist: Gaussian) -> Independent:
    return Independent(Normal(dist.mean, dist.log_std.exp().unsqueeze(1).expand_as(dist.mean)), 1)


def require_grad(*tensors: Tensor) -> list[Tensor]:
    return [t.clone().requires_grad_() for t in tensors]


seeds = given(st.integers(0, 200))


@seeds
@settings(max_examples=15)
def test_gaussian_densities_against_torch(seed: int) -> None:
    old, new, action = gaussian(seed), gaussian(seed + 7), draw(seed + 9, RUNS, BATCH, SIZE)
    torch.testing.assert_close(old.log_prob(action)[0], peer(old).log_prob(action))
    torch.testing.assert_close(old.entropy(), peer(old).entropy().mean(1))
    torch.testing.assert_close(old.kl(new), kl_divergence(peer(old), peer(new)))
    assert old.kl(old).abs().max() == 0
    assert torch.equal(old.mode(), old.mean)


@seeds
@settings(max_examples=15)
def test_gaussian_gradients_against_autograd(seed: int) -> None:
    dist, action, weight = gaussian(seed), draw(seed + 3, RUNS, BATCH, SIZE), draw(seed + 4, RUNS, BATCH)
    mean, log_std = require_grad(dist.mean, dist.log_std)
    log_prob = peer(Gaussian(mean, log_std)).log_prob(action)
    expected = torch.autograd.grad((weight * log_prob).sum(), (mean, log_std))
    found = dist.log_prob_vjp(dist.log_prob(action)[1], weight)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
    (to_log_std,) = torch.autograd.grad(peer(Gaussian(mean, log_std)).entropy().mean(1).sum(), log_std)
    h_mean, h_log_std = dist.entropy_vjp()
    assert h_mean is None
    torch.testing.assert_close(h_log_std, to_log_std)


@seeds
@settings(max_examples=10)
def test_gaussian_fisher_is_the_hessian_of_the_mean_kl(seed: int) -> None:
    dist, d_mean, d_log_std = gaussian(seed), draw(seed + 3, RUNS, BATCH, SIZE), draw(seed + 4, RUNS, SIZE)
    found_mean, found_log_std = dist.fisher(d_mean, d_log_std)
    for k in range(RUNS):
        old = Normal(dist.mean[k], dist.log_std[k].exp())

        def kl(flat: Tensor, old: Normal = old) -> Tensor:
            mean, log_std = flat[: BATCH * SIZE].view(BATCH, SIZE), flat[BATCH * SIZE :]
            return kl_divergence(old, Normal(mean, log_std.exp())).sum(-1).mean()

        here = torch.cat([dist.mean[k].flatten(), dist.log_std[k]])
        hessian = torch.autograd.functional.hessian(kl, here)
        expected = hessian @ torch.cat([d_mean[k].flatten(), d_log_std[k]])
        torch.testing.assert_close(torch.cat([found_mean[k].flatten(), found_log_std[k]]), expected)


def test_gaussian_samples_are_mean_plus_scaled_noise() -> None:
    dist = Gaussian(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[2.0, 0.5]]).log())
    torch.testing.assert_close(dist.sample(torch.tensor([[[1.5, -4.0]]])), torch.tensor([[[4.0, -4.0]]]))
    assert torch.equal(dist.sample(torch.zeros(1, 1, 2)), dist.mean)


def test_a_detached_gaussian_does_not_follow_its_parameters() -> None:
    theta = torch.zeros(1, SIZE)
    dist = Gaussian(torch.zeros(1, BATCH, SIZE), theta[:, :])
    kept = joined([dist])
    theta += 1
    assert (kept.log_std == 0).all() and (dist.log_std == 1).all()


@seeds
@settings(max_examples=15)
def test_categorical_densities_against_torch(seed: int) -> None:
    outputs, others = draw(seed, RUNS, BATCH, SIZE), draw(seed + 1, RUNS, BATCH, SIZE)
    old, new = Categorical.of(outputs), Categorical.of(others)
    action = torch.randint(SIZE, (RUNS, BATCH), generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(old.log_prob(action)[0], TorchCategorical(logits=outputs).log_prob(action))
    torch.testing.assert_close(old.entropy(), TorchCategorical(logits=outputs).entropy().mean(1))
    torch.testing.assert_close(
        old.kl(new), kl_divergence(TorchCategorical(logits=outputs), TorchCategorical(logits=others))
    )
    assert torch.equal(old.mode(), outputs.argmax(-1))


@seeds
@settings(max_examples=15)
def test_categorical_gradients_against_autograd(seed: int) -> None:
    outputs, weight = draw(seed, RUNS, BATCH, SIZE), draw(seed + 1, RUNS, BATCH)
    action = torch.randint(SIZE, (RUNS, BATCH), generator=torch.Generator().manual_seed(seed))
    dist = Categorical.of(outputs)
    (leaf,) = require_grad(outputs)
    (expected,) = torch.autograd.grad((weight * TorchCategorical(logits=leaf).log_prob(action)).sum(), leaf)
    found, to_log_std = dist.log_prob_vjp(dist.log_prob(action)[1], weight)
    assert to_log_std is None
    torch.testing.assert_close(found, expected)
    (expected,) = torch.autograd.grad(TorchCategorical(logits=leaf).entropy().mean(1).sum(), leaf)
    torch.testing.assert_close(dist.entropy_vjp()[0], expected)


@seeds
@settings(max_examples=10)
def test_categorical_fisher_is_the_hessian_of_the_mean_kl(seed: int) -> None:
    outputs, change = draw(seed, RUNS, BATCH, SIZE), draw(seed + 1, RUNS, BATCH, SIZE)
    found, _ = Categorical.of(outputs).fisher(change, None)
    for k in range(RUNS):
        old = TorchCategorical(logits=outputs[k])

        def kl(flat: Tensor, old: TorchCategorical = old) -> Tensor:
            return kl_divergence(old, TorchCategorical(logits=flat.view(BATCH, SIZE))).mean()

        hessian = torch.autograd.functional.hessian(kl, outputs[k].flatten())
        torch.testing.assert_close(found[k].flatten(), hessian @ change[k].flatten())


def test_categorical_samples_by_the_inverse_distribution_function() -> None:
    p = torch.tensor([0.2, 0.5, 0.3])
    u = torch.tensor([0.0, 0.1, 0.19, 0.21, 0.5, 0.69, 0.71, 0.99, LARGEST_UNIFORM])
    dist = Categorical.of(p.log().expand(1, len(u), 3).contiguous())
    assert dist.sample(u.view(1, -1, 1)).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2]]
    uniform = Categorical.of(torch.zeros(1, 4, 4))  # quarters are exact: an edge belongs to the action above it
    assert uniform.sample(torch.tensor([0.0, 0.25, 0.5, 0.75]).view(1, -1, 1)).tolist() == [[0, 1, 2, 3]]


def test_categorical_frequencies_are_the_probabilities() -> None:
    outputs = torch.tensor([0.3, -1.0, 2.0, 0.0])
    n = 40_000
    u = torch.rand(1, n, 1, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(Categorical.of(outputs.expand(1, n, 4).contiguous()).sample(u)[0], minlength=4)
    p = torch.softmax(outputs, 0)
    assert ((counts / n - p).abs() < 4 * (p * (1 - p) / n).sqrt()).all()


@given(st.integers(0, 500), st.integers(2, 200))
@settings(max_examples=100)
def test_an_action_of_probability_zero_is_never_chosen(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(1, 1, size, generator=generator)
    impossible = torch.rand(size, generator=generator) < 0.5
    impossible[int(torch.randint(size, (1,), generator=generator))] = False
    outputs[..., impossible] = -300.0  # exp underflows to exactly 0, as it does in training
    dist = Categorical.of(outputs.expand(1, 4, size).contiguous())
    u = torch.tensor([0.0, 2**-24, 0.5, LARGEST_UNIFORM]).view(1, 4, 1)
    assert not impossible[dist.sample(u)].any()


def test_the_last_action_of_probability_zero_is_not_the_remainder_of_rounding() -> None:
    # a float32 sum of probabilities may end below the largest uniform: what is left over belongs to nobody
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(1, 2000, 96, generator=generator)
    outputs[..., -1] = -300.0
    chosen = Categorical.of(outputs).sample(torch.full((1, 2000, 1), LARGEST_UNIFORM))
    assert (chosen < 95).all()
