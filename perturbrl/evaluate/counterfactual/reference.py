"""The control cells that the predictions of a file are measured from. Letters: c cells, n conditions, G genes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.effects.observed import ObservedEffects, sample
from perturbrl.effects.responses import trained

Array = NDArray[np.float64]

FILE, TRAINING, TEST = "controls of the file", "training controls", "test controls"


@dataclass(frozen=True)
class Reference:
    """Control cells that predictions of a context were made from: their ``mean`` [G], ``cells`` [c, G] to test with.

    ``kind`` is one of ``FILE``, ``TRAINING`` and ``TEST``.
    """

    kind: str
    mean: Array
    cells: sparse.csr_matrix


def references(
    profiles: Array, controls: Mapping[str, sparse.csr_matrix], truth: ObservedEffects
) -> dict[str, Reference]:
    """Return the reference of each context for predicted ``profiles`` [n, G] from a file with these ``controls``.

    The truth is measured from the test controls. A prediction measured from the same cells would share their noise,
    and agree with it where a perturbation does nothing: so it is measured from the controls that it was made from.
    Those are the file's own; the training controls where the file has none, or where its mean profile is nearer to
    these than to its own and than its own are (a file that was made from training cells, with other controls beside
    them). In a context without training controls, only the test controls are left.
    """
    contexts = np.array(truth.contexts)
    out = {}
    for context in truth.controls:
        training = _training(truth, context)
        profile = profiles[contexts == context].mean(axis=0)
        out[context] = training or _test(truth, context)
        if context in controls:
            beside = _of_file(controls[context], out[context])
            if training is None or not _made_from(profile, training, beside):
                out[context] = beside
    return out


def mean_of(cells: sparse.csr_matrix) -> Array:
    """Return the mean of ``cells`` [c, G], summed in double precision (scipy's ``mean(dtype=)`` is not), [G]."""
    return np.asarray(cells.astype(np.float64).mean(axis=0)).ravel()


def note(used: Mapping[str, Reference]) -> str:
    """Return in words what the changes of a file are measured from."""
    kinds = sorted({reference.kind for reference in used.values()})
    if len(kinds) == 1:
        return f"changes are measured from the {kinds[0]}"
    parts = (f"the {kind} in {', '.join(c for c, r in sorted(used.items()) if r.kind == kind)}" for kind in kinds)
    return f"changes are measured from {'; from '.join(parts)}"


def _of_file(cells: sparse.csr_matrix, real: Reference) -> Reference:
    """Return the controls of a file; ``real`` ones to test with, where the file has a profile without dispersion."""
    return Reference(FILE, mean_of(cells), cells if cells.shape[0] > 1 else real.cells)


def _made_from(profile: Array, training: Reference, beside: Reference) -> bool:
    """Return whether a mean profile [G] is of training cells rather than of the cells beside it."""
    distance = np.square(profile - training.mean).sum()
    others = np.square(profile - beside.mean).sum(), np.square(beside.mean - training.mean).sum()
    return bool(distance < min(others))


def _training(truth: ObservedEffects, context: str) -> Reference | None:
    screen, split = truth.table.screen, truth.table.split
    mean = trained(truth.table).control.get(context)
    if mean is None:
        return None
    labels = [k for k, c in enumerate(screen.conditions) if c.is_control and c.context == context]
    rows = split.control_train[np.isin(screen.condition[split.control_train], labels)]
    rows = sample(rows, truth.config.max_controls, truth.config.seed, "score/controls", context)
    return Reference(TRAINING, mean, screen.x[rows])


def _test(truth: ObservedEffects, context: str) -> Reference:
    mean = truth.control[truth.contexts.index(context)]
    return Reference(TEST, mean, truth.table.screen.x[truth.compared_controls(context)])
