"""Gymnasium faces of a batched task, for agents written elsewhere.

Letters: B cells, G features, A action size, D uniform numbers a step consumes.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from perturbrl.envs.base import ActionSpace, BatchedEnv, Step
from perturbrl.errors import UserError

Obs = NDArray[np.float32]
OPTIONS = ("uniforms",)
MASK = "action_mask"


class CellEnv(gymnasium.Env[Obs, Any]):
    """One cell of any task, as a ``gymnasium.Env``.

    ``env`` must have one run and one cell. The draws come from ``np_random``, so ``reset(seed=...)`` fixes them;
    ``reset(options={"uniforms": u})`` with u [D] in [0, 1) hands in those of the reset instead. Observations [G]
    are unbounded: a CRISPR event may carry a feature beyond the task's clip.

    Where the task forbids actions, infos hold ``action_mask`` [A] int8, as ``action_space.sample(mask)`` takes it.
    """

    def __init__(self, env: BatchedEnv, device: torch.device | str = "cpu") -> None:
        _require_size(env, one_cell=True)
        self.metadata = {"render_modes": []}
        self.batched = env
        self.observation_space, self.action_space = _spaces(env)
        self._device = torch.device(device)
        self._over = True
        self._masks = _Masks(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start an episode; return the observation [G] float32 and a dict that is empty but for ``action_mask``.

        Raises
        ------
        UserError
            An unknown option, or uniforms of the wrong shape or range.
        """
        super().reset(seed=seed)
        self._over = False
        u = _reset_uniforms(self.batched, self.np_random, options)
        obs = self.batched.reset(u.to(self._device))
        return _numpy(obs)[0], {name: mask[0] for name, mask in self._masks.of(obs).items()}

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are allowed now, [A]: what ``MaskablePPO`` of sb3-contrib asks for."""
        allowed: NDArray[np.bool_] = self._masks.now[0] > 0
        return allowed

    def step(self, action: Any) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Advance the cell by ``action`` ([A] float, or an integer).

        Raises
        ------
        UserError
            The episode is over and ``reset`` was not called.
        """
        if self._over:
            raise UserError("step: the episode is over; call reset() first")
        step = _step(self.batched, np.asarray(action)[None], self.np_random, self._device)
        terminated, truncated = bool(step.terminated.item()), bool(step.truncated.item())
        self._over = terminated or truncated
        infos = {name: mask[0] for name, mask in self._masks.of(step.final_obs, self._over).items()}
        return _numpy(step.final_obs)[0], float(step.reward.item()), terminated, truncated, infos


