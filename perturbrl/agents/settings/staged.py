"""The settings of agents that are put together from stages; meanings stand in ``conf/agent/staged.yaml``."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from omegaconf import OmegaConf

from perturbrl import registry
from perturbrl.agents.common.stages import HANDOVER
from perturbrl.agents.settings.base import SAME_IN_STAGES, STATED_ONCE
from perturbrl.bounds import NonNegativeInt, NotEmpty, OneOf, PositiveFloat
from perturbrl.config import choice, require

EXAMPLE = "[trpo:10k,ppo:40k]"
STEPS = re.compile(r"(\w+):(\d[\d_]*(?:\.\d+)?)([kKmM]?)")
UNITS = {"": 1, "k": 1_000, "m": 1_000_000}


@dataclass(frozen=True)
class StagedConfig:
    """Settings of an agent of stages; those of the stage ``ppo`` are below the key ``ppo``, for every name once."""

    name: str
    stages: Annotated[list[str], NotEmpty(EXAMPLE)]
    handover: list[Annotated[str, OneOf(*HANDOVER)]]
    clone_steps: NonNegativeInt
    clone_lr: PositiveFloat

    @classmethod
    def complete(cls, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return a config with the settings of every stage that it names: what it says, else the stage's defaults.

        Raises
        ------
        UserError
            A stage is no agent of one stage, has no steps, or what is stated once is stated otherwise for a stage.
        """
        stages = budgets(node.get("stages"))
        known = {field.name for field in dataclasses.fields(cls)}
        names = [name for name, _ in stages]
        for key in node:
            message = f"agent.stages has no stage of that name; its stages are {', '.join(names)}"
            require(key in (*known, *names) or key not in registry.agents, f"agent.{key}", message)
        once = {key: node[key] for key in STATED_ONCE if key in node}
        below = {name: _below(name, node.get(name), stages, once) for name in dict.fromkeys(names)}
        return {**node, "stages": [f"{name}:{steps}" for name, steps in stages], **below}

    @classmethod
    def schema_of(cls, node: Mapping[str, Any]) -> type[Any]:
        """Return this class with one more field for each stage."""
        names = dict.fromkeys(name for name, _ in budgets(node["stages"]))
        made: type[Any] = _with_fields(cls, tuple((name, _hint(name)) for name in names))  # type: ignore[arg-type]
        return made

    def check(self, where: str) -> None:
        """Raise ``UserError`` for stages that do not fit each other."""
        first, *others = (name for name, _ in self.budgets)
        for name in others:
            for key in SAME_IN_STAGES:
                a, b = getattr(getattr(self, first), key), getattr(getattr(self, name), key)
                message = f"is {b} but {where}.{first}.{key} is {a}; all stages need the same"
                require(a == b, f"{where}.{name}.{key}", message)

    @property
    def budgets(self) -> list[tuple[str, int]]:
        """Name and environment steps of each stage."""
        return budgets(self.stages)

    @property
    def n_envs(self) -> int:
        """B, the number of cells stepped together."""
        return int(getattr(self, self.budgets[0][0]).n_envs)


def budgets(stages: Any) -> list[tuple[str, int]]:
    """Read ``["trpo:10k", "ppo:40k"]`` as names and environment steps.

    Raises
    ------
    UserError
        It is no list, or an entry is no name of an agent of one stage and a number of steps.
    """
    require(isinstance(stages, Sequence) and not isinstance(stages, str), "agent.stages", _wanted(stages))
    require(len(stages) > 0, "agent.stages", f"must not be empty; write {EXAMPLE}")
    return [_budget(text, f"agent.stages[{k}]") for k, text in enumerate(stages)]


def _wanted(value: Any) -> str:
    return f"must be a list of NAME:STEPS, such as {EXAMPLE}, got {value!r}"


def _budget(text: Any, key: str) -> tuple[str, int]:
    match = STEPS.fullmatch(str(text))
    require(match is not None, key, f"must be NAME:STEPS, such as trpo:10k, trpo:10_000 or trpo:1M, got {text!r}")
    assert match is not None
    name, number, unit = match.groups()
    choice(name, registry.agents, key)
    entry = registry.agents[name]
    message = f"{name} cannot be a stage: stages are agents of one stage that learn from their own rollouts"
    require(hasattr(entry.build, "recipe"), key, message)
    steps = float(number) * UNITS[unit.lower()]
    require(steps >= 1 and steps == int(steps), key, f"{text!r} is no whole number of steps from 1 up")
    return name, int(steps)


def _below(name: str, given: Any, stages: Sequence[tuple[str, int]], once: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the stages of one name; what the agent states once is set."""
    where = f"agent.{name}"
    require(isinstance(given, Mapping | None), where, f"must be settings of {name}, got {given!r}")
    fixed = {"name": name, "total_steps": sum(steps for other, steps in stages if other == name)} | dict(once)
    fields = {field.name for field in dataclasses.fields(registry.agents[name].schema)}
    given = {} if given is None else dict(given)
    if not fields <= given.keys():
        defaults = OmegaConf.merge(registry.agents.defaults(name), dict.fromkeys(fixed))
        given = {**OmegaConf.to_container(defaults, resolve=True), **given}  # type: ignore[dict-item]
    for key, value in fixed.items():
        if key in fields:
            source = {"name": "it is that of the stage", "total_steps": "agent.stages says so"}
            reason = source.get(key, f"set agent.{key} alone")
            same = given.get(key) in (None, value)
            require(same, f"{where}.{key}", f"is {given.get(key)} and must be {value}: {reason}")
    return {**given, **{key: value for key, value in fixed.items() if key in fields}}


def _hint(name: str) -> Any:
    """Return the type of the settings of a stage; those of a plugin's stage are shared by all runs of a population."""
    entry = registry.agents[name]
    built_in = entry.build.__module__.partition(".")[0] == __name__.partition(".")[0]
    return entry.schema if built_in else Annotated[entry.schema, "shared"]


@functools.cache
def _with_fields(base: Any, fields: tuple[tuple[str, Any], ...]) -> type[Any]:
    return dataclasses.make_dataclass(
        base.__name__, fields, bases=(base,), frozen=True, namespace={"__module__": base.__module__}
    )
