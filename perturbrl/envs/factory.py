"""From a name and a table to an environment, for notebooks and for other libraries' agents.

Letters: B cells, N cells of the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from perturbrl import paths, registry
from perturbrl.config import choice
from perturbrl.data.schema import CellTable
from perturbrl.envs import paper, paper_discrete  # noqa: F401  (importing registers them)
from perturbrl.envs.base import BatchedEnv
from perturbrl.envs.gym import CellEnv, CellVectorEnv
from perturbrl.errors import UserError

Device = torch.device | str


def make(
    name: str, table: CellTable, cells: NDArray[np.int64] | None = None, device: Device = "cpu", **overrides: Any
) -> CellEnv:
    """Return one cell of the task ``name`` as a ``gymnasium.Env``; arguments as for ``make_batched``."""
    return CellEnv(make_batched(name, table, 1, cells, device, **overrides), device)


def make_vec(
    name: str,
    table: CellTable,
    n_envs: int,
    cells: NDArray[np.int64] | None = None,
    device: Device = "cpu",
    **overrides: Any,
) -> CellVectorEnv:
    """Return ``n_envs`` cells of the task ``name`` as one ``gymnasium.vector.VectorEnv``; see ``make_batched``."""
    return CellVectorEnv(make_batched(name, table, n_envs, cells, device, **overrides), device)


def make_batched(
    name: str,
    table: CellTable,
    n_envs: int,
    cells: NDArray[np.int64] | None = None,
    device: Device = "cpu",
    **overrides: Any,
) -> BatchedEnv:
    """Build the task ``name`` for one run of B = ``n_envs`` cells.

    Parameters
    ----------
    name
        A name in ``registry.envs``, such as ``paper``.
    table
        Features of N cells.
    cells
        Row numbers that episodes start from; the training cells by default.
    overrides
        Settings that differ from conf/env/<name>.yaml, such as ``max_perturb=4``.

    Raises
    ------
    UserError
        An unknown name, an unknown key, or a value of the wrong type or out of range.
    """
    choice(name, registry.envs, "env.name")
    config = registry.envs.bind(OmegaConf.merge(_defaults(name), overrides))
    env: BatchedEnv = registry.envs[name].build(
        [config], table, table.train if cells is None else cells, n_envs, device
    )
    return env


def _defaults(name: str) -> Any:
    for folder in (paths.conf_dir(), *registry.plugin_conf_dirs()):
        file = folder / "env" / f"{name}.yaml"
        if file.is_file():
            return OmegaConf.load(file)
    raise UserError(f"env={name}: conf/env/{name}.yaml is missing beside the code that registers it")