class CellVectorEnv(VectorEnv[Obs, Any, NDArray[Any]]):
    """B cells of any task, as a ``gymnasium.vector.VectorEnv``.

    ``env`` must have one run. Resets in the same step (``AutoresetMode.SAME_STEP``): where an episode ends, the
    observation is already that of the next, and ``infos["final_obs"]`` holds the last of the old one. All cells draw
    from one ``np_random``; ``reset(options={"uniforms": u})`` takes u [B, D]. Where the task forbids actions, infos
    hold ``action_mask`` [B, A] int8.
    """

    def __init__(self, env: BatchedEnv, device: torch.device | str = "cpu") -> None:
        _require_size(env, one_cell=False)
        self.metadata = {"render_modes": [], "autoreset_mode": AutoresetMode.SAME_STEP}
        self.batched = env
        self.num_envs = env.n_envs
        self.single_observation_space, self.single_action_space = _spaces(env)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._device = torch.device(device)
        self._masks = _Masks(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start every episode; return observations [B, G] float32 and a dict, empty but for ``action_mask``.

        Raises
        ------
        UserError
            An unknown option, or uniforms of the wrong shape or range.
        """
        super().reset(seed=seed)
        u = _reset_uniforms(self.batched, self.np_random, options)
        obs = self.batched.reset(u.to(self._device))
        return _numpy(obs), self._infos(obs)

    def action_masks(self) -> NDArray[np.bool_]:
        """Return which actions are allowed now, [B, A]."""
        return self._masks.now > 0

    def step(self, actions: Any) -> tuple[Obs, NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Advance every cell by ``actions`` [B, A] float or [B] int; rewards, terminations, truncations are [B]."""
        step = _step(self.batched, np.asarray(actions), self.np_random, self._device)
        terminated, truncated = _numpy(step.terminated), _numpy(step.truncated)
        infos = self._infos(step.obs)
        ended = np.flatnonzero(terminated | truncated)
        if ended.size:
            last = _numpy(step.final_obs)
            for i in ended:
                infos = self._add_info(infos, {"final_obs": last[i], "final_info": {}}, int(i))
        return _numpy(step.obs), _numpy(step.reward).astype(np.float64), terminated, truncated, infos

    def _infos(self, obs: torch.Tensor) -> dict[str, Any]:
        infos = self._masks.of(obs)
        return infos | {f"_{name}": np.ones(self.num_envs, dtype=bool) for name in infos}


class _Masks:
    """Which actions a task allows ``now``, [B, A] int8."""

    def __init__(self, env: BatchedEnv) -> None:
        self._space = env.action_space
        self.now: NDArray[np.int8] = np.ones((env.n_envs, self._space.size), np.int8)

    def of(self, obs: torch.Tensor, over: bool = False) -> dict[str, NDArray[np.int8]]:
        """Keep the masks of the observations [1, B, G]; return them as an info, empty where all is always allowed.

        Raises
        ------
        UserError
            A state in which an action is due (not ``over``) allows none.
        """
        if not over:
            self._space.require_choice(obs)
        allowed = self._space.allowed(obs)
        if allowed is None:
            return {}
        self.now = _numpy(allowed).astype(np.int8)
        return {MASK: self.now}


def _require_size(env: BatchedEnv, one_cell: bool) -> None:
    if env.n_runs != 1 or (one_cell and env.n_envs != 1):
        wanted = "1 run x 1 cell" if one_cell else "1 run"
        raise UserError(f"gymnasium face: needs an environment of {wanted}, got {env.n_runs} x {env.n_envs}")


def _spaces(env: BatchedEnv) -> tuple[gymnasium.Space[Obs], gymnasium.Space[Any]]:
    observation = gymnasium.spaces.Box(-np.inf, np.inf, (env.obs_dim,), np.float32)
    return observation, _action_space(env.action_space)


def _action_space(space: ActionSpace) -> gymnasium.Space[Any]:
    if space.kind == "discrete":
        return gymnasium.spaces.Discrete(space.size)
    return gymnasium.spaces.Box(space.low, space.high, (space.size,), np.float32)


def _step(env: BatchedEnv, actions: NDArray[Any], rng: np.random.Generator, device: torch.device) -> Step:
    dtype = torch.int64 if env.action_space.kind == "discrete" else torch.float32
    action = torch.as_tensor(actions, dtype=dtype)[None].to(device)
    return env.step(action, _uniforms(env, rng).to(device))


def _uniforms(env: BatchedEnv, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.random((1, env.n_envs, env.n_uniforms), dtype=np.float32))


def _reset_uniforms(env: BatchedEnv, rng: np.random.Generator, options: dict[str, Any] | None) -> torch.Tensor:
    for key in options or {}:
        if key not in OPTIONS:
            raise UserError(f"reset: option {key!r} is not known; the only one is 'uniforms'")
    if not options:
        return _uniforms(env, rng)
    u = np.asarray(options["uniforms"], dtype=np.float32)
    shape = (env.n_envs, env.n_uniforms)
    if u.size != shape[0] * shape[1] or not ((u >= 0) & (u < 1)).all():
        raise UserError(
            f"reset: option 'uniforms' must be {shape[0]} x {shape[1]} numbers in [0, 1), got shape {u.shape}"
        )
    return torch.from_numpy(u.reshape(1, *shape).copy())


def _numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """Return run 0 as an array of its own."""
    return np.array(tensor[0].cpu().numpy())
