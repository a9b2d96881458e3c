"""The squashed normal: densities against torch's own, gradients against autograd."""

from __future__ import annotations

import torch
from torch.distributions import Independent, Normal, TanhTransform, TransformedDistribution

from perturbrl.agents.sac.squashed import Squashed


def outputs(*shape: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_log_probability_is_that_of_the_transformed_normal() -> None:
    out, noise = outputs(2, 7, 6, scale=0.5), outputs(2, 7, 3, seed=1)
    mean, log_std = out.chunk(2, -1)
    squashed = TransformedDistribution(Normal(mean, log_std.exp()), [TanhTransform(cache_size=1)])
    sample = Squashed(out).sample(noise)
    torch.testing.assert_close(sample.action, (mean + log_std.exp() * noise).tanh())
    torch.testing.assert_close(sample.log_prob, Independent(squashed, 1).log_prob(sample.action))


def test_the_density_of_one_action_integrates_to_one() -> None:
    mean, log_std, n = 0.4, -0.3, 20_001
    u = torch.linspace(-9, 9, n, dtype=torch.float64)
    noise = ((u - mean) / torch.tensor(log_std).double().exp()).view(1, n, 1)
    out = torch.tensor([mean, log_std], dtype=torch.float64).expand(1, n, 2)
    sample = Squashed(out).sample(noise)
    area = torch.trapezoid(sample.log_prob[0].exp(), sample.action[0, :, 0])
    torch.testing.assert_close(area, torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-4)


def test_an_action_that_rounds_to_the_edge_of_the_box_has_a_finite_density() -> None:
    out = torch.tensor([30.0, 0.0]).expand(1, 1, 2)
    sample = Squashed(out).sample(torch.zeros(1, 1, 1))
    assert sample.action.item() == 1
    # log N(0; 0, 1) - log(4 exp(-60)), up to exp(-60)
    torch.testing.assert_close(sample.log_prob, torch.tensor([[-0.9189385 - 1.3862944 + 60]]))


def test_gradients_are_those_of_autograd_also_where_the_deviation_is_clamped() -> None:
    out, noise = outputs(2, 9, 8), outputs(2, 9, 4, scale=0.3, seed=1)
    out[0, :, 4:] += 1
    d_action, d_log_prob = outputs(2, 9, 4, seed=2), outputs(2, 9, seed=3)
    followed = out.clone().requires_grad_()
    mean, log_std = followed.chunk(2, -1)
    log_std = log_std.clamp(-20, 2)
    u = mean + log_std.exp() * noise
    log_prob = (Normal(mean, log_std.exp()).log_prob(u) - torch.log1p(-u.tanh().square())).sum(-1)
    ((u.tanh() * d_action).sum() + (log_prob * d_log_prob).sum()).backward()
    assert followed.grad is not None and (out[..., 4:] > 2).any()
    sample = Squashed(out).sample(noise)
    torch.testing.assert_close(sample.pull_back(d_action, d_log_prob), followed.grad, rtol=1e-6, atol=1e-6)


def test_the_mode_is_the_squashed_mean() -> None:
    out = outputs(1, 5, 4)
    assert torch.equal(Squashed(out).mode(), out[..., :2].tanh())
