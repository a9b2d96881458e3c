"""``hydra/launcher=population``: train the jobs of a sweep in populations, each job in its own run directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from hydra.types import HydraContext, TaskFunction

    from perturbrl.runner.population import Runner, Spec
    from perturbrl.runner.train import Outcome


class PopulationLauncher(Launcher):
    """Hydra's launcher; the settings stand in ``conf/hydra/launcher/population.yaml``."""

    def __init__(self, workers: int | None, runs_together: int | None, via: str, options: DictConfig) -> None:
        from perturbrl.config import bind
        from perturbrl.runner.population import LauncherConfig

        given = {"workers": workers, "runs_together": runs_together, "via": via, "options": options}
        settings = bind(LauncherConfig, given, "hydra.launcher")
        self.workers, self.runs_together, self.via = settings.workers, settings.runs_together, settings.via
        self.options: Any = OmegaConf.to_container(options, resolve=True)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what Hydra hands over before ``launch``."""
        self.hydra_context, self.config = hydra_context, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train every job; a job that fails leaves the others alone and is returned as failed."""
        from perturbrl.runner.job import make_job
        from perturbrl.runner.population import default_limit, default_workers, failure, group, specs
        from perturbrl.runner.progress import Progress

        returns: dict[Path, JobReturn] = {}
        jobs = []
        outcomes: list[Outcome] = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id, config.hydra.job.num = f"{config.hydra.job.name}_{number}", number
            HydraConfig.instance().set_config(config)
            path = Path(config.hydra.sweep.dir) / str(config.hydra.sweep.subdir)
            hydra_config = OmegaConf.create({"hydra": config.hydra})
            with open_dict(config):
                del config["hydra"]
            returns[path] = JobReturn(overrides=overrides, cfg=config, hydra_cfg=hydra_config, task_name="train")
            try:
                jobs.append(make_job(config, path))
            except Exception as error:
                outcomes.append(failure(path, error))
        if jobs:
            device, progress = jobs[0].config.device, Progress(jobs[0].config.progress)
            workers = self.workers or default_workers(device)
            groups = group(jobs, workers, self.runs_together or default_limit(device))
            progress.say(f"{len(jobs)} jobs in {len(groups)} populations, {workers} at a time")
            mode = "plain" if progress.mode == "rich" and self.via != "processes" else progress.mode
            for found in self._runner(workers)(specs(groups), mode):
                for outcome in found:
                    progress.say(str(outcome))
                outcomes += found
        for outcome in outcomes:
            _settle(returns[outcome.path], outcome)
        return list(returns.values())

    def _runner(self, workers: int) -> Runner:
        from perturbrl.runner.population import in_processes

        if self.via == "processes":
            return in_processes(workers)
        if self.via == "joblib":
            return self._joblib(workers)
        return self._ray() if self.via == "ray" else self._submitit()

    def _joblib(self, workers: int) -> Runner:
        import joblib

        from perturbrl.runner import interrupt
        from perturbrl.runner.population import train_group

        def run(groups: Sequence[list[Spec]], mode: str) -> Iterator[list[Outcome]]:
            pool = joblib.Parallel(**{"n_jobs": workers, "return_as": "generator_unordered", **self.options})
            with interrupt.request_file() as request, interrupt.deferred(mode == "quiet", request):
                with interrupt.shielded():
                    found = pool(joblib.delayed(train_group)(each, mode, None, request) for each in groups)
                yield from found

        return run

    def _ray(self) -> Runner:
        ray = _need("ray")
        from perturbrl.runner.population import failure, train_group

        def run(groups: Sequence[list[Spec]], mode: str) -> Iterator[list[Outcome]]:
            started_here = not ray.is_initialized()
            if started_here:
                ray.init(**{"log_to_driver": False, **self.options})
            remote = ray.remote(train_group)
            waiting = {remote.remote(each, mode): each for each in groups}
            while waiting:
                (ready,), _ = ray.wait(list(waiting))
                each = waiting.pop(ready)
                try:
                    yield ray.get(ready)
                except Exception as error:
                    yield [failure(path, error) for _, path in each]
            if started_here:
                ray.shutdown()

        return run

    def _submitit(self) -> Runner:
        submitit = _need("submitit")
        from perturbrl.runner.population import failure, train_group

        def run(groups: Sequence[list[Spec]], mode: str) -> Iterator[list[Outcome]]:
            folder = Path(str(self.config.hydra.sweep.dir)) / ".submitit" / "%j"
            executor = submitit.AutoExecutor(folder=folder, cluster=self.via.removeprefix("submitit_"))
            executor.update_parameters(**{"timeout_min": 24 * 60, **self.options})
            started = [(executor.submit(train_group, each, mode), each) for each in groups]
            for job, each in started:
                try:
                    yield job.result()
                except Exception as error:
                    yield [failure(path, error) for _, path in each]

        return run


def _need(package: str) -> Any:
    import importlib

    from perturbrl.errors import UserError

    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"hydra.launcher.via: {package} is not installed; pip install 'perturbrl[launchers]'") from None


def _settle(job: JobReturn, outcome: Outcome) -> None:
    from perturbrl.errors import UserError

    failed = outcome.status == "failed"
    job.status = JobStatus.FAILED if failed else JobStatus.COMPLETED
    job.return_value = UserError(outcome.message) if failed else None
