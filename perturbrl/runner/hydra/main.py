"""The Hydra task behind ``perturbrl train``: from one composed config to one run directory."""

from __future__ import annotations

import functools
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from perturbrl import paths
from perturbrl.records import remove_unused
from perturbrl.runner.hydra import run_dir
from perturbrl.runner.hydra.compose import composed
from perturbrl.runner.objective import objective
from perturbrl.runner.progress import Progress
from perturbrl.runner.sweep import sweep

_progress = functools.cache(Progress)  # one for all jobs of a sweep, so that shared notices are printed once

run_dir.register()


@hydra.main(version_base="1.3", config_path=str(paths.conf_dir()), config_name="config")
def main(config: DictConfig) -> float:
    """Train one run; Hydra calls this once for each job of a sweep.

    Returns
    -------
    float
        See ``objective``; a sweeper may optimise it.

    Raises
    ------
    UserError
        See ``train.train_jobs``.
    """
    hydra_config = HydraConfig.get()
    folder = Path(hydra_config.runtime.output_dir)
    try:
        trained = sweep([composed(config, hydra_config, folder)], _progress(str(config.progress)), workers=1)
    finally:  # Hydra has made the folder before it called
        remove_unused(folder, Path.cwd() if folder.is_relative_to(Path.cwd()) else folder.parent)
    for outcome in trained.failed:
        assert outcome.error is not None
        raise outcome.error
    return objective(folder)
