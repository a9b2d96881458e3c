"""Names of attractors: the fate whose markers hold, else what sets an attractor apart.

Letters: K attractors, G genes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape.labels import UNDECIDED
from perturbrl.landscape.network import Network
from perturbrl.landscape.pictures.scene import numbered


def attractor_names(
    on: NDArray[np.bool_], fates: Sequence[str], network: Network, *, off: NDArray[np.bool_] | None = None
) -> list[str]:
    """Return a name for each of K attractors from the genes that are on in it, [K, G], and its fate or ``undecided``.

    Attractors of the same fate differ by the genes named behind it (``monocyte, Cebpa on``). One without a fate is
    called after the genes that are on; without any ``all off``, or ``between on and off`` where ``off`` [K] says that
    not all genes are off: some go on and off, or rest at a level between.
    """
    all_off = np.asarray(~on.any(axis=1) if off is None else off)
    names = [
        str(fate) if fate != UNDECIDED else _by_genes(row, network.genes, bool(is_off))
        for row, fate, is_off in zip(on, fates, all_off, strict=True)
    ]
    for name in {name for name in names if names.count(name) > 1}:
        same = [k for k, other in enumerate(names) if other == name]
        differing = np.flatnonzero(on[same].any(axis=0) & ~on[same].all(axis=0))
        if 0 < len(differing) <= 2:
            for k in same:
                names[k] = name + "".join(f", {network.genes[g]} {'on' if on[k, g] else 'off'}" for g in differing)
    # numbers follow the states, so that the same attractor has one name in every table
    order = sorted(range(len(names)), key=lambda k: tuple(~on[k]))
    by_state = numbered([names[k] for k in order])
    return [by_state[order.index(k)] for k in range(len(names))]


def fates_or_names(fates: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the fate of each attractor, or its name where it is ``undecided``."""
    return [name if fate == UNDECIDED else fate for fate, name in zip(fates, names, strict=True)]


def _by_genes(row: NDArray[np.bool_], genes: Sequence[str], off: bool) -> str:
    active = [gene for gene, level in zip(genes, row, strict=True) if level]
    if not active:
        return "all off" if off else "between on and off"
    return " ".join(active) if len(active) <= 3 else f"{' '.join(active[:2])} and {len(active) - 2} more"
