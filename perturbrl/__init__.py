"""Train and judge reinforcement-learning agents on single-cell perturbation tasks.

The Python interface lives in ``perturbrl.api``; its names can be imported from here and load torch only when used. So
do the modules of the package, such as ``perturbrl.envs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbrl import envs as envs
    from perturbrl import plugins as plugins
    from perturbrl.api import Policy as Policy
    from perturbrl.api import Runs as Runs
    from perturbrl.api import UserError as UserError
    from perturbrl.api import fate_plan as fate_plan
    from perturbrl.api import load as load
    from perturbrl.api import train as train

__version__ = "0.1.0"
__all__ = ["Policy", "Runs", "UserError", "__version__", "envs", "fate_plan", "load", "plugins", "train"]


def __getattr__(name: str) -> Any:
    """Look ``name`` up among the modules and in ``perturbrl.api``, so that ``import perturbrl`` alone stays light."""
    from importlib import import_module
    from importlib.util import find_spec

    if not name.startswith("_"):
        # `from perturbrl import config` asks here first: that must not load the whole interface
        if find_spec(f"perturbrl.{name}") is not None:
            return import_module(f"perturbrl.{name}")
        if name in __all__:
            return getattr(import_module("perturbrl.api"), name)
    raise AttributeError(f"module 'perturbrl' has no attribute {name!r}; it offers {', '.join(__dir__())}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
