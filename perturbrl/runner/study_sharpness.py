"""Sharpness of a study's solutions, slices through their losses, and barriers between solutions of two arms.

A measurement stands in the folder of its run and is not repeated. Letters: P points of a line or slice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from perturbrl import files, paths, registry, status
from perturbrl.agents.model.actor_critic import ActorCritic
from perturbrl.agents.sharpness import along, barrier, curvature, filter_normalised, line, policy_loss
from perturbrl.evaluate.scoring import Scoring
from perturbrl.files import write_json, write_text
from perturbrl.records import RunDir
from perturbrl.runner.build import build_learner
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.job import Job, load_job
from perturbrl.runner.study import Study
from perturbrl.runner.study_jobs import Trained

MEASURED = "sharpness.json"  # in the folder of a run
ITERATION = 1_000_000_000  # of the random streams: a rollout that no training has seen
PLACES = np.linspace(-1, 1, 21)  # of a slice, in lengths of the filters
POINTS = 11  # of a line between solutions
CPU = torch.device("cpu")


def examine(study: Study, trained: Sequence[Trained], folder: Path) -> None:
    """Measure the runs of the first seeds, and write ``sharpness.csv``, ``slices.csv`` and ``barriers.csv``."""
    runs = [run for run in trained if run.seed < study.plan.sharpness]
    sharp: list[dict[str, Any]] = []
    slices: list[dict[str, Any]] = []
    for k, run in enumerate(runs):
        with status.step(f"sharpness: {k + 1} of {len(runs)} runs"):
            measured = _measured(run.path)
        if not measured:
            continue
        about = {"task": run.task, "network": run.network, "arm": run.arm, "seed": run.seed}
        sharp.append(about | {key: measured[key] for key in ("largest", "smallest", "n_parameters")})
        slices += [about | {"place": p, "loss": v} for p, v in zip(PLACES, measured["slice"], strict=True)]
    barriers = list(_barriers(study, runs))
    for name, rows in (("sharpness", sharp), ("slices", slices), ("barriers", barriers)):
        if rows:
            write_text(folder / f"{name}.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))


def _measured(folder: Path) -> dict[str, Any]:
    """Return the measurement of a run, made anew if its checkpoint is another; empty where none can be made."""
    if RunDir(folder).run.get("status") != "complete":
        return {}
    checkpoint = files.sha256(folder / paths.CHECKPOINT)
    file = folder / MEASURED
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content["checkpoint"] == checkpoint:
            return content
    except (OSError, ValueError, KeyError):
        pass
    content = measure(load_job(folder), RunDir(folder).checkpoint()[0]["theta"])
    if content:
        write_json(file, content | {"checkpoint": checkpoint})
    return content


def measure(job: Job, theta: Tensor) -> dict[str, Any]:
    """Return both ends of the spectrum and a slice at a solution ``theta`` [1, n]; empty for networks of other kinds.

    The batch is a rollout of the solution's own policy, on random numbers that no training has seen.
    """
    torch.set_num_threads(job.config.threads)
    learner = build_learner([job], load_cells(job), CPU)
    collector = getattr(learner, "collector", None)
    if collector is None or not isinstance(learner.model, ActorCritic):
        return {}
    stage = learner.stages[-1]
    with torch.no_grad():
        learner.model.theta.copy_(theta)
        collector.reset(ITERATION)
        batch = collector.collect(ITERATION, stage.gamma, stage.gae_lambda)
    loss, point = policy_loss(learner.model, batch)
    found = curvature(loss, point)
    direction = filter_normalised(learner.model, point, job.config.seed)
    ends = {"largest": found.largest, "smallest": found.smallest}
    return {
        **{key: value if np.isfinite(value) else None for key, value in ends.items()},
        "n_parameters": len(point),
        "slice": along(loss, point, direction, PLACES).tolist(),
    }


def _barriers(study: Study, runs: Sequence[Trained]) -> Iterator[dict[str, Any]]:
    """Yield the score along the line between the solutions of two arms that a claim compares, one row a point.

    Both started from the same networks, those of the seed, so that their units correspond.
    """
    by_place = {(run.task, run.network, run.arm, run.seed): run.path for run in runs}
    tests = study.claims.tests if study.claims else ()
    pairs = dict.fromkeys((test.task, test.first, test.second) for test in tests if test.task in study.tasks)
    for task, first, second in pairs:
        column = study.tasks[task].column
        curves: dict[str, Any] = {}
        for (where, network, arm, seed), folder in by_place.items() if column.startswith("eval/") else ():
            other = by_place.get((task, network, second, seed))
            if where != task or arm != first or other is None:
                continue
            ends = [RunDir(each).checkpoint()[0]["theta"][0] for each in (folder, other)]
            alike = ends[0].shape == ends[1].shape and bool(torch.isfinite(torch.stack(ends)).all())
            if not alike:
                continue
            with status.step(f"barrier between {first} and {second} on {network}"):
                values = _along_line(
                    load_job(folder), line(ends[0], ends[1], POINTS), column.removeprefix("eval/"), curves, network
                )
            height = barrier(-values)
            about = {"task": task, "network": network, "first": first, "second": second, "seed": seed}
            for t, value in zip(np.linspace(0, 1, POINTS), values, strict=True):
                yield about | {"barrier": height, "t": float(t), "score": float(value)}


@torch.no_grad()
def _along_line(job: Job, thetas: Tensor, column: str, curves: dict[str, Any], network: str) -> np.ndarray[Any, Any]:
    """Return the score of each policy of ``thetas`` [P, n], as on a learning curve."""
    table = load_cells(job)
    if network not in curves:
        curves.clear()
        scoring: Scoring = registry.protocols[job.config.protocol.name].build(job.config.protocol)
        curves[network] = scoring.curve([job.config.env] * len(thetas), table, CPU)
    learner = build_learner([job], table, CPU)
    learner.model.theta = thetas.float().contiguous()
    scores: np.ndarray[Any, Any] = curves[network].at(learner.model.act)[column].double().numpy()
    return scores
