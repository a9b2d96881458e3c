"""Boolean simulation of a network, many cells at once: asynchronous, synchronous, or in continuous time.

The randomness of a cell is a hash of its key and of the number of the update (``perturbrl.mixing``). So the path of a
cell depends on its key alone, not on the cells beside it, the size of a block or the device.

Letters: B cells, G genes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor

from perturbrl.errors import UserError, choice
from perturbrl.landscape import gillespie
from perturbrl.landscape.network import Network
from perturbrl.landscape.numbers import pack, unpack
from perturbrl.landscape.rules import Rules, hold
from perturbrl.landscape.updates import ALWAYS_PACKED, MOST_PACKED, PackedUpdates, TableUpdates, Updates
from perturbrl.mixing import draw_keys, skip

__all__ = ["UPDATES", "BooleanDynamics", "draw_keys", "hold", "pack", "unpack"]

UPDATES = ("asynchronous", "synchronous")
CELLS_ON_CPU = 8192  # updated together: what they need fits the cache of a core
CELLS_ELSEWHERE = 1 << 20
UPDATES_UNTIL_A_LOOK = 8  # of each gene, before cells at fixed points are left out


class BooleanDynamics:
    """The dynamics of a Boolean network on a device."""

    def __init__(self, network: Network, device: torch.device | str = "cpu") -> None:
        """Raise ``UserError`` where a rule is not an expression over the genes of the network."""
        self.network = network
        self.n_genes = len(network.genes)
        self.device = torch.device(device)
        self._rules = Rules(network, device)
        self._n_wanted = 0

    def image(self, state: Tensor, held: Tensor | None = None) -> Tensor:
        """Return the value of every rule at ``state`` [..., G] uint8, of the same shape.

        ``held`` [..., G] are clamps as of ``perturb.clamp``: NaN leaves a gene free, a number above 0 holds it at 1,
        any other at 0.
        """
        value = self._rules.values(state.reshape(-1, self.n_genes)).reshape(state.shape)
        return hold(value, held)

    def run(
        self,
        state: Tensor,
        n_updates: int,
        key: Tensor,
        *,
        update: str = "asynchronous",
        held: Tensor | None = None,
        first: int = 0,
    ) -> Tensor:
        """Return the states of cells after ``n_updates`` updates, [B, G] uint8.

        Parameters
        ----------
        state
            [B, G] uint8, of 0 and 1.
        n_updates
            Asynchronous: updates of one gene, drawn uniformly. Synchronous: updates of all genes.
        key
            [B] int64 of ``draw_keys``; a cell's path is a function of its key.
        update
            ``asynchronous`` or ``synchronous``.
        held
            [B, G] or [G], see ``image``; held from before the first update on.
        first
            The number of the first update: n updates, then m with ``first=n``, equal n + m updates.

        Raises
        ------
        UserError
            ``update`` is none of the two, or a shape is another.
        """
        choice(update, UPDATES, "update")
        if state.shape != (len(key), self.n_genes):
            raise UserError(f"state: shape is {tuple(state.shape)}; [{len(key)} keys, {self.n_genes} genes] is needed")
        state = hold(state, held).clone()
        free = None if held is None else held.expand(state.shape).isnan()
        updates = self._updates(len(state) * n_updates * (self.n_genes if update == "synchronous" else 1))
        for rows in self._blocks(state):
            may_change = None if free is None else free[rows]
            if update == "synchronous":
                state[rows] = updates.sweep(state[rows], n_updates, may_change)
            else:
                state[rows] = updates.run(state[rows], key[rows], range(first, first + n_updates), may_change)
        return state

    def continuous(
        self,
        state: Tensor,
        times: Tensor,
        key: Tensor,
        *,
        up: Tensor | None = None,
        down: Tensor | None = None,
        held: Tensor | None = None,
    ) -> Tensor:
        """Return the states of cells at ``times``, genes changing at rates, [T, B, G]; see ``gillespie.simulate``.

        Where all rates are 1 (``up`` and ``down`` None), a gene is drawn among the G as often as a Poisson process of
        rate G says, and set to its rule: the same law (uniformisation: Jensen, Skand. Aktuarietidskr. 36:87, 1953) at
        the speed of ``run``.
        """
        if up is not None or down is not None:
            return gillespie.simulate(self.image, state, times, key, up=up, down=down, held=held)
        counts = gillespie.update_counts(times, key, self.n_genes)
        state = hold(state, held).clone()
        free = torch.ones_like(state, dtype=torch.bool) if held is None else held.expand(state.shape).isnan()
        updates, seen = self._updates(int(counts.sum())), []
        moving = torch.arange(len(state), device=state.device)
        for count in counts:
            done = 0
            while len(moving) and done < (most := int(count[moving].max())):
                numbers = range(done, min(most, done + UPDATES_UNTIL_A_LOOK * self.n_genes))
                done = numbers.stop
                for rows in self._blocks(moving):
                    cell = moving[rows]
                    state[cell] = updates.run(state[cell], key[cell], numbers, free[cell], count[cell])
                image = updates.sweep(state[moving], 1, free[moving])
                moving = moving[(image != state[moving]).any(1)]  # the others stay as they are
            seen.append(state.clone())
            key = skip(key, count)
        return torch.stack(seen)

    def _blocks(self, cells: Tensor) -> Iterator[slice]:
        size = CELLS_ON_CPU if cells.device.type == "cpu" else CELLS_ELSEWHERE
        return (slice(start, start + size) for start in range(0, len(cells), size))

    def _updates(self, n_wanted: int) -> Updates:
        """Return the faster form for all updates wanted so far and ``n_wanted`` more."""
        self._n_wanted += n_wanted
        most = MOST_PACKED if self._n_wanted > self.n_genes << self.n_genes else ALWAYS_PACKED
        return self._packed if self.n_genes <= most else self._tables

    @cached_property
    def _packed(self) -> Updates:
        return PackedUpdates(self._rules, self.n_genes, self.device)

    @cached_property
    def _tables(self) -> Updates:
        return TableUpdates(self._rules, self.n_genes, self.device)
