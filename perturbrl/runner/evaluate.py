"""``perturbrl evaluate``: score the checkpoint of every finished run under some paths."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import files, paths, records, registry, status
from perturbrl.agents import kernels
from perturbrl.config import choice, require
from perturbrl.envs.factory import Table
from perturbrl.errors import UserError
from perturbrl.evaluate.actions import Act
from perturbrl.evaluate.scoring import INFO, Evaluation, Scoring, Simulated
from perturbrl.generators.cells import CellGenerator
from perturbrl.landscape.config import LandscapeConfig
from perturbrl.landscape.truth import true_means
from perturbrl.records import RunDir
from perturbrl.run_dirs import find_runs
from perturbrl.runner.build import build_model
from perturbrl.runner.dataset import DatasetInfo, load_cells
from perturbrl.runner.job import Job, holds_config, load_job
from perturbrl.runner.outcome import all_diverged, failed
from perturbrl.screens.schema import PerturbationTable

MOST_SHARED = 4  # tables of rows at a time: each may hold a large data set
NEEDED = (*INFO, "config_hash", "data_checksum", "wall_seconds")  # of run.json
SHARED = ("source", "data", "encoder", "split", "conditions", "description", "env")


class Evaluator:
    """Evaluates runs one after another; runs that share cells, task and protocol share the rows that need no policy.

    Parameters
    ----------
    overrides
        ``protocol.KEY=VALUE``, ``protocol=NAME``, or ``baseline=predictions path=FILE``.

    Raises
    ------
    UserError
        Another override.
    """

    def __init__(self, overrides: Sequence[str] = ()) -> None:
        self.predictions, self.protocol, self.overrides = _read(overrides)
        self._evaluations: dict[str, Evaluation] = {}

    def evaluate(self, folder: Path) -> None:
        """Write the ``evaluation`` folder of one run.

        Parameters
        ----------
        folder
            A run directory.

        Raises
        ------
        UserError
            The run is not finished, its checkpoint is unreadable, or its data have changed since.
        """
        run = RunDir(folder).run
        if run.get("status") not in records.FINISHED:
            raise UserError(f"{folder}: the run is not finished; give the command that started it again, it resumes")
        if missing := [key for key in NEEDED if key not in run]:
            raise UserError(f"{folder / paths.RUN}: is damaged, {missing[0]} is missing; {records.GO_ON}")
        job = load_job(folder, run["config_hash"])
        name = job.config.protocol.name
        if self.protocol not in (None, name):
            raise UserError(f"{folder}: protocol={self.protocol} does not fit; this run is for protocol={name}")
        torch.set_num_threads(job.config.threads)  # more threads on small tensors wait for each other
        kernels.configure(job.config.kernels, "float32")
        table = load_cells(job)
        if DatasetInfo.of(table).checksum != run["data_checksum"]:
            raise UserError(f"{folder}: the data have changed since this run was trained; train again with force=true")
        protocol = self._bound(job.raw["protocol"])
        scoring: Scoring = registry.protocols[name].build(protocol)
        key = json.dumps([job.raw.get(group) for group in SHARED] + [repr(protocol)])
        if key not in self._evaluations:
            while len(self._evaluations) >= MOST_SHARED:
                self._evaluations.pop(next(iter(self._evaluations)))
            self._evaluations[key] = scoring.evaluation(table, job.config.env, _simulated(job, table))
        policy = load_policy(job, table, "float32") if run["status"] == "complete" else None
        out = folder / paths.EVALUATION
        (out / paths.DIGESTS).unlink(missing_ok=True)
        with status.step(f"evaluating {_short(folder)}"):
            self._evaluations[key].evaluate(policy, run | _claims(job, run), out, self.predictions)
        written = sorted(file.name for file in out.iterdir() if file.suffix in (".json", ".parquet"))
        records.write_json(out / paths.DIGESTS, files.digests(out, written))

    def check(self, folders: Sequence[Path]) -> None:
        """Raise ``UserError`` for overrides that fit no run at all: they are wrong, not one of the runs."""
        if not self.overrides:
            return
        errors: list[UserError] = []
        for folder in folders:
            try:
                protocol = load_job(folder).raw["protocol"]
            except UserError:
                continue  # reported with this run
            try:
                self._bound(protocol)
            except UserError as error:
                errors.append(error)
            else:
                return
        if errors:
            raise errors[0]

    def _bound(self, protocol: dict[str, Any]) -> Any:
        try:
            changed = OmegaConf.from_dotlist([o.removeprefix("protocol.") for o in self.overrides])
        except yaml.YAMLError as error:
            raise UserError(f"{' '.join(self.overrides)}: a value cannot be read ({error})") from None
        return registry.protocols.bind(OmegaConf.merge(protocol, changed))


def _claims(job: Job, run: dict[str, Any]) -> dict[str, Any]:
    """Return ``claims`` as the run was trained with; none if its config is no longer the one it was trained with."""
    same = holds_config(job.path, run["config_hash"])
    return {"claims": job.raw["protocol"].get("claims") if same else None}


def _simulated(job: Job, table: Table) -> Simulated | None:
    """Return the simulator's true means as a function of the number of cells; None if no simulator made the screen."""
    config = job.config
    if not isinstance(config.source, LandscapeConfig) or not isinstance(table, PerturbationTable):
        return None
    return lambda n_cells: true_means(config.source, table.screen, config.data, config.conditions, n_cells)


