"""``perturbrl reproduce``: train, evaluate and report Tables I-III, and compare with the published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perturbrl.config import choice
from perturbrl.runner import reference_check
from perturbrl.runner.hydra.compose import compose, compose_config, refuse
from perturbrl.runner.judge import judge
from perturbrl.runner.progress import Progress
from perturbrl.runner.sweep import Composed, sweep_all

AS_RELEASED = ("data.preset=released", "compare_published=true")
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
    check: bool | Path = False,
) -> Path:
    """Train every arm on every table, evaluate, and write the report.

    Cells are preprocessed as in the release, leaks included; the override ``data.preset=strict`` avoids the leaks.

    Parameters
    ----------
    schedule
        Training budgets: ``released``, ``text``, ``equal`` or ``per_iteration``.
    seeds
        Number of seeds (0, 1, ...) of each arm on each table.
    quick
        Divide all budgets by 16, but train at least one rollout in each stage.
    out
        Folder of the runs and of the report.
    overrides
        Overrides of ``perturbrl train`` for all runs: ``source=file path=...``, ``device=cuda``.
    progress
        ``auto``, ``rich``, ``plain`` or ``quiet``.
    workers
        Number of processes. Default: one for each core; one on a GPU.
    check
        Compare the tables with this file of a reference (true: with the package's); write ``check.json`` too.

    Returns
    -------
    Path
        The page of the report.

    Raises
    ------
    UserError
        An override is wrong, no reference fits, or a run failed. The others are saved; the same command resumes.
    SystemExit
        With code 1 if ``check`` found a value that drifted.
    """
    choice(schedule, SCHEDULES, "--schedule")
    show = Progress(progress)
    name = f"{schedule}-quick" if quick else schedule
    if quick:
        show.say(f"quick: budgets are cut to about a {QUICK}th, so the numbers are not the tables' numbers")
    implied = [f"schedule={schedule}", *AS_RELEASED, *(_quick_budgets(schedule) if quick else ())]
    composed = _compose_tables(seeds, out, name, implied, overrides)
    references = reference_check.candidates(composed, check)
    trained = sweep_all(composed, show, workers)
    show.say(f"evaluating {len(trained.jobs)} runs and writing the report")
    page = judge(trained.jobs, [out / name], out / name / "report")
    reference_check.check(trained, references, page.parent / reference_check.FILE, show)
    return page


def _compose_tables(
    seeds: int, out: Path, name: str, implied: Sequence[str], overrides: Sequence[str]
) -> list[Composed]:
    """Compose every arm and seed on every table."""
    refuse(overrides, SET_HERE, "reproduce")
    tables, rest = _split_tables(overrides)
    return [
        compose([*rest, f"data={data}", f"agent={agent}", f"seed={seed}"], out, name, implied)
        for data in tables
        for agent in ARMS
        for seed in range(seeds)
    ]


def _quick_budgets(schedule: str) -> list[str]:
    whole = compose_config([f"schedule={schedule}"]).schedule
    budgets = [f"schedule.{key}={max(2048, int(whole[key]) // QUICK)}" for key in ("total", "trpo", "ppo")]
    return [*budgets, f"schedule.name={schedule}-quick"]


def _split_tables(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate ``data=rna,atac`` (the tables to make; default: all three) from the other overrides."""
    tables = [o.partition("=")[2].split(",") for o in overrides if o.startswith("data=")]
    return (tables[-1] if tables else list(TABLES)), [o for o in overrides if not o.startswith("data=")]
