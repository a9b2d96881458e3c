"""The path from a start to a cell, and which start belongs to which cell. Letters: S runs, M cells, G genes."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from perturbrl.generators.settings import PathConfig


class Path:
    """Straight lines x_t = (1 - t) x_0 + t x_1 of velocity x_1 - x_0 (Lipman et al. 2023, with sigma_min = 0).

    The start x_0 is noise, or the control cell with some noise on it. Without noise there the velocity network, which
    sees the control cell, would know x_1 from x_t, and what it generates would collapse to the mean.
    """

    def __init__(self, config: PathConfig) -> None:
        self.config = config
        self._from_control = config.start == "control"

    def start(self, control: Tensor, noise: Tensor) -> Tensor:
        """Return x_0 for standardised control cells and standard normal ``noise``, both [..., M, G]."""
        return control + self.config.start_noise * noise if self._from_control else noise

    def pair(self, start: Tensor, control: Tensor, cells: Tensor, group: int) -> tuple[Tensor, Tensor]:
        """Return starts and control cells in the order of the ``cells`` that they are to lead to, all [S, M, G].

        ``optimal_transport`` (Tong et al. 2024) moves starts among ``group`` cells side by side, which are of one
        condition, so that the sum of squared distances is least. A control cell goes with its start where it is one.
        """
        if self.config.pairing == "random":
            return start, control
        order = assignment(grouped(start, group), grouped(cells, group))
        moved = _take(start, order)
        return moved, _take(control, order) if self._from_control else control


def grouped(x: Tensor, size: int) -> Tensor:
    """View [S, M, G] as groups of cells side by side, [S, M / size, size, G]."""
    return x.view(x.shape[0], -1, size, x.shape[2])


def assignment(a: Tensor, b: Tensor) -> Tensor:
    """Return which row of ``a`` belongs to each row of ``b``, both [..., m, G], so that they are nearest: [..., m]."""
    cost = (a.unsqueeze(-3) - b.unsqueeze(-2)).square().sum(-1)  # [..., row of b, row of a]
    flat = cost.reshape(-1, *cost.shape[-2:]).double().cpu().numpy()
    order = torch.stack([torch.as_tensor(linear_sum_assignment(each)[1]) for each in flat])
    return order.view(cost.shape[:-1]).to(a.device)


def _take(x: Tensor, order: Tensor) -> Tensor:
    """Return rows of ``x`` [S, M, G] as ``order`` [S, M / m, m] says within each group."""
    groups = grouped(x, order.shape[-1])
    return groups.gather(2, order.unsqueeze(-1).expand_as(groups)).flatten(1, 2)
