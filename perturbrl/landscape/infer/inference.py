"""A Boolean network from cells along pseudotime, in the manner of IQCELL. Letters: N cells, G genes, T states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from perturbrl import status
from perturbrl.errors import UserError
from perturbrl.landscape.infer import candidates as edges
from perturbrl.landscape.infer import order
from perturbrl.landscape.infer.candidates import Candidate
from perturbrl.landscape.infer.information import Association, association
from perturbrl.landscape.infer.order import Branch
from perturbrl.landscape.infer.rules import GeneRule, gene_rule
from perturbrl.landscape.infer.settings import InferConfig
from perturbrl.landscape.infer.solver import require_z3
from perturbrl.landscape.infer.trajectory import Binary, Trajectory, binarise
from perturbrl.landscape.network import Markers, Network

ListedEdge = tuple[str, str, int]


@dataclass(frozen=True)
class InferredEdge:
    """A candidate edge: its score in bits, the p-value of the association, and whether the target's rule reads it.

    ``support`` counts the observed states at which the target's rule is right and would be wrong without the edge.
    """

    regulator: str
    target: str
    sign: int
    bits: float
    p: float
    in_rule: bool
    support: int
    listed: bool


@dataclass(frozen=True)
class Inferred:
    """The network; every candidate edge, those of rules first, then by score; the order of states of each branch.

    ``notes`` are sentences on what was left out and on where the rules miss the data.
    """

    network: Network
    edges: tuple[InferredEdge, ...]
    branches: tuple[Branch, ...]
    gene_rules: tuple[GeneRule, ...]
    notes: tuple[str, ...]

    @property
    def steps(self) -> tuple[int, int]:
        """How many steps from a state to the next the asynchronous network can take, and how many there are."""
        able = []
        for branch in self.branches:
            before, after = branch.states[:-1], branch.states[1:]
            able += ((self._image(before) == after) | (before == after)).all(axis=1).tolist()
        return sum(able), len(able)

    @property
    def steady_ends(self) -> int:
        """How many branches end in a state that is steady in the network."""
        return sum(bool((self._image(b.states[-1:]) == b.states[-1:]).all()) for b in self.branches)

    def _image(self, states: Binary) -> Binary:
        """Return the value of every rule at ``states`` [T, G]."""
        columns = [r.rule.value(states[:, [c.regulator for c in r.candidates]]) for r in self.gene_rules]
        return np.stack(columns, axis=1)


def infer_network(
    cells: Trajectory, config: InferConfig, listed: Sequence[ListedEdge] | None = None, name: str = "inferred"
) -> Inferred:
    """Infer a network from cells ordered in pseudotime.

    After IQCELL (Heydari et al. 2022, PLoS Comput Biol 18(2): e1009907): each gene is on or off by 2-means; the
    smoothed on-shares give the order of states; mutual information with a sign scores the candidate edges; and Z3
    chooses for each gene the rule with the highest total score among those which agree with the order of states and
    read no regulator in vain. Since the demands are on observed states, the genes' rules are independent problems.

    Parameters
    ----------
    cells
        The cells.
    config
        Settings, ``settings.settings()``.
    listed
        Edges (regulator, target, sign: +1, -1 or 0 where it is to be that of the data) that alone may be used; None:
        all pairs with a significant association.
    name
        The name of the network.

    Raises
    ------
    UserError
        Z3 is not installed, fewer than two genes change along pseudotime, or no listed edge joins two of them.
    """
    require_z3()
    binary = binarise(cells.values)
    branches = order.branches(cells, binary, config.windows)
    changing = np.ptp(np.concatenate([b.states for b in branches]).astype(np.int8), axis=0) > 0
    notes = _unchanging_notes(cells, binary, changing)
    if changing.sum() < 2:
        raise UserError(
            f"{cells.name}: {int(changing.sum())} of {len(changing)} genes change along pseudotime (on in half of a "
            "window of cells at one time and not at another); at least two are needed"
        )
    genes = tuple(gene for gene, use in zip(cells.genes, changing, strict=True) if use)
    branches = tuple(Branch(b.name, b.states[:, changing], b.times, b.end_cells) for b in branches)
    found = association(binary[np.isfinite(cells.pseudotime).any(axis=1)][:, changing], cells.n_independent)
    possible, edge_notes = _candidates(genes, found, config, listed, cells.name)
    rules = []
    with status.step("searching for rules") as step:
        for g, gene in enumerate(genes):
            step.at(f"gene {g + 1} of {len(genes)}: {gene}")
            rules.append(gene_rule(branches, g, [c for c in possible if c.target == g], config))
    network = _network(cells, branches, genes, rules, name)
    notes += edge_notes + _rule_notes(genes, rules, config)
    return Inferred(network, _edges(genes, rules), branches, tuple(rules), tuple(notes))


def _candidates(
    genes: tuple[str, ...],
    found: Association,
    config: InferConfig,
    listed: Sequence[ListedEdge] | None,
    where: str,
) -> tuple[list[Candidate], list[str]]:
    if listed is None:
        kept, beyond = edges.from_data(found, config.alpha, config.candidates)
        n = len(genes)
        notes = [
            f"{n * (n - 1) - len(kept) - len(beyond)} of {n * (n - 1)} possible edges have no significant association"
        ]
        if beyond:
            notes.append(
                f"{len(beyond)} significant edges are beyond the {config.candidates} strongest of their target"
            )
        return kept, notes
    place = {gene: g for g, gene in enumerate(genes)}
    inside = [(place[r], place[t], s) for r, t, s in dict.fromkeys(listed) if r in place and t in place]
    kept, unsigned = edges.from_list(found, inside)
    if not kept:
        raise UserError(
            f"{where}: none of the {len(listed)} listed edges joins two different genes that change along pseudotime; "
            f"those are {', '.join(genes[:10])}{' ...' if len(genes) > 10 else ''}"
        )
    notes = [f"{len(listed) - len(inside)} of {len(listed)} listed edges name a gene that is not in the network"]
    if unsigned:
        notes.append(f"{len(unsigned)} listed edges join a gene to itself, or have no sign in list or data")
    return kept, notes


def _network(
    cells: Trajectory, branches: Sequence[Branch], genes: tuple[str, ...], rules: Sequence[GeneRule], name: str
) -> Network:
    texts = {genes[r.gene]: r.rule.text([genes[c.regulator] for c in r.candidates]) for r in rules}
    first = branches[0].states[0]
    start = frozenset(gene for gene, on in zip(genes, first, strict=True) if on)
    ends = np.stack([b.states[-1] for b in branches])
    telling = np.ptp(np.concatenate([first[None], ends]).astype(np.int8), axis=0) > 0
    fates: dict[str, Markers] = {}
    for branch, end in zip(branches, ends, strict=True):
        on = tuple(gene for gene, told, level in zip(genes, telling, end, strict=True) if told and level)
        off = tuple(gene for gene, told, level in zip(genes, telling, end, strict=True) if told and not level)
        label = _label(cells, branch)
        while label in fates:
            label = f"{label} ({branch.name})"
        fates[label] = (on, off)
    return Network(texts, start, fates, {}, {}, 0.5, name)


def _label(cells: Trajectory, branch: Branch) -> str:
    """Return the most frequent label of the cells at the end of a branch, or the branch's name."""
    if cells.labels is None:
        return branch.name
    return str(Counter(cells.labels[branch.end_cells].tolist()).most_common(1)[0][0])


