"""A velocity network whose tokens are genes, after scDFM (as the code that its authors released has it).

Letters: S runs, M cells, G genes, K numbers of a condition, W width of a token, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from perturbrl.generators.layout import Layout, Part, apply, linear
from perturbrl.generators.settings import NetworkConfig
from perturbrl.generators.velocity import conditions, embedded, modulated


class Transformer:
    """Blocks of self-attention among co-expressed genes, cross-attention to the control cell, and a layer of each gene.

    A token is the embedding of its gene plus its value in the cell and in the control. All three parts of a block are
    modulated by time and condition, with gates that start at 0 (adaLN-zero, Peebles & Xie 2023). Unlike scDFM's, the
    attention is not differential and the condition enters by modulation alone.

    ``mask`` [G, G] says which genes (columns) a gene attends to.
    """

    def __init__(self, config: NetworkConfig, mask: Tensor, n_known: int) -> None:
        self.blocks, self.heads, self.mask = config.blocks, config.heads, mask
        width, n_genes = config.hidden, len(mask)
        parts = conditions(n_known, config.embedding)
        parts |= {"gene": Part((n_genes, width), width**-0.5)} | linear("value", 2, width) | linear("control", 1, width)
        for k in range(config.blocks):
            parts |= linear(f"{k}.modulation", config.embedding, 9 * width, zero=True)
            parts |= linear(f"{k}.self", width, 3 * width) | linear(f"{k}.self_out", width, width)
            parts |= linear(f"{k}.query", width, width) | linear(f"{k}.pair", width, 2 * width)
            parts |= linear(f"{k}.cross_out", width, width)
            parts |= linear(f"{k}.first", width, 2 * width) | linear(f"{k}.second", 2 * width, width)
        parts |= linear("last", config.embedding, 2 * width, zero=True)
        self.layout = Layout(parts | linear("velocity", width, 1, zero=True))

    def __call__(self, theta: Tensor, x: Tensor, t: Tensor, control: Tensor, known: Tensor) -> Tensor:
        """Return the velocity; see ``Velocity``."""
        w, shape = self.layout.views(theta), x.shape
        e = embedded(w, t, known)
        gene = w["gene"].unsqueeze(1)
        beside = gene + _tokens(w, "control", control.unsqueeze(-1))
        h = gene + _tokens(w, "value", torch.stack([x, control], -1))
        for k in range(self.blocks):
            parts = [part.unsqueeze(2) for part in apply(w, f"{k}.modulation", e).chunk(9, -1)]
            q, key, value = _tokens(w, f"{k}.self", modulated(h, *parts[0:2])).chunk(3, -1)
            h = h + parts[2] * _tokens(w, f"{k}.self_out", self._attend(q, key, value, self.mask))
            q = _tokens(w, f"{k}.query", modulated(h, *parts[3:5]))
            key, value = _tokens(w, f"{k}.pair", F.layer_norm(beside, beside.shape[-1:])).chunk(2, -1)
            h = h + parts[5] * _tokens(w, f"{k}.cross_out", self._attend(q, key, value, None))
            u = F.silu(_tokens(w, f"{k}.first", modulated(h, *parts[6:8])))
            h = h + parts[8] * _tokens(w, f"{k}.second", u)
        scale, shift = (part.unsqueeze(2) for part in apply(w, "last", e).chunk(2, -1))
        return _tokens(w, "velocity", modulated(h, scale, shift)).view(shape)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return what each token [S, M, G, W] reads from the tokens that ``mask`` [G, G] allows."""
        runs, cells, genes, width = query.shape
        split = (runs * cells, genes, self.heads, width // self.heads)
        q, k, v = (x.reshape(split).transpose(1, 2) for x in (query, key, value))
        out: Tensor = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return out.transpose(1, 2).reshape(query.shape)


def _tokens(w: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
    """Return a linear layer of tokens [S, M, G, I], [S, M, G, O]."""
    return apply(w, name, x.flatten(1, 2)).view(*x.shape[:3], -1)


def coexpressed(cells: Tensor, neighbours: int) -> Tensor:
    """Return for each gene itself and the ``neighbours`` of highest |Pearson| over ``cells`` [N, G], bool [G, G]."""
    centred = cells - cells.mean(0)
    scaled = centred / centred.norm(dim=0).clamp(min=1e-12)
    alike = (scaled.T @ scaled).abs()
    alike.fill_diagonal_(2.0)
    most = alike.topk(min(neighbours + 1, len(alike)), dim=1).indices
    return torch.zeros_like(alike, dtype=torch.bool).scatter_(1, most, True)
