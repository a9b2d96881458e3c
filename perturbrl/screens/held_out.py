"""What a split holds out, in words: the cell type, the patient, the dose, the genes."""

from __future__ import annotations

import numpy as np

from perturbrl.data.readers.opened import listed
from perturbrl.screens.schema import Condition, Rows, Screen, ScreenSplit

SHOWN = 6  # names in one list


def held_out_names(screen: Screen, split: ScreenSplit, use: str = "test") -> str:
    """Return what the cells of ``use`` (``test`` or ``validation``) have that training has not.

    ``cell_type CD14 Mono``, ``dose 100 of Nutlin-3a``, ``patient P1``, ``perturbations KLF1, GATA1``: kinds of
    condition are told apart by their stratum. Empty where there are no such cells.
    """
    rows: Rows = getattr(split, use)
    strata: dict[str, list[Condition]] = {}
    for k in np.unique(screen.condition[rows]):
        strata.setdefault(split.strata.get(int(k), split.kind), []).append(screen.conditions[k])
    parts = {_of_stratum(screen, stratum, conditions, rows): None for stratum, conditions in strata.items()}
    return "; ".join(parts)


def sentences(screen: Screen, split: ScreenSplit) -> tuple[str, ...]:
    """Return what a run says of its split when it starts."""
    parts = (("held out for the test", "test"), ("for validation", "validation"))
    return tuple(f"{label}: {text}" for label, use in parts if (text := held_out_names(screen, split, use)))


def _of_stratum(screen: Screen, stratum: str, conditions: list[Condition], rows: Rows) -> str:
    column = screen.columns.get(stratum, stratum)
    if stratum == "context":
        return f"{column} {listed(sorted({c.context for c in conditions}), SHOWN)}"
    if stratum == "batch":
        return f"{column} {listed((screen.batches[k] for k in np.unique(screen.batch[rows])), SHOWN)}"
    if stratum == "cells":
        return "cells of conditions that train too"
    if stratum == "dose":
        doses: dict[str, set[str]] = {}
        for c in conditions:
            doses.setdefault(f"{c.dose:g}", set()).add("+".join(c.targets))
        return ", ".join(f"{column} {dose} of {listed(sorted(names), SHOWN)}" for dose, names in doses.items())
    names = sorted({"+".join(c.targets) for c in conditions})
    return f"{'perturbations' if len(names) > 1 else 'perturbation'} {listed(names, SHOWN)}"
