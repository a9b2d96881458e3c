"""Train and judge reinforcement-learning agents on single-cell perturbation tasks.

The Python interface lives in ``perturbrl.api``; its names can be imported from here and load torch only when used.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Look ``name`` up in ``perturbrl.api``, so that ``import perturbrl`` alone stays light."""
    from importlib import import_module
    from importlib.util import find_spec

    # `from perturbrl import config` asks here before it imports the submodule: that must not load the whole interface.
    if not name.startswith("_") and find_spec(f"perturbrl.{name}") is None:
        api = import_module("perturbrl.api")
        if name in getattr(api, "__all__", ()):
            return getattr(api, name)
    raise AttributeError(f"module 'perturbrl' has no attribute {name!r}")
