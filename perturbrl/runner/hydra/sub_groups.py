"""Choose a file of a group within a group by a plain key: ``agent.optimizer=padam`` for ``agent/optimizer=padam``.

In a stage of an agent too: ``agent.ppo.optimizer=padam`` for ``agent/optimizer@agent.ppo.optimizer=padam``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from perturbrl.errors import choice
from perturbrl.runner import conf_tree
from perturbrl.runner.hydra import stage_settings


@contextmanager
def accepted() -> Iterator[None]:
    """Let Hydra compose configs from such overrides, and from files whose keys name the choice (``optimizer: padam``).

    The record of the overrides, from which the labels of a run are made, stays as it was typed.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    names = ("_parse_overrides_and_create_caching_repo", "_compose_config_from_defaults_list")
    parse, compose = (getattr(ConfigLoaderImpl, name) for name in names)

    def parse_and_choose(self: Any, config_name: str | None, overrides: list[str]) -> tuple[Sequence[Any], Any]:
        parsed, repo = parse(self, config_name, overrides)
        of_stages = stage_settings.chosen(parsed, repo)
        return [_as_choice(override, repo, of_stages) for override in parsed], repo

    def compose_and_choose(self: Any, defaults: Any, repo: Any) -> DictConfig:
        config: DictConfig = compose(self, defaults, repo)
        for group in conf_tree.sub_groups():
            _fill(config, group, repo)
        return config

    for name, changed in zip(names, (parse_and_choose, compose_and_choose), strict=True):
        setattr(ConfigLoaderImpl, name, changed)
    try:
        yield
    finally:
        for name, plain in zip(names, (parse, compose), strict=True):
            setattr(ConfigLoaderImpl, name, plain)


def _as_choice(override: Any, repo: Any, of_stages: bool) -> Any:
    """Return an override of a key that names a group within a group as Hydra spells the choice; any other as it is.

    Choices within the stages of an agent ``of_stages`` are made by ``stage_settings``.
    """
    if of_stages and override.package and override.key_or_group in conf_tree.sub_groups():
        return dataclasses.replace(override, key_or_group=override.package, package=None)
    group, package = conf_tree.sub_group(override.key_or_group, repo.group_exists)
    if not group or not isinstance(override.value(), str) or (package and of_stages):
        return override
    return dataclasses.replace(override, key_or_group=group, package=package or None)


def _fill(config: DictConfig, group: str, repo: Any) -> None:
    """Replace the name of a choice, wherever the config has it, by the content of its file."""
    top, _, leaf = group.partition("/")
    todo: list[tuple[str, Any]] = [(top, config.get(top))]
    while todo:
        where, node = todo.pop()
        for key in node if isinstance(node, DictConfig) else ():
            below: Any = node._get_node(key)
            name: Any = below._value()
            if key == leaf and isinstance(name, str) and not below._is_interpolation():
                known = repo.get_group_options(group)
                node[key] = _content(group, choice(name, known, f"{where}.{leaf}"), repo)
            else:
                todo.append((f"{where}.{key!s}", below))


def _content(group: str, name: str, repo: Any) -> Any:
    """Return what a file of a group holds, on top of the files that its list of defaults names."""
    file = repo.load_config(f"{group}/{name}")
    below = [_content(group, each.path, repo) for each in file.defaults_list if not each.is_self()]
    return OmegaConf.merge(*below, file.config)
