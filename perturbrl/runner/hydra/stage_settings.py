"""Let command lines set the settings of stages: ``agent=staged agent.stages=[trpo:1k,ppo:9k] agent.ppo.lr=3e-4``.

Which keys there are depends on ``agent.stages``. So the defaults of the stages join the config after it is composed
from files and before the other overrides are applied.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from perturbrl import registry
from perturbrl.errors import UserError, choice, did_you_mean, one_of
from perturbrl.runner import conf_tree


@contextmanager
def filled() -> Iterator[None]:
    """Let Hydra compose agents of stages, with the settings of every stage."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    plain = vars(ConfigLoaderImpl)["_apply_overrides_to_config"]

    def apply(overrides: Sequence[Any], cfg: DictConfig) -> None:
        for name in _stages(overrides, cfg, plain.__func__):
            _fill(cfg.agent, name)
        _check_keys(overrides, cfg.get("agent"))
        plain.__func__([override for override in overrides if not _choose(override, cfg)], cfg)

    setattr(ConfigLoaderImpl, "_apply_overrides_to_config", staticmethod(apply))  # noqa: B010
    try:
        yield
    finally:
        setattr(ConfigLoaderImpl, "_apply_overrides_to_config", plain)  # noqa: B010


def chosen(overrides: Sequence[Any], repo: Any) -> bool:
    """Return whether the overrides, or the experiment among them, choose an agent of stages.

    Hydra knows no choices within its stages, such as ``agent.ppo.optimizer=padam``: they are made here.
    """
    values = {override.key_or_group: str(override.value()) for override in overrides}
    name = values.get("agent", "")
    if not name and "experiment" in values:
        experiment = repo.load_config(f"experiment/{values['experiment']}")
        entries = () if experiment is None else experiment.defaults_list or ()
        name = next((str(e.value) for e in entries if getattr(e, "group", "") in ("agent", "/agent")), "")
    known = any((root / "agent" / f"{name}.yaml").is_file() for root in conf_tree.conf_dirs())
    return known and "stages" in registry.agents.defaults(name)  # not a file of the user's own search path


def _choose(override: Any, cfg: DictConfig) -> bool:
    """Put the file that an override chooses within a stage in its place; return whether it is such an override."""
    group, package = conf_tree.sub_group(override.key_or_group, conf_tree.sub_groups().__contains__)
    agent, value = cfg.get("agent"), override.value()
    if not package or not isinstance(value, str) or not isinstance(agent, DictConfig) or "stages" not in agent:
        return False
    roots = conf_tree.conf_dirs()
    name = choice(value, conf_tree.groups(roots)[group], package)
    file = next(root / f"{group}/{name}.yaml" for root in roots if (root / f"{group}/{name}.yaml").is_file())
    with open_dict(cfg):
        OmegaConf.update(cfg, package, OmegaConf.load(file), merge=False)
    return True


def _stages(overrides: Sequence[Any], cfg: DictConfig, apply: Any) -> list[str]:
    """Return the names of the stages, and others whose settings are overridden, of an agent that has stages."""
    agent = cfg.get("agent")
    if not isinstance(agent, DictConfig) or "stages" not in agent:
        return []
    registry.load_plugins()
    keys = [override.key_or_group.split(".") for override in overrides]
    trial = copy.deepcopy(cfg)
    apply([o for o, key in zip(overrides, keys, strict=True) if key[0] != "hydra" and len(key) < 3], trial)
    try:
        stages: Any = OmegaConf.to_container(trial.agent.stages, resolve=True)
    except (OmegaConfBaseException, ValueError):
        stages = ()  # whoever resolves the config says what is wrong
    names = [str(stage).partition(":")[0] for stage in stages]
    names += [key[1] for key in keys if key[0] == "agent" and len(key) > 2]
    return [name for name in dict.fromkeys(names) if name in registry.agents]


def _fill(agent: DictConfig, name: str) -> None:
    """Put the defaults of a stage below what the config says of it."""
    from perturbrl.agents.settings.base import STATED_ONCE  # here: it imports torch

    defaults = registry.agents.defaults(name)
    defaults.total_steps = None  # agent.stages says it
    for key in STATED_ONCE:
        if key in defaults:
            defaults[key] = f"${{agent.{key}}}"
    with open_dict(agent):
        agent[name] = OmegaConf.merge(defaults, agent.get(name) or {})


def _check_keys(overrides: Sequence[Any], agent: Any) -> None:
    """Refuse keys that a stage does not have; where the files are searched for keys they are not found."""
    if not isinstance(agent, DictConfig) or "stages" not in agent:
        return
    for override in overrides:
        group, _, rest = override.key_or_group.partition(".")
        name, _, key = rest.partition(".")
        below = agent.get(name) if group == "agent" and key else None
        if isinstance(below, Mapping | DictConfig) and key.partition(".")[0] not in below and not override.is_add():
            known = list(map(str, below))
            where = f"agent.{name}.{key}"
            raise UserError(f"{where}: unknown key{did_you_mean(key, known)}; valid keys are {one_of(known)}")
