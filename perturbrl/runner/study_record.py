"""The files of a study beside its report: ``tuning.csv``, every candidate with its score, and ``study.json``."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perturbrl.files import write_json, write_text
from perturbrl.runner.study import Study
from perturbrl.runner.study_claims import Claims
from perturbrl.runner.study_jobs import Trained, Tuned

CHOSEN, TUNING = "study.json", "tuning.csv"
Best = Mapping[tuple[str, str], Tuned]


def about(study: Study, tuned: Sequence[Tuned], best: Best, overrides: Sequence[str]) -> dict[str, Any]:
    """Return what ``study.json`` holds of every study."""
    settings: dict[str, dict[str, str]] = {}
    for (task, arm), one in best.items():
        settings.setdefault(task, {})[arm] = one.candidate
    return {
        "study": study.name,
        "title": study.title,
        "seeds": study.plan.seeds,
        "tuning_seeds": study.plan.tuning_seeds,
        "tuning_runs": len(tuned) * len(study.plan.tuning_seeds) * len(study.networks.tuning),
        "budget": study.plan.budget,
        "overrides": list(overrides),
        "chosen": settings,
    }


def described(
    study: Study, claims: Claims, declared: Mapping[str, Any], trained: Sequence[Trained], out: Path
) -> dict[str, Any]:
    """Return what ``study.json`` holds besides of a study of networks: all that its page says and needs."""
    arms = {
        name: {"overrides": study.overrides(arm.overrides), "candidates": arm.spelled, "share": arm.share}
        for name, arm in study.arms.items()
    }
    runs = [
        {
            **{key: getattr(each, key) for key in ("task", "network", "arm", "seed")},
            "run": Path(os.path.relpath(each.path, out)).as_posix(),
        }
        for each in trained
    ]
    parts = {"tuning": study.networks.tuning, "test": study.networks.test}
    return {
        "steps": study.plan.steps,
        "tasks": {name: task.overrides for name, task in study.tasks.items()},
        "arms": arms,
        "networks": {part: {name: one.family for name, one in some.items()} for part, some in parts.items()},
        "metrics": claims.metrics,
        "rows": claims.rows,
        "claims": claims.declared() | {"sha256": claims.sha256},
        "declared": dict(declared),
        "runs": runs,
    }


def write(folder: Path, study: Study, record: Mapping[str, Any], tuned: Sequence[Tuned], best: Best) -> None:
    """Write both files."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("task", "arm", "candidate", "column", "mean", "n_seeds", "chosen"))
    n = len(study.plan.tuning_seeds) * len(study.networks.tuning)
    for one in tuned:
        mine = best[one.task, one.arm] is one
        rows.writerow((one.task, one.arm, one.candidate, study.tasks[one.task].column, one.score, n, int(mine)))
    write_text(folder / TUNING, text.getvalue())
    write_json(folder / CHOSEN, record)
