"""Write the evaluation of one run; each file appears whole or not at all, ``summary.json`` last.

Letters: n test conditions, G genes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perturbrl import paths, records
from perturbrl.errors import UserError
from perturbrl.evaluate.counterfactual import ObservedEffects, Prediction, Scores, score
from perturbrl.evaluate.counterfactual.cellwise import CellMetrics
from perturbrl.evaluate.counterfactual.export import PREDICTIONS, write_predictions
from perturbrl.evaluate.counterfactual.returns import Earned
from perturbrl.evaluate.counterfactual.rollout import Rolled
from perturbrl.evaluate.counterfactual.simulator import regrets
from perturbrl.evaluate.scoring import INFO
from perturbrl.metrics_info import PRIMARY, SIMPLE

if TYPE_CHECKING:
    from perturbrl.evaluate.counterfactual.protocol import CounterfactualProtocolConfig

NOTE = "held-out perturbations, predicted from control cells that no training saw; scored in gene space"
PER_PERTURBATION = "per_perturbation.parquet"
CHANGES = "changes.parquet"
NOTHING = {"return": 0.0, "return_normalised": 0.0, "success_rate": 0.0, "mean_abs_action": 0.0, "steps": 0.0}


def write(
    predictions: Mapping[str, Prediction],
    played: tuple[Rolled, Earned] | None,
    truth: ObservedEffects,
    config: CounterfactualProtocolConfig,
    run: Mapping[str, Any],
    out_dir: Path,
) -> None:
    """Score ``predictions`` and write the folder ``evaluation`` of a run; ``played`` is None if its policy diverged.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    scores = score(truth, predictions)
    summary = _summary(scores, predictions, played, truth, config, run)
    try:
        records.write_parquet(out_dir / PER_PERTURBATION, scores.frame)
        records.write_parquet(out_dir / CHANGES, changes(predictions, scores, truth, config.shown))
        if config.export and played is not None:
            about = {"run": f"{run['env']} {run['agent']} seed {run['seed']}", "split": truth.table.split.sha256}
            change = np.nan_to_num(predictions["policy"].change)
            write_predictions(out_dir / PREDICTIONS, change, truth, about)
        records.write_json(out_dir / paths.SUMMARY, summary)
    except OSError as error:
        raise UserError(f"{out_dir}: the evaluation cannot be written ({error.strerror or error})") from error


def _summary(
    scores: Scores,
    predictions: Mapping[str, Prediction],
    played: tuple[Rolled, Earned] | None,
    truth: ObservedEffects,
    config: CounterfactualProtocolConfig,
    run: Mapping[str, Any],
) -> dict[str, Any]:
    said, split = scores.summary(), truth.table.split
    rows = said["rows"]
    rows["no_change"] |= NOTHING | {"wall_seconds": 0.0}
    for row, regret in regrets(predictions).items():
        rows[row]["regret"] = regret if math.isfinite(regret) else None
    spent = {"steps": run["steps"], "wall_seconds": run["wall_seconds"]}
    if played is None:
        # a policy that has diverged predicts nothing: it stays in every table, without numbers
        rows = {"policy": dict.fromkeys(rows["no_change"]) | spent, **rows}
    else:
        change, earned = played
        own = earned.numbers(config.success) | {"mean_abs_action": float(change.mean_abs_action[0])}
        rows["policy"] |= {name: value if math.isfinite(value) else None for name, value in own.items()} | spent
    return {
        "protocol": config.name,
        "note": NOTE,
        "split": {"kind": split.kind, "seed": split.seed, "sha256": split.sha256},
        "header": said["header"],
        # what was asked for, not what there was: runs on other splits of the same data are averaged with this one
        "n_control_cells": config.most_cells or "all",
        "return_episodes": config.episodes,
        "evaluation_seed": config.seed,
        "claims": asdict(config.claims),
        **{name: run[name] for name in INFO},
        "rows": rows,
        "coverage": said["coverage"],
        "flags": [*said["flags"], *truth.table.leaks],
    }


def changes(predictions: Mapping[str, Prediction], scores: Scores, truth: ObservedEffects, shown: int) -> pd.DataFrame:
    """Return true and predicted changes of ``shown`` test conditions, evenly spaced in effect size.

    Columns: row (``truth``, ``policy`` unless it diverged, the best simple baseline), condition, gene, change, and de:
    whether the gene differs from control in the test cells.
    """
    rows: dict[str, NDArray[np.float64]] = {"truth": truth.change}
    if "policy" in predictions:
        rows["policy"] = np.nan_to_num(predictions["policy"].change)
    best = max((name for name in SIMPLE if name in predictions), key=lambda name: scores.rows[name][PRIMARY])
    rows[best] = predictions[best].change
    order = np.argsort(truth.effect_size, kind="stable")
    picked = np.unique(np.linspace(0, len(order) - 1, min(shown, len(order))).round().astype(int))
    parts = []
    for i in order[picked]:
        for row, change in rows.items():
            about = {"row": row, "condition": truth.names[i], "gene": list(truth.table.screen.features)}
            parts.append(pd.DataFrame(about | {"change": change[i], "de": differential(truth, int(i))}))
    columns = ["row", "condition", "gene", "change", "de"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def differential(truth: ObservedEffects, index: int) -> NDArray[np.bool_]:
    """Return which genes differ from control in the test cells of condition ``index`` of the truth, [G]."""
    x, used = truth.table.screen.x, truth.used[index]
    tester = CellMetrics(truth, np.empty((0, x.shape[1]))).tester(truth.contexts[index])
    out = np.zeros(x.shape[1], dtype=bool)
    tested = tester.tested & used
    out[tested] = tester.calls(x[truth.cells[index]], used).significant
    return out