def _edges(genes: tuple[str, ...], rules: Sequence[GeneRule]) -> tuple[InferredEdge, ...]:
    out = []
    for r in rules:
        support = dict(zip(r.rule.edges, r.support, strict=True))
        for e, c in enumerate(r.candidates):
            names = genes[c.regulator], genes[c.target]
            out.append(InferredEdge(*names, c.sign, c.bits, c.p, e in support, support.get(e, 0), c.listed))
    return tuple(sorted(out, key=lambda edge: (not edge.in_rule, -edge.bits, edge.regulator, edge.target)))


def _unchanging_notes(cells: Trajectory, binary: Binary, changing: Binary) -> list[str]:
    return [
        f"gene {gene} is left out: it is {'on' if share >= 0.5 else 'off'} in most cells of every window of pseudotime "
        f"(on in {share:.0%} of the cells)"
        for gene, share, use in zip(cells.genes, binary.mean(axis=0), changing, strict=True)
        if not use
    ]


def _rule_notes(genes: tuple[str, ...], rules: Sequence[GeneRule], config: InferConfig) -> list[str]:
    notes = []
    for r in rules:
        gene = genes[r.gene]
        if r.wrong:
            notes.append(
                f"gene {gene}: no rule of its {len(r.candidates)} candidates agrees with every state; the rule given "
                f"misses {r.wrong} of {r.n_states}"
            )
        elif r.lag:
            notes.append(f"gene {gene} may wait for up to {r.lag} states after its rule has changed")
        if not r.rule.edges:
            way = "comes on" if r.rule.constant else "goes off"
            notes.append(f"gene {gene} has no regulator: in the network it {way} by itself")
        if not r.proven:
            notes.append(f"gene {gene}: the limit of {config.seconds:g} s ended the search; a better rule may exist")
    return notes
