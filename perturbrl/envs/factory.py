"""From a name and a table to an environment, for notebooks and for other libraries' agents.

Letters: B cells, N cells of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from perturbrl import registry
from perturbrl.config import choice
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import BatchedEnv
from perturbrl.errors import UserError
from perturbrl.screens.schema import PerturbationTable

if TYPE_CHECKING:
    from perturbrl.envs.gym import CellEnv, CellVectorEnv

Device = torch.device | str
Table = CellTable | PerturbationTable


def make(
    name: str,
    table: Table | None = None,
    cells: NDArray[np.int64] | None = None,
    device: Device = "cpu",
    **overrides: Any,
) -> CellEnv:
    """Return one cell of the task ``name`` as a ``gymnasium.Env``; arguments as for ``make_batched``."""
    from perturbrl.envs.gym import CellEnv  # gymnasium is slow to import, and training needs none

    return CellEnv(make_batched(name, table, 1, cells, device, **overrides), device)


def make_vec(
    name: str,
    table: Table | None,
    n_envs: int,
    cells: NDArray[np.int64] | None = None,
    device: Device = "cpu",
    **overrides: Any,
) -> CellVectorEnv:
    """Return ``n_envs`` cells of the task ``name`` as one ``gymnasium.vector.VectorEnv``; see ``make_batched``."""
    from perturbrl.envs.gym import CellVectorEnv

    return CellVectorEnv(make_batched(name, table, n_envs, cells, device, **overrides), device)


def make_batched(
    name: str,
    table: Table | None,
    n_envs: int,
    cells: NDArray[np.int64] | None = None,
    device: Device = "cpu",
    **overrides: Any,
) -> BatchedEnv:
    """Build the task ``name`` for one run of B = ``n_envs`` cells.

    Parameters
    ----------
    name
        A name in ``registry.envs``, such as ``paper``, or that of a plugin.
    table
        Features of N cells; for ``counterfactual`` a screen with held-out perturbations. None for a task that reads no
        cells, such as ``fate``.
    cells
        Row numbers that episodes start from; the training cells (of a screen: the training controls) by default.
    overrides
        Settings that differ from conf/env/<name>.yaml, such as ``max_perturb=4``.

    Raises
    ------
    UserError
        An unknown name, an unknown key, a value of the wrong type or out of range, or no table where one is needed.
    """
    registry.load_plugins()
    choice(name, registry.envs, "env.name")
    config = registry.envs.bind(OmegaConf.merge(registry.envs.defaults(name), overrides))
    build = registry.envs[name].build
    own: Callable[[Any], CellTable] | None = getattr(build, "table", None)
    if own is not None:
        table = own(config)
    if table is None:
        raise UserError(f"env={name}: needs a table of cells, got none")
    env: BatchedEnv = build([config], table, training_cells(table) if cells is None else cells, n_envs, device)
    return env


def training_cells(table: Table) -> NDArray[np.int64]:
    """Return the row numbers that episodes of training start from."""
    return table.split.control_train if isinstance(table, PerturbationTable) else table.train


def observed_slices(env: BatchedEnv, table: Table) -> Mapping[str, slice]:
    """Return which columns of an observation belong together: those that the task names, or the table's modalities."""
    slices: Mapping[str, slice] | None = getattr(env, "slices", None)
    if slices is None:
        slices = table.slices if isinstance(table, CellTable) else {"state": slice(0, env.obs_dim)}
    return slices
