"""What can be chosen by name in a config, and the hook by which others add to it.

A plugin is a Python file that registers something, with a ``conf/`` folder beside it that holds its YAML. It is found
in a folder named by ``PERTURBRL_PLUGINS``, or through an entry point of the group ``perturbrl.plugins``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf

from perturbrl import paths
from perturbrl.config import bind, choice, renamed
from perturbrl.errors import UserError

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry:
    """One choice: its config schema and what builds it."""

    name: str
    schema: type[Any]
    build: Callable[..., Any]


class Registry(Mapping[str, Entry]):
    """Names of one kind (agents, sources, ...) and what they stand for.

    The package's own entries are found by convention: the modules of ``homes`` register them, the entry ``ppo`` in a
    module or package of that name if there is one. They are imported when an entry is asked for, the likeliest first,
    so that a run does not wait for the agents, tasks and readers that it does not use.
    """

    def __init__(self, kind: str, *homes: str, key: str = "name") -> None:
        """``homes`` are dotted names of packages or modules; ``key`` is the key of a config that names an entry."""
        self.kind = kind
        self.key = key
        self._homes = homes
        self._entries: dict[str, Entry] = {}
        self._searched = not homes

    def register(self, name: str, schema: type[Any]) -> Callable[[F], F]:
        """Register the decorated callable as ``name``; its config is bound to ``schema``.

        Raises
        ------
        UserError
            Another module has registered the name, or the package brings an entry of that name.
        """

        def add(build: F) -> F:
            if not build.__module__.startswith("perturbrl.") and self._file(paths.conf_dir(), name).is_file():
                self._find(name)  # a name of the package may not have been asked for yet
            known = self._entries.get(name)
            if known is not None and known.build.__module__ != build.__module__:
                modules = f"{known.build.__module__} and {build.__module__}"
                raise UserError(f"{self.kind}={name} is registered twice: by {modules}")
            self._entries[name] = Entry(name, schema, build)
            return build

        return add

    def bind(self, node: Any) -> Any:
        """Bind a config group whose key ``name`` (``kind`` for splits) says which entry it configures.

        Raises
        ------
        UserError
            There is no such entry, or as ``config.bind``.
        """
        choice(str(node.get(self.key)), self, f"{self.kind}.{self.key}")
        whole = self.completed(renamed(self.kind, node, warn=True))
        return bind(self.schema(whole), whole, self.kind)

    def completed(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a config group with what its schema adds, where the schema has a class method ``complete(node)``.

        Raises
        ------
        UserError
            As that method does.
        """
        name = str(node.get(self.key))
        complete = getattr(self[name].schema, "complete", None) if name in self else None
        return node if complete is None else dict(complete(node))

    def schema(self, node: Mapping[str, Any]) -> type[Any]:
        """Return the schema of a completed config group.

        Where an entry's schema has a class method ``schema_of(node)``, that returns it: some keys depend on others.
        """
        schema = self[str(node.get(self.key))].schema
        depends: Callable[[Mapping[str, Any]], type[Any]] | None = getattr(schema, "schema_of", None)
        return schema if depends is None else depends(node)

    def defaults(self, name: str) -> DictConfig:
        """Return what ``conf/<kind>/<name>.yaml`` holds, of the package or of a plugin.

        Its list ``defaults`` may name other files of the kind, whose values come first, and files of groups below the
        kind (``optimizer: adam`` of an agent). What it chooses in other groups is left out: only Hydra chooses.

        Raises
        ------
        UserError
            No such file.
        """
        if name == "_self_":
            return OmegaConf.create()
        for folder in _conf_dirs():
            file = self._file(folder, name)
            if file.is_file():
                values = OmegaConf.load(file)
                assert isinstance(values, DictConfig)
                order = list(values.pop("defaults", ()))
                below = [self.defaults(each) for each in order if isinstance(each, str) and each.isidentifier()]
                below += [self._group_below(each) for each in order if isinstance(each, Mapping)]
                merged = OmegaConf.merge(*below, values)
                assert isinstance(merged, DictConfig)
                return merged
        raise UserError(
            f"{self.kind}={name}: conf/{self.kind}/{name}.yaml is missing beside the code that registers it"
        )

    def _group_below(self, entry: Mapping[str, Any]) -> DictConfig:
        """Return the values of ``optimizer: adam`` in a list of defaults, from ``conf/<kind>/optimizer/adam.yaml``."""
        found: dict[str, Any] = {}
        for group, name in entry.items():
            files = (conf / self.kind / str(group) / f"{name}.yaml" for conf in _conf_dirs())
            found |= {str(group): OmegaConf.load(file) for file in files if file.is_file() and group not in found}
        return OmegaConf.create(found)

    def __getitem__(self, name: str) -> Entry:
        self._find(name)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._find(str(name))
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._find(None)
        return iter(self._entries)

    def __len__(self) -> int:
        self._find(None)
        return len(self._entries)

    def _file(self, conf: Path, name: str) -> Path:
        return conf / self.kind / f"{name}.yaml"

    def _find(self, name: str | None) -> None:
        """Import modules of the homes until ``name`` is registered; all of them for None, or if none registers it."""
        if self._searched or name in self._entries:
            return
        for module in sorted(self._modules(), key=lambda parts: self._distance(parts, name)):
            importlib.import_module(".".join(module))
            if name in self._entries:
                return
        self._searched = True

    def _modules(self) -> Iterator[tuple[str, ...]]:
        """Every module of the homes, as the parts of its dotted name."""
        for home in self._homes:
            spec = importlib.util.find_spec(home)
            assert spec is not None and spec.origin is not None, f"{home} is no module"
            top = tuple(home.split("."))
            if spec.submodule_search_locations is None:
                yield top
                continue
            folder = Path(spec.origin).parent
            for file in sorted(folder.rglob("*.py")):
                parts = file.relative_to(folder).with_suffix("").parts
                yield top + (parts[:-1] if parts[-1] == "__init__" else parts)

    def _distance(self, parts: tuple[str, ...], name: str | None) -> tuple[int, bool]:
        """Sort key: modules named as the entry, then those whose name is part of it, then all others.

        Of a package named as the entry, the module named as the kind comes first (``paper/protocol.py``).
        """
        if name is None:
            return 0, False
        near = 0 if name in parts else 1 if any(part in name for part in parts) else 2
        return near, parts[-1] != self.kind


