"""The table of a task that reads no cells: its start states, by genes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from perturbrl.config import fingerprint
from perturbrl.data.schema import CellTable
from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.envs.fate.tasks import landscape, tasks
from perturbrl.landscape.chosen import RANDOM


def cell_table(config: FateEnvConfig) -> CellTable:
    """Return the start states of the tasks of ``config``, [n, G], as training and as test cells.

    The checksum is that of the rules, fates and start states, so that a run knows when its network has changed.

    Raises
    ------
    UserError
        As ``tasks``.
    """
    network = landscape(config).network
    states = np.unique(torch.cat([task.start for task in tasks(config)]).numpy(), axis=0).astype(np.float32)
    rows = np.arange(len(states), dtype=np.int64)
    content = {"rules": dict(network.rules), "fates": repr(network.fates), "stages": repr(network.stages)}
    content |= {"thresholds": repr(sorted(network.thresholds.items())), "start": states.tolist()}
    return CellTable(
        x=states,
        features=network.genes,
        slices={"state": slice(0, len(network.genes))},
        pseudotime=np.zeros(len(states)),
        train=rows,
        test=rows,
        obs=pd.DataFrame(index=[f"start{row}" for row in rows]),
        source=_name(config),
        checksum=fingerprint(content),
    )


def _name(config: FateEnvConfig) -> str:
    """Return the network's name: that of a file without its folders, or the family, size and seed."""
    if config.network == RANDOM:
        return f"{config.family}-{config.n_regulators}-{config.network_seed}"
    return Path(config.network).name
