"""perturbrl from Python, for notebooks: train on an AnnData, evaluate, and use the policy."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from omegaconf import DictConfig

from perturbrl import paths, records
from perturbrl.config import require
from perturbrl.envs.factory import Table
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import Act
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator, load_policy
from perturbrl.runner.hydra.compose import compose, compose_config
from perturbrl.runner.job import Job
from perturbrl.runner.progress import Progress
from perturbrl.runner.sweep import sweep

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@dataclass(frozen=True)
class Runs:
    """Finished runs of one agent, one for each seed, in the order of the seeds; ``train`` returns them."""

    jobs: tuple[Job, ...]

    @property
    def paths(self) -> list[Path]:
        """Their run directories."""
        return [job.path for job in self.jobs]

    @property
    def cells(self) -> Table:
        """The features on which they were trained, with the split; read again from the source or the cache.

        Raises
        ------
        UserError
            The source cannot be read any more.
        """
        return load_cells(self.jobs[0])

    def policy(self, k: int = 0) -> Act:
        """Return the deterministic policy of a run.

        Parameters
        ----------
        k
            Number of the run, from 0, in the order of ``paths``.

        Returns
        -------
        Callable
            Maps observations [B, G] (float32 tensor, standardised features) to actions: [B, A] in the box of the
            environment, or [B] int64 if actions are discrete.

        Raises
        ------
        UserError
            The checkpoint is missing or damaged.
        """
        return load_policy(self.jobs[k], self.cells)

    def progress(self, k: int = 0) -> pd.DataFrame:
        """Return the training log of a run.

        Parameters
        ----------
        k
            Number of the run, from 0, in the order of ``paths``.

        Returns
        -------
        DataFrame
            One row for each iteration (rollout); the columns are those of ``progress.parquet``.
        """
        return records.read_parquet(self.jobs[k].path / paths.PROGRESS)

    def table(self) -> pd.DataFrame:
        """Evaluate every run by the protocol of its task; writes the folder ``evaluation`` of each run.

        Returns
        -------
        DataFrame
            One row for each policy or floor, one column for each metric; means over seeds.

        Raises
        ------
        UserError
            A run is not finished, or its data have changed since.
        """
        evaluator = Evaluator()
        rows = []
        for job in self.jobs:
            evaluator.evaluate(job.path)
            summary = records.read_json(job.path / paths.EVALUATION / paths.SUMMARY)
            rows.append(pd.DataFrame(summary["rows"]).T.astype(float))
        return sum(rows[1:], rows[0]) / len(rows)


def train(
    cells: AnnData | MuData | str | Path | None = None,
    agent: str = "ppo",
    *,
    data: str = "rna",
    seeds: int | Sequence[int] = 1,
    steps: int | None = None,
    name: str = "notebook",
    out: str | Path = "outputs",
    overrides: Mapping[str, Any] | None = None,
    progress: str = "quiet",
    workers: int = 1,
) -> Runs:
    """Train one agent on your cells, or on the embedded landscape if ``cells`` is None.

    Parameters
    ----------
    cells
        An AnnData, a MuData (for ``data="joint"`` or ``"cite"``), or the path of a file that ``source=file`` reads.
    agent
        A choice of ``agent=``: ``ppo``, ``trpo``, ``trpo_ppo`` or that of a plugin.
    data
        A choice of ``data=``: which modalities are used.
    seeds
        The number of seeds (0, 1, ...), or a list of seeds.
    steps
        Environment steps of each run, instead of those of the schedule. TRPO -> PPO spends a sixth of them on TRPO;
        with ``schedule=per_iteration`` both steps of each iteration share all of them.
    name, out
        Runs are written below ``out/name``.
    overrides
        Any other config keys, dotted: ``{"env.max_perturb": 8, "agent.lr": 3e-4}``.
    progress
        ``quiet``, ``plain``, ``rich`` or ``auto``.
    workers
        Number of processes; 1 trains in this one.

    Returns
    -------
    Runs
        The finished runs, in the order of ``seeds``.

    Raises
    ------
    UserError
        A key or value is wrong, the cells do not fit ``data``, or a run failed.
    """
    out = Path(out)
    choices = _with_budgets([f"agent={agent}", f"data={data}"], overrides or {}, steps)
    if cells is not None:
        choices += ["source=file", f"path={_spell(str(_on_disk(cells, out / name)))}"]
    numbers = range(seeds) if isinstance(seeds, int) else seeds
    require(len(numbers) > 0, "seeds", f"{seeds!r} asks for no run; give at least one seed")
    composed = [compose([*choices, f"seed={seed}", f"progress={progress}"], out, name) for seed in numbers]
    trained = sweep(composed, Progress(progress), workers=workers)
    for outcome in trained.failed:
        raise outcome.error if isinstance(outcome.error, UserError) else UserError(str(outcome))
    return Runs(trained.jobs)


def _with_budgets(choices: list[str], overrides: Mapping[str, Any], steps: int | None) -> list[str]:
    """Return the overrides of a run: its choices, the budgets that ``steps`` stands for, and the user's own."""
    changes = [f"{key}={_spell(value)}" for key, value in overrides.items()]
    if steps is None:
        return [*choices, *changes]
    budgets = _budgets(steps, compose_config([*choices, *changes]))
    spelled = [f"schedule.{key}={n}" for key, n in budgets.items() if f"schedule.{key}" not in overrides]
    return [*choices, *spelled, *changes]


def _budgets(steps: int, config: DictConfig) -> dict[str, int]:
    """Share ``steps`` between the stages of an agent; stages that are interleaved use every step both."""
    if config.agent.get("mode") == "interleaved":
        return {"total": steps, "trpo": steps, "ppo": steps}
    return {"total": steps, "trpo": steps // 6, "ppo": steps - steps // 6}


def _spell(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), default=str)


def _on_disk(cells: AnnData | MuData | str | Path, folder: Path) -> Path:
    """Return a file of the cells; what is in memory is written beside the runs, so that they can be evaluated later."""
    if isinstance(cells, str | Path):
        return Path(os.path.realpath(cells))
    folder.mkdir(parents=True, exist_ok=True)
    kind = "h5mu" if hasattr(cells, "mod") else "h5ad"
    draft = folder / f".cells.{kind}"
    cells.write(draft)
    digest = hashlib.sha256(draft.read_bytes()).hexdigest()[:12]
    return draft.replace(folder / f"cells-{digest}.{kind}").resolve()


__all__ = ["Runs", "train"]
