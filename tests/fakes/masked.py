"""A discrete task with forbidden actions: each gene may be chosen once, and no more than ``budget`` of them."""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.envs.base import ActionSpace, Step

GENES = 4


class PickGenes:
    """Action g < GENES earns the worth of gene g; the last action does nothing and is always allowed.

    An observation holds the worth of each gene, uniform in [-1, 1), and then the mask. A forbidden action fails the
    test. An episode lasts GENES steps; best is to take the ``budget`` genes of the largest worth above 0.
    """

    n_uniforms, can_truncate = GENES, False
    obs_dim = 2 * GENES + 1
    slices = {"worth": slice(0, GENES), "mask": slice(GENES, obs_dim)}  # noqa: RUF012

    def __init__(self, n_runs: int, n_envs: int, budget: int = 2) -> None:
        self.n_runs, self.n_envs, self.budget = n_runs, n_envs, budget
        self.action_space = ActionSpace("discrete", GENES + 1, mask=self.slices["mask"])
        self.clock = 0
        self.worth = torch.zeros(n_runs, n_envs, GENES)
        self.chosen = torch.zeros(n_runs, n_envs, GENES)

    def _obs(self) -> Tensor:
        free = (1 - self.chosen) * (self.chosen.sum(-1, keepdim=True) < self.budget)
        return torch.cat([self.worth, free, torch.ones_like(free[..., :1])], -1)

    def reset(self, u: Tensor) -> Tensor:
        self.clock, self.worth, self.chosen = 0, 2 * u - 1, torch.zeros_like(self.chosen)
        return self._obs()

    def step(self, action: Tensor, u: Tensor) -> Step:
        taken = torch.nn.functional.one_hot(action, GENES + 1).float()
        assert (taken <= self._obs()[..., self.slices["mask"]]).all(), "a forbidden action"
        reward = (taken[..., :GENES] * self.worth).sum(-1)
        self.chosen = self.chosen + taken[..., :GENES]
        self.clock += 1
        final = self._obs()
        over = torch.full_like(reward, self.clock == GENES, dtype=torch.bool)
        return Step(self.reset(u) if self.clock == GENES else final, reward, over, torch.zeros_like(over), final)

    def state(self) -> dict[str, Tensor]:
        return {"t": torch.tensor(self.clock), "worth": self.worth.clone(), "chosen": self.chosen.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.clock = int(state["t"])
        self.worth, self.chosen = state["worth"].clone(), state["chosen"].clone()
