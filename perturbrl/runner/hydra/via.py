"""How the population launcher starts work: processes of this machine, joblib, submitit or Ray."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from perturbrl.bounds import OneOf, PositiveInt
from perturbrl.errors import UserError
from perturbrl.runner import interrupt
from perturbrl.runner.grouping import default_workers
from perturbrl.runner.outcome import Outcome, failed
from perturbrl.runner.processes import Groups, Runner, specs, train_group

VIA = ("processes", "joblib", "submitit_local", "submitit_slurm", "ray")


@dataclass(frozen=True)
class LauncherConfig:
    """How populations are started; meanings stand in ``conf/hydra/launcher/population.yaml``."""

    workers: PositiveInt | None
    runs_together: PositiveInt | None
    via: Annotated[str, OneOf(*VIA)]
    options: Any


def remote_runner(settings: LauncherConfig, options: Any, folder: Path) -> Runner | None:
    """Return the runner that ``via`` names; None for processes of this machine. ``folder`` takes submitit's files.

    Raises
    ------
    UserError
        Its package is not installed.
    """
    if settings.via == "processes":
        return None
    if settings.via == "joblib":
        return _joblib(settings.workers, options)
    return _ray(options) if settings.via == "ray" else _submitit(settings.via, options, folder)


def _joblib(workers: int | None, options: Any) -> Runner:
    joblib = _need("joblib")

    def run(groups: Groups, mode: str) -> Iterator[list[Outcome]]:
        n_jobs = workers or default_workers(groups[0][0].config.device)
        pool = joblib.Parallel(**{"n_jobs": n_jobs, "return_as": "generator_unordered", **options})
        with interrupt.request_file() as request, interrupt.deferred(mode == "quiet", request):
            with interrupt.shielded():
                results = pool(joblib.delayed(train_group)(each, mode, None, request) for each in specs(groups))
            yield from results

    return run


def _ray(options: Any) -> Runner:
    ray = _need("ray")

    def run(groups: Groups, mode: str) -> Iterator[list[Outcome]]:
        started_here = not ray.is_initialized()
        if started_here:
            ray.init(**{"log_to_driver": False, **options})
        remote = ray.remote(train_group)
        waiting = {remote.remote(each, mode): each for each in specs(groups)}
        while waiting:
            (ready,), _ = ray.wait(list(waiting))
            each = waiting.pop(ready)
            try:
                yield ray.get(ready)
            except Exception as error:
                yield [failed(spec.path, error) for spec in each]
        if started_here:
            ray.shutdown()

    return run


def _submitit(via: str, options: Any, folder: Path) -> Runner:
    submitit = _need("submitit")

    def run(groups: Groups, mode: str) -> Iterator[list[Outcome]]:
        executor = submitit.AutoExecutor(folder=folder / ".submitit" / "%j", cluster=via.removeprefix("submitit_"))
        executor.update_parameters(**{"timeout_min": 24 * 60, **options})
        started = [(executor.submit(train_group, each, mode), each) for each in specs(groups)]
        for job, each in started:
            try:
                yield job.result()
            except Exception as error:
                yield [failed(spec.path, error) for spec in each]

    return run


def _need(package: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"hydra.launcher.via: {package} is not installed; pip install 'perturbrl[launchers]'") from None
