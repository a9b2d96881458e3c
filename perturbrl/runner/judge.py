"""Finished runs of one command: evaluate them, write and print their report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from perturbrl.report import build_report
from perturbrl.runner import interrupt
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.job import Job


def judge(jobs: Sequence[Job], where: Sequence[Path], out: Path) -> Path:
    """Evaluate ``jobs``, and write the report of the runs ``where`` to the folder ``out``; return its page."""
    with interrupt.explained("every run is trained; the same command goes on with the evaluation"):
        evaluator = Evaluator()
        for job in jobs:
            evaluator.evaluate(job.path)
        report = build_report(where, out)
    Console(file=sys.stdout).print(report.console)
    return report.page
