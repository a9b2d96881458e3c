"""Compose configs as ``perturbrl train`` does, for code that is not started by Hydra."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, open_dict

from perturbrl import paths
from perturbrl.runner.hydra import main  # noqa: F401  (registers the resolver that names run directories)
from perturbrl.runner.hydra.errors import translated
from perturbrl.runner.job import Job, make_job, run_path


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Return the config, Hydra's own part included, for a list of overrides.

    Raises
    ------
    UserError
        An override names a choice or a key that there is not, or cannot be read.
    """
    GlobalHydra.instance().clear()
    with translated(overrides), initialize_config_dir(config_dir=str(paths.conf_dir()), version_base="1.3"):
        return compose("config", overrides=list(overrides), return_hydra_config=True)


def compose_job(overrides: Sequence[str], out: Path, name: str, implied: Sequence[str] = ()) -> Job:
    """Compose one job, with its run directory under ``out``.

    ``implied`` are overrides that ``name`` already stands for, so that the folder need not spell them.
    """
    config = compose_config([*implied, *overrides, f"name={name}"])
    path = out / run_path(dict(config.hydra.runtime.choices), list(overrides), config.seed, name)
    with open_dict(config):
        del config["hydra"]
    return make_job(config, path)
