"""``${run_dir:}``: the directory of a run, from the choices and overrides of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perturbrl.config import require
from perturbrl.errors import UserError
from perturbrl.run_dirs import Labels
from perturbrl.runner.naming import run_labels, run_path


def labels_of(config: DictConfig) -> Labels:
    """Return the labels of a run, from its composed config with Hydra's own part.

    Raises
    ------
    UserError
        ``name`` names no folder below outputs, or an override refers to what is not there.
    """
    name = str(config.name)
    inside = name.strip() and not Path(name).is_absolute() and ".." not in Path(name).parts
    require(bool(inside), "name", f"{name!r} must name a folder below outputs/")
    return run_labels(dict(config.hydra.runtime.choices), _resolved(config.hydra.overrides.task), name)


def register() -> None:
    """Let configs say ``${run_dir:}``."""
    OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)


def _run_dir(*, _root_: DictConfig) -> str:
    return str(run_path(labels_of(_root_), _root_.seed))


def _resolved(overrides: ListConfig) -> list[str]:
    """Resolve interpolations in the overrides; an error names the key that was overridden."""
    resolved: list[str] = []
    written: Any = OmegaConf.to_container(overrides, resolve=False)
    for k, word in enumerate(written):
        try:
            resolved.append(overrides[k])
        except OmegaConfBaseException as error:
            key, _, value = str(word).lstrip("+~").partition("=")
            raise UserError(f"{key}: {value!r} cannot be resolved ({str(error).splitlines()[0]})") from error
    return resolved
