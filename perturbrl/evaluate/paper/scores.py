"""The published computation: the ten metrics of what actions do to unperturbed test cells.

Truth is a test cell's own profile x, prediction clip(x + a, -clip, clip) with the full deterministic action a. The
ten metrics therefore ask how little a policy does; doing nothing is perfect. As in the released evaluation behind
Tables I-III (arXiv 2510.13018). Letters: S policies, n cells, G features.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.config import require
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import PopulationAct, as_change
from perturbrl.evaluate.paper.config import PaperProtocolConfig
from perturbrl.evaluate.paper.metrics import FUNCTIONS, MetricFunction, per_feature


def evaluated_cells(table: CellTable, config: PaperProtocolConfig) -> Tensor:
    """Return the test cells that the metrics see, [n, G] float32: the first ``n_cells`` of the split, or all there are.

    Raises
    ------
    UserError
        The test split has fewer than two cells.
    """
    n = len(table.test) if not isinstance(config.n_cells, int) else min(config.n_cells, len(table.test))
    require(n >= 2, "split", f"the test split of {table.source} has {n} cells; the metrics need at least 2")
    return torch.from_numpy(np.ascontiguousarray(table.x[table.test[:n]]))


def population_scores(
    act: PopulationAct, x: Tensor, space: ActionSpace, config: PaperProtocolConfig
) -> dict[str, NDArray[np.float64]]:
    """Return the ten metrics, averaged over features, and mean_abs_action of S policies on cells ``x`` [S, n, G].

    For learning curves: about a millisecond for 30 cells of 64 features. Every value is [S]; NaN throughout where an
    action of a policy is not finite.
    """
    scores, mean_abs_action = action_scores(act, x, space, config, {})
    return {name: values.mean(axis=1) for name, values in scores.items()} | {"mean_abs_action": mean_abs_action}


def action_scores(
    act: PopulationAct,
    x: Tensor,
    space: ActionSpace,
    config: PaperProtocolConfig,
    extra: Mapping[str, MetricFunction],
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64]]:
    """Return each of the ten metrics and of ``extra`` [S, G], and the mean |a| [S]; ``x`` is [S, n, G]."""
    runs, n, features = x.shape
    with torch.no_grad():
        action = act(x)
    if action.shape[:2] != x.shape[:2]:
        raise UserError(f"the policy returned actions of shape {tuple(action.shape[1:])} for {n} cells")
    finite = torch.isfinite(action.double()).flatten(1).all(dim=1)
    change = as_change(
        torch.nan_to_num(action) if action.is_floating_point() else action, space, features, config.discrete_step
    )
    truth = x.double()
    prediction = (truth + change).clamp(-config.clip, config.clip)
    pair = truth.cpu().numpy(), prediction.cpu().numpy()
    # The ten score each feature by itself, so all S runs are scored as one wide table; a plugin's metric sees one run.
    wide_truth, wide_prediction = (v.transpose(1, 0, 2).reshape(n, runs * features) for v in pair)
    wide = per_feature(wide_truth, wide_prediction, FUNCTIONS)
    scores = {name: values.reshape(runs, features) for name, values in wide.items()}
    per_run = [per_feature(pair[0][k], pair[1][k], extra) for k in range(runs)]
    scores |= {name: np.stack([values[name] for values in per_run]) for name in extra}
    diverged = ~finite.cpu().numpy()
    scores = {name: np.where(diverged[:, None], np.nan, values) for name, values in scores.items()}
    return scores, np.where(diverged, np.nan, change.abs().mean(dim=(1, 2)).cpu().numpy())
