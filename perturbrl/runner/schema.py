"""The config of one run as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from omegaconf import DictConfig, OmegaConf

from perturbrl import registry
from perturbrl.agents import kernels
from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.bounds import NonNegativeFloat, NonNegativeInt, NotEmpty, Number, OneOf, PerRun, Seed
from perturbrl.config import bind, require
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.split import SplitConfig
from perturbrl.errors import UserError
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig

MOST_THREADS = 1024  # of torch, in one process
MOST_POINTS = 1_000_000  # of a learning curve


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
    compare_published: bool
    force: PerRun[bool]


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
        "split": registry.splits.bind,
        "conditions": lambda node: bind(ConditionsConfig, node, "conditions"),
        "description": lambda node: bind(DescriptionConfig, node, "description"),
    }
    resolved = resolve(config)
    values = {k: groups[k](v) if k in groups else v for k, v in resolved.items() if k != "experiment"}
    # only a split that holds out perturbations needs the groups; a run of an older version has not the last key
    absent = {"conditions": None, "description": None, "compare_published": False}
    bound = bind(RunConfig, {**absent, **values}, "")
    registry.protocols[bound.protocol.name].build(bound.protocol).check(bound.env, bound.split)
    _check_screen(bound)
    return bound


def _check_screen(config: RunConfig) -> None:
    where = f"split={config.split.kind}"
    for group, usual in (("conditions", "auto"), ("description", "default")):
        value = getattr(config, group)
        if isinstance(config.split, SplitConfig):
            require(value is None, where, f"holds out cells and reads no {group}; leave {group}= out")
        else:
            require(value is not None, where, f"needs {group}; choose {group}={usual}")
    if isinstance(config.split, SplitConfig):
        return
    encoder = config.encoder.name
    require(
        encoder == "none", f"encoder={encoder}", f"{where} predicts features as they are measured; choose encoder=none"
    )


def resolve(config: DictConfig) -> dict[str, Any]:
    """Return a composed config as plain data, with interpolations resolved."""
    try:
        resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    except Exception as error:
        raise UserError(f"{getattr(error, 'full_key', None) or 'config'}: {str(error).splitlines()[0]}") from None
    assert isinstance(resolved, dict)
    return {str(k): v for k, v in resolved.items()}
