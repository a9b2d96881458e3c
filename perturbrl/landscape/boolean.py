"""Boolean simulation of a network, many cells at once: asynchronous, synchronous, or in continuous time.

The randomness of a cell is a hash of its key and of the number of the update (``perturbrl.mixing``). So the path of a
cell depends on its key alone, not on the cells beside it, the size of a block or the device.

Letters: B cells, G genes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from perturbrl.errors import UserError, choice
from perturbrl.landscape.network import Network
from perturbrl.landscape.rules import Rules
from perturbrl.mixing import draw_keys, pick, words

__all__ = ["UPDATES", "BooleanDynamics", "draw_keys", "hold", "pack", "unpack"]

UPDATES = ("asynchronous", "synchronous")
BLOCK = 8192  # cells updated together: what they need fits the cache of a core


class BooleanDynamics:
    """The dynamics of a Boolean network on a device."""

    def __init__(self, network: Network, device: torch.device | str = "cpu") -> None:
        """Raise ``UserError`` where a rule is not an expression over the genes of the network."""
        self.network = network
        self.n_genes = len(network.genes)
        self.device = torch.device(device)
        self._rules = Rules(network, device)

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
        clamps = None if held is None else held.expand(state.shape)
        for start in range(0, len(state), BLOCK):
            rows = slice(start, start + BLOCK)
            part = None if clamps is None else clamps[rows]
            if update == "synchronous":
                for _ in range(n_updates):
                    state[rows] = self.image(state[rows], part)
            else:
                self._asynchronous(state[rows], range(first, first + n_updates), key[rows], part)
        return state

    def _asynchronous(self, state: Tensor, numbers: range, key: Tensor, held: Tensor | None) -> None:
        """Update ``state`` [B, G] in place, one gene of each cell for each of ``numbers``."""
        free = None if held is None else held.isnan()
        for t in numbers:
            gene = pick(words(key, t), self.n_genes)
            value = self._rules.value_of(state, gene)[:, None]
            column = gene[:, None]
            if free is not None:
                value = torch.where(free.gather(1, column), value, state.gather(1, column))
            state.scatter_(1, column, value)


def hold(state: Tensor, held: Tensor | None) -> Tensor:
    """Return ``state`` [..., G] uint8 with the genes that ``held`` clamps (see ``BooleanDynamics.image``) at 0 or 1."""
    return state if held is None else torch.where(held.isnan(), state, (held > 0).to(state.dtype))


def pack(state: Tensor) -> Tensor:
    """Return the number of each state, [...] int64: its genes as binary digits, the first gene the highest.

    ``state`` is [..., G] with at most 62 genes.
    """
    digits = 2 ** torch.arange(state.shape[-1] - 1, -1, -1, device=state.device)
    return (state * digits).sum(-1)


def unpack(number: Tensor, n_genes: int) -> Tensor:
    """Return the states [..., G] uint8 that have the numbers ``number`` [...]; the inverse of ``pack``."""
    shift = torch.arange(n_genes - 1, -1, -1, device=number.device)
    return (number[..., None] >> shift & 1).to(torch.uint8)
