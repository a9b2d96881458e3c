"""One run's config as frozen dataclasses, its place on disk, and what it shares with the others of a population."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perturbrl import paths, registry
from perturbrl.agents import kernels
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.bounds import NonNegativeFloat, NonNegativeInt, NotEmpty, Number, OneOf, PerRun, Seed, shared_settings
from perturbrl.config import bind, fingerprint, require
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.split import KINDS, SplitConfig
from perturbrl.errors import UserError
from perturbrl.files import write_text
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig
from perturbrl.screens.split_config import bind_split

# keys that change where or how a run is done, but not its result
NOT_IN_HASH = ("name", "device", "threads", "kernels", "progress", "checkpoint_seconds", "force", "path")
NOT_IN_PATH = ("source", "source.path", "data", "env", "agent", "seed", "experiment")  # they have places of their own
EXAMPLES = {"source": "landscape", "data": "rna", "env": "paper", "agent": "ppo"}  # groups that a run's folder names
QUOTES = "\"'"
MOST_THREADS = 1024  # of torch, in one process
MOST_POINTS = 1_000_000  # of a learning curve
LONGEST_NAME = 200  # bytes of one folder's name; most file systems take 255
FILE_KEYS = (("source", "path"), ("split", "file"), ("description", "prior"))  # files that cells depend on
DATA_GROUPS = ("source", "data", "encoder", "split", "conditions", "description")


@dataclass(frozen=True)
class ScheduleConfig:
    """Training budgets in environment steps; see ``conf/schedule``."""

    name: str
    mode: Annotated[str, OneOf("stages", "interleaved")]
    total: NonNegativeInt  # an agent asks for more than 0 of the budgets that it uses
    trpo: NonNegativeInt
    ppo: NonNegativeInt


@dataclass(frozen=True)
class RunConfig:
    """Everything that one run was asked to do; meanings stand in ``conf/config.yaml``.

    ``conditions`` and ``description`` are there where ``split`` holds out perturbations.
    """

    source: Any
    data: DataConfig
    encoder: Any
    split: Any
    conditions: Any
    description: Any
    env: Any
    schedule: ScheduleConfig
    policy: PolicyConfig
    agent: Any
    protocol: Any
    seed: PerRun[Seed]
    name: PerRun[Annotated[str, NotEmpty("runs")]]
    path: str | None
    device: Annotated[str, OneOf("auto", "cpu", "cuda")]
    threads: Annotated[int, Number(least=1, most=MOST_THREADS)]
    kernels: Annotated[str, OneOf(*kernels.KERNELS)]
    precision: Annotated[str, OneOf(*kernels.PRECISIONS)]
    progress: PerRun[Annotated[str, OneOf("auto", "rich", "plain", "quiet")]]
    checkpoint_seconds: NonNegativeFloat
    curve_points: Annotated[int, Number(least=0, most=MOST_POINTS)]
    force: PerRun[bool]


@dataclass(frozen=True)
class Job:
    """A run to do: its config, bound and as composed, and its folder."""

    config: RunConfig
    raw: dict[str, Any]
    path: Path

    @property
    def hash(self) -> str:
        """Fingerprint of everything that can change the result."""
        return fingerprint(self.raw, NOT_IN_HASH)

    @property
    def signature(self) -> str:
        """What must be the same for two jobs to be trained together: all that is not declared ``PerRun``."""
        shared = shared_settings(RunConfig, self.raw, "perturbrl")
        for group, entry in (
            ("agent", registry.agents[self.config.agent.name]),
            ("env", registry.envs[self.config.env.name]),
        ):
            package = entry.build.__module__.partition(".")[0]
            shared[group] = shared_settings(entry.schema, self.raw[group], package)
        return json.dumps(shared, sort_keys=True)


def bind_run(config: DictConfig) -> RunConfig:
    """Bind a composed config.

    Raises
    ------
    UserError
        An unknown key, a wrong type, a missing or impossible value; the message names the key.
    """
    registry.load_plugins()
    groups: dict[str, Any] = {
        "source": registry.sources.bind,
        "encoder": registry.encoders.bind,
        "env": registry.envs.bind,
        "schedule": lambda node: bind(ScheduleConfig, node, "schedule"),
        "policy": lambda node: bind(PolicyConfig, node, "policy"),
        "agent": registry.agents.bind,
        "protocol": registry.protocols.bind,
        "split": bind_split,
        "conditions": lambda node: bind(ConditionsConfig, node, "conditions"),
        "description": lambda node: bind(DescriptionConfig, node, "description"),
    }
    resolved = _resolve(config)
    values = {k: groups[k](v) if k in groups else v for k, v in resolved.items() if k != "experiment"}
    # only a split that holds out perturbations needs them; a task without has no such group
    bound = bind(RunConfig, {"conditions": None, "description": None, **values}, "")
    registry.protocols[bound.protocol.name].build(bound.protocol).check(bound.env, bound.split)
    _check_screen(bound)
    return bound


def _check_screen(config: RunConfig) -> None:
    where = f"split={config.split.kind}"
    for group, usual in (("conditions", "auto"), ("description", "default")):
        given = getattr(config, group)
        if isinstance(config.split, SplitConfig):
            require(given is None, where, f"holds out cells and reads no {group}; leave {group}= out")
        else:
            require(given is not None, where, f"needs {group}; choose {group}={usual}")
    if isinstance(config.split, SplitConfig):
        return
    asked = config.encoder.name
    require(asked == "none", f"encoder={asked}", f"{where} predicts features as they are measured; choose encoder=none")


def make_job(config: DictConfig, path: Path) -> Job:
    """Bind a composed config and keep its resolved form beside it."""
    raw = {k: v for k, v in _resolve(config).items() if k != "experiment"}
    # a run must find its files again from another working directory
    for holder, key in ((raw, "path"), *((raw.get(group), key) for group, key in FILE_KEYS)):
        if holder and holder.get(key):
            holder[key] = os.path.realpath(os.path.expanduser(str(holder[key])))  # never raises, unlike resolve
    split_of_cells = str(raw["split"].get("kind")) in KINDS
    if raw["source"].get("name") == "landscape" and raw["source"].get("perturbations") == "none" and not split_of_cells:
        raw["source"]["perturbations"] = "single"  # control cells alone leave nothing to hold out
    return Job(bind_run(OmegaConf.create(raw)), raw, path)


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


def _resolve(config: DictConfig) -> dict[str, Any]:
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except Exception as error:
        raise UserError(f"{getattr(error, 'full_key', None) or 'config'}: {str(error).splitlines()[0]}") from None
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}


def run_path(config: dict[str, str], overrides: list[str], seed: int, name: str) -> Path:
    """Return ``<name>/<source>-<data>/<env>/<agent>/seed<k>``; overridden values join the part they belong to.

    ``config`` maps groups to choices. ``env.max_perturb=4`` turns ``paper`` into ``paper,max_perturb=4``, so that a
    sweep over any key gives each job a folder of its own. A file stands under its own name.
    """
    for group, usual in EXAMPLES.items():
        require(group in config, group, f"must name one choice, such as {group}={usual}")
    extra: dict[str, list[str]] = {"data": [], "env": [], "agent": []}
    for override in sorted(overrides):
        key, _, value = override.lstrip("+~").partition("=")
        group = key.split(".")[0]
        if key in (*NOT_IN_PATH, *NOT_IN_HASH) or group == "hydra":
            continue
        part = "env" if group in ("env", "protocol") else "data" if group in DATA_GROUPS else "agent"
        short = key.removeprefix(f"{part}.")
        extra[part].append(f"{short}={_file_safe(value.strip(QUOTES))}")
    files = [value for key, _, value in (o.partition("=") for o in overrides) if key in ("path", "source.path")]
    source = Path(files[-1].strip(QUOTES)).stem if files and config["source"] == "file" else config["source"]
    data = ",".join([f"{_file_safe(source)}-{config['data']}", *extra["data"]])
    env, agent = (",".join([config[part], *extra[part]]) for part in ("env", "agent"))
    return Path(name) / _short(data) / _short(env) / _short(agent) / f"seed{seed}"


def _short(folder: str) -> str:
    """Cut a name that file systems would refuse, and keep it unlike any other."""
    if len(folder.encode()) <= LONGEST_NAME:
        return folder
    digest = hashlib.sha256(folder.encode()).hexdigest()[:12]
    return f"{folder.encode()[: LONGEST_NAME - 13].decode(errors='ignore')},{digest}"


def _file_safe(value: str) -> str:
    with contextlib.suppress(ValueError):  # a sweep of Hydra spells 1e-4 as 0.0001
        value = value if value.lstrip("+-").isdigit() else repr(float(value))
    return "".join(c if c.isalnum() or c in "._+-" else "_" for c in value)
