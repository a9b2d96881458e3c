"""CRISPR events, the noise of the released environments (arXiv 2510.13018): genes knocked out or over-expressed.

Letters: S runs, B cells, G features, E genes that the largest event of any run may hit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from perturbrl.mixing import WORD, mix32_

N_UNIFORMS = 3
"""Uniform numbers that one event consumes: its size, and two that key its genes."""

_GOLDEN = 0x9E3779B9
BLOCK = 1024  # genes of an event drawn at a time


class CrisprEvents:
    """Events on n ~ U{1..max_event_genes} genes, with replacement: each is knocked out (x 0) or over-expressed (x 2).

    The j-th gene of an event is a hash of (key, j), not a uniform number of its own. So the number of uniforms does
    not depend on ``max_event_genes``, and a run draws the same numbers whatever the other runs of its population are
    set to: run k of a population equals run k alone even where ``max_event_genes`` differs.
    """

    def __init__(
        self, max_event_genes: Sequence[int], prob: Sequence[float], n_features: int, device: torch.device | str
    ) -> None:
        """``max_event_genes`` and ``prob``, the probability of an event, have one entry for each of the S runs."""
        self.n_features = n_features
        self._max = torch.tensor(max_event_genes, dtype=torch.float32, device=device)[:, None]
        self._prob = torch.tensor(prob, dtype=torch.float32, device=device)[:, None]
        self._scale = (self._max / self._prob).masked_fill(self._prob == 0, 0.0)
        self._most = max(max_event_genes)
        self._slots = torch.arange(min(self._most, BLOCK), device=device)

    def apply_(self, cells: Tensor, u: Tensor) -> Tensor:
        """Let an event happen, or not, to each of ``cells`` [S, B, G], in place; return ``cells``.

        ``u`` is [S, B, 3], uniform numbers in [0, 1) of 24 random bits.
        """
        sizes, key = self.sizes(u[..., 0]), self._key(u)
        if self._most <= BLOCK:
            return self._scale_(cells, key, sizes, self._slots)
        # A gene once knocked out stays 0, and some G ln G draws knock out every one: an event of a million genes
        # ends long before its last.
        run, cell = (sizes > 0).nonzero(as_tuple=True)
        for start in range(0, self._most, BLOCK):
            if not len(run):
                break
            part = self._scale_(cells[run, cell], key[run, cell], sizes[run, cell], self._slots + start)
            cells[run, cell] = part
            unfinished = (sizes[run, cell] > start + BLOCK) & (part != 0).any(-1)
            run, cell = run[unfinished], cell[unfinished]
        return cells

    def sizes(self, u: Tensor) -> Tensor:
        """Return the number of genes of each event, [S, B] float, 0 where none happens; ``u`` is [S, B]."""
        # Given u < prob, u / prob is uniform again, so one number says both whether and how many.
        size = (u * self._scale).floor_().add_(1.0)
        return torch.minimum(size, self._max).mul_(u < self._prob)

    def draws(self, u: Tensor) -> Tensor:
        """Return the first E draws of 0..2G-1 for each cell, at most ``BLOCK``, [S, B, E] int64.

        draw // 2 is the gene, draw % 2 over-expression.
        """
        return self._draws(self._key(u), self._slots)

    def _key(self, u: Tensor) -> Tensor:
        key = (u[..., 1:3] * 2**24).long()
        return (key[..., 0] << 8) ^ key[..., 1]

    def _draws(self, key: Tensor, slots: Tensor) -> Tensor:
        words = key[..., None] + slots * _GOLDEN
        return mix32_(words.bitwise_and_(WORD)).mul_(2 * self.n_features).bitwise_right_shift_(32)

    def _scale_(self, cells: Tensor, key: Tensor, sizes: Tensor, slots: Tensor) -> Tensor:
        """Scale in place the genes of ``cells`` [..., G] that the draws ``slots`` of events of ``sizes`` [...] hit."""
        draws = self._draws(key, slots)
        factor = ((draws & 1) * 2).to(cells.dtype)
        factor.masked_fill_(slots >= sizes[..., None], 1.0)
        # Factors commute, so drawing a gene twice needs no order: one scattered product is the whole event.
        return cells.scatter_reduce_(-1, draws >> 1, factor, "prod")
