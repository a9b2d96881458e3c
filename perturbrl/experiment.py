"""One run's config as frozen dataclasses, its place on disk, and what it shares with the others of a population."""

from __future__ import annotations

import contextlib
import functools
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
import perturbrl.landscape  # noqa: F401  (these imports register the built-in choices)
from perturbrl import paths, registry
from perturbrl.agents.actor_critic import PolicyConfig
from perturbrl.config import bind, choice, fingerprint, require
from perturbrl.data.cache import cached_table, code_digest, stamps
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.schema import CellTable
from perturbrl.data.split import SplitConfig
from perturbrl.data.table import load_table
from perturbrl.errors import UserError
from perturbrl.evaluate.protocol import PaperProtocolConfig

# keys that change where or how a run is done, but not its result
NOT_IN_HASH = ("name", "device", "threads", "progress", "checkpoint_seconds", "force", "path")
NOT_IN_PATH = ("source", "source.path", "data", "env", "agent", "seed", "experiment")  # they have places of their own
QUOTES = "\"'"
LONGEST_NAME = 200  # bytes of one folder's name; most file systems take 255
DATA_GROUPS = ("source", "data", "encoder", "split")


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
    """Everything that one run was asked to do; meanings stand in ``conf/config.yaml``."""

    source: Any
    data: DataConfig
    encoder: Any
    split: SplitConfig
    env: Any
    schedule: ScheduleConfig
    policy: PolicyConfig
    agent: Any
    protocol: PaperProtocolConfig
    seed: int
    name: str
    path: str | None
    device: str
    threads: int
    progress: str
    checkpoint_seconds: float
    curve_points: int
    force: bool

    def __post_init__(self) -> None:
        choice(self.progress, ("auto", "rich", "plain", "quiet"), "progress")
        choice(self.device, ("auto", "cpu", "cuda"), "device")
        require(self.seed >= 0, "seed", f"must not be negative, got {self.seed}")
        require(self.threads > 0, "threads", f"must be positive, got {self.threads}")
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
    }
    resolved = _resolve(config)
    values = {k: groups[k](v) if k in groups else v for k, v in resolved.items() if k != "experiment"}
    return bind(RunConfig, values, "config")


def make_job(config: DictConfig, path: Path) -> Job:
    """Bind a composed config and keep its resolved form beside it."""
    raw = {k: v for k, v in _resolve(config).items() if k != "experiment"}
    for holder in (raw, raw["source"]):
        if holder.get("path"):  # a run must find its file again from another working directory
            holder["path"] = str(Path(str(holder["path"])).expanduser().resolve())
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


def load_cells(job: Job) -> CellTable:
    """Return the features that a job trains on; jobs that share data share one table in memory."""
    file = job.raw["source"].get("path")
    groups = json.dumps({group: job.raw[group] for group in DATA_GROUPS}, sort_keys=True)
    return _table(groups, stamps(Path(file) if file else None))


@functools.lru_cache(maxsize=8)
def _table(groups: str, stamps: tuple[str, ...]) -> CellTable:
    raw = json.loads(groups)
    source = registry.sources.bind(raw["source"])
    data, split = bind(DataConfig, raw["data"], "data"), bind(SplitConfig, raw["split"], "split")
    encoder = registry.encoders.bind(raw["encoder"])

    def build() -> CellTable:
        return load_table(registry.sources[source.name].build(source), data, encoder, split)

    file = raw["source"].get("path")
    code = code_digest(registry.sources[source.name].build, registry.encoders[encoder.name].build)
    return cached_table(groups, Path(file) if file else None, code, build)


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
