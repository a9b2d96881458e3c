"""One run to do: its config, its place on disk, and what it shares with the others of a population."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perturbrl import paths, registry
from perturbrl.bounds import shared_settings
from perturbrl.config import fingerprint, renamed
from perturbrl.data.split import holds_out_cells
from perturbrl.errors import UserError
from perturbrl.files import write_text
from perturbrl.landscape.networks import SUFFIXES
from perturbrl.run_dirs import NOT_IN_HASH, Labels
from perturbrl.runner.schema import RunConfig, bind_run, resolve

# files that cells depend on
FILE_KEYS = (("source", "path"), ("source", "network"), ("split", "file"), ("description", "prior"))
PATH_KEYS = (*FILE_KEYS, ("agent", "pretrained"))


@dataclass(frozen=True)
class Job:
    """A run to do: its config, bound and as composed, its folder, and its labels where it was not read back."""

    config: RunConfig
    raw: dict[str, Any]
    path: Path
    labels: Labels | None = None

    @property
    def hash(self) -> str:
        """Fingerprint of everything that can change the result."""
        return fingerprint(self.raw, NOT_IN_HASH)

    @property
    def signature(self) -> str:
        """What must be the same for two jobs to be trained together: all that is not declared ``PerRun``."""
        shared = shared_settings(RunConfig, self.raw, "perturbrl")
        for group, entries in (("agent", registry.agents), ("env", registry.envs)):
            node = self.raw[group]
            package = entries[str(node["name"])].build.__module__.partition(".")[0]
            shared[group] = shared_settings(entries.schema(node), node, package)
        return json.dumps(shared, sort_keys=True)


def make_job(config: DictConfig, path: Path, labels: Labels | None = None) -> Job:
    """Bind a composed config and keep its resolved form beside it.

    Raises
    ------
    UserError
        See ``schema.bind_run``.
    """
    registry.load_plugins()
    raw = {k: renamed(k, v) if isinstance(v, dict) else v for k, v in resolve(config).items() if k != "experiment"}
    for group, entries in (("agent", registry.agents), ("env", registry.envs)):
        if isinstance(raw.get(group), dict):
            raw[group] = dict(entries.completed(raw[group]))
    # a run must find its files again from another working directory
    for holder, key in ((raw, "path"), *((raw.get(group), key) for group, key in PATH_KEYS)):
        by_name = key == "network" and holder and Path(str(holder.get(key))).suffix not in SUFFIXES
        if holder and holder.get(key) and not by_name:
            holder[key] = os.path.realpath(os.path.expanduser(str(holder[key])))  # never raises, unlike resolve
    split_of_cells = holds_out_cells(str(raw["split"].get("kind")))
    if raw["source"].get("name") == "landscape" and raw["source"].get("perturbations") == "none" and not split_of_cells:
        raw["source"]["perturbations"] = "single"  # control cells alone leave nothing to hold out
    return Job(bind_run(OmegaConf.create(raw)), raw, path, labels)


def of_file(job: Job, file: Path) -> Job:
    """Return the same job for another file of ``source=file``."""
    place = os.path.realpath(file.expanduser())
    raw = {**job.raw, "path": place, "source": {**job.raw["source"], "path": place}}
    source = dataclasses.replace(job.config.source, path=place)
    return dataclasses.replace(job, config=dataclasses.replace(job.config, path=place, source=source), raw=raw)


def load_job(path: Path, config_hash: str | None = None) -> Job:
    """Read back the job of a run directory; warn where it is not the config of which ``config_hash`` is known.

    Raises
    ------
    UserError
        There is no config, it is damaged, or it no longer binds.
    """
    file = path / paths.CONFIG
    anew = "the command that trained this run writes it anew and trains nothing twice"
    if not file.exists():
        raise UserError(f"{file}: is missing, so this is not a run directory; if it is one, {anew}")
    config = _saved_config(file)
    same = config is not None and config_hash in (None, fingerprint(config, NOT_IN_HASH))
    try:
        job = make_job(OmegaConf.create() if config is None else config, path)
    except Exception as error:  # where groups are missing anything may be raised
        if same:
            raise
        reason = str(error) if isinstance(error, UserError) else "it holds no whole config"
        raise UserError(f"{file}: is damaged ({reason}); {anew}") from None
    if not same:
        warnings.warn(f"{file}: has been changed since the run was trained; {anew}", stacklevel=2)
    return job


def save_config(job: Job) -> None:
    """Write the config of a job, as composed, into its run directory."""
    write_text(job.path / paths.CONFIG, yaml.safe_dump(job.raw, sort_keys=False))


def holds_config(path: Path, config_hash: str) -> bool:
    """Return whether the config in a run directory is the one with this hash."""
    config = _saved_config(path / paths.CONFIG)
    return config is not None and fingerprint(config, NOT_IN_HASH) == config_hash


def _saved_config(file: Path) -> DictConfig | None:
    try:
        config = OmegaConf.load(file)
        OmegaConf.to_container(config, resolve=True)
    except (OSError, ValueError, yaml.YAMLError, OmegaConfBaseException):
        return None
    return config if isinstance(config, DictConfig) else None
