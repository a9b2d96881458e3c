"""The embedded landscape: a simulated differentiation of myeloid cells, whose every cause is known.

Importing this package registers the source ``landscape``; torch is imported only when cells are simulated.
"""

from __future__ import annotations

from perturbrl.landscape.config import LandscapeConfig
from perturbrl.landscape.source import build, fresh_cells

__all__ = ["LandscapeConfig", "build", "fresh_cells"]
