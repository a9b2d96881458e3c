"""Optimisers by name, for any agent and for supervised parts; ``ASGDAdam``, ``ASGDAMSGrad`` and ``Padam`` for yours.

``settings``: what can be set. ``formulas`` and ``switch``: the arithmetic of a step, once. ``drop_in``: the classes of
``torch.optim`` kind; ``agents.optim`` has the form for S runs at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbrl.optim.drop_in import ASGDAdam, ASGDAMSGrad, Padam, by_name

__all__ = ["ASGDAMSGrad", "ASGDAdam", "Padam", "by_name"]


def __getattr__(name: str) -> Any:
    """Load the classes at their first use: settings need no torch."""
    if name not in __all__:
        raise AttributeError(f"module 'perturbrl.optim' has no name {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module("perturbrl.optim.drop_in"), name)
