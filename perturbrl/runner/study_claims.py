"""What a study may claim: declared in its file, and written down with a digest before the first run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from perturbrl import paths
from perturbrl.bounds import NonNegativeFloat, NotEmpty, Number
from perturbrl.config import bind, choice, require
from perturbrl.files import read_json, write_json

DECLARED = "declared.json"
DIRECTIONS = ("larger", "smaller")


@dataclass(frozen=True)
class Claim:
    """That ``first`` is better than ``second`` by ``metric`` on ``task``; both are arms, or rows of the evaluation."""

    first: str
    second: str
    metric: str
    task: str


@dataclass(frozen=True)
class Optimal:
    """When a run is in the optimal basin: its ``regret`` is at most ``within``.

    It came there when ``column`` of its log was first within that of the optimum's return.
    """

    within: NonNegativeFloat
    column: Annotated[str, NotEmpty("eval/return")]


@dataclass(frozen=True)
class Claims:
    """What is compared, and how: the directions of metrics, rows without training, tests, and the level of the family.

    ``metrics`` maps a metric of the evaluation to ``larger`` or ``smaller``, whichever is better; ``optimal`` adds the
    metrics ``optimal_share`` and ``steps_to_optimal``.
    """

    metrics: dict[str, str]
    rows: list[str]
    alpha: Annotated[float, Number(above=0, below=1)]
    optimal: Optimal | None
    tests: Annotated[list[Claim], NotEmpty("[{first: trpo_ppo, second: ppo, metric: regret, task: main}]")]

    @property
    def sha256(self) -> str:
        """Digest of the tests and their level: what must not change once runs are seen."""
        return digest(self.declared())

    def declared(self) -> dict[str, Any]:
        """Return what is written down before the runs."""
        tests = [dataclasses.asdict(test) for test in self.tests]
        optimal = None if self.optimal is None else dataclasses.asdict(self.optimal)
        return {"alpha": self.alpha, "metrics": self.metrics, "optimal": optimal, "tests": tests}


def digest(declared: Mapping[str, Any]) -> str:
    """Return the sha256 of what was declared."""
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def read_claims(values: Mapping[str, Any], name: str) -> Claims | None:
    """Read the keys ``metrics``, ``rows`` and ``claims`` of a study; None where it has no claims.

    Raises
    ------
    UserError
        A claim names an arm, metric or task that the study does not have.
    """
    if values.get("claims") is None:
        return None
    node, where = values["claims"], f"{name}.claims"
    require(isinstance(node, dict) and set(node) == {"alpha", "tests"}, where, "must have the keys alpha and tests")
    require(isinstance(node["tests"], list), f"{where}.tests", "must be a list of first, second, metric, task")
    tests = [bind(Claim, each, f"{where}.tests[{k}]") for k, each in enumerate(node["tests"])]
    rows, metrics = values.get("rows") or [], values.get("metrics") or {}
    optimal = None if values.get("optimal") is None else bind(Optimal, values["optimal"], f"{name}.optimal")
    content = {"metrics": metrics, "rows": rows, "alpha": node["alpha"], "optimal": None, "tests": tests}
    claims = dataclasses.replace(bind(Claims, content, where), optimal=optimal)
    require(len(set(map(repr, tests))) == len(tests), f"{where}.tests", "has the same test twice")
    for metric, direction in claims.metrics.items():
        choice(direction, DIRECTIONS, f"{name}.metrics.{metric}")
    for k, test in enumerate(tests):
        for key, known in (
            ("first", [*values["arms"], *claims.rows]),
            ("second", [*values["arms"], *claims.rows]),
            ("metric", claims.metrics),
            ("task", values["tasks"]),
        ):
            choice(getattr(test, key), known, f"{where}.tests[{k}].{key}")
    return claims


def declare(claims: Claims, out: Path) -> dict[str, Any]:
    """Write down the claims before the first run, and return what was declared.

    What is there already stays: a claim that is added, or changed, after runs were trained is exploratory. A folder
    that holds final runs and no declaration has declared nothing.
    """
    file = out / DECLARED
    if file.exists():
        declared = read_json(file)
        require(
            declared.get("sha256") == digest(declared.get("claims") or {}),
            str(file),
            "has been changed since it was written, so nothing can be claimed; give another --out",
        )
        return declared
    started = any(True for _ in (out / "final").rglob(paths.RUN))
    content = claims.declared() | ({"tests": []} if started else {})
    written = {"claims": content, "sha256": digest(content)}
    write_json(file, written)
    return written