sources = Registry("source", "perturbrl.data.sources", "perturbrl.landscape")
encoders = Registry("encoder", "perturbrl.data.encoders")
envs = Registry("env", "perturbrl.envs")
agents = Registry("agent", "perturbrl.agents")
metrics = Registry("metric")
splits = Registry("split", "perturbrl.data.split", "perturbrl.screens.splits", key="kind")
baselines = Registry("baseline", "perturbrl.effects.baselines")
protocols = Registry("protocol", "perturbrl.evaluate")
verifiers = Registry("verifier", "perturbrl.generators.verifiers")


def plugin_conf_dirs() -> list[Path]:
    """Return the ``conf/`` folders that plugins bring, in the order in which they are found."""
    folders = paths.plugin_dirs()
    for point in _points(tuple(sys.path)):
        spec = importlib.util.find_spec(point.value.partition(":")[0])
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent)
    return [folder / "conf" for folder in folders if (folder / "conf").is_dir()]


@functools.cache
def _points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the plugins installed in the folders ``path``, which are those of ``sys.path``: the search takes long."""
    return tuple(entry_points(group="perturbrl.plugins"))


def _conf_dirs() -> tuple[Path, ...]:
    return (paths.conf_dir(), *plugin_conf_dirs())


def load_plugins() -> None:
    """Import every plugin once.

    Raises
    ------
    UserError
        A folder of ``PERTURBRL_PLUGINS`` does not exist or holds no plugin, or a plugin fails to import.
    """
    for folder in paths.plugin_dirs():
        if not folder.is_dir():
            raise UserError(f"PERTURBRL_PLUGINS: {folder} is not a folder")
        files = sorted(folder.glob("*.py"))
        if not files and not (folder / "conf").is_dir():
            raise UserError(
                f"PERTURBRL_PLUGINS: {folder} holds no .py file and no conf folder; {_plugins_below(folder)}"
            )
        for file in files:
            _import_file(file)
    for point in _points(tuple(sys.path)):
        point.load()


def _plugins_below(folder: Path) -> str:
    below = sorted({file.parent for file in folder.glob("*/*.py")})
    joined = os.pathsep.join(map(str, below))
    return f"name the folders in it instead: {joined}" if below else "name the folder of a plugin"


def _import_file(file: Path) -> None:
    name = f"perturbrl_plugin_{file.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(file):
        return
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(f"{file}: the plugin does not import: {type(error).__name__}: {error}") from error
