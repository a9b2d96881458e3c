"""Boolean dynamics in continuous time: a gene whose rule disagrees with its state changes at a rate.

D. T. Gillespie, "Exact stochastic simulation of coupled chemical reactions", J. Phys. Chem. 81:2340, 1977 (the direct
method), on the Boolean state space as in MaBoSS (G. Stoll et al., BMC Systems Biology 6:116, 2012).
``BooleanDynamics.continuous`` has a faster way where all rates are equal.

Letters: B cells, G genes, T times.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import pdtr
from torch import Tensor

from perturbrl.errors import UserError, require
from perturbrl.landscape.rules import hold
from perturbrl.mixing import uniforms

CLOCK = 0x5851F42D4C957F2D
"""Turns a key into that of another sequence."""


def simulate(
    image: Callable[[Tensor, Tensor | None], Tensor],
    state: Tensor,
    times: Tensor,
    key: Tensor,
    *,
    up: Tensor | None = None,
    down: Tensor | None = None,
    held: Tensor | None = None,
) -> Tensor:
    """Return the states of cells at ``times``, [T, B, G] uint8.

    Parameters
    ----------
    image
        ``BooleanDynamics.image``.
    state, key, held
        As of ``BooleanDynamics.run``; ``state`` [B, G] is that at time 0.
    times
        [T], increasing, not negative, in units of the inverse rates.
    up, down
        [G]: the rate at which a gene that is off turns on while its rule is true, and at which one that is on turns off
        while its rule is false; 1 when None. A rate of 0 means never.

    Raises
    ------
    UserError
        Times are not increasing numbers from 0 on, or rates not G numbers of at least 0.
    """
    n_cells, n_genes = state.shape
    device, times = state.device, _checked(times).to(state.device)
    ups, downs = _rates("up", up, n_genes, device), _rates("down", down, n_genes, device)
    seen = torch.empty(len(times), n_cells, n_genes, dtype=torch.uint8, device=device)
    clamps = None if held is None else held.expand(state.shape)
    state, cell = hold(state, held).clone(), torch.arange(n_cells, device=device)
    now = torch.zeros(n_cells, dtype=torch.float64, device=device)
    event = 0
    while len(cell):
        part = None if clamps is None else clamps[cell]
        changing = image(state, part) != state
        reached = torch.where(state.bool(), downs, ups).masked_fill_(~changing, 0.0).cumsum(1)
        total = reached[:, -1]
        after = now - uniforms(key[cell], 2 * event).log() / total  # infinite where nothing changes
        _see(seen, state, cell, torch.searchsorted(times, now), torch.searchsorted(times, after))
        gene = (reached <= (uniforms(key[cell], 2 * event + 1) * total)[:, None]).sum(1)
        going = (after <= times[-1]).nonzero()[:, 0]
        state, now, cell = state[going], after[going], cell[going]
        state[torch.arange(len(cell), device=device), gene[going]] ^= 1
        event += 1
    return seen


def update_counts(times: Tensor, key: Tensor, rate: float) -> Tensor:
    """Return how often a Poisson process of ``rate`` strikes each cell between 0 and each of ``times``: [T, B] int64.

    Row k counts from time k - 1 to time k. Number k of another sequence of the key decides.
    """
    lengths = torch.diff(_checked(times), prepend=torch.zeros(1, dtype=torch.float64)) * rate
    counts = torch.empty(len(times), len(key), dtype=torch.int64, device=key.device)
    for k, mean in enumerate(lengths.tolist()):
        most = int(mean + 12 * mean**0.5) + 40  # reached with a probability far below that of the smallest number
        reached = torch.from_numpy(pdtr(np.arange(most), mean)).to(key.device)
        counts[k] = torch.searchsorted(reached, uniforms(key ^ CLOCK, k))
    return counts


def _checked(times: Tensor) -> Tensor:
    """Return ``times`` in float64 on the processor; raise ``UserError`` unless they increase from 0 or later on."""
    times = times.to("cpu", torch.float64)
    is_ordered = bool(times.isfinite().all() and (times >= 0).all() and (times.diff() >= 0).all())
    require(times.ndim == 1 and len(times) > 0 and is_ordered, "times", "increasing numbers from 0 on are needed")
    return times


def _see(seen: Tensor, state: Tensor, cell: Tensor, first: Tensor, end: Tensor) -> None:
    """Write the states of cells into the times from number ``first`` [n] up to ``end`` [n], without it."""
    for later in range(int((end - first).max())):
        rows = (first + later < end).nonzero()[:, 0]
        seen[first[rows] + later, cell[rows]] = state[rows]


def _rates(name: str, rates: Tensor | None, n_genes: int, device: torch.device) -> Tensor:
    if rates is None:
        return torch.ones(n_genes, dtype=torch.float64, device=device)
    if rates.shape != (n_genes,) or not bool((rates.isfinite() & (rates >= 0)).all()):
        raise UserError(f"{name}: {n_genes} rates of at least 0 are needed, one for each gene")
    return rates.to(device, torch.float64)
