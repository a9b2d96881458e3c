"""From a question to a plan: try sets, rank them, say how sure that is, how stable, and by which edges.

Letters: S sets, K outcomes, G genes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from perturbrl import status
from perturbrl.errors import require
from perturbrl.landscape.network import Network
from perturbrl.landscape.plan import edits, places, search
from perturbrl.landscape.plan.exact import Exact
from perturbrl.landscape.plan.outcomes import Question
from perturbrl.landscape.plan.result import Candidate, Perturbation, Plan, Stability, ranked
from perturbrl.landscape.plan.search import Evaluator, Tried
from perturbrl.landscape.plan.settings import PlanConfig
from perturbrl.landscape.plan.simulated import Simulated
from perturbrl.stats import wilson

Edges = tuple[edits.Edge, ...]

_SPARE = 3  # times as many sets are looked at again with more runs as are listed


def make_plan(
    question: Question,
    config: PlanConfig,
    max_perturb: int = 1,
    genes: Sequence[str] = (),
    notes: Sequence[str] = (),
    proposed: tuple[str, Sequence[Perturbation]] | None = None,
) -> Plan:
    """Return the ranked list of sets of perturbations that take the start of ``question`` to its target.

    ``question`` is what is asked (``places.ask``); ``max_perturb`` bounds the genes of a set, which are of ``genes``
    (empty: of all). ``notes`` are sentences that the plan carries; ``proposed`` is a method and its sets, instead of
    a search.

    Raises
    ------
    UserError
        ``max_perturb`` is out of range, a gene is not in the network, or the network is too big for method=exact.
    """
    choices = places.narrowed(question, genes)
    range_ = f"must be 1 to {len(choices)}, the genes that may be perturbed, got {max_perturb}"
    require(1 <= max_perturb <= len(choices), "--max-perturb", range_)
    exact = solves_exactly(config, question.network)
    tried = _tried(question, config, max_perturb, choices, exact, proposed)
    chosen = [tried.sets[s] for s in tried.worthwhile(config.cost)]
    final = _final(question, config, tried, chosen, exact)
    kept = [final.sets[s] for s in final.worthwhile(config.cost)][: config.top]
    shares = dict(zip(final.sets, final.shares, strict=True))
    listed = ranked([_candidate(question, config, one, shares[one], exact) for one in kept])
    known = edits.edges(question.network)
    with status.step(f"stability of {len(listed)} sets"):
        stable = zip(listed, _stabilities(question, config, listed, exact, known), strict=True)
    listed = tuple(replace(c, stability=s, paths=_paths(question, c.perturbation, known)) for c, s in stable)
    return Plan(
        network=question.network.name or f"{len(question.network.genes)} genes",
        n_genes=len(question.network.genes),
        source=question.source,
        target=question.target.name,
        markers=tuple(f"{gene} {'on' if on else 'off'}" for gene, on in places.markers(question)),
        method=proposed[0] if proposed else "exact" if exact else "search",
        duration=config.duration,
        max_perturb=max_perturb,
        n_sets=len(tried.sets) - 1,
        complete=tried.complete and proposed is None,
        n_cells=question.n_cells,
        n_starts=len(question.start),
        level=config.level,
        nothing=replace(_candidate(question, config, (), shares[()], exact), rank=0),
        candidates=listed,
        notes=(*notes, *_sampling(len(known), config)),
    )


def solves_exactly(config: PlanConfig, network: Network) -> bool:
    """Return whether ``config.method`` means to list all states of ``network``."""
    return config.method == "exact" or (config.method == "auto" and len(network.genes) <= config.exact_genes)


def evaluator(question: Question, config: PlanConfig, exact: bool, n_runs: int, seed: int = 0) -> Evaluator:
    """Return what gives probabilities for this question."""
    if exact:
        return Exact(question, config.duration)
    return Simulated(question, config.duration, n_runs, config.sweeps, config.seed + seed)


def _tried(
    question: Question,
    config: PlanConfig,
    max_perturb: int,
    genes: Sequence[str],
    exact: bool,
    proposed: tuple[str, Sequence[Perturbation]] | None,
) -> Tried:
    screen = evaluator(question, config, exact, config.screen_runs)
    if proposed is not None:
        sets = tuple(dict.fromkeys([(), *proposed[1]]))
        return Tried(sets, search.evaluate(screen, sets, "trying"), complete=False)
    if search.n_sets(len(genes), max_perturb) <= config.max_sets:
        return search.exhaustive(screen, genes, max_perturb)
    return search.beam(screen, genes, max_perturb, config.max_sets, config.beam, config.cost)


def _final(question: Question, config: PlanConfig, tried: Tried, chosen: Sequence[Perturbation], exact: bool) -> Tried:
    """Return the best sets, if simulated then again and with draws of their own: the best of many look too good."""
    best = [(), *chosen[: _SPARE * config.top]]
    if exact:
        place = {one: s for s, one in enumerate(tried.sets)}
        return Tried(tuple(best), tried.shares[[place[one] for one in best]], tried.complete)
    again = evaluator(question, config, exact, config.runs, seed=1)
    return Tried(tuple(best), search.evaluate(again, best, f"{config.runs:,} runs of each"), tried.complete)


def _candidate(
    question: Question, config: PlanConfig, one: Perturbation, shares: NDArray[np.float64], exact: bool
) -> Candidate:
    probability = min(1.0, max(0.0, float(shares[0])))
    trials = [n for n in (question.n_cells, None if exact else config.runs) if n is not None]
    span = wilson(probability, min(trials), config.level) if trials else None
    low, high = (span.low, span.high) if span else (probability, probability)
    outcomes = {name: float(share) for name, share in zip(question.names, shares, strict=True)}
    return Candidate(0, one, probability, low, high, config.cost * len(one), outcomes)


def _stabilities(
    question: Question, config: PlanConfig, listed: Sequence[Candidate], exact: bool, known: Edges
) -> list[Stability | None]:
    """Return the stability of each set: under other updates and noise, and in networks with one edge changed."""
    sets = [candidate.perturbation for candidate in listed]
    if not sets or not config.stability_runs:
        return [None] * len(sets)
    variants = {"synchronous": ("synchronous", 0.0)}
    variants |= {f"noise {noise:g}": ("asynchronous", noise) for noise in config.noise if noise}
    schemes = {}
    for name, (update, noise) in variants.items():
        simulated = Simulated(
            question, config.duration, config.stability_runs, config.sweeps, config.seed + 2, update, noise
        )
        schemes[name] = simulated.shares(sets)[:, 0]
    edited = _edited(known, config)
    least = config.still_works * np.array([candidate.probability for candidate in listed])
    deleted, flipped = (
        np.array([_works(question, config, sets, change(question.network, edge), exact, least) for edge in edited])
        for change in (edits.without, edits.turned)
    )
    return [
        Stability(
            {name: float(values[s]) for name, values in schemes.items()},
            float(deleted[:, s].mean()) if edited else None,
            float(flipped[:, s].mean()) if edited else None,
            tuple(edge.text for e, edge in enumerate(edited) if not deleted[e, s]),
        )
        for s in range(len(sets))
    ]


def _edited(known: Edges, config: PlanConfig) -> Edges:
    """Return the edges that are deleted and turned: all, or a random sample in the order of the network."""
    chosen = random.Random(config.seed).sample(range(len(known)), min(len(known), config.max_edges))
    return tuple(known[k] for k in sorted(chosen))


def _sampling(n_edges: int, config: PlanConfig) -> tuple[str, ...]:
    sentence = f"Stability: {config.max_edges} of the {n_edges} edges, drawn at random, were deleted and turned."
    return (sentence,) if n_edges > config.max_edges and config.stability_runs else ()


def _works(
    question: Question,
    config: PlanConfig,
    sets: Sequence[Perturbation],
    network: Network,
    exact: bool,
    least: NDArray[np.float64],
) -> NDArray[np.bool_]:
    changed = evaluator(places.with_network(question, network), config, exact, config.stability_runs, seed=3)
    works: NDArray[np.bool_] = changed.shares(sets)[:, 0] >= least - 1e-9
    return works


def _paths(question: Question, perturbation: Perturbation, known: Edges) -> tuple[str, ...]:
    """Return for each marker that the start lacks the shortest path to it from a perturbed gene, as text."""
    on = places.shares_on(question)
    given = dict(perturbation)
    texts = []
    for marker, wanted in places.markers(question):
        right = on[question.network.genes.index(marker)]
        if marker in given or (right if wanted else 1 - right) == 1:
            continue
        found = [edits.path(known, gene, value, marker, wanted) for gene, value in perturbation]
        shortest = min((steps for steps in found if steps), key=len, default=None)
        texts += [edits.path_text(shortest)] if shortest else []
    longest = [text for text in texts if not any(other.startswith(f"{text} ") for other in texts)]
    return tuple(dict.fromkeys(longest))
