"""Which genes may regulate which, with sign and score. Letters: G genes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perturbrl.landscape.infer.information import Association


@dataclass(frozen=True)
class Candidate:
    """A possible edge: mutual information ``bits``, its p-value, and +1 or -1. ``listed``: the user named the edge."""

    regulator: int
    target: int
    sign: int
    bits: float
    p: float
    listed: bool = False


def from_data(found: Association, alpha: float, most: int) -> tuple[list[Candidate], list[tuple[int, int]]]:
    """Return the pairs whose association is not chance, in both directions, and those beyond ``most`` of a target.

    A pair is a candidate if its p-value is below ``alpha`` over the number of pairs (Bonferroni). A target keeps the
    ``most`` candidates of the highest mutual information.
    """
    n = len(found.bits)
    limit = alpha / max(n * (n - 1) // 2, 1)
    kept: list[Candidate] = []
    beyond: list[tuple[int, int]] = []
    for target in range(n):
        order = np.argsort(-found.bits[:, target], kind="stable")
        able = [int(g) for g in order if found.p[g, target] < limit and found.bits[g, target] > 0 and g != target]
        kept += [_candidate(found, g, target) for g in able[:most]]
        beyond += [(g, target) for g in able[most:]]
    return kept, beyond


def from_list(
    found: Association, listed: Sequence[tuple[int, int, int]]
) -> tuple[list[Candidate], list[tuple[int, int]]]:
    """Return the candidates of an edge list (regulator, target, sign or 0), and the edges without any sign.

    A sign that is missing is that of the data. An edge is a candidate whatever its mutual information.
    """
    kept: list[Candidate] = []
    unsigned: list[tuple[int, int]] = []
    for regulator, target, sign in listed:
        known = int(np.sign(sign)) or int(found.sign[regulator, target])
        if known == 0 or regulator == target:
            unsigned.append((regulator, target))
        else:
            kept.append(_candidate(found, regulator, target, known))
    return kept, unsigned


def _candidate(found: Association, regulator: int, target: int, sign: int | None = None) -> Candidate:
    bits, p = float(found.bits[regulator, target]), float(found.p[regulator, target])
    return Candidate(regulator, target, sign or int(found.sign[regulator, target]), bits, p, sign is not None)
