"""One run's config as frozen dataclasses, its place on disk, and what it shares with the others of a population."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

import perturbrl.agents
import perturbrl.data.encoders
import perturbrl.data.sources
import perturbrl.envs
import perturbrl.evaluate.counterfactual.protocol
import perturbrl.evaluate.paper.protocol
import perturbrl.landscape  # noqa: F401  (these imports register the built-in choices)
from perturbrl import paths, registry
from perturbrl.agents import kernels
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.config import bind, choice, fingerprint, require
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.split import KINDS, SplitConfig
from perturbrl.errors import UserError
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig
from perturbrl.screens.split_config import bind_split

# keys that change where or how a run is done, but not its result
NOT_IN_HASH = ("name", "device", "threads", "kernels", "progress", "checkpoint_seconds", "force", "path")
NOT_IN_PATH = ("source", "source.path", "data", "env", "agent", "seed", "experiment")  # they have places of their own
QUOTES = "\"'"
LONGEST_NAME = 200  # bytes of one folder's name; most file systems take 255
FILE_KEYS = (("source", "path"), ("split", "file"), ("description", "prior"))  # files that cells depend on
DATA_GROUPS = ("source", "data", "encoder", "split", "conditions", "description")


@dataclass(frozen=True)
class ScheduleConfig:
    """Training budgets in environment steps; see ``conf/schedule``."""

    name: str
    mode: str
    total: int
    trpo: int
    ppo: int


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
    seed: int
    name: str
    path: str | None
    device: str
    threads: int
    kernels: str
    precision: str
    progress: str
    checkpoint_seconds: float
    curve_points: int
    force: bool

    def __post_init__(self) -> None:
        choice(self.progress, ("auto", "rich", "plain", "quiet"), "progress")
        choice(self.device, ("auto", "cpu", "cuda"), "device")
        require(self.seed >= 0, "seed", f"must not be negative, got {self.seed}")
        require(self.threads > 0, "threads", f"must be positive, got {self.threads}")
        choice(self.kernels, kernels.KERNELS, "kernels")
        choice(self.precision, kernels.PRECISIONS, "precision")
        require(self.curve_points >= 0, "curve_points", f"must not be negative, got {self.curve_points}")
        require(self.checkpoint_seconds >= 0, "checkpoint_seconds", "must not be negative")


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
        """What must be the same for two jobs to be trained together: all but the seed and numbers without a shape."""
        kept = {k: v for k, v in self.raw.items() if k not in ("seed", "name", "force", "progress")}
        # whoever writes a plugin need not know that its runs may differ: only what is built in gets a value for each
        if _built_in(registry.agents[self.config.agent.name]):
            kept["agent"] = _without_free_numbers(self.raw["agent"])
        if _built_in(registry.envs[self.config.env.name]):
            kept["env"] = {k: v for k, v in self.raw["env"].items() if k not in FREE_ENV}
        return json.dumps(kept, sort_keys=True)


FREE_AGENT = (
    *("lr", "gamma", "gae_lambda", "clip", "vf_coef", "ent_coef", "max_grad_norm"),
    *("damping", "line_search_shrink"),
)
FREE_ENV = ("step_size", "clip", "perturb_prob", "max_perturb", "time_limit")


def _built_in(entry: registry.Entry) -> bool:
    return entry.build.__module__.startswith("perturbrl.")


def _without_free_numbers(agent: dict[str, Any]) -> dict[str, Any]:
    kept = {k: _without_free_numbers(v) if isinstance(v, dict) else v for k, v in agent.items()}
    # TRPO's trust region may differ from run to run; PPO's early stop on the same key shapes the loop
    free = (*FREE_AGENT, "target_kl") if "cg_iterations" in agent else FREE_AGENT
    return {k: v for k, v in kept.items() if k not in free}


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
        "agent": registry.agents.bind,
        "protocol": registry.protocols.bind,
        "split": bind_split,
        "conditions": lambda node: bind(ConditionsConfig, node, "conditions"),
        "description": lambda node: bind(DescriptionConfig, node, "description"),
    }
    resolved = _resolve(config)
    values = {k: groups[k](v) if k in groups else v for k, v in resolved.items() if k != "experiment"}
    # only a split that holds out perturbations needs them; a task without has no such group
    bound = bind(RunConfig, {"conditions": None, "description": None, **values}, "config")
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
            holder[key] = str(Path(str(holder[key])).expanduser().resolve())
    split_of_cells = str(raw["split"].get("kind")) in KINDS
    if raw["source"].get("name") == "landscape" and raw["source"].get("perturbations") == "none" and not split_of_cells:
        raw["source"]["perturbations"] = "single"  # control cells alone leave nothing to hold out
    return Job(bind_run(OmegaConf.create(raw)), raw, path)


def load_job(path: Path) -> Job:
    """Read back the job of a run directory.

    Raises
    ------
    UserError
        There is no config, or it no longer binds.
    """
    file = path / paths.CONFIG
    if not file.exists():
        raise UserError(f"{path}: no {paths.CONFIG} here, so this is not a run directory")
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    return make_job(config, path)


def _resolve(config: DictConfig) -> dict[str, Any]:
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except Exception as error:
        raise UserError(f"config: {str(error).splitlines()[0]}") from None
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}


def run_path(config: dict[str, str], overrides: list[str], seed: int, name: str) -> Path:
    """Return ``<name>/<source>-<data>/<env>/<agent>/seed<k>``; overridden values join the part they belong to.

    ``config`` maps groups to choices. ``env.max_perturb=4`` turns ``paper`` into ``paper,max_perturb=4``, so that a
    sweep over any key gives each job a folder of its own. A file stands under its own name.
    """
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
