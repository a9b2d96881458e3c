"""Behind ``perturbrl evaluate``: score the checkpoint of every finished run found under some paths."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from omegaconf import OmegaConf

from perturbrl import paths, records
from perturbrl.config import bind
from perturbrl.data.schema import CellTable
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import Act
from perturbrl.evaluate.protocol import PaperProtocolConfig, Row, floor_rows
from perturbrl.evaluate.task import evaluate_run
from perturbrl.experiment import Job, load_cells, load_job
from perturbrl.report.collect import find_runs
from perturbrl.training import build_learner

INFO = (
    "name",
    "source",
    "data",
    "env",
    "agent",
    "variant",
    "policy",
    "schedule",
    "preset",
    "encoder",
    "seed",
    "steps",
    "status",
)


class Evaluator:
    """Evaluates runs one after another; runs that share cells, task and protocol share the rows that need no policy."""

    def __init__(self, overrides: Sequence[str] = ()) -> None:
        self.overrides = list(overrides)
        for override in self.overrides:
            if not override.lstrip("+").startswith("protocol."):
                raise UserError(f"{override}: only protocol.* can be changed when evaluating (protocol.n_cells=all)")
        self._floors: dict[str, Mapping[str, Row]] = {}

    def evaluate(self, folder: Path) -> None:
        """Write the ``evaluation`` folder of one run.

        Raises
        ------
        UserError
            The run is not finished, its checkpoint is unreadable, or its data have changed since.
        """
        run = records.read_json(folder / paths.RUN) if (folder / paths.RUN).exists() else {}
        if run.get("status") not in records.FINISHED:
            raise UserError(f"{folder}: the run is not finished; give the command that started it again, it resumes")
        job = load_job(folder)
        torch.set_num_threads(job.config.threads)  # more threads on small tensors wait for each other
        table = load_cells(job)
        if table.checksum != run["data_checksum"]:
            raise UserError(f"{folder}: the data have changed since this run was trained; train again with force=true")
        protocol = self._protocol(job)
        key = json.dumps([job.raw[g] for g in ("source", "data", "encoder", "split", "env")] + [repr(protocol)])
        if key not in self._floors:
            self._floors[key] = floor_rows(table, job.config.env.name, job.config.env, protocol)
        info = {name: run[name] for name in INFO}
        evaluate_run(
            load_policy(job, table) if run["status"] == "complete" else None,
            table,
            job.config.env.name,
            job.config.env,
            info,
            folder / paths.EVALUATION,
            protocol,
            self._floors[key],
        )

    def _protocol(self, job: Job) -> PaperProtocolConfig:
        changed = OmegaConf.from_dotlist([o.lstrip("+").removeprefix("protocol.") for o in self.overrides])
        return bind(PaperProtocolConfig, OmegaConf.merge(job.raw["protocol"], changed), "protocol")


def load_policy(job: Job, table: CellTable) -> Act:
    """Return the deterministic policy of a run's checkpoint, on the CPU: observations [B, G] to actions."""
    tensors, _ = records.read_tensors(job.path / paths.CHECKPOINT)
    model = build_learner([job], table, torch.device("cpu")).model
    model.theta.copy_(tensors["theta"])
    return lambda obs: model.act(obs.unsqueeze(0)).squeeze(0)


def main(where: Sequence[str], overrides: Sequence[str] = ()) -> int:
    """Evaluate every run under ``where``; return 1 if any could not be, else 0.

    Raises
    ------
    UserError
        Nothing was found, or an override is not one of the protocol's.
    """
    evaluator = Evaluator(overrides)
    folders = find_runs(where)
    if not folders:
        raise UserError(f"{', '.join(where)}: no runs found; train some first")
    failed = 0
    for folder in folders:
        try:
            evaluator.evaluate(folder)
            print(f"{_short(folder)}: evaluated", file=sys.stderr)
        except UserError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    if failed:
        print(f"error: {failed} of {len(folders)} runs could not be evaluated", file=sys.stderr)
    return 1 if failed else 0


def _short(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
