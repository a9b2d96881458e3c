"""The config folders read as files, for completion and for naming the valid keys: no Hydra, so it answers at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from perturbrl import paths

PRIMARY = "config"
NOT_IN_A_RUN = ("baseline", "study", "verifier")  # read by the code that builds them, no groups of the command line


def conf_dirs() -> list[Path]:
    """Return perturbrl's config folder and those of its plugins, in Hydra's order of search."""
    from perturbrl.registry import plugin_conf_dirs

    return [paths.conf_dir(), *plugin_conf_dirs()]


def groups(roots: Iterable[Path]) -> dict[str, list[str]]:
    """Return the choices of every config group: ``{"agent": ["ppo", ...], "agent/policy": [...]}``."""
    choices: dict[str, set[str]] = {}
    for root in roots:
        for file in root.rglob("*.yaml"):
            group = file.parent.relative_to(root).as_posix()
            if group not in (".", *NOT_IN_A_RUN):
                choices.setdefault(group, set()).add(file.stem)
    return {group: sorted(names) for group, names in sorted(choices.items())}


def sub_groups() -> list[str]:
    """Return the groups within groups: ``agent/optimizer``; not those of Hydra."""
    folders = {file.parent.relative_to(root).as_posix() for root in conf_dirs() for file in root.glob("*/*/*.yaml")}
    return sorted(group for group in folders if not group.startswith("hydra/"))


def sub_group(key: str, exists: Callable[[str], bool]) -> tuple[str, str]:
    """Return the group within a group that a dotted key chooses from, and the package where it is not the group's own.

    ``agent.optimizer`` chooses from ``agent/optimizer``; ``agent.ppo.optimizer`` does so at ``agent.ppo.optimizer``. Of
    any other key both are empty. ``exists`` says whether there is a group.
    """
    top, _, rest = key.partition(".")
    group = f"{top}/{rest.rpartition('.')[2]}"
    if not rest or "/" in key or top == "hydra" or not exists(group):
        return "", ""
    return group, key if "." in rest else ""


def keys(roots: Iterable[Path], chosen: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the dotted keys that can be overridden and their defaults, under the group choices ``chosen``."""
    tree = _Composer(list(roots), dict(chosen or {})).compose()
    return dict(_leaves(tree, ""))


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


class _Composer:
    """Follow defaults lists as far as listing keys needs it: groups, packages, nesting and choices made elsewhere."""

    def __init__(self, roots: list[Path], chosen: dict[str, str]) -> None:
        self.roots = roots
        self.chosen = chosen
        self.listed: set[str] = set()
        self.overridden: dict[str, Any] = {}

    def compose(self) -> dict[str, Any]:
        """Return the tree of keys and defaults."""
        tree: dict[str, Any] = {}
        self._find_overrides(PRIMARY, "")
        self._add(tree, PRIMARY, "", "", frozenset())
        for group, option in self.chosen.items():
            # A group that no defaults list mentions (`+experiment=smoke`) is added at its own place.
            if group.partition("@")[0] not in self.listed:
                self._add(tree, f"{group}/{option}", group, group.replace("/", "."), frozenset())
        return tree

    def _add(self, tree: dict[str, Any], config: str, group: str, package: str, above: frozenset[str]) -> None:
        values = self._read(config)
        if values is None or config in above:
            return
        header, body = values
        package = package if header is None else ("" if header == "_global_" else header)
        defaults = body.pop("defaults", [])
        for entry in defaults if isinstance(defaults, list) else []:
            self._follow(tree, entry, group, package, above | {config})
        _merge(tree, package, body)

    def _follow(self, tree: dict[str, Any], entry: Any, group: str, package: str, above: frozenset[str]) -> None:
        if isinstance(entry, str):
            name, _, at = entry.partition("@")
            if name != "_self_":
                config, sub = (name[1:], "") if name.startswith("/") else ("/".join(filter(None, (group, name))), group)
                self._add(tree, config, sub, _package(package, at), above)
        elif isinstance(entry, Mapping):
            for key, option in entry.items():
                words = str(key).split()
                if "override" in words:
                    continue
                name, _, at = words[-1].partition("@")
                sub = name[1:] if name.startswith("/") else "/".join(filter(None, (group, name)))
                self.listed.add(sub)
                here = _package(package, at) if at else _package("" if name.startswith("/") else package, _dots(name))
                option = self.chosen.get(f"{sub}@{here}", self._option(sub, option))
                for one in option if isinstance(option, list) else [option]:
                    if one is not None:
                        self._add(tree, f"{sub}/{one}", sub, here, above)

    def _option(self, group: str, listed: Any) -> Any:
        return self.chosen.get(group, self.overridden.get(group, listed))

    def _find_overrides(self, config: str, group: str) -> None:
        """Note what chosen configs choose for other groups; as in Hydra, a later entry of a list comes first."""
        values = self._read(config)
        defaults = values[1].get("defaults", []) if values else []
        for entry in reversed(defaults if isinstance(defaults, list) else []):
            for key, option in entry.items() if isinstance(entry, Mapping) else ():
                words = str(key).split()
                name = words[-1].partition("@")[0]
                sub = name[1:] if name.startswith("/") else "/".join(filter(None, (group, name)))
                if "override" in words:
                    self.overridden.setdefault(sub, option)
                elif isinstance(option := self._option(sub, option), str):
                    self._find_overrides(f"{sub}/{option}", sub)

    def _read(self, config: str) -> tuple[str | None, dict[str, Any]] | None:
        for root in self.roots:
            file = root / f"{config}.yaml"
            if file.is_file():
                text = file.read_text(encoding="utf-8")
                header = next((w.split()[-1] for w in text.splitlines()[:5] if w.startswith("# @package")), None)
                try:
                    values = yaml.safe_load(text)
                except yaml.YAMLError:
                    return None
                return header, dict(values) if isinstance(values, Mapping) else {}
        return None


def _dots(group: str) -> str:
    return group.strip("/").replace("/", ".")


def _package(parent: str, at: str) -> str:
    if at == "_global_":
        return ""
    if at in ("", "_here_", "_group_"):
        return parent
    return ".".join(filter(None, (parent, at)))


def _merge(tree: dict[str, Any], package: str, body: Mapping[str, Any]) -> None:
    node = tree
    for part in filter(None, package.split(".")):
        below = node.get(part)
        node[part] = node = below if isinstance(below, dict) else {}
    _update(node, body)


def _update(node: dict[str, Any], body: Mapping[str, Any]) -> None:
    for key, value in body.items():
        old = node.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            _update(old, value)
        else:
            node[str(key)] = dict(value) if isinstance(value, Mapping) else value


def chosen(words: Iterable[str], groups: Iterable[str]) -> dict[str, str]:
    """Return the group choices that ``words`` make; of a swept group, the first."""
    known = set(groups)
    pairs = (word.lstrip("+").partition("=") for word in words)
    made = {_as_group(key, known): value.split(",")[0] for key, equals, value in pairs if equals and value}
    return {key: value for key, value in made.items() if key.partition("@")[0] in known}


def _as_group(key: str, known: Collection[str]) -> str:
    """Return a choice as Hydra spells it: ``agent/optimizer`` for ``agent.optimizer``; other keys as they are."""
    group, package = sub_group(key, known.__contains__)
    return f"{group}@{package}" if package else group or key
