"""What can be chosen by name in a config, and the hook by which others add to it.

A plugin is a Python file that registers something, with a ``conf/`` folder beside it that holds its YAML. It is found
in a folder named by ``PERTURBRL_PLUGINS``, or through an entry point of the group ``perturbrl.plugins``.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from perturbrl import paths
from perturbrl.config import bind, choice
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

    What the package itself brings is named beforehand, with the module that registers it, and imported when it is
    asked for: a run need not wait for the agents, tasks and readers that it does not use.
    """

    def __init__(self, kind: str, built_in: Mapping[str, str] | None = None) -> None:
        """``built_in`` says for each name of the package in which module it is registered."""
        self.kind = kind
        self._built_in = dict(built_in or {})
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, schema: type[Any]) -> Callable[[F], F]:
        """Register the decorated callable as ``name``; its config is bound to ``schema``."""

        def add(build: F) -> F:
            known = self._entries.get(name)
            by = self._built_in.get(name) if known is None else known.build.__module__
            if by is not None and by != build.__module__:
                raise UserError(f"{self.kind}={name} is registered twice: by {by} and {build.__module__}")
            self._entries[name] = Entry(name, schema, build)
            return build

        return add

    def bind(self, node: Any) -> Any:
        """Bind a config group whose ``name`` key says which entry it configures."""
        name = choice(str(node.get("name")), self, f"{self.kind}.name")
        return bind(self[name].schema, node, self.kind)

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries and name in self._built_in:
            importlib.import_module(self._built_in[name])
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._built_in

    def __iter__(self) -> Iterator[str]:
        return iter({**self._built_in, **self._entries})

    def __len__(self) -> int:
        return len({**self._built_in, **self._entries})


_SOURCES = "perturbrl.data.sources"
sources = Registry(
    "source",
    {
        "landscape": "perturbrl.landscape.source",
        "file": f"{_SOURCES}.file",
        "iqcell_tcell": f"{_SOURCES}.iqcell",
        "moignard15": f"{_SOURCES}.moignard",
        "pbmc10k_multiome": f"{_SOURCES}.multiome",
        "paul15": f"{_SOURCES}.paul",
        "pbmc68k_reduced": f"{_SOURCES}.pbmc68k",
        "norman19": f"{_SOURCES}.published",
        "kang18": f"{_SOURCES}.published",
    },
)
encoders = Registry(
    "encoder",
    {
        "none": "perturbrl.data.encoders.linear",
        "pca": "perturbrl.data.encoders.linear",
        "random_gat": "perturbrl.data.encoders.gat",
        "gat": "perturbrl.data.encoders.gat",
    },
)
envs = Registry(
    "env",
    {
        "paper": "perturbrl.envs.paper.continuous",
        "paper_discrete": "perturbrl.envs.paper.discrete",
        "counterfactual": "perturbrl.envs.counterfactual.task",
    },
)
agents = Registry("agent", {name: f"perturbrl.agents.{name}" for name in ("ppo", "trpo", "trpo_ppo")})
metrics = Registry("metric")
protocols = Registry(
    "protocol",
    {"paper": "perturbrl.evaluate.paper.protocol", "counterfactual": "perturbrl.evaluate.counterfactual.protocol"},
)


def plugin_conf_dirs() -> list[Path]:
    """Return the ``conf/`` folders that plugins bring, in the order in which they are found."""
    folders = paths.plugin_dirs()
    for point in entry_points(group="perturbrl.plugins"):
        spec = importlib.util.find_spec(point.value.partition(":")[0])
        if spec is not None and spec.origin is not None:
            folders.append(Path(spec.origin).parent)
    return [folder / "conf" for folder in folders if (folder / "conf").is_dir()]


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
    for point in entry_points(group="perturbrl.plugins"):
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
