"""Whether what a report claims was declared before the runs were trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from perturbrl import paths


def declared_late(run: Path, summary: Mapping[str, Any]) -> bool:
    """Return whether the claims of an evaluation differ from those of the config that the run was trained with.

    An evaluation of a version that did not write this down is compared with the run's ``config.yaml``; if that has no
    claims, nothing speaks against them.
    """
    if "claims_declared" in summary:
        return bool(summary["claims_declared"] != "before training")
    try:
        trained = yaml.safe_load((run / paths.CONFIG).read_text(encoding="utf-8"))["protocol"]["claims"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return False
    return bool(trained != summary.get("claims"))
