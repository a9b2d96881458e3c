"""``hydra/launcher=population``: train the jobs of a sweep in populations, each job in its own run directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction

    from perturbrl.runner.outcome import Outcome
    from perturbrl.runner.sweep import Composed


class PopulationLauncher(Launcher):
    """Hydra's launcher; the settings stand in ``conf/hydra/launcher/population.yaml``."""

    def __init__(self, workers: int | None, runs_together: int | None, via: str, options: DictConfig) -> None:
        from perturbrl.config import bind
        from perturbrl.runner.hydra.via import LauncherConfig

        values = {"workers": workers, "runs_together": runs_together, "via": via, "options": options}
        self.settings = bind(LauncherConfig, values, "hydra.launcher")
        self.options: Any = OmegaConf.to_container(options, resolve=True)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store the arguments; Hydra calls this before ``launch``."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train every job; a job that fails does not stop the others and is returned as failed.

        ``on_job_start`` of Hydra's callbacks is called for every job before the first one trains, ``on_job_end`` when a
        job has ended; both in this process.
        """
        from perturbrl.runner.hydra.via import remote_runner
        from perturbrl.runner.progress import Progress
        from perturbrl.runner.sweep import sweep

        jobs = [self._compose(number, overrides) for number, overrides in enumerate(job_overrides, initial_job_idx)]
        waiting: dict[Path, list[_Job]] = {}
        for job in jobs:
            waiting.setdefault(job.composed.path, []).append(job)
        settings, callbacks = self.settings, self.hydra_context.callbacks
        progress = Progress(str(self.config.progress))
        if settings.via != "processes" and progress.mode == "rich":
            progress = Progress("plain")
        runner = remote_runner(settings, self.options, Path(str(self.config.hydra.sweep.dir)))
        for job in jobs:
            with job.as_current():
                callbacks.on_job_start(config=job.config, task_function=self.task_function)

        def end(outcome: Outcome) -> None:
            job = waiting[outcome.path].pop(0)
            _settle(job.returned, outcome)
            with job.as_current():
                callbacks.on_job_end(config=job.config, job_return=job.returned)

        limits = {"workers": settings.workers, "runs_together": settings.runs_together}
        sweep([job.composed for job in jobs], progress, runner=runner, on_end=end, **limits)
        return [job.returned for job in jobs]

    def _compose(self, number: int, overrides: Sequence[str]) -> _Job:
        from perturbrl.runner.hydra.compose import composed

        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
        HydraConfig.instance().set_config(config)
        path = Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(path.absolute())
        hydra_config = OmegaConf.create({"hydra": config.hydra})
        assert isinstance(hydra_config, DictConfig)
        task_config = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
        returned = JobReturn(overrides=overrides, cfg=task_config, hydra_cfg=hydra_config, task_name="train")
        returned.working_dir = str(Path.cwd())
        return _Job(config, composed(task_config, hydra_config.hydra, path), returned)


@dataclass(frozen=True)
class _Job:
    """A job as Hydra composed it, with and without the node ``hydra``, and what is returned for it."""

    config: DictConfig
    composed: Composed
    returned: JobReturn

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Let ``HydraConfig.get()`` be that of this job, as it is while Hydra's own launcher runs a job."""
        before = HydraConfig.instance().cfg
        HydraConfig.instance().set_config(self.config)
        try:
            yield
        finally:
            HydraConfig.instance().cfg = before


def _settle(job: JobReturn, outcome: Outcome) -> None:
    from perturbrl.errors import UserError
    from perturbrl.runner.objective import objective

    failed = outcome.status == "failed"
    job.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    job.return_value = UserError(outcome.message) if failed else objective(outcome.path)
