"""Delay the import of large modules that our libraries import but a run does not use.

torch-geometric imports its data sets, its language models and torch's compiler. They take half of the start-up time of
a training whose cells are not in the cache.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

MODULES = ("torch.export", "torch._dynamo", "torch_geometric.datasets", "torch_geometric.llm")

_LOADING = threading.RLock()


class _Later(ModuleType):
    """A module that is executed at the first access to one of its attributes.

    Its name, file and spec exist before that, so that a loop over ``sys.modules`` loads nothing. ``__path__`` does not,
    so that the import of a submodule loads this module first, as usual.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name not in ("__path__", "__all__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        with _LOADING:
            waiting = self.__dict__.pop("_waiting", None)
            if waiting is not None:
                loader, path = waiting
                self.__class__ = ModuleType  # type: ignore[assignment]
                if path is not None:
                    self.__path__ = path
                loader.exec_module(self)
        return object.__getattribute__(self, name)


class _LaterLoader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Later(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__loader__ = module.__spec__.loader = self._loader
        module.__dict__["_waiting"] = self._loader, module.__dict__.pop("__path__", None)


class _LaterFinder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _LaterLoader(spec.loader)
        return spec


def install() -> None:
    """Delay the import of ``MODULES`` in this process; modules already imported are not changed."""
    if not any(isinstance(finder, _LaterFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _LaterFinder())
