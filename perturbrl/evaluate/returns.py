"""True returns in the environment, on the same draws for every policy.

Letters: S policies, B episodes, G features, D uniform numbers a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.envs.base import BatchedEnv
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import PopulationAct, do_nothing
from perturbrl.rng import Streams


def episode_returns(
    act: PopulationAct, env: BatchedEnv, seed: int, max_steps: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the undiscounted return of one whole episode for each policy and cell, [S, B].

    Every policy meets the same uniform numbers, drawn for (``seed``, step), so that differences are paired: same
    start cells, same targets, same events. A policy that gives an action that is not finite has NaN for all its
    episodes; the others go on.

    Raises
    ------
    UserError
        An episode has not ended after ``max_steps`` steps.
    """
    streams = Streams([seed], "cpu")
    with torch.no_grad():
        obs = env.reset(uniforms(streams, env, "evaluate/reset", 0, device))
        total = torch.zeros(env.n_runs, env.n_envs, dtype=torch.float64, device=device)
        live = torch.ones(env.n_runs, env.n_envs, dtype=torch.bool, device=device)
        finite = torch.ones(env.n_runs, dtype=torch.bool, device=device)
        for t in range(max_steps):
            action = act(obs)
            if action.is_floating_point():
                finite &= torch.isfinite(action).flatten(1).all(dim=1)
                action = torch.nan_to_num(action, nan=0.0, posinf=0.0, neginf=0.0)
            step = env.step(action, uniforms(streams, env, "evaluate/step", t, device))
            total += torch.where(live, step.reward.double(), 0.0)
            live &= ~(step.terminated | step.truncated)
            if not live.any():
                return total.masked_fill(~finite[:, None], torch.nan)
            obs = step.obs
    raise UserError(
        f"protocol.max_steps: an episode has not ended after {max_steps} steps; allow more or shorten the episodes"
    )


def do_nothing_returns(env: BatchedEnv, seed: int, max_steps: int, device: torch.device | str = "cpu") -> Tensor:
    """Return what doing nothing earns on the same draws, [S, B]."""
    return episode_returns(do_nothing(env.action_space), env, seed, max_steps, device)


def return_gain(
    act: PopulationAct,
    env: BatchedEnv,
    seed: int,
    max_steps: int,
    nothing: Tensor | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return each policy's mean return minus that of doing nothing, [S]; NaN for a policy that has diverged.

    ``nothing`` is ``do_nothing_returns`` of the same environment and seed, kept from an earlier call to save half the
    work.
    """
    if nothing is None:
        nothing = do_nothing_returns(env, seed, max_steps, device)
    return (episode_returns(act, env, seed, max_steps, device) - nothing).mean(dim=1)


def uniforms(streams: Streams, env: BatchedEnv, name: str, step: int, device: torch.device | str) -> Tensor:
    """Return what every run of ``env`` draws at a step of an evaluation, [S, B, D]: the same for all of them."""
    # Drawn on the CPU and then moved: the evaluation sees the same numbers on every device.
    return streams.uniform(name, step, (env.n_envs, env.n_uniforms)).to(device).expand(env.n_runs, -1, -1)
