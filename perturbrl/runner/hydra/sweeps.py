"""Refuse sweeps over no value at all, and sweeps of more than a million jobs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from perturbrl.errors import UserError
from perturbrl.runner import conf_tree

MOST_JOBS = 1_000_000


def check_sweep(overrides: Sequence[str]) -> None:
    """Count the jobs that Hydra's sweeper would make of the overrides.

    Raises
    ------
    UserError
        A sweep over no value, which would train nothing, or over more than a million jobs.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    groups = conf_tree.groups(conf_tree.conf_dirs())
    jobs = 1
    for word in overrides:
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:  # Hydra itself reports it
            continue
        if not override.is_sweep_override():
            continue
        values = _length(override, groups)
        if values == 0:
            raise UserError(f"{override.key_or_group}: {word.partition('=')[2]} has no value to sweep over")
        jobs *= values
    if jobs > MOST_JOBS:
        raise UserError(f"{' '.join(overrides)}: a sweep of {jobs:.2g} jobs; give at most {MOST_JOBS}")


def _length(override: Any, groups: Mapping[str, Collection[str]]) -> int:
    """Return the number of values that an override sweeps over, without listing them."""
    from hydra.core.override_parser.types import Glob, RangeSweep

    value = override.value()
    if isinstance(value, Glob):
        return len(value.filter(sorted(groups.get(override.key_or_group, ()))))
    if isinstance(value, RangeSweep):
        start, stop = float(value.start or 0), float(value.stop or 0)
        return max(0, math.ceil((stop - start) / value.step)) if value.step else 0
    return sum(1 for _ in override.sweep_iterator()) if override.is_discrete_sweep() else 1
