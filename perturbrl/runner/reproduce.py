"""Behind ``perturbrl reproduce``: Tables I-III from nothing: train, evaluate, report, compare with the published."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from perturbrl.config import choice, require
from perturbrl.errors import UserError
from perturbrl.report import build_report
from perturbrl.runner import interrupt
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.hydra.compose import compose, compose_config
from perturbrl.runner.progress import Progress
from perturbrl.runner.sweep import sweep

TABLES = ("joint", "rna", "atac")
ARMS = ("ppo", "trpo", "trpo_ppo")
SCHEDULES = ("released", "text", "equal", "per_iteration")
SET_HERE = {
    "agent": f"every table has {', '.join(ARMS)}; for one of them give perturbrl train agent=...",
    "seed": "give --seeds N for seeds 0 to N-1",
    "schedule": "give --schedule",
    "name": "give --out for another folder",
}
QUICK = 16  # budgets are divided by this, but no stage is shorter than a rollout


def reproduce(
    schedule: str = "released",
    seeds: int = 1,
    quick: bool = False,
    out: Path = Path("outputs/reproduce"),
    overrides: Sequence[str] = (),
    progress: str = "auto",
    workers: int | None = None,
) -> Path:
    """Train every arm on every table, evaluate and report; return the page.

    Cells are preprocessed as in the release, leaks included (``data.preset=strict`` among the overrides mends that).
    ``overrides`` are Hydra's, for all runs (``source=file path=...``, ``device=cuda``). ``quick`` divides all
    budgets by 16.

    Raises
    ------
    UserError
        An override is wrong, or some run failed (the others are kept; the same command goes on with what is missing).
    """
    choice(schedule, SCHEDULES, "--schedule")
    _check_overrides(overrides)
    show = Progress(progress)
    implied = [f"schedule={schedule}", "data.preset=released", *(_quick_budgets(schedule) if quick else ())]
    name = f"{schedule}-quick" if quick else schedule
    modalities, rest = _split_tables(overrides)
    if quick:
        show.say(f"quick: budgets are cut to about a {QUICK}th, so the numbers are not the tables' numbers")
    composed = [
        compose([*rest, f"data={data}", f"agent={agent}", f"seed={seed}"], out, name, implied)
        for data in modalities
        for agent in ARMS
        for seed in range(seeds)
    ]
    trained = sweep(composed, show, workers=workers)
    if trained.failed:
        raise UserError(f"{len(trained.failed)} of {len(composed)} runs failed; first: {trained.failed[0]}")
    jobs = trained.jobs
    show.say(f"evaluating {len(jobs)} runs and writing the report")
    with interrupt.explained("every run is trained; the same command goes on with the evaluation"):
        evaluator = Evaluator()
        for job in jobs:
            evaluator.evaluate(job.path)
        report = build_report([out / name], out / name / "report")
    Console(file=sys.stdout).print(report.console)
    return report.page


def _check_overrides(overrides: Sequence[str]) -> None:
    """Refuse keys that the tables set themselves, which would be ignored."""
    for key in (override.lstrip("+~").partition("=")[0] for override in overrides):
        require(key not in SET_HERE, key, f"reproduce sets it itself; {SET_HERE.get(key)}")


def _quick_budgets(schedule: str) -> list[str]:
    whole = compose_config([f"schedule={schedule}"]).schedule
    budgets = [f"schedule.{key}={max(2048, int(whole[key]) // QUICK)}" for key in ("total", "trpo", "ppo")]
    return [*budgets, f"schedule.name={schedule}-quick"]


def _split_tables(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part ``data=rna,atac`` (which tables to make; all three by default) from the other overrides."""
    tables = [o.partition("=")[2].split(",") for o in overrides if o.startswith("data=")]
    return (tables[-1] if tables else list(TABLES)), [o for o in overrides if not o.startswith("data=")]
