"""Asynchronous updates of a Boolean network, one gene of each of many cells at a time, in place.

Two forms, with the same results. ``PackedUpdates`` looks up a whole state, packed into one integer, in the table of the
images of all 2^G states. ``TableUpdates`` looks up the truth table of the gene, at any G. Temporaries are written into
buffers that are reused: at these sizes allocating them would take longer than the arithmetic.

Letters: B cells, G genes, T updates drawn together, R the largest number of regulators.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from perturbrl.landscape.numbers import pack, unpack
from perturbrl.landscape.rules import ROWS, Rules
from perturbrl.mixing import WORD, mix32_, pick

MOST_PACKED = 20
"""The most genes for which the images of all states are tabulated, once so many updates are asked for that it pays."""
ALWAYS_PACKED = 14
WORDS = 32768
"""Random words drawn at a time: they fit the second-level cache of a core."""


class Updates(Protocol):
    """Updates of cells [B, G] uint8; ``free`` [B, G] bool: genes that may change, None for all."""

    def run(
        self, state: Tensor, key: Tensor, numbers: range, free: Tensor | None, count: Tensor | None = None
    ) -> Tensor:
        """Return the states after the updates ``numbers`` of one gene each; of a cell those below ``count`` [B]."""

    def sweep(self, state: Tensor, n_sweeps: int, free: Tensor | None) -> Tensor:
        """Return the states after updates of all genes at once."""


def drawn_genes(key: Tensor, numbers: range, n_genes: int, count: Tensor | None) -> Iterator[Tensor]:
    """Yield the genes that cells of ``key`` [B] update, [T, B] int64, for T updates at a time; overwritten by the next.

    Entry t, b is ``pick(words(key[b], numbers[t]), n_genes)``, or ``n_genes``, no gene, from number ``count[b]`` on.
    """
    low, stride = key & WORD, key >> 32 | 1
    size = max(1, WORDS // max(1, len(key)))
    buffer = torch.empty(2, min(size, len(numbers)), len(key), dtype=torch.int64, device=key.device)
    for start in range(0, len(numbers), size):
        part = numbers[start : start + size]
        word, scratch = buffer[:, : len(part)]
        counter = torch.arange(part.start, part.stop, device=key.device)[:, None]
        torch.mul(stride, counter, out=word)
        genes = pick(mix32_(word.add_(low).bitwise_and_(WORD), scratch), n_genes)
        yield genes if count is None else genes.masked_fill_(counter >= count, n_genes)


class PackedUpdates:
    """For at most ``MOST_PACKED`` genes."""

    def __init__(self, rules: Rules, n_genes: int, device: torch.device) -> None:
        self.n_genes = n_genes
        digits = [*(1 << g for g in reversed(range(n_genes))), 0]  # the last: of no gene
        self.digit = torch.tensor(digits, dtype=torch.int32, device=device)
        parts = torch.arange(2**n_genes, device=device).split(ROWS)  # type: ignore[no-untyped-call]
        self.images = torch.cat([pack(rules.values(unpack(part, n_genes))).int() for part in parts])

    def run(
        self, state: Tensor, key: Tensor, numbers: range, free: Tensor | None, count: Tensor | None = None
    ) -> Tensor:
        """See ``Updates``."""
        number, may_change = pack(state).int(), None if free is None else pack(free).int()
        change = torch.empty_like(number)
        for genes in drawn_genes(key, numbers, self.n_genes, count):
            digits = self.digit.index_select(0, genes.flatten()).view(genes.shape)
            if may_change is not None:
                digits &= may_change
            for digit in digits:
                torch.index_select(self.images, 0, number, out=change)
                number.bitwise_xor_(change.bitwise_xor_(number).bitwise_and_(digit))
        return unpack(number, self.n_genes)

    def sweep(self, state: Tensor, n_sweeps: int, free: Tensor | None) -> Tensor:
        """See ``Updates``."""
        number, may_change = pack(state).int(), None if free is None else pack(free).int()
        for _ in range(n_sweeps):
            change = self.images.index_select(0, number).bitwise_xor_(number)
            number.bitwise_xor_(change if may_change is None else change.bitwise_and_(may_change))
        return unpack(number, self.n_genes)


class TableUpdates:
    """For any number of genes."""

    def __init__(self, rules: Rules, n_genes: int, device: torch.device) -> None:
        self.rules, self.n_genes = rules, n_genes
        # A padded regulator is an extra gene that is always off, read before the real ones: it adds leading zeros.
        padded = rules.weights == 0
        regulators = torch.where(padded, n_genes, rules.regulators)
        order = padded.int().argsort(dim=1, descending=True, stable=True)
        # The last column is of no gene: it reads nothing, and may not change.
        self.regulators = F.pad(regulators.gather(1, order).T, (0, 1), value=n_genes).int().contiguous()
        self.offset = F.pad(rules.offset, (0, 1)).int()

    def run(
        self, state: Tensor, key: Tensor, numbers: range, free: Tensor | None, count: Tensor | None = None
    ) -> Tensor:
        """See ``Updates``."""
        cells = F.pad(state, (0, 1))
        if count is not None:
            free = F.pad(torch.ones_like(state, dtype=torch.bool) if free is None else free, (0, 1), value=False)
        flat, first = cells.view(-1), torch.arange(len(key), dtype=torch.int32, device=key.device) * (self.n_genes + 1)
        place, entry = torch.empty_like(first), torch.empty_like(first)
        on = torch.empty(len(key), dtype=torch.uint8, device=key.device)
        value = torch.empty_like(on)
        for genes in drawn_genes(key, numbers, self.n_genes, count):
            for gene in genes.int():
                entry.zero_()
                for regulator in self.regulators:
                    torch.index_select(regulator, 0, gene, out=place)
                    torch.index_select(flat, 0, place.add_(first), out=on)
                    entry.bitwise_left_shift_(1).add_(on)
                entry.add_(torch.index_select(self.offset, 0, gene, out=place))
                torch.index_select(self.rules.tables, 0, entry, out=value)
                self.rules.evaluate_wide_(value, cells, gene)
                at = torch.add(first, gene, out=place)
                if free is not None:
                    may_change = free.gather(1, gene.long()[:, None])[:, 0]
                    value = torch.where(may_change, value, flat.index_select(0, at))
                flat.scatter_(0, at.long(), value)
        return cells[:, : self.n_genes]

    def sweep(self, state: Tensor, n_sweeps: int, free: Tensor | None) -> Tensor:
        """See ``Updates``."""
        for _ in range(n_sweeps):
            image = self.rules.values(state)
            state = image if free is None else torch.where(free, image, state)
        return state
