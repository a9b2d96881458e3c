"""Malformed files of every format: both commands answer in one line, as expected, and word for word alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from . import h5ad_cases, h5mu_cases, tenx_cases
from .bases import write_all
from .cases import ALL, Case
from .judge import Answer, ask

MAKERS = (
    *(h5ad_cases.of_values, h5ad_cases.of_sparse, h5ad_cases.of_dense, h5ad_cases.of_tables, h5ad_cases.of_rest),
    *(h5mu_cases.of_h5mu, tenx_cases.of_h5, tenx_cases.of_mtx),
)
CASES = [case for maker in MAKERS for case in maker()]
QUICK = [case for case in CASES if case.quick]


def faults(case: Case, answer: Answer) -> list[str]:
    """Everything about an answer that is not as it must be."""
    code, error = answer.validated
    found = [f"validate: exit code {code}: {error}"] if code not in (0, 2) else []
    for task, (code, error) in answer.trained.items():
        severity, words = answer.rows.get(task, ("none", ""))
        if code not in (0, 2):
            found.append(f"train {task}: exit code {code}: {error}")
        elif (code == 0) != (severity == "ok"):
            found.append(f"train {task}: {code} {error}, but validate: {severity}: {words}")
        elif code == 2 and error != f"error: {words}":
            found.append(f"train {task} says {error!r}, validate {words!r}")
    ready = tuple(data for data in ALL if answer.rows.get(f"data={data}", ("",))[0] == "ok")
    if (answer.validated[0] == 0) != bool(ready):
        found.append(f"validate exits with {answer.validated[0]}, but {ready} can be trained")
    if answer.validated[0] == 2 and "\n" in answer.validated[1]:
        found.append(f"more than one line: {answer.validated[1]}")
    if case.ready is not None and ready != case.ready:
        found.append(f"expected {case.ready} to train, found {ready}: {answer.validated[1]}")
    severity, words = answer.rows.get("env=counterfactual", ("none", ""))
    if case.screen is not None and (severity == "ok" or not re.search(case.screen, words)):
        found.append(f"expected {case.screen!r} for env=counterfactual, found {severity}: {words}")
    if case.refused is not None and not re.search(case.refused, answer.validated[1]):
        found.append(f"expected {case.refused!r}, found {answer.validated}")
    return found


def report(cases: list[Case], choices: tuple[str, ...], folder: Path) -> str:
    bases = write_all(folder / "good")
    (folder / "files").mkdir()
    files = {case.name: case.make(bases, folder / "files") for case in cases}
    answers = ask(files, choices, folder)
    return "\n".join(f"{case.name}: {fault}" for case in cases for fault in faults(case, answers[case.name]))


def test_there_are_enough_and_each_has_a_name_of_its_own() -> None:
    assert len(CASES) >= 150 and len({case.name for case in CASES}) == len(CASES)


def test_a_few_malformed_files(tmp_path: Path) -> None:
    assert not (said := report(QUICK, ("rna",), tmp_path)), said


@pytest.mark.slow
@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: f"{maker.__module__.rpartition('.')[2]}-{maker.__name__}")
def test_every_malformed_file(maker, tmp_path: Path) -> None:
    assert not (said := report(maker(), ALL, tmp_path)), said