def _read(overrides: Sequence[str]) -> tuple[Path | None, str | None, list[str]]:
    """Split the overrides of ``evaluate``: a file of predictions, the name of the protocol, keys of the protocol."""
    values = dict(o.lstrip("+").partition("=")[::2] for o in overrides)
    for key in values:
        if key not in ("protocol", "baseline", "path") and not key.startswith("protocol."):
            raise UserError(
                f"{key}={values[key]}: only protocol.* can be changed when evaluating (protocol.n_cells=all), "
                "or baseline=predictions path=FILE given"
            )
    if "baseline" in values:
        choice(values["baseline"], ("predictions",), "baseline")
    if ("baseline" in values) != ("path" in values):
        raise UserError("baseline=predictions path=FILE.h5ad: the two go together")
    if "protocol" in values:
        choice(values["protocol"], registry.protocols, "protocol")
    file = Path(values["path"]).expanduser() if "path" in values else None
    keys = [f"{key}={value}" for key, value in values.items() if key.startswith("protocol.")]
    return file, values.get("protocol"), keys


def load_policy(job: Job, table: Table, precision: str | None = None) -> Act | CellGenerator:
    """Return the deterministic policy of a run's checkpoint, or its generator of cells, on the CPU.

    It keeps the kernels and precision with which it was loaded, whatever is configured later.

    Parameters
    ----------
    job
        The run.
    table
        Its cells, for the sizes of the networks.
    precision
        ``float32``, ``tf32`` or ``bf16``. Default: that of the run; float32 for tf32, which a CPU does not have.

    Returns
    -------
    Callable or CellGenerator
        A policy maps observations [B, G] (float32) to actions [B, A], or [B] int64 if they are discrete. It raises
        ``UserError`` for observations of another size.

    Raises
    ------
    UserError
        The checkpoint is missing or damaged.
    """
    tensors, _ = RunDir(job.path).checkpoint()
    if precision is None:
        precision = "float32" if job.config.precision == "tf32" else job.config.precision  # a CPU has no tf32
    with kernels.using(job.config.kernels, precision):
        model, size = build_model(job, table, torch.device("cpu"))

    @torch.no_grad()
    def act(obs: Tensor) -> Tensor:
        fits = obs.dim() == 2 and obs.shape[1] == size
        require(fits, "policy", f"observations must have the shape [cells, {size}], got {list(obs.shape)}")
        return model.act(obs.unsqueeze(0)).squeeze(0)

    with torch.no_grad():
        model.theta.copy_(tensors["theta"])
    return model if isinstance(model, CellGenerator) else act


def main(where: Sequence[str], overrides: Sequence[str] = ()) -> int:
    """Evaluate every run under some paths; a run that cannot be evaluated does not stop the others.

    Parameters
    ----------
    where
        Run directories, folders of runs, or globs.
    overrides
        See ``Evaluator``.

    Returns
    -------
    int
        0, or 1 if a run could not be evaluated or all of them diverged.

    Raises
    ------
    UserError
        There is no run, or an override does not belong to the protocol.
    """
    evaluator = Evaluator(overrides)
    folders = find_runs(where)
    if not folders:
        raise UserError(f"{', '.join(where)}: no runs found; train some first")
    evaluator.check(folders)
    n_failed = 0
    statuses: list[str] = []
    for folder in folders:
        try:
            evaluator.evaluate(folder)
            statuses.append(str(RunDir(folder).run["status"]))
            print(f"{_short(folder)}: evaluated", file=sys.stderr)
        except Exception as error:  # one run, whatever is wrong with it, does not stop the others
            n_failed += 1
            where = "" if isinstance(error, UserError) else f"{_short(folder)}: "
            print(f"error: {where}{failed(folder, error).message}", file=sys.stderr)
    if n_failed:
        print(f"error: {n_failed} of {len(folders)} runs could not be evaluated", file=sys.stderr)
    if diverged := all_diverged(statuses):
        print(diverged, file=sys.stderr)
    return 1 if n_failed or diverged else 0


def _short(folder: Path) -> str:
    here = Path.cwd()
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
