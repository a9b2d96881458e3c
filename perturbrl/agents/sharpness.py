"""How sharp a loss is at a solution, what it looks like around it, and whether a barrier lies between two solutions.

Letters: S runs, M transitions, n parameters, P points of a line or a slice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from perturbrl.agents.common.rollout import Rollout
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.model.heads import Model
from perturbrl.agents.model.networks import Layer, Mlp
from perturbrl.config import require

Loss = Callable[[Tensor], Tensor]
"""A loss of parameters [n], in double precision: a scalar that autograd can differentiate twice."""
Array = NDArray[np.float64]
DENSE = 16  # up to so many parameters the Hessian is written out
TOLERANCE = 1e-4  # of an eigenvalue, relative
RESTARTS = 300  # of the Lanczos iteration


@dataclass(frozen=True)
class Curvature:
    """The largest and the smallest eigenvalue of the Hessian of a loss; NaN where the iteration did not converge."""

    largest: float
    smallest: float


def policy_loss(model: Model, batch: Rollout, run: int = 0) -> tuple[Loss, Tensor]:
    """Return the policy loss of one run on a fixed batch, and the policy's parameters.

    The loss is -E[pi(a|s) / pi_old(a|s) A], which PPO and TRPO improve (eq. 6 and 7 without clipping), with the
    advantages scaled to mean 0 and standard deviation 1, so that rewards in other units give the same loss. It is the
    same for every agent, whatever it was trained with.

    Parameters
    ----------
    model
        The networks of S runs.
    batch
        M transitions that the policy at the solution made, fields [S, M, ...].
    run
        Which of the S runs.

    Returns
    -------
    loss
        Of parameters [n].
    theta
        The parameters of the policy, [n] float64.
    """
    one = slice(run, run + 1)
    obs, advantage = batch.obs[one].double(), batch.normalised().advantage[one].double()
    action = batch.action[one] if model.actions.kind == "discrete" else batch.action[one].double()
    theta = model.theta[run, : model.policy_size].detach().double()
    with torch.no_grad():  # of these parameters, not of the rounded ones that acted: the ratio at theta is 1
        old = model.policy(obs, theta[None])[0].log_prob(action)[0]

    def loss(parameters: Tensor) -> Tensor:
        log_prob = model.policy(obs, parameters[None])[0].log_prob(action)[0]
        return -((log_prob - old).exp() * advantage).mean()

    return loss, theta


def hessian_product(loss: Loss, theta: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v -> H v at ``theta`` [n], by differentiating grad . v (Pearlmutter 1994); H is never written out."""
    point = theta.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(loss(point), point, create_graph=True)

    def product(v: Tensor) -> Tensor:
        if not gradient.requires_grad:  # a linear loss
            return torch.zeros_like(v)
        (along,) = torch.autograd.grad(gradient, point, v, retain_graph=True, allow_unused=True)
        return torch.zeros_like(v) if along is None else along

    return product


def curvature(loss: Loss, theta: Tensor, seed: int = 0) -> Curvature:
    """Return both ends of the spectrum of the Hessian of ``loss`` at ``theta`` [n], by Lanczos (ARPACK).

    ``seed`` draws the first vector. Up to ``DENSE`` parameters the matrix is written out.
    """
    n, product = len(theta), hessian_product(loss, theta)

    def times(v: Array) -> Array:
        result: Array = product(torch.as_tensor(v.reshape(n), dtype=theta.dtype)).numpy()
        return result

    if n <= DENSE:
        values = np.linalg.eigvalsh(np.stack([times(row) for row in np.eye(n)]))
    else:
        start = np.random.default_rng(seed).standard_normal(n)
        operator = LinearOperator((n, n), matvec=times, dtype=np.float64)
        try:
            values = eigsh(
                operator, 2, which="BE", v0=start, tol=TOLERANCE, maxiter=RESTARTS, return_eigenvectors=False
            )
        except ArpackNoConvergence:
            return Curvature(float("nan"), float("nan"))
    return Curvature(float(values.max()), float(values.min()))


def filter_normalised(model: Model, theta: Tensor, seed: int) -> Tensor:
    """Return a random direction [n] whose filters are as long as those of ``theta`` (Li et al. 2018, section 4).

    The filter of a unit are the weights that lead to it. Biases and the log standard deviation do not move, as in the
    code of the paper (``ignore='biasbn'``). Without this a network of larger weights looks flatter than it is.

    Raises
    ------
    UserError
        The policy has networks of another kind than ``policy=mlp``.
    """
    require(isinstance(model, ActorCritic), "sharpness", "knows the filters of policy=mlp and policy=relu alone")
    assert isinstance(model, ActorCritic)
    drawn = torch.as_tensor(np.random.default_rng(seed).standard_normal(len(theta)), dtype=theta.dtype)
    direction = torch.zeros_like(theta)
    for net in _mlps(model.policy_net):
        weights, draws, out = (net.chain.views(flat[None]) for flat in (theta, drawn, direction))
        for (weight, _), (draw, _), (to, _) in zip(weights, draws, out, strict=True):
            to.copy_(draw / draw.norm(dim=1, keepdim=True) * weight.norm(dim=1, keepdim=True))
    return direction


def _mlps(layer: Layer) -> Iterator[Mlp]:
    if isinstance(layer, Mlp):
        yield layer
        return
    for part in (*getattr(layer, "layers", ()), *getattr(layer, "networks", ())):
        yield from _mlps(part)


@torch.no_grad()
def along(loss: Loss, theta: Tensor, direction: Tensor, places: Array) -> Array:
    """Return the loss at theta + a d for each a of ``places`` [P]: a slice through the loss, [P]."""
    return np.array([float(loss(theta + float(a) * direction)) for a in places])


def line(first: Tensor, second: Tensor, points: int) -> Tensor:
    """Return the parameters [P, n] at ``points`` even places from one solution to another, both [n]."""
    t = torch.linspace(0, 1, points, dtype=first.dtype)[:, None]
    return (1 - t) * first + t * second


def barrier(losses: Array) -> float:
    """Return how far a loss rises above the straight line between its ends (Frankle et al. 2020), at least 0.

    Parameters
    ----------
    losses
        At even places from one solution to the other, [P], both ends included.
    """
    return float((losses - np.linspace(losses[0], losses[-1], len(losses))).max())
