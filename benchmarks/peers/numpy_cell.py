"""The released task as a notebook writes it: one cell, numpy, ``gymnasium.Env``. Peers are measured on it."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Obs = NDArray[np.float32]


class NumpyCell(gymnasium.Env[Obs, NDArray[Any]]):
    """``cells`` [N, G] in the order of pseudotime; constants as in conf/env/paper.yaml."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  (declared so by gymnasium)

    def __init__(
        self,
        cells: Obs,
        horizon: int = 200,
        step_size: float = 0.25,
        clip: float = 5.0,
        perturb_prob: float = 0.8,
        max_perturb: int = 5,
    ) -> None:
        self.cells, self.horizon, self.step_size, self.clip = cells, horizon, step_size, clip
        self.perturb_prob, self.max_perturb = perturb_prob, max_perturb
        size = cells.shape[1]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        super().reset(seed=seed)
        n = len(self.cells)
        start = int(self.np_random.integers(n))
        target = int(self.np_random.integers(start + 1, n)) if start + 1 < n else start
        self.target = self.cells[target]
        self.state = self.cells[start].copy()
        self.error = self._mse()
        self.t = 0
        self._perturb()
        return self.state.copy(), {}

    def step(self, action: NDArray[Any]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        self.state = np.clip(self.state + self.step_size * np.clip(action, -1, 1), -self.clip, self.clip)
        if self.np_random.random() < self.perturb_prob:
            self._perturb()
        error = self._mse()
        reward = self.error - error
        self.error = error
        self.t += 1
        return self.state.copy(), reward, self.t >= self.horizon, False, {}

    def _perturb(self) -> None:
        n = self.np_random.integers(1, self.max_perturb + 1)
        for gene in self.np_random.integers(self.state.size, size=n):
            self.state[gene] *= 0.0 if self.np_random.random() < 0.5 else 2.0

    def _mse(self) -> float:
        return float(np.mean((self.state - self.target) ** 2))
