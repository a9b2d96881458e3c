"""A study of networks after training: evaluate what is not evaluated, measure sharpness, write and print the page."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from perturbrl import paths
from perturbrl.report import run_files
from perturbrl.report.run_files import LeftOut
from perturbrl.report.study import build_study
from perturbrl.runner import interrupt
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.job import Job
from perturbrl.runner.study import Study
from perturbrl.runner.study_jobs import StudyRun
from perturbrl.runner.study_sharpness import examine


def evaluate(study: Study, finals: Sequence[StudyRun], jobs: Sequence[Job], folder: Path) -> None:
    """Evaluate the runs that have no whole evaluation, and write the measurements at their solutions to ``folder``."""
    with interrupt.explained("every run is trained; the same command goes on with the evaluation"):
        evaluator = Evaluator()
        for job in jobs:
            if not _evaluated(job.path):
                evaluator.evaluate(job.path)
        if study.plan.sharpness:
            examine(study, finals, jobs, folder)


def _evaluated(folder: Path) -> bool:
    """Return whether a run has a whole evaluation; training it anew removes an older one."""
    if not (folder / paths.EVALUATION / paths.DIGESTS).exists():
        return False
    try:
        run_files.summary(folder)
    except LeftOut:
        return False
    return True


def conclude(folder: Path) -> Path:
    """Write the page and its files into ``folder``, print what is claimed, and return the page."""
    report = build_study(folder)
    console = Console(file=sys.stdout)
    for sentence in report.sentences:
        console.print(Text(sentence))
    console.print(Text(f"report: {report.page}", style="bold"))
    return report.page
