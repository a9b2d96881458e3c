"""What an action means to the evaluation, and the policies that every table carries beside the trained one.

Letters: S runs, B cells, G features, A action size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from perturbrl import rng
from perturbrl.envs.base import ActionSpace
from perturbrl.errors import UserError

Act = Callable[[Tensor], Tensor]
"""A deterministic policy: observations [B, G] to actions, [B, A] in the box or [B] int64."""

PopulationAct = Callable[[Tensor], Tensor]
"""S policies: observations [S, B, G] to actions, [S, B, A] in the box or [S, B] int64."""


def as_change(action: Tensor, space: ActionSpace, n_features: int, discrete_step: float) -> Tensor:
    """Return the change of the state that the released metric ascribes to an action, [..., G] float64.

    In a box it is the full action, clipped to the box (the environment itself moves by a quarter of it). A discrete
    action 3g, 3g+1 or 3g+2 changes feature g alone, by -discrete_step, nothing or +discrete_step; the authors' older
    notebook, which has discrete actions, prints no such table, so this reading is ours.

    Raises
    ------
    UserError
        The policy returned another shape than the action space asks for, or the action space does not address the
        features.
    """
    check_space(space, n_features)
    _check(action, space)
    if space.kind == "box":
        return action.double().clamp(space.low, space.high)
    change = torch.zeros(*action.shape, n_features, dtype=torch.float64, device=action.device)
    feature, direction = action // 3, action % 3 - 1
    return change.scatter_(-1, feature[..., None], discrete_step * direction[..., None].double())


def do_nothing(space: ActionSpace) -> Act:
    """Return the policy that leaves every feature alone."""
    return constant(torch.zeros(space.size) if space.kind == "box" else torch.tensor(1))


def constant(action: Tensor) -> Act:
    """Return the policy that takes ``action``, [A] or a scalar int64, whatever the cell."""
    return lambda obs: action.to(obs.device).expand(*obs.shape[:-1], *action.shape)


def random_uniform(space: ActionSpace, seed: int) -> Act:
    """Return the policy that draws from the whole action space evenly."""
    draw = _draws(seed, "random_uniform")
    if space.kind == "box":
        return lambda obs: space.low + (space.high - space.low) * draw((*obs.shape[:-1], space.size)).to(obs.device)
    return lambda obs: (draw(obs.shape[:-1]) * space.size).long().to(obs.device)


def random_sign(space: ActionSpace, seed: int) -> Act:
    """Return the policy that takes either end of the box for each feature; if discrete, moves one feature."""
    draw = _draws(seed, "random_sign")
    if space.kind == "box":
        ends = torch.tensor([space.low, space.high])
        return lambda obs: ends[(draw((*obs.shape[:-1], space.size)) < 0.5).long()].to(obs.device)

    def act(obs: Tensor) -> Tensor:
        move = (draw(obs.shape[:-1]) * (space.size // 3 * 2)).long()
        return (move // 2 * 3 + move % 2 * 2).to(obs.device)

    return act


def together(acts: Sequence[Act]) -> PopulationAct:
    """Return S policies as one: policy k sees ``obs[k]``."""
    return lambda obs: torch.stack([act(cells) for act, cells in zip(acts, obs, strict=True)])


def _draws(seed: int, name: str) -> Callable[[Sequence[int]], Tensor]:
    # Drawn on the CPU, so that a device changes no row.
    generator = torch.Generator().manual_seed(rng.derive(seed, "evaluate", name))
    return lambda shape: torch.rand(*shape, generator=generator)


def check_space(space: ActionSpace, n_features: int) -> None:
    """Raise ``UserError`` unless the actions address the features: one number for each, or three choices for each."""
    addressed = n_features if space.kind == "box" else 3 * n_features
    if space.size != addressed:
        raise UserError(
            f"protocol=paper: the environment has {space.size} {space.kind} actions for {n_features} features; "
            f"the metrics need {addressed}: evaluate with another protocol"
        )


def _check(action: Tensor, space: ActionSpace) -> None:
    if space.kind == "box" and action.shape[-1] != space.size:
        raise UserError(f"the policy returned actions of shape {tuple(action.shape)}; expected [cells, {space.size}]")
    if space.kind == "discrete" and (action.is_floating_point() or not _inside(action, space.size)):
        raise UserError(f"the policy returned a discrete action that is not a whole number from 0 to {space.size - 1}")


def _inside(action: Tensor, size: int) -> bool:
    return bool(((action >= 0) & (action < size)).all())
