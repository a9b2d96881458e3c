"""Simple predictors of mean changes that every table of the counterfactual task carries.

Each is a Python file that registers it (``registry.baselines``) and a YAML file in ``conf/baseline`` with its settings;
a baseline is called as ``build(config, context) -> Baseline``.
"""

from __future__ import annotations

import functools
from typing import Any

from perturbrl import registry
from perturbrl.config import bind, choice
from perturbrl.effects.baselines.base import Baseline, BaselineConfig, BaselineContext, covered

__all__ = [
    "Baseline",
    "BaselineConfig",
    "BaselineContext",
    "baseline_config",
    "baseline_names",
    "covered",
    "make_baseline",
    "residual_names",
]


def baseline_config(name: str) -> Any:
    """Return the settings of a baseline, as ``conf/baseline/<name>.yaml`` has them.

    Raises
    ------
    UserError
        There is no such baseline or no such file, or a setting is wrong.
    """
    return _config(choice(name, registry.baselines, "baseline"))


@functools.cache  # reading and binding a file takes 20 ms
def _config(name: str) -> Any:
    return bind(registry.baselines[name].schema, registry.baselines.defaults(name), f"baseline.{name}")


def make_baseline(name: str, context: BaselineContext) -> Baseline:
    """Return the baseline ``name``, not fitted; errors as of ``baseline_config``."""
    config = baseline_config(name)
    baseline: Baseline = registry.baselines[name].build(config, context)
    return baseline


def baseline_names() -> list[str]:
    """Return the names of all baselines in the order of the rows of an evaluation."""
    return sorted(registry.baselines, key=lambda name: (baseline_config(name).row, name))


def residual_names() -> list[str]:
    """Return the baselines whose predictions episodes may begin with (``env.residual``)."""
    return [name for name in baseline_names() if baseline_config(name).residual]
