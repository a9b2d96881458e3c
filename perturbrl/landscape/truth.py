"""The true mean of every condition of a simulated screen, in the screen's own features.

Letters: P conditions, G features.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from perturbrl.config import require
from perturbrl.data.preprocess import DataConfig
from perturbrl.landscape.config import LandscapeConfig
from perturbrl.landscape.source import fresh_cells
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.load import load_screen
from perturbrl.screens.schema import Screen, group_means


def true_means(
    config: LandscapeConfig, screen: Screen, data: DataConfig, conditions: ConditionsConfig, n_cells: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return the mean of ``n_cells`` fresh cells of each condition of ``screen``, read as the screen was: [P, G].

    The screen may have had features selected. Its standard error falls as 1 / sqrt(n_cells).

    Raises
    ------
    UserError
        The screen is not of this landscape, or as ``fresh_cells`` and ``load_screen``.
    """
    fresh = load_screen(fresh_cells(config, n_cells, seed), data, dataclasses.replace(conditions, min_cells=1))
    features = {name: k for k, name in enumerate(fresh.features)}
    index = {condition: k for k, condition in enumerate(fresh.conditions)}
    unknown = [c.name for c in screen.conditions if c not in index] + [f for f in screen.features if f not in features]
    require(not unknown, "truth", f"{len(unknown)} names are not of this landscape, first {unknown[:1]}")
    rows = np.arange(len(fresh.condition), dtype=np.int64)
    means = group_means(fresh.x, rows, fresh.condition, len(fresh.conditions))
    return means[np.ix_([index[c] for c in screen.conditions], [features[f] for f in screen.features])]
