"""Which cell an episode starts from, and which later cell is its target.

Letters: S runs, B cells stepped together, N cells of the table, n cells that episodes use.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.data.schema import CellTable
from perturbrl.errors import UserError


class CellPairs:
    """Start cells, uniform among ``cells``; targets, uniform among those of ``cells`` with a larger pseudotime.

    A cell that none is later than is its own target. Holds row numbers only: 2 n integers.

    Raises
    ------
    UserError
        ``cells`` is empty, or one of them has no pseudotime.
    """

    def __init__(self, table: CellTable, cells: NDArray[np.int64], device: torch.device | str) -> None:
        if len(cells) == 0:
            raise UserError(
                f"env: no cells to start episodes from in {table.source}; the split must leave at least one"
            )
        time = table.pseudotime[cells]
        if np.isnan(time).any():
            row = int(cells[np.isnan(time).argmax()])
            raise UserError(
                f"env: row {row} of {table.source} has no pseudotime (NaN); every cell needs one to choose targets"
            )
        order = np.argsort(time, kind="stable")
        first_later = np.searchsorted(time[order], time[order], side="right")
        self.n_cells = len(cells)
        self._rows = torch.as_tensor(cells[order], device=device)
        self._first_later = torch.as_tensor(first_later, device=device)

    def draw(self, u_cell: Tensor, u_target: Tensor) -> tuple[Tensor, Tensor]:
        """Return row numbers of start cells and of their targets, both [S, B] int64, from uniforms [S, B]."""
        start = (u_cell * self.n_cells).long()
        first = self._first_later[start]
        n_later = self.n_cells - first
        chosen = first + (u_target * n_later).long()
        return self._rows[start], self._rows[torch.where(n_later > 0, chosen, start)]
