"""Accept old names of keys (``config.RENAMED``) on command lines, in sweeps and in experiment files."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, open_dict

from perturbrl.config import RENAMED, new_names, warn_of_old_name


@contextmanager
def accepted() -> Iterator[None]:
    """Let Hydra compose configs from old names too: renamed are the keys of files, then those of overrides.

    The record of the overrides, from which the labels of a run are made, stays as it was typed.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    plain = vars(ConfigLoaderImpl)["_apply_overrides_to_config"]

    def apply(overrides: Sequence[Any], cfg: DictConfig) -> None:
        for group in {group for group, _ in RENAMED}:
            _rename(cfg.get(group), group)
        plain.__func__([_renamed(override, cfg) for override in overrides], cfg)

    setattr(ConfigLoaderImpl, "_apply_overrides_to_config", staticmethod(apply))  # noqa: B010
    try:
        yield
    finally:
        setattr(ConfigLoaderImpl, "_apply_overrides_to_config", plain)  # noqa: B010


def _rename(node: Any, group: str) -> None:
    for old, new in new_names(group, node).items():
        if old in node:
            with open_dict(node):
                node[new] = node.pop(old)
            warn_of_old_name(group, node.name, old)


def _renamed(override: Any, cfg: DictConfig) -> Any:
    group, _, key = override.key_or_group.partition(".")
    node: Any = cfg.get(group) if group in {group for group, _ in RENAMED} else None
    new = new_names(group, node).get(key)
    if new is None:
        return override
    warn_of_old_name(group, str(node.name), key)
    return dataclasses.replace(override, key_or_group=f"{group}.{new}")
