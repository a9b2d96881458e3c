"""What ``protocol=counterfactual`` writes for one run. Letters: S policies, n test conditions, G genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl.effects.baselines import baseline_config, baseline_names
from perturbrl.effects.observed import ObservedEffects
from perturbrl.evaluate.counterfactual.cellwise import CellMetrics
from perturbrl.evaluate.counterfactual.config import CounterfactualProtocolConfig
from perturbrl.evaluate.counterfactual.export import PREDICTIONS, write_predictions
from perturbrl.evaluate.counterfactual.metrics import Scores
from perturbrl.evaluate.counterfactual.prediction import CellsOf, Prediction
from perturbrl.evaluate.counterfactual.returns import Earned
from perturbrl.evaluate.counterfactual.rollout import PredictedChanges
from perturbrl.evaluate.counterfactual.simulator import regrets
from perturbrl.evaluate.files import score_settings, write_evaluation
from perturbrl.evaluate.scoring import INFO
from perturbrl.metrics_info import BEST_ACTIONS, PRIMARY, SIMPLE, columns_of
from perturbrl.screens.held_out import held_out_names
from perturbrl.screens.split_files import held_out

NOTE = "held-out perturbations, predicted from control cells that no training saw; scored in gene space"
PER_PERTURBATION = "per_perturbation.parquet"
CHANGES = "changes.parquet"
RETURNS = (
    "return",
    "return_normalised",
    "success_rate",
    "return_share",
    "train_return_normalised",
    "train_return_share",
)


@dataclass(frozen=True)
class PolicyResult:
    """What one policy predicts (S = 1), and what it earns in the task.

    ``cells`` are those that a generator makes; ``factor`` is that of its learned changes.
    """

    changes: PredictedChanges
    earned: Earned
    cells: CellsOf | None = None
    factor: float | None = None

    @property
    def change(self) -> NDArray[np.float64]:
        """Predicted change of each test condition, [n, G]."""
        return np.asarray(self.changes.change[0])

    def numbers(self, success: float, best: PolicyResult) -> dict[str, float]:
        """Return the columns that only a policy has: those of ``Earned``, and the mean size of its actions."""
        size = {"mean_abs_action": float(self.changes.mean_abs_action[0])}
        return self.earned.numbers(success, best.earned) | size

    @property
    def prediction(self) -> Prediction:
        """What is scored."""
        return Prediction(self.change, self.cells)


@dataclass(frozen=True)
class RunScores:
    """The evaluation of one run: ``scores`` of its ``predictions``; ``result`` is None if its policy diverged.

    ``actors`` are rows that act in the task without having learnt: the best allowed actions, and the baseline that
    episodes begin with (``env.residual``), left as it is.
    """

    scores: Scores
    predictions: Mapping[str, Prediction]
    result: PolicyResult | None
    actors: Mapping[str, PolicyResult]
    config: CounterfactualProtocolConfig
    run: Mapping[str, Any]

    @property
    def truth(self) -> ObservedEffects:
        """What was predicted."""
        return self.scores.metrics.truth

    def write(self, folder: Path) -> None:
        """Write the folder ``evaluation`` of the run.

        Raises
        ------
        UserError
            A file cannot be written.
        """
        tables = {PER_PERTURBATION: self.scores.frame, CHANGES: self.changes()}
        exports = self.config.export and self.result is not None
        write_evaluation(folder, self.summary(), tables, (lambda: self._export(folder)) if exports else None)

    def summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` holds."""
        config, run, table = self.config, self.run, self.truth.table
        return {
            "protocol": config.name,
            "note": NOTE,
            "split": {
                **{"kind": table.split.kind, "seed": table.split.seed, "sha256": table.split.sha256},
                "held_out": held_out(table.split, table.screen),
                "held_out_names": held_out_names(table.screen, table.split),
            },
            "header": self.scores.header,
            # the setting, not the number there was: runs on other splits of the same data are averaged with this one
            "n_control_cells": config.most_cells or "all",
            "return_episodes": config.episodes,
            "evaluation_seed": config.seed,
            # settings of baselines are in no config of a run
            "settings": score_settings(config) | {"baselines": _baseline_settings()},
            "claims": asdict(config.claims),
            "claims_declared": "before training" if run.get("claims") == asdict(config.claims) else "after training",
            **{name: run[name] for name in INFO},
            "rows": self._rows(),
            **({} if self.result is None or self.result.factor is None else {"shrinkage": self.result.factor}),
            "coverage": self.scores.coverage,
            "flags": [*self.scores.flags, *table.leaks],
        }

    def changes(self) -> pd.DataFrame:
        """Return true and predicted changes of ``protocol.shown`` test conditions, evenly spaced in effect size.

        Columns: row (``truth``, ``policy`` unless it diverged, the best simple baseline), condition, gene, change, and
        de: whether the gene differs from control in the test cells.
        """
        truth, predictions = self.truth, self.predictions
        rows: dict[str, NDArray[np.float64]] = {"truth": truth.change}
        if "policy" in predictions:
            rows["policy"] = np.nan_to_num(predictions["policy"].change)
        simple = (name for name in SIMPLE if name in predictions)
        metric = columns_of(**truth.design).primary(PRIMARY)
        best = max(simple, key=lambda name: metric.sign * self.scores.rows[name][metric.name])
        rows[best] = predictions[best].change
        order = np.argsort(truth.effect_size, kind="stable")
        n_shown = min(self.config.shown, len(order))
        parts = []
        for i in order[np.unique(np.linspace(0, len(order) - 1, n_shown).round().astype(int))]:
            for row, change in rows.items():
                about = {"row": row, "condition": truth.names[i], "gene": list(truth.table.screen.features)}
                parts.append(pd.DataFrame(about | {"change": change[i], "de": differential(truth, int(i))}))
        columns = ["row", "condition", "gene", "change", "de"]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def _rows(self) -> dict[str, dict[str, float | None]]:
        rows: dict[str, dict[str, float | None]] = {row: dict(values) for row, values in self.scores.rows.items()}
        rows["no_change"] |= dict.fromkeys((*RETURNS, "mean_abs_action", "steps", "wall_seconds"), 0.0)
        success, best = self.config.success, self.actors[BEST_ACTIONS]
        for row, actor in self.actors.items():
            rows[row] |= actor.numbers(success, best)
        for row, regret in regrets(self.predictions).items():
            rows[row]["regret"] = regret
        spent = {"steps": self.run["steps"], "wall_seconds": self.run["wall_seconds"]}
        if self.result is None:
            # a policy that has diverged predicts nothing: it stays in every table, without numbers
            return {"policy": dict.fromkeys(rows["no_change"]) | spent, **rows}
        rows["policy"] |= self.result.numbers(success, best) | spent
        return rows

    def _export(self, folder: Path) -> None:
        run, truth = self.run, self.truth
        about = {"run": f"{run['env']} {run['agent']} seed {run['seed']}", "split": truth.table.split.sha256}
        change, cells = self.predictions["policy"].change, self.predictions["policy"].cells
        # as it is scored: a condition whose prediction is not finite counts as no change
        finite = np.isfinite(change).all(axis=1, keepdims=True)
        change = np.where(finite, change, 0.0)
        write_predictions(folder / PREDICTIONS, change, truth, about, cells if finite.all() else None)


def _baseline_settings() -> dict[str, dict[str, Any]]:
    """Return the settings of every baseline, by its name."""
    configs = {name: asdict(baseline_config(name)) for name in baseline_names()}
    return {name: {k: v for k, v in config.items() if k not in ("name", "row")} for name, config in configs.items()}


def differential(truth: ObservedEffects, index: int) -> NDArray[np.bool_]:
    """Return which genes differ from control in the test cells of condition ``index`` of the truth, [G]."""
    x, used = truth.table.screen.x, truth.used[index]
    tester = CellMetrics(truth, np.empty((0, x.shape[1]))).tester(truth.contexts[index])
    out = np.zeros(x.shape[1], dtype=bool)
    cells = x[truth.cells[index]]
    genes = tester.genes(cells, used)
    out[genes] = tester.calls(cells, genes).significant
    return out
