"""The replay buffer of S runs: a ring of the last steps of every cell, on the device of the training.

Letters: S runs, B cells, R rows of the ring, M transitions of a batch, G features, A action size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.envs.base import BatchedEnv, Step


@dataclass(frozen=True)
class Transitions:
    """A batch: ``obs``, ``next_obs`` [S, M, G], ``action`` [S, M, A] in [-1, 1], ``reward`` [S, M] and ``terminated``.

    After a terminated transition ``next_obs`` is that of the next episode, and must not count.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    next_obs: Tensor


class Replay:
    """The last ``steps`` steps of S x B cells.

    An observation is held once: that after a step stands in the following row, so the ring has one row more. Only a
    task that truncates episodes, and so needs the observation before the reset, has it stored apart.

    Parameters
    ----------
    env
        The task, for sizes.
    steps
        Steps of every cell that are kept.
    device
        Where the ring is held.
    """

    def __init__(self, env: BatchedEnv, steps: int, device: torch.device) -> None:
        self.rows = steps + 1
        shape = (env.n_runs, self.rows, env.n_envs)
        self.obs = torch.zeros(*shape, env.obs_dim, device=device)
        self.action = torch.zeros(*shape, env.action_space.size, device=device)
        self.reward = torch.zeros(shape, device=device)
        self.terminated = torch.zeros(shape, dtype=torch.bool, device=device)
        self.final_obs = torch.zeros_like(self.obs) if env.can_truncate else None
        self.count = 0  # steps so far; row count % rows holds the present observation, and no transition
        self._first_row = torch.arange(env.n_runs, device=device).unsqueeze(1) * self.rows * env.n_envs

    @property
    def n_bytes(self) -> int:
        """Memory of the ring, in bytes."""
        return sum(tensor.nbytes for tensor in self._fields().values())

    @property
    def n_steps(self) -> int:
        """Steps of every cell that are held now."""
        return min(self.count, self.rows - 1)

    def start(self, obs: Tensor) -> None:
        """Note the observations [S, B, G] of fresh episodes."""
        self.obs[:, self.count % self.rows] = obs

    def add(self, action: Tensor, step: Step) -> None:
        """Append a step of every cell: the actions [S, B, A] in [-1, 1], and what they led to."""
        row = self.count % self.rows
        self.action[:, row], self.reward[:, row], self.terminated[:, row] = action, step.reward, step.terminated
        if self.final_obs is not None:
            self.final_obs[:, row] = step.final_obs
        self.count += 1
        self.start(step.obs)

    def sample(self, u: Tensor) -> Transitions:
        """Return M transitions of each run, drawn evenly and independently by ``u`` [S, 2, M], see ``draw``."""
        n_envs = self.obs.shape[2]
        pick = draw(u, self.n_steps * n_envs)
        step, cell = pick // n_envs, pick % n_envs
        row = (self.count - self.n_steps + step) % self.rows
        here = self._first_row + row * n_envs + cell
        after = self._first_row + (row + 1) % self.rows * n_envs + cell
        next_obs = _at(self.obs, after) if self.final_obs is None else _at(self.final_obs, here)
        return Transitions(
            obs=_at(self.obs, here),
            action=_at(self.action, here),
            reward=_at(self.reward, here),
            terminated=_at(self.terminated, here),
            next_obs=next_obs,
        )

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint needs, each with a leading axis S: only the rows that were written."""
        used = min(self.count + 1, self.rows)
        tensors = {name: tensor[:, :used] for name, tensor in self._fields().items()}
        return tensors | {"count": torch.full((self.obs.shape[0],), self.count)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from ``state()``."""
        self.count = int(state["count"][0])
        for name, tensor in self._fields().items():
            tensor[:, : state[name].shape[1]] = state[name].to(tensor.device)

    def _fields(self) -> dict[str, Tensor]:
        named = {"obs": self.obs, "action": self.action, "reward": self.reward, "terminated": self.terminated}
        return named if self.final_obs is None else named | {"final_obs": self.final_obs}


def draw(u: Tensor, n: int) -> Tensor:
    """Return numbers below ``n``, [S, M], from uniform numbers ``u`` [S, 2, M] in [0, 1).

    Two make one draw: one alone has 24 bits, too few for even odds among a million.
    """
    fine = u[:, 0].double() + u[:, 1].double() * 2.0**-24
    return (fine * n).long()


def _at(field: Tensor, places: Tensor) -> Tensor:
    """Return the entries of ``field`` [S, R, B, ...] at flat ``places`` [S, M]."""
    flat = field.flatten(0, 2).index_select(0, places.flatten())
    return flat.view(*places.shape, *field.shape[3:])
