"""Drafts of generated networks: which gene reads which, and by what rule.

Letters: G genes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

FAMILIES = ("scale_free", "modular", "feed_forward")
FEWEST, MOST = 5, 500
"""Genes of a generated network."""
CORE = (3, 5, 7)
"""Genes of the core: a signal and one, two or three switches, for networks of 5, 8 and 12 genes or more."""
INPUTS = (0.3, 0.4, 0.2, 0.1)
"""Shares of genes with one, two, three and four regulators."""
FEEDBACK = 0.1
"""Share of genes that also read a gene further down; none do in a feed-forward network."""
ACTIVATOR, CANALISING, EXTRA = 0.75, 0.6, 0.3
"""Share of further regulators that activate, of rules that are nested canalising, and of switches read by others."""
Generator = np.random.Generator
Weights = Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True)
class Draft:
    """Rules of G genes before anything is known of their dynamics; ``core`` are the signal and the switches."""

    genes: tuple[str, ...]
    rules: tuple[str, ...]
    core: tuple[int, ...]


def draw(kind: str, n: int, draws: Generator) -> Draft:
    """Draw a network of ``n`` genes: a signal, genes above the core, the core, and genes below it."""
    n_core = CORE[(n >= 8) + (n >= 12)]
    n_above = 0 if n < 10 else max(1, n // 10)
    core = (0, *range(1 + n_above, n_above + n_core))
    names = draws.permutation([f"TF{k:0{len(str(n))}d}" for k in range(1, n + 1)]).tolist()
    reads = _regulators(kind, n, core, draws)
    rules = [_rule([names[r] for r in reads[g]], draws) if reads[g] else "" for g in range(n)]
    others = [g for g in range(1, n) if g not in core]
    extra = others[:n_above] if kind == "feed_forward" else others
    for g, rule in _core_rules(core, names, [names[g] for g in extra], draws).items():
        rules[g] = rule
    order = sorted(range(n), key=names.__getitem__)
    place = {g: k for k, g in enumerate(order)}
    return Draft(tuple(names[g] for g in order), tuple(rules[g] for g in order), tuple(place[g] for g in core))


def _core_rules(core: Sequence[int], names: Sequence[str], extra: Sequence[str], draws: Generator) -> dict[int, str]:
    """Return the rules of the signal, of the first switch, and of those that each side of it opens."""
    signal = names[core[0]]
    rules = {core[0]: signal}
    for pair, above in zip(_pairs(core), (signal, names[core[1]], names[core[2]]), strict=False):
        for gene, rival in (pair, pair[::-1]):
            off = [names[rival], *(_some(extra, draws))]
            # The first switch keeps itself; a later one lasts as long as the gene that opens it.
            on = [names[gene], above] if above == signal else [above]
            rules[gene] = f"({' or '.join(on)}) and not ({' or '.join(off)})"
    return rules


def _pairs(core: Sequence[int]) -> list[tuple[int, int]]:
    return [(core[k], core[k + 1]) for k in range(1, len(core), 2)]


def _some(extra: Sequence[str], draws: Generator) -> list[str]:
    """Return a further repressor, or none."""
    return [str(draws.choice(extra))] if extra and draws.random() < EXTRA else []


def _regulators(kind: str, n: int, core: Sequence[int], draws: Generator) -> list[list[int]]:
    """Draw the regulators of every gene outside the core, the first of them from the genes before it."""
    reads: list[list[int]] = [[] for _ in range(n)]
    n_targets = np.zeros(n)
    n_modules = max(2, round((n / 8) ** 0.5))
    module = np.arange(n) % n_modules
    for g in (g for g in range(1, n) if g not in core):
        weights = np.ones(g)
        if kind == "scale_free":
            weights += n_targets[:g]  # preferential attachment (Barabasi and Albert 1999)
        elif kind == "modular":
            weights = np.where(module[:g] == module[g], 1.0, 0.1 / n_modules)
        else:
            weights = np.where(np.arange(g) >= g - max(3, n // 6), 1.0, 0.05)  # mostly from the layer above
        count = min(g, 1 + int(np.searchsorted(np.cumsum(INPUTS), draws.random())))
        chosen = [int(r) for r in draws.choice(g, count, replace=False, p=weights / weights.sum())]
        if kind == "feed_forward" and len(chosen) > 1 and reads[chosen[0]]:
            # A feed-forward loop: what the first regulator reads acts on the gene directly too.
            chosen[1] = reads[chosen[0]][0] if reads[chosen[0]][0] not in chosen else chosen[1]
        elif kind != "feed_forward" and g + 1 < n and draws.random() < FEEDBACK:
            chosen.append(int(draws.integers(g + 1, n)))
        n_targets[chosen] += 1
        reads[g] = chosen
    return reads


def _rule(names: Sequence[str], draws: Generator) -> str:
    """Return a rule that reads every gene of ``names``, the first as an activator."""
    signs = [True, *(draws.random(len(names) - 1) < ACTIVATOR)]
    literals = [name if sign else f"not {name}" for name, sign in zip(names, signs, strict=True)]
    if len(literals) < 3 or draws.random() < CANALISING:
        rule = literals[-1]
        for literal in literals[-2::-1]:
            rule = f"{literal} {draws.choice(['and', 'or'])} ({rule})"
        return rule
    least = int(draws.integers(2, len(literals)))
    return " or ".join(f"({' and '.join(some)})" for some in combinations(literals, least))
