"""Compose configs as ``perturbrl train`` does, for code that is not started by Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from perturbrl import paths
from perturbrl.config import require
from perturbrl.runner.hydra import old_names, run_dir, stage_settings, sub_groups
from perturbrl.runner.hydra.errors import translated
from perturbrl.runner.job import Job
from perturbrl.runner.naming import run_labels, run_path
from perturbrl.runner.sweep import Composed

run_dir.register()


def compose_config(overrides: Sequence[str]) -> DictConfig:
    """Return the config, with the node ``hydra``, for a list of overrides.

    Raises
    ------
    UserError
        An override names an unknown choice or key, or cannot be read.
    """
    GlobalHydra.instance().clear()
    folder = str(paths.conf_dir())
    composing = initialize_config_dir(config_dir=folder, version_base="1.3")
    read = stage_settings.filled(), old_names.accepted(), sub_groups.accepted()
    with translated(overrides), read[0], read[1], read[2], composing:
        return hydra_compose("config", overrides=list(overrides), return_hydra_config=True)


def refuse(overrides: Sequence[str], reasons: Mapping[str, str], command: str) -> None:
    """Refuse keys that a command sets itself; ``reasons`` says for each key what to do instead.

    Raises
    ------
    UserError
        One of them is among the overrides.
    """
    for key in (override.lstrip("+~").partition("=")[0] for override in overrides):
        require(key not in reasons, key, f"{command} sets it itself; {reasons.get(key)}")


def compose(overrides: Sequence[str], out: Path, name: str, implied: Sequence[str] = ()) -> Composed:
    """Compose one run, with its run directory under ``out``.

    ``implied`` are overrides that ``name`` stands for; the labels do not repeat them.
    """
    config = compose_config([*implied, *overrides, f"name={name}"])
    labels = run_labels(dict(config.hydra.runtime.choices), list(overrides), name)
    path = out / run_path(labels, config.seed)
    with open_dict(config):
        del config["hydra"]
    return Composed(config, path, labels)


def composed(config: DictConfig, hydra: Any, folder: Path) -> Composed:
    """Pack what Hydra composed for a job: its config, the node ``hydra``, and the directory of the run."""
    hydra_part = {"runtime": {"choices": hydra.runtime.choices}, "overrides": {"task": hydra.overrides.task}}
    whole = OmegaConf.merge(OmegaConf.to_container(config, resolve=False), {"hydra": hydra_part})
    assert isinstance(whole, DictConfig)
    return Composed(config, folder, run_dir.labels_of(whole))


def compose_job(overrides: Sequence[str], out: Path, name: str, implied: Sequence[str] = ()) -> Job:
    """Compose one run, and bind its config.

    Raises
    ------
    UserError
        See ``compose_config`` and ``schema.bind_run``.
    """
    return compose(overrides, out, name, implied).job()
