"""FABRICATED runs on held-out perturbations: every number in them is drawn at random, none was measured."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perturbrl.metrics_info import HELD_OUT as COLUMNS
from perturbrl.metrics_info import ROWS, SIMULATOR

SKILL = {
    **{"no_change": -0.3, "random": -0.8, "best_constant": -0.1, "train_mean": 0.0, "matching_mean": 0.1},
    **{"additive": 0.15, "bilinear": 0.4, "bilinear_tuned": 0.42, "kernel_ridge": 0.38, "knn": 0.2, "mlp": 0.45},
    **{"transfer_mean": -0.3, "permuted": -0.5, "technical_duplicate": 1.0, "interpolated_duplicate": 1.1},
    "true_mean": 1.2,
    "best_actions": 0.8,
}
GENES = [f"G{k}" for k in range(60)]


def make_screen_run(
    root: Path,
    agent: str = "ppo",
    seed: int = 0,
    *,
    skill: float = 0.3,
    name: str = "screens",
    cells: str = "papalexi21-rna",
    kind: str = "unseen_single",
    split_seed: int = 0,
    env: str = "counterfactual",
    status: str = "complete",
    conditions: int = 12,
    strata: tuple[str, ...] = ("single",),
    summary: dict[str, Any] | None = None,
    said: dict[str, Any] | None = None,
) -> Path:
    """Write a fabricated run; ``skill`` is its calibrated score at every metric (0 training mean, 1 replicate)."""
    folder = root / name / cells / env / agent / f"seed{seed}"
    (folder / "evaluation").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, split_seed, *map(ord, agent)])
    shared = np.random.default_rng([split_seed, 7])
    effect = np.exp(shared.normal(0.5, 0.6, conditions))
    names = [f"T{split_seed}_{k}" for k in range(conditions)]
    level = shared.normal(0, 0.15, conditions)
    skills = {row: SKILL[row] for row in ROWS if row != SIMULATOR}
    if status == "complete":
        skills = {"policy": skill + 0.03 * rng.normal()} | skills
    rows: dict[str, dict[str, Any]] = {}
    everything = []
    for row, s in skills.items():
        rows[row] = {}
        drawn = rng if row == "policy" else np.random.default_rng([split_seed, *map(ord, row)])
        noise = drawn.normal(0, 0.1, conditions)
        for metric, column in COLUMNS.items():
            base, replicate = (0.5, 0.9) if column.better == "up" else (1.0, 0.2)
            values = base + (s + level + noise) * (replicate - base)
            everything.append(values)
            mean = float(values.mean())
            rows[row][metric] = mean
            rows[row][f"median/{metric}"] = float(np.median(values))
            rows[row][f"resistant/{metric}"] = mean - 0.05
            rows[row][f"calibrated/{metric}"] = (mean - base) / (replicate - base)
    pairs = [(row, metric) for row in skills for metric in COLUMNS]
    frame = pd.DataFrame(np.repeat(pairs, conditions, axis=0), columns=["row", "metric"])
    for key, each in (("condition", names), ("stratum", np.resize(strata, conditions)), ("effect_size", effect)):
        frame[key] = np.tile(each, len(pairs))
    frame = frame.assign(n_cells=150, value=np.concatenate(everything))
    rl = {"return": 2.0 * skill, "return_normalised": skill, "success_rate": 0.4, "mean_abs_action": 0.2}
    rl |= {"return_share": skill / 0.8, "train_return_normalised": 0.8, "train_return_share": 0.9}
    spent = {"steps": 50_000, "wall_seconds": 61.5}
    rows["no_change"] |= dict.fromkeys(rl, 0.0) | {"steps": 0.0, "wall_seconds": 0.0}
    rows["best_actions"] |= rl | {
        "return": 1.6,
        "return_normalised": 0.8,
        "return_share": 1.0,
        "train_return_share": 1.0,
    }
    if status == "complete":
        rows["policy"] |= rl | spent
    else:
        rows["policy"] = dict.fromkeys(rows["no_change"])
    content = {
        "protocol": "counterfactual",
        "note": "fabricated",
        "split": {
            "kind": kind,
            "seed": split_seed,
            "sha256": hashlib.sha256(f"{kind}{split_seed}".encode()).hexdigest(),
        },
        "header": {
            "n_test": conditions,
            "median_cells": 150.0,
            "systematic_variation": 0.41,
            "drf": dict.fromkeys(COLUMNS, 0.7),
            "n_excluded_de": 1,
            "de_prevalence": 0.06,
        },
        "n_control_cells": 100,
        "rows": rows,
        "coverage": dict.fromkeys(rows, 1.0) | {"transfer_mean": 0.0},
        "flags": ["mse_norm: fabricated"],
    }
    source, data = cells.split(",")[0].rsplit("-", 1)
    record = {
        **{"status": status, "seed": seed, "agent": agent, "env": env.split(",")[0], "source": source, "data": data},
        **{"policy": "trunk", "schedule": "screen", "preset": "default", "steps": 50_000, "n_features": 60},
        **{"versions": {"perturbrl": "0.0.0"}, "git_commit": "fabricated0", "leaks": [], "message": ""},
    }
    (folder / "config.yaml").write_text("fabricated: true\n")
    (folder / "run.json").write_text(json.dumps(record | (said or {})))
    (folder / "evaluation" / "summary.json").write_text(json.dumps(content | (summary or {})))
    frame.to_parquet(folder / "evaluation" / "per_perturbation.parquet", index=False)
    _changes(rng, names, effect, skill).to_parquet(folder / "evaluation" / "changes.parquet", index=False)
    _progress(rng, skill).to_parquet(folder / "progress.parquet", index=False)
    return folder


def _changes(rng: np.random.Generator, names: list[str], effect: np.ndarray, skill: float) -> pd.DataFrame:
    parts = []
    for k in np.argsort(effect)[:: max(1, len(names) // 6)][:6]:
        truth = effect[k] * rng.normal(0, 0.2, len(GENES)) * (rng.random(len(GENES)) < 0.4)
        predicted = {"truth": truth, "policy": skill * truth + 0.05 * rng.normal(size=len(GENES))}
        predicted["bilinear_tuned"] = 0.5 * truth + 0.04 * rng.normal(size=len(GENES))
        for row, change in predicted.items():
            about = {"row": row, "condition": names[k], "gene": GENES, "change": change, "de": np.abs(truth) > 0.25}
            parts.append(pd.DataFrame(about))
    return pd.concat(parts)


def _progress(rng: np.random.Generator, skill: float) -> pd.DataFrame:
    steps = np.arange(1, 26) * 2000
    grown = skill * (1 - np.exp(-steps / 15_000))
    frame = pd.DataFrame({"iteration": np.arange(25), "step": steps, "seconds": steps / 900, "stage": "ppo"})
    frame["return_mean"] = 2 * grown + 0.1 * rng.normal(size=25)
    frame["eval/pds_cosine"] = 0.5 + 0.4 * grown + 0.02 * rng.normal(size=25)
    frame["eval/pearson_delta_pert"] = grown + 0.02 * rng.normal(size=25)
    frame["eval/return"] = 2 * grown + 0.05 * rng.normal(size=25)
    return frame
