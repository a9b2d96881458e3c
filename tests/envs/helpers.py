from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf

from perturbrl import paths, registry
from perturbrl.data.schema import CellTable

TASKS = ("paper", "paper_discrete")


def cell_table(n_cells=30, n_features=7, seed=0, ties=True) -> CellTable:
    rng = np.random.default_rng(seed)
    rows = rng.permutation(n_cells)
    n_train = max(1, n_cells * 4 // 5)
    return CellTable(
        x=(2 * rng.standard_normal((n_cells, n_features))).astype(np.float32),
        features=tuple(f"g{i}" for i in range(n_features)),
        slices={"rna": slice(0, n_features)},
        pseudotime=rng.integers(0, max(2, n_cells // 2), n_cells).astype(float) if ties else rng.random(n_cells),
        train=np.sort(rows[:n_train]),
        test=np.sort(rows[n_train:]),
        obs=pd.DataFrame(index=[f"c{i}" for i in range(n_cells)]),
        source="made-up",
        checksum="",
    )


def config(name, **changes):
    node = OmegaConf.load(paths.conf_dir() / "env" / f"{name}.yaml")
    node.pop("defaults", None)
    return registry.envs.bind(OmegaConf.merge(node, changes))


def build(configs, table, n_envs, cells=None):
    return registry.envs[configs[0].name].build(configs, table, table.train if cells is None else cells, n_envs, "cpu")


def uniforms(env, seed, *shape):
    """Draw [*shape, S, B, D]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, env.n_runs, env.n_envs, env.n_uniforms, generator=generator)


def actions(env, seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    if env.action_space.kind == "discrete":
        return torch.randint(env.action_space.size, (*shape, env.n_runs, env.n_envs), generator=generator)
    return 1.5 * torch.randn(*shape, env.n_runs, env.n_envs, env.action_space.size, generator=generator)
