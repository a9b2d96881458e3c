"""Finished runs as an object: their policies, tables and report, for notebooks."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import paths, records, run_dirs
from perturbrl.config import fingerprint, require
from perturbrl.envs.factory import Table
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import Act
from perturbrl.generators.cells import CellGenerator
from perturbrl.records import RunDir
from perturbrl.report.text import count
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.evaluate import Evaluator, load_policy
from perturbrl.runner.job import Job, load_job
from perturbrl.runner.objective import objective
from perturbrl.runner.runs_table import folder_of, places, score_table

Array = TypeVar("Array", Tensor, NDArray[Any])
SHOWN = 20  # runs in the text of an object


class Policy:
    """A deterministic policy. It takes tensors and numpy arrays, and returns what it was given."""

    def __init__(self, act: Act) -> None:
        self._act = act

    def __call__(self, obs: Array) -> Array:
        """Return the actions in some states.

        Parameters
        ----------
        obs
            Standardised features, [B, G], or [G] for one cell. They are rounded to float32.

        Returns
        -------
        Tensor or ndarray
            Actions in the box of the environment, [B, A] float32 (or [A]); [B] int64 if actions are discrete.

        Raises
        ------
        UserError
            The observations have another number of features, or are not numbers.
        """
        if isinstance(obs, Tensor):
            return self._of(obs.detach().to("cpu", torch.float32)).to(obs.device)
        try:
            cells = np.ascontiguousarray(obs, dtype=np.float32)
        except (TypeError, ValueError):
            raise UserError(f"policy: observations must be an array of numbers, got {type(obs).__name__}") from None
        return self._of(torch.from_numpy(cells)).numpy()

    def _of(self, obs: Tensor) -> Tensor:
        return self._act(obs[None])[0] if obs.dim() == 1 else self._act(obs)


@dataclass(frozen=True, repr=False)
class Runs:
    """Finished runs, in the order of agents and seeds; ``train`` and ``load`` return them."""

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
            The source cannot be read any more, or the runs were trained on different cells.
        """
        same = (
            len({fingerprint({group: job.raw.get(group) for group in run_dirs.DATA_GROUPS}) for job in self.jobs}) == 1
        )
        one = "take those of one run: perturbrl.load(runs.paths[0]).cells"
        require(same, "cells", f"these runs were trained on different cells or splits; {one}")
        return load_cells(self.jobs[0])

    def policy(self, k: int = 0) -> Policy:
        """Return the deterministic policy of a run.

        Parameters
        ----------
        k
            Number of the run, from 0, in the order of ``paths``.

        Returns
        -------
        Policy
            Maps observations [B, G] (standardised features) to actions: [B, A] in the box of the environment, or [B]
            int64 if actions are discrete. It takes and returns tensors or numpy arrays.

        Raises
        ------
        UserError
            The checkpoint is missing or damaged, or the run has no policy.
        """
        policy = load_policy(self.jobs[k], load_cells(self.jobs[k]))
        if isinstance(policy, CellGenerator):
            raise UserError(f"{self.jobs[k].path}: this run generates cells, it has no policy")
        return Policy(policy)

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

    def table(self, level: float = 0.95) -> pd.DataFrame:
        """Return the scores of the policies, with the simple rows beside them.

        Runs without an evaluation are evaluated by the protocol of their task, which writes their folder
        ``evaluation``; others keep the one that they have.

        Parameters
        ----------
        level
            Coverage of the intervals, between 0 and 1.

        Returns
        -------
        DataFrame
            One row for each agent (``policy`` where there is one only), then one for each simple row. For each metric,
            the mean over seeds; after all metrics, ``<metric>_low`` and ``<metric>_high``, the ends of Student's t
            interval over seeds (NaN with one seed; the mean itself where a row does not depend on the seed). Then
            ``n``, the number of seeds in the row, and ``diverged``, how many more have no score. Splits of one screen
            overlap: for held-out perturbations the intervals to quote are those of ``report``.

        Raises
        ------
        UserError
            A run is not finished, its data have changed since, or two runs of a row have the same seed and split.
        """
        self._evaluate()
        return score_table(self.jobs, level)

    def report(self, out: str | Path | None = None) -> Path:
        """Write tables, figures and one page, as ``perturbrl report`` does.

        Parameters
        ----------
        out
            The folder. Default: ``report`` in the folder ``out/name`` of the runs.

        Returns
        -------
        Path
            The page, ``report.html``.

        Raises
        ------
        UserError
            A run cannot be evaluated, or the folder cannot be written.
        """
        from perturbrl.report import build_report

        self._evaluate()
        return build_report(self.paths, Path(out) if out is not None else folder_of(self.jobs) / "report").page

    def _evaluate(self) -> None:
        evaluator = Evaluator()
        for job in self.jobs:
            if not (job.path / paths.EVALUATION / paths.SUMMARY).exists():
                evaluator.evaluate(job.path)

    def __len__(self) -> int:
        return len(self.jobs)

    def __repr__(self) -> str:
        """Return a short table: what the runs differ in, status, steps and last return of each."""
        heads = ["agent", "seed", "status", "steps", "return"]
        names = {job.path: place.agent for place, members in places(self.jobs).items() for job in members}
        lines = []
        for job in self.jobs[:SHOWN]:
            run = RunDir(job.path).run
            last = objective(job.path)
            name = names[job.path].replace("policy", job.config.agent.name)
            about = [name, str(job.config.seed), str(run.get("status", "not trained")), f"{run.get('steps', 0):,}"]
            lines.append([*about, "" if math.isnan(last) else f"{last:.3g}"])
        widths = [max(len(line[k]) for line in [heads, *lines]) for k in range(len(heads))]
        text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in [heads, *lines]]
        more = [f"... and {len(self.jobs) - SHOWN} more"] if len(self.jobs) > SHOWN else []
        head = f"{count(len(self.jobs), 'run')} in {os.path.relpath(folder_of(self.jobs))}"
        return "\n".join([head, *text, *more])


def load(*where: str | Path) -> Runs:
    """Return finished runs from their directories.

    Parameters
    ----------
    where
        Run directories, folders of runs, or globs: ``"outputs/runs"``.

    Returns
    -------
    Runs
        Sorted by folder and seed. A run that is not finished, or cannot be read, is left out with a warning.

    Raises
    ------
    UserError
        A path does not exist, or no finished run lies under any of them.
    """
    found = run_dirs.find_runs(where or ("outputs",))
    left_out: list[str] = []
    jobs = sorted(_finished(found, left_out), key=lambda job: (job.path.parent, job.config.seed))
    if not jobs:
        reason = f"no finished run ({left_out[0]})" if left_out else "no run found"
        asked = ", ".join(map(str, where or ("outputs",)))
        raise UserError(f"{asked}: {reason}; make some with: {run_dirs.HOW_TO_RUN}")
    for each in left_out:
        warnings.warn(f"left out: {each}", stacklevel=2)
    return Runs(tuple(jobs))


def _finished(folders: Sequence[Path], left_out: list[str]) -> Iterator[Job]:
    for folder in folders:
        try:
            run = RunDir(folder).run
            require(run.get("status") in records.FINISHED, str(folder), "the run is not finished")
            yield load_job(folder, run.get("config_hash"))
        except UserError as error:
            named = str(error).startswith(str(folder))
            left_out.append(str(error) if named else f"{folder}: {error}")
