"""FABRICATED run directories for tests of the report: every number in them is drawn at random, none was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

METRICS = ("accuracy", "precision", "recall", "f1", "auprc", "mse", "rmse", "mae", "r2", "pearson")
STEPS = {"ppo": 1_001_472, "trpo": 1_001_472, "trpo_ppo": 61_440}


def row(rng: np.random.Generator, drift: float) -> dict[str, float]:
    """Random metrics that get worse as ``drift`` (the mean size of an action) grows."""
    noise = 1 + 0.04 * rng.standard_normal(12)
    accuracy = 1 - 0.45 * drift * noise[0]
    values = {
        "accuracy": accuracy,
        "precision": accuracy + 0.015,
        "recall": accuracy,
        "f1": accuracy - 0.002,
        "auprc": accuracy - 0.03 * noise[1],
        "mse": drift**2 * 1.25 * noise[2],
        "rmse": drift * 1.1 * noise[3],
        "mae": drift * noise[4],
        "r2": 1 - drift**2 * 1.6 * noise[5],
        "pearson": 1 - 0.4 * drift * noise[6],
        "mean_abs_action": drift * noise[4],
        "return_gain": (drift - 0.45) * 8 * noise[7],
    }
    return {k: float(v) for k, v in values.items()}


def floors(rng: np.random.Generator) -> dict[str, dict[str, float]]:
    still = dict.fromkeys(("accuracy", "precision", "recall", "f1", "auprc", "r2", "pearson"), 1.0)
    still |= dict.fromkeys(("mse", "rmse", "mae", "mean_abs_action", "return_gain"), 0.0)
    return {
        "do_nothing": still,
        "random_uniform": row(rng, 0.5),
        "random_sign": row(rng, 0.9),
        "best_constant": row(rng, 0.3),
    }


def make_run(
    root: Path,
    agent: str = "ppo",
    data: str = "rna",
    seed: int = 0,
    *,
    name: str = "fabricated",
    source: str = "landscape",
    env: str = "paper",
    override: str = "",
    status: str = "complete",
    evaluated: bool = True,
    points: int = 12,
    said: dict[str, Any] | None = None,
    values: dict[str, float] | None = None,
    summary: dict[str, Any] | None = None,
) -> Path:
    """Write a fabricated run directory.

    ``said`` replaces keys of run.json, ``summary`` those of summary.json, ``values`` cells of the policy's row.
    """
    folder = root / name / f"{source}-{data}" / env / (agent + override) / f"seed{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *map(ord, agent + data + source)])
    drift = {"ppo": 0.62, "trpo": 0.6, "trpo_ppo": 0.22}.get(agent, 0.4) * (1 + 0.05 * rng.standard_normal())
    steps = STEPS.get(agent, 200_000)
    record = {
        "status": status,
        "config_hash": "0" * 64,
        "seed": seed,
        "agent": agent,
        "env": env.split(",")[0],
        "source": source,
        "data": data,
        "policy": "trunk",
        "schedule": "released",
        "preset": "released",
        "steps": steps,
        "wall_seconds": 1.0,
        "device": "cpu",
        "versions": {"perturbrl": "0.0.0"},
        "git_commit": "fabricated0",
        "data_checksum": "0" * 64,
        "n_features": 64 if data == "joint" else 32,
        "leaks": ["standardised over all cells"],
        "message": "step 20480: policy.mean is not finite" if status == "diverged" else "",
    }
    (folder / "config.yaml").write_text("fabricated: true\n")
    (folder / "run.json").write_text(json.dumps(record | (said or {})))
    if points:
        progress(rng, drift, steps // 3 if status == "diverged" else steps, points, agent).to_parquet(
            folder / "progress.parquet"
        )
    if evaluated and status == "complete":
        (folder / "evaluation").mkdir(exist_ok=True)
        rows = {"policy": row(rng, drift) | (values or {})} | floors(np.random.default_rng(seed))
        content = {"protocol": "paper", "n_cells": 30, "steps": steps, "rows": rows} | (summary or {})
        (folder / "evaluation" / "summary.json").write_text(json.dumps(content))
    return folder


def progress(rng: np.random.Generator, drift: float, steps: int, points: int, agent: str) -> pd.DataFrame:
    """Fabricated curves: the action grows with the logarithm of the steps; every third iteration is evaluated."""
    x = np.unique(np.geomspace(2048, steps, points).astype(int))
    grown = np.clip(drift * np.log(x / 1000) / np.log(steps / 1000), 0.02, None)
    frame = pd.DataFrame({"iteration": np.arange(len(x)), "step": x, "seconds": x / 2000})
    frame["stage"] = np.where((agent == "trpo_ppo") & (x <= 10_240), "trpo", "ppo")
    frame["return_mean"] = (grown - 0.45) * 8 + 0.3 * rng.standard_normal(len(x))
    metrics = pd.DataFrame([row(rng, float(g)) for g in grown])
    keep = (frame["iteration"] % 3 == 0) | (frame["iteration"] == len(x) - 1)
    for column in metrics:
        target = "eval/return" if column == "return_gain" else f"eval/{column}"
        frame[target] = metrics[column].where(keep)
    return frame
