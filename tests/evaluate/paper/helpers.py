from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import paths, registry
from perturbrl.config import bind
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace, Step
from perturbrl.evaluate.actions import Act, together
from perturbrl.evaluate.paper.config import PaperProtocolConfig
from perturbrl.evaluate.paper.scores import population_scores


def protocol(**changes: Any) -> PaperProtocolConfig:
    small = {"return_episodes": 16, "search_episodes": 16}
    file = paths.conf_dir() / "protocol" / "paper.yaml"
    return bind(PaperProtocolConfig, OmegaConf.merge(OmegaConf.load(file), small, changes), "protocol")


def cell_table(n: int = 120, n_rna: int = 3, n_atac: int = 3, shift: float = 0.0, seed: int = 0) -> CellTable:
    """Values within +-4, both signs in every feature; later cells lie ``shift`` higher in the first feature."""
    generator = np.random.default_rng(seed)
    g = n_rna + n_atac
    time = np.sort(generator.random(n))
    x = np.clip(generator.normal(size=(n, g)), -3, 3)
    x[:, 0] += shift * (time - 0.5)
    order = generator.permutation(n)
    return CellTable(
        x=x.astype(np.float32),
        features=tuple(f"f{k}" for k in range(g)),
        slices={"rna": slice(0, n_rna), "atac": slice(n_rna, g)},
        pseudotime=time,
        train=np.sort(order[n // 3 :]),
        test=np.sort(order[: n // 3]),
        obs=pd.DataFrame(index=[f"c{k}" for k in range(n)]),
        source="toy",
        checksum="0",
    )


@dataclass(frozen=True)
class ToyConfig:
    name: str
    horizon: int
    kind: str
    actions: int


class ToyEnv:
    """Box: pays -|a - goal|^2 a step. Discrete: pays 1 for action 2, takes 1 for k with k % 3 = 0.

    Beside it every step pays a uniform number and the mean of the start cell, which is drawn from ``cells``.
    Episodes of cell b last ``horizon + b % 2`` steps.
    """

    def __init__(self, configs: Sequence[ToyConfig], table: CellTable, cells: NDArray[np.int64], n_envs: int) -> None:
        self.n_runs, self.n_envs, self.obs_dim, self.n_uniforms = len(configs), n_envs, table.n_features, 2
        self.config = configs[0]
        self.action_space = ActionSpace(self.config.kind, self.config.actions)
        self.x, self.cells = torch.from_numpy(table.x), torch.from_numpy(cells)
        # goals depend on the cells handed in, so that a search on other cells than the training ones shows
        self.goal = self.x[self.cells].mean(dim=(0, 1)).double()
        self.clock = torch.zeros(self.n_runs, n_envs, dtype=torch.int64)
        self.limit = self.config.horizon + torch.arange(n_envs) % 2

    def reset(self, u: Tensor) -> Tensor:
        assert u.shape == (self.n_runs, self.n_envs, self.n_uniforms)
        self.clock = torch.zeros_like(self.clock)
        self.obs = self.x[self.cells[(u[..., 0] * len(self.cells)).long()]]
        return self.obs

    def step(self, action: Tensor, u: Tensor) -> Step:
        assert torch.isfinite(action).all()
        if self.config.kind == "box":
            a = action.double().clamp(-1, 1)
            earned = -((a - self.goal) ** 2).sum(-1)
        else:
            earned = (action == 2).double() - (action % 3 == 0).double()
        self.clock = self.clock + 1
        done = self.clock >= self.limit
        self.clock = torch.where(done, 0, self.clock)
        reward = (earned + u[..., 1] + self.obs.double().mean(-1)).float()
        return Step(self.obs, reward, done & (torch.arange(self.n_envs) % 4 == 0), done, self.obs)

    def state(self) -> dict[str, Tensor]:
        return {"clock": self.clock.clone()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.clock = state["clock"]


def register_toy() -> None:
    @registry.envs.register("toy", ToyConfig)
    def build(configs: Any, table: CellTable, cells: Any, n_envs: int, device: Any) -> ToyEnv:
        return ToyEnv(configs, table, cells, n_envs)


def toy(kind: str = "box", actions: int = 6, horizon: int = 5) -> ToyConfig:
    return ToyConfig("toy", horizon, kind, actions)


def shift_by(a: float) -> Callable[[Tensor], Tensor]:
    return lambda obs: torch.full_like(obs, a)


def quick_scores(act: Act, x: Tensor, space: ActionSpace, config: PaperProtocolConfig) -> dict[str, float]:
    """The scores of one policy alone on cells ``x`` [n, G]."""
    scores = population_scores(together([act]), x[None], space, config)
    return {name: float(values[0]) for name, values in scores.items()}
