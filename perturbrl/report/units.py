"""What each run was really tested on: the unit of replication of claims on held-out perturbations.

Two runs are one held-out set if their test conditions and their test cells are the same, however controls and
validation were drawn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from pyarrow import ArrowException

from perturbrl import paths
from perturbrl.files import ONE_THREAD

PER_PERTURBATION = "per_perturbation.parquet"


@dataclass(frozen=True)
class Units:
    """``sets`` maps a run to the set of cells that it held out, ``unit`` to its unit of replication.

    The unit is the set, or the seed where all runs have the same set. ``note`` says what had to be assumed.
    """

    sets: Mapping[str, str]
    unit: Mapping[str, str]
    note: str = ""


def units(summaries: Mapping[str, Mapping[str, Any]], seeds: Mapping[str, str]) -> Units:
    """Return the units of runs, from the summary of the evaluation of each and its seed."""
    found = {run: _held_out(Path(run), summary) for run, summary in summaries.items()}
    lacking = [run for run, each in found.items() if not each[1]]
    # without the cells, runs with the same conditions may be the same set: count them as one
    sets = {run: conditions if lacking else f"{conditions} {cells}" for run, (conditions, cells) in found.items()}
    note = ""
    if lacking:
        note = (
            f"{len(lacking)} of {len(found)} evaluations are of a version that did not write down which cells it held "
            "out, so runs with the same test conditions count as one held-out set; perturbrl evaluate writes it."
        )
    return Units(sets, sets if len(set(sets.values())) > 1 else seeds, note)


def _held_out(run: Path, summary: Mapping[str, Any]) -> tuple[str, str]:
    """Return digests of the test conditions and of the test cells; the second is empty where nothing tells of them."""
    recorded = summary["split"].get("held_out")
    if isinstance(recorded, Mapping) and recorded.get("conditions") and recorded.get("cells"):
        return str(recorded["conditions"]), str(recorded["cells"])
    return _from_split_file(run, str(summary["split"]["sha256"])) or (_from_scores(run, summary), "")


def _from_split_file(run: Path, sha256: str) -> tuple[str, str] | None:
    """Return the digests from the file that ``split.file`` named; None if there is none, or it has changed since."""
    try:
        config = yaml.safe_load((run / paths.CONFIG).read_text(encoding="utf-8"))
        content = json.loads(Path(config["split"]["file"]).read_text(encoding="utf-8"))
        if content["sha256"] != sha256:
            return None
        return _digest(content["conditions"]["test"]), _digest(content["cells"]["test"])
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None


def _from_scores(run: Path, summary: Mapping[str, Any]) -> str:
    """Return the digest of the conditions that were scored, else the sha256 of the whole split."""
    try:
        table = pq.read_table(run / paths.EVALUATION / PER_PERTURBATION, columns=["condition"], **ONE_THREAD)
    except (OSError, ArrowException):
        return str(summary["split"]["sha256"])
    return _digest(table["condition"].unique().to_pylist())


def _digest(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
