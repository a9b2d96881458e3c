"""The Hydra task behind ``perturbrl train``: from one composed config to one run directory."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perturbrl import paths
from perturbrl.config import require
from perturbrl.errors import UserError
from perturbrl.records import remove_unused
from perturbrl.runner.job import make_job, run_path
from perturbrl.runner.progress import Progress
from perturbrl.runner.train import train_jobs


def _resolved(overrides: ListConfig) -> list[str]:
    """Return the overrides with what they refer to in its place; an error names the key that was overridden."""
    found: list[str] = []
    written: Any = OmegaConf.to_container(overrides, resolve=False)
    for k, word in enumerate(written):
        try:
            found.append(overrides[k])
        except OmegaConfBaseException as error:
            key, _, value = str(word).lstrip("+~").partition("=")
            raise UserError(f"{key}: {value!r} cannot be resolved ({str(error).splitlines()[0]})") from error
    return found


def _run_dir(*, _root_: DictConfig) -> str:
    choices, overrides = _root_.hydra.runtime.choices, _resolved(_root_.hydra.overrides.task)
    name = str(_root_.name)
    inside = name.strip() and not Path(name).is_absolute() and ".." not in Path(name).parts
    require(bool(inside), "name", f"{name!r} must name a folder below outputs/")
    return str(run_path(dict(choices), overrides, _root_.seed, name))


_progress = functools.cache(Progress)  # one for all jobs of a sweep, so that what they share is printed once

OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)


@hydra.main(version_base="1.3", config_path=str(paths.conf_dir()), config_name="config")
def main(config: DictConfig) -> None:
    """Train one run; Hydra calls this once for each job of a sweep.

    Raises
    ------
    UserError
        See ``training.train_jobs``.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        job = make_job(config, folder)
        progress = _progress(job.config.progress)
        for outcome in train_jobs([job], progress):
            progress.say(str(outcome))
    finally:  # Hydra has made the folder before it called
        remove_unused(folder, Path.cwd() if folder.is_relative_to(Path.cwd()) else folder.parent)
