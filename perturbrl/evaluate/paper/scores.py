"""The paper's protocol: how a policy changes unperturbed test cells, and beside it what the policy earns.

Truth is a test cell's own profile x, prediction clip(x + a, -clip, clip) with the full deterministic action a. The
ten metrics therefore ask how little a policy does; doing nothing is perfect. Hence two columns that the paper lacks
(mean |a|, true return relative to doing nothing) and four rows: do nothing, uniform and sign-random actions, the best
constant action. Letters: S policies, n cells, G features, A action size, B episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import registry, status
from perturbrl.bounds import Episodes, Number, NumberOrAll, PositiveInt, Seed
from perturbrl.config import require
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace, BatchedEnv
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import (
    Act,
    PopulationAct,
    as_change,
    constant,
    do_nothing,
    random_sign,
    random_uniform,
    together,
)
from perturbrl.evaluate.paper.best_constant import best_constant
from perturbrl.evaluate.paper.metrics import FUNCTIONS, MetricFunction, per_feature, plugin_metrics
from perturbrl.evaluate.returns import episode_returns


@dataclass(frozen=True)
class PaperProtocolConfig:
    """``n_cells``: a number, or ``all`` or null for every test cell. Other keys: see conf/protocol/paper.yaml."""

    name: str
    n_cells: Annotated[int | str | None, NumberOrAll(2)]
    clip: Annotated[float, Number(above=0, finite=False)]
    discrete_step: float
    return_episodes: Episodes
    search_episodes: Episodes
    max_steps: PositiveInt
    seed: Seed


@dataclass(frozen=True)
class Row:
    """One row of a table.

    ``per_feature`` maps each metric to [G]; ``returns`` [B] holds the return of each episode. Both are NaN where the
    policy gave an action that is not finite, and ``diverged`` is then true.
    """

    per_feature: Mapping[str, NDArray[np.float64]]
    mean_abs_action: float
    returns: NDArray[np.float64]
    return_gain: float
    return_gain_se: float
    diverged: bool

    def numbers(self) -> dict[str, float]:
        """Return the columns: metrics averaged over features, mean |a|, return, gain over doing nothing, its error."""
        macro = {name: float(values.mean()) for name, values in self.per_feature.items()}
        return macro | {
            "mean_abs_action": self.mean_abs_action,
            "return": float(self.returns.mean()),
            "return_gain": self.return_gain,
            "return_gain_se": self.return_gain_se,
        }


@dataclass(frozen=True)
class PaperResult:
    """The rows of one evaluation, in the order of the table, and how many cells the metrics saw."""

    rows: Mapping[str, Row]
    n_cells: int


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


def evaluate_paper(
    policy: Act | None,
    table: CellTable,
    env_name: str,
    env_config: Any,
    config: PaperProtocolConfig,
    floors: Mapping[str, Row] | None = None,
    device: torch.device | str = "cpu",
) -> PaperResult:
    """Evaluate a deterministic policy on the test cells of ``table`` by the paper's protocol; None: one that diverged.

    ``floors`` is what ``floor_rows`` returned for the same table, environment and config; given, it is not computed
    again.

    Raises
    ------
    UserError
        The policy's actions have the wrong shape, the environment's actions do not address the features, or an
        episode does not end.
    """
    if floors is None:
        floors = floor_rows(table, env_name, env_config, config, device)
    if policy is None:
        return PaperResult({"policy": _gone(floors["do_nothing"]), **floors}, len(evaluated_cells(table, config)))
    nothing = torch.from_numpy(floors["do_nothing"].returns)
    rows = _rows({"policy": policy}, table, env_name, env_config, config, nothing, device)
    return PaperResult({**rows, **floors}, len(evaluated_cells(table, config)))


def _gone(like: Row) -> Row:
    """Return the row of a policy that has diverged."""
    nan = float("nan")
    per_feature = {name: np.full_like(values, nan) for name, values in like.per_feature.items()}
    return Row(per_feature, nan, np.full_like(like.returns, nan), nan, nan, True)


def floor_rows(
    table: CellTable, env_name: str, env_config: Any, config: PaperProtocolConfig, device: torch.device | str = "cpu"
) -> dict[str, Row]:
    """Return the rows that need no training: do_nothing, random_uniform, random_sign, best_constant."""
    with status.step("searching the best constant action"):
        best = best_constant(table, env_name, env_config, config.search_episodes, config.seed, config.max_steps, device)
    space: ActionSpace = registry.envs[env_name].build([env_config], table, table.test, 1, device).action_space
    acts = {
        "do_nothing": do_nothing(space),
        "random_uniform": random_uniform(space, config.seed),
        "random_sign": random_sign(space, config.seed),
        "best_constant": constant(best),
    }
    return _rows(acts, table, env_name, env_config, config, None, device)


def population_scores(
    act: PopulationAct, x: Tensor, space: ActionSpace, config: PaperProtocolConfig
) -> dict[str, NDArray[np.float64]]:
    """Return the ten metrics, averaged over features, and mean_abs_action of S policies on cells ``x`` [S, n, G].

    For learning curves: about a millisecond for 30 cells of 64 features. Every value is [S]; NaN throughout where an
    action of a policy is not finite.
    """
    scores, mean_abs_action = _score(act, x, space, config, {})
    return {name: values.mean(axis=1) for name, values in scores.items()} | {"mean_abs_action": mean_abs_action}


def _score(
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
    # The ten treat every feature apart, so all S runs are scored as one wide table; a plugin's metric sees one run.
    wide_truth, wide_prediction = (v.transpose(1, 0, 2).reshape(n, runs * features) for v in pair)
    wide = per_feature(wide_truth, wide_prediction, FUNCTIONS)
    scores = {name: values.reshape(runs, features) for name, values in wide.items()}
    each = [per_feature(pair[0][k], pair[1][k], extra) for k in range(runs)]
    scores |= {name: np.stack([one[name] for one in each]) for name in extra}
    bad = ~finite.cpu().numpy()
    scores = {name: np.where(bad[:, None], np.nan, values) for name, values in scores.items()}
    return scores, np.where(bad, np.nan, change.abs().mean(dim=(1, 2)).cpu().numpy())


def _rows(
    acts: Mapping[str, Act],
    table: CellTable,
    env_name: str,
    env_config: Any,
    config: PaperProtocolConfig,
    nothing: Tensor | None,
    device: torch.device | str,
) -> dict[str, Row]:
    """Evaluate several policies at once. ``nothing`` [B]: returns of doing nothing; by default those of ``acts``."""
    env: BatchedEnv = registry.envs[env_name].build(
        [env_config] * len(acts), table, table.test, config.return_episodes, device
    )
    policies = together(list(acts.values()))
    x = evaluated_cells(table, config).to(device).expand(len(acts), -1, -1)
    scores, mean_abs_action = _score(policies, x, env.action_space, config, plugin_metrics())
    returns = episode_returns(policies, env, config.seed, config.max_steps, device).cpu()
    gains = (returns - (returns[list(acts).index("do_nothing")] if nothing is None else nothing)).numpy()
    rows = {}
    for k, name in enumerate(acts):
        diverged = bool(np.isnan(mean_abs_action[k]) or not np.isfinite(gains[k]).all())
        error = float(gains[k].std(ddof=1) / np.sqrt(len(gains[k]))) if len(gains[k]) > 1 else float("nan")
        one = {metric: values[k] for metric, values in scores.items()}
        rows[name] = Row(one, float(mean_abs_action[k]), returns[k].numpy(), float(gains[k].mean()), error, diverged)
    return rows
