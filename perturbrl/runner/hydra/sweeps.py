"""Refuse sweeps over no value at all, and sweeps of more than a million jobs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from perturbrl.errors import UserError, one_of
from perturbrl.runner import conf_tree

MOST_JOBS = 1_000_000
HOW = ("device", "threads", "progress", "name")  # keys that say nothing about what is trained


def check_sweep(overrides: Sequence[str]) -> None:
    """Count the jobs that Hydra's sweeper would make of the overrides.

    Raises
    ------
    UserError
        A sweep over no value, which would train nothing, or over more than a million jobs.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed = []
    for word in overrides:
        with contextlib.suppress(HydraException):  # Hydra itself reports it
            parsed.append(OverridesParser.create().parse_override(word))
    check_parsed(parsed)


def check_parsed(overrides: Sequence[Any]) -> None:
    """As ``check_sweep``, for overrides that Hydra has parsed, those of ``hydra.sweeper.params`` among them.

    Raises
    ------
    UserError
        See ``check_sweep``.
    """
    groups = conf_tree.groups(conf_tree.conf_dirs())
    jobs = 1
    for override in overrides:
        if not override.is_sweep_override():
            continue
        values = _length(override, groups)
        if values == 0:
            text = str(override.input_line).partition("=")[2]
            raise UserError(f"{override.key_or_group}: {text} has no value to sweep over; {_advice(override, groups)}")
        jobs *= values
    if jobs > MOST_JOBS:
        words = " ".join(str(override.input_line) for override in overrides)
        raise UserError(f"{words}: a sweep of {jobs:.2g} jobs; give at most {MOST_JOBS}")


def check_asked(overrides: Sequence[str], multirun: bool) -> None:
    """Refuse a sweep that nothing was asked of: it would train one run with all defaults.

    Raises
    ------
    UserError
        All overrides are about how jobs are run, none about what.
    """
    keys = {word.partition("=")[0].lstrip("+~") for word in overrides}
    multirun = multirun or any(word.upper() == "HYDRA.MODE=MULTIRUN" for word in overrides)
    how = all(key in HOW or (key.startswith("hydra") and not key.startswith("hydra.sweeper")) for key in keys)
    if multirun and how:
        raise UserError(
            "train --multirun: nothing to sweep over; add values separated by commas, such as agent=ppo,trpo or "
            "seed='range(5)', or a whole study: experiment=tables"
        )


def _advice(override: Any, groups: Mapping[str, Collection[str]]) -> str:
    """Say what would be right for a sweep over no value."""
    from hydra.core.override_parser.types import Glob

    key = override.key_or_group
    if not isinstance(override.value(), Glob):
        return f"give at least one: {key}='range(5)'"
    if key in groups:
        return f"the choices are {one_of(groups[key])}"
    return f"glob is for groups of choices, such as agent='glob(*)'; list the values: {key}=1,2"


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
