"""``hydra/launcher=population``: train the jobs of a sweep in populations, each job in its own run directory."""

from __future__ import annotations

from collections.abc import Sequence
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
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train every job; a job that fails does not stop the others and is returned as failed."""
        from perturbrl.runner.hydra.via import remote_runner
        from perturbrl.runner.progress import Progress
        from perturbrl.runner.sweep import sweep

        returns: dict[Path, JobReturn] = {}
        runs: list[Composed] = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            run, returned = self._compose(number, overrides)
            runs.append(run)
            returns[run.path] = returned
        settings = self.settings
        progress = Progress(str(self.config.progress))
        if settings.via != "processes" and progress.mode == "rich":
            progress = Progress("plain")
        runner = remote_runner(settings, self.options, Path(str(self.config.hydra.sweep.dir)))
        limits = {"workers": settings.workers, "runs_together": settings.runs_together}
        for outcome in sweep(runs, progress, runner=runner, **limits).outcomes:
            _settle(returns[outcome.path], outcome)
        return list(returns.values())

    def _compose(self, number: int, overrides: Sequence[str]) -> tuple[Composed, JobReturn]:
        from perturbrl.runner.hydra.compose import composed

        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
        HydraConfig.instance().set_config(config)
        path = Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)
        hydra_config = OmegaConf.create({"hydra": config.hydra})
        assert isinstance(hydra_config, DictConfig)
        with read_write(hydra_config.hydra), open_dict(hydra_config.hydra):
            hydra_config.hydra.runtime.output_dir = str(path)
        with open_dict(config):
            del config["hydra"]
        returned = JobReturn(overrides=overrides, cfg=config, hydra_cfg=hydra_config, task_name="train")
        return composed(config, hydra_config.hydra, path), returned


def _settle(job: JobReturn, outcome: Outcome) -> None:
    from perturbrl.errors import UserError

    failed = outcome.status == "failed"
    job.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    job.return_value = UserError(outcome.message) if failed else None
