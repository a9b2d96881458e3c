"""Inferred edges against a known network, beside a correlation and a random order. Letters: G genes, E ordered pairs.

Edges are ordered pairs of different genes: an edge of a gene to itself is neither asked for nor counted, as in BEELINE
(Pratapa et al. 2020, Nature Methods 17: 147).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from perturbrl.landscape.infer.inference import InferredEdge
from perturbrl.landscape.infer.information import Association
from perturbrl.landscape.infer.trajectory import Values
from perturbrl.landscape.network import Network
from perturbrl.landscape.regulations import regulations

Pair = tuple[str, str]
Truth = Mapping[Pair, int]  # (regulator, target): +1 or -1, 0 where the rule is not monotone


@dataclass(frozen=True)
class Ranking:
    """A score and a sign for each of E ordered pairs; the higher the score, the surer the edge."""

    pairs: tuple[Pair, ...]
    score: Values
    sign: NDArray[np.int64]


@dataclass(frozen=True)
class Scores:
    """How the first ``n`` edges of a ranking, and all of it, agree with the truth."""

    n: int
    precision: float
    recall: float
    average_precision: float


def true_edges(network: Network) -> dict[Pair, int]:
    """Return the edges of a network between different genes; the sign is 0 where an effect depends on other genes."""
    return {
        (each.regulator, each.target): each.sign
        for each in regulations(network)
        if each.acts and each.regulator != each.target
    }


def of_edges(edges: Iterable[InferredEdge], genes: Iterable[str]) -> Ranking:
    """Return the ranking of an inference over ``genes``: edges of rules by score, then other candidates by score."""
    scores = {(e.regulator, e.target): (e.bits + (1e3 if e.in_rule else 0), e.sign) for e in edges}
    pairs = tuple(permutations(genes, 2))
    return Ranking(
        pairs,
        np.array([scores.get(p, (0.0, 0))[0] for p in pairs]),
        np.array([scores.get(p, (0.0, 0))[1] for p in pairs], dtype=np.int64),
    )


def of_matrix(genes: tuple[str, ...], signed: Values) -> Ranking:
    """Return the ranking by the absolute values of ``signed`` [G, G] (regulator, target), with its signs."""
    place = {gene: g for g, gene in enumerate(genes)}
    pairs = tuple(permutations(genes, 2))
    values = np.array([signed[place[r], place[t]] for r, t in pairs])
    return Ranking(pairs, np.abs(values), np.sign(values).astype(np.int64))


def correlation(values: Values) -> Values:
    """Return Pearson's correlation of every two columns of ``values`` [N, G], [G, G], exactly symmetric."""
    r = np.corrcoef(values.T)
    return np.asarray((r + r.T) / 2)


def information(found: Association) -> Values:
    """Return the signed mutual information [G, G]."""
    return found.bits * found.sign


def undirected(ranking: Ranking, truth: Truth) -> tuple[Ranking, dict[Pair, int]]:
    """Return ranking and truth of pairs without direction: the surer of a pair's two edges, and any edge of the truth.

    Pairs are in alphabetical order. A pair of the truth whose two edges differ in sign has sign 0.
    """
    best: dict[Pair, tuple[float, int]] = {}
    for (a, b), score, sign in zip(ranking.pairs, ranking.score.tolist(), ranking.sign.tolist(), strict=True):
        pair = (min(a, b), max(a, b))
        best[pair] = max(best.get(pair, (score, sign)), (score, sign), key=lambda one: one[0])
    known: dict[Pair, int] = {}
    for (a, b), sign in truth.items():
        pair = (min(a, b), max(a, b))
        known[pair] = sign if known.get(pair, sign) == sign else 0
    values = [*best.values()]
    return Ranking(
        tuple(best), np.array([v for v, _ in values]), np.array([s for _, s in values], dtype=np.int64)
    ), known


def scores(ranking: Ranking, truth: Truth, n: float, signed: bool) -> Scores:
    """Return precision and recall of the first ``n`` edges, and the average precision of the whole ranking.

    Edges of one score are in no order: of a part of them the expected number of true ones is counted, and average
    precision takes them together (as scikit-learn does). ``signed``: an edge is true only with the sign of the truth
    (either, where that is 0). Edges of the truth whose genes are not ranked are not asked for.
    """
    asked = {pair: sign for pair, sign in truth.items() if pair in set(ranking.pairs)}
    true = np.array(
        [p in asked and (not signed or asked[p] in (0, s)) for p, s in zip(ranking.pairs, ranking.sign, strict=True)]
    )
    levels, group = np.unique(-ranking.score, return_inverse=True)
    size = np.bincount(group.ravel(), minlength=len(levels))
    hits = np.bincount(group.ravel(), weights=true, minlength=len(levels))
    ranked, found = np.cumsum(size), np.cumsum(hits)
    at_n = float(np.interp(n, [0, *ranked], [0, *found]))
    average = float((found / ranked * hits).sum()) / len(asked)
    return Scores(round(n), at_n / n if n else 0.0, at_n / len(asked), average)
