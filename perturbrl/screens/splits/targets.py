"""Splits by what is perturbed: genes, and combinations of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbrl.bounds import Fraction
from perturbrl.registry import splits
from perturbrl.screens.schema import Condition, Screen
from perturbrl.screens.splits.builder import (
    FractionSplit,
    SplitBuilder,
    Use,
    combined,
    draw,
    genes_among,
    genes_of,
    is_combination,
    names_of,
    require_enough,
)


@dataclass(frozen=True)
class GeneSplit(FractionSplit):
    """A share of the genes perturbed alone is held out."""

    unseen_genes = True


@dataclass(frozen=True)
class CombinationSplit(FractionSplit):
    """Shares of genes, and of the combinations of the genes left, are held out."""

    unseen_genes = True

    combination_fraction: Fraction


@splits.register("unseen_single", GeneSplit)
def unseen_single(config: GeneSplit, screen: Screen, rng: np.random.Generator) -> SplitBuilder:
    """Hold out genes: single perturbations of them are the test, combinations with them are not used at all."""
    builder = SplitBuilder(screen)
    genes = genes_among(screen, (k for k in builder.train if not is_combination(screen.conditions[k])))
    require_enough(genes, 3, "genes perturbed alone", "split=unseen_single", screen)
    test = draw(genes, config.test_fraction, rng)
    validation = draw([g for g in genes if g not in test], config.validation_fraction, rng)
    n_unused = 0
    uses: tuple[tuple[Use, set[str]], ...] = (("test", test), ("validation", validation))
    for use, unseen in uses:
        with_unseen = [k for k in builder.train if genes_of(screen, k) & unseen]
        pairs = [k for k in with_unseen if is_combination(screen.conditions[k])]
        builder.leave_out(pairs)
        builder.hold_out([k for k in with_unseen if k not in pairs], use, "single")
        n_unused += len(pairs)
    builder.notes = (f"{n_unused} combinations with a held-out gene are not used",) if n_unused else ()
    return builder


@splits.register("combinations", CombinationSplit)
def combinations(config: CombinationSplit, screen: Screen, rng: np.random.Generator) -> SplitBuilder:
    """Hold out genes and the combinations with them, and a share of the combinations of seen genes (as GEARS does).

    Strata: ``single`` for a held-out gene alone, ``seen0``, ``seen1``, ``seen2``, ... by how many members are genes of
    training conditions, so a gene that validation holds out is not seen in the test either. Roohani, Huang and
    Leskovec, Nature Biotechnology 42, 927 (2024).
    """
    builder = SplitBuilder(screen)
    require_enough(combined(screen), 2, "combinations", "split=combinations", screen)
    genes = genes_among(screen, builder.train)
    require_enough(genes, 3, "genes", "split=combinations", screen)
    rounds: tuple[tuple[Use, float], ...] = (("test", config.test_fraction), ("validation", config.validation_fraction))
    for use, fraction in rounds:
        unseen = draw(genes, fraction, rng)
        genes = [g for g in genes if g not in unseen]
        intact = [k for k in builder.train if is_combination(screen.conditions[k]) and not genes_of(screen, k) & unseen]
        extra = draw(names_of(screen, intact), config.combination_fraction, rng)
        held_out = [
            k for k in builder.train if genes_of(screen, k) & unseen or "+".join(screen.conditions[k].targets) in extra
        ]
        builder.hold_out(held_out, use, "single")
    seen = set(genes_among(screen, builder.train))
    for strata in (builder.test, builder.validation):
        for k in filter(lambda k: is_combination(screen.conditions[k]), strata):
            strata[k] = f"seen{sum(screen.gene_of(t) in seen for t in screen.conditions[k].targets)}"
    return builder


@splits.register("additive", FractionSplit)
def additive(config: FractionSplit, screen: Screen, rng: np.random.Generator) -> SplitBuilder:
    """Train on every single perturbation and hold out combinations of them (Ahlmann-Eltze, Huber and Anders 2025).

    Combinations with a member that was not measured alone in the same context train: what is held out is all ``seen2``
    (``seen3``, ...), so that the sum of single effects is always known.
    """
    builder = SplitBuilder(screen)
    every = set(screen.conditions)

    def measured_alone(k: int) -> bool:
        c = screen.conditions[k]
        return is_combination(c) and all(Condition((t,), c.context, c.dose) in every for t in c.targets)

    pairs = names_of(screen, filter(measured_alone, builder.train))
    require_enough(pairs, 3, "combinations of targets that were also measured alone", "split=additive", screen)
    rounds: tuple[tuple[Use, float], ...] = (("test", config.test_fraction), ("validation", config.validation_fraction))
    for use, fraction in rounds:
        names = draw(pairs, fraction, rng)
        pairs = [p for p in pairs if p not in names]
        for k in [k for k in builder.train if measured_alone(k) and "+".join(screen.conditions[k].targets) in names]:
            builder.hold_out([k], use, f"seen{len(screen.conditions[k].targets)}")
    return builder
