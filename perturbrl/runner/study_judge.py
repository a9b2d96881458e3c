"""A study of networks after training: evaluate what is not evaluated, write and print the page."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.text import Text

from perturbrl import paths
from perturbrl.errors import UserError
from perturbrl.report import run_files
from perturbrl.report.run_files import LeftOut
from perturbrl.report.study import build_study
from perturbrl.runner import interrupt
from perturbrl.runner.evaluate import Evaluator
from perturbrl.runner.outcome import failed
from perturbrl.runner.progress import Progress

WORTH_PROCESSES = 20  # runs; a process takes seconds to start


def evaluate(folders: Sequence[Path], show: Progress, workers: int) -> None:
    """Evaluate the runs that have no whole evaluation, spread over processes.

    Raises
    ------
    UserError
        A run could not be evaluated; the others are saved.
    """
    left = [folder for folder in folders if not _evaluated(folder)]
    if not left:
        return
    show.say(f"evaluating {len(left)} runs")
    size = -(-len(left) // workers)  # neighbours share a network, and with it the rows that need no policy
    blocks = [left[k : k + size] for k in range(0, len(left), size)]
    with interrupt.explained("every run so far is trained; the same command goes on with the evaluation"):
        if len(blocks) == 1 or len(left) < WORTH_PROCESSES:
            errors = _evaluate(left)
        else:
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(len(blocks), mp_context=context) as pool:
                errors = [error for some in pool.map(_evaluate, blocks) for error in some]
    if errors:
        raise UserError(f"{len(errors)} of {len(left)} runs could not be evaluated; first: {errors[0]}")


def _evaluate(folders: Sequence[Path]) -> list[str]:
    evaluator, errors = Evaluator(), []
    for folder in folders:
        try:
            evaluator.evaluate(folder)
        except Exception as error:  # one run, whatever is wrong with it, does not stop the others
            errors.append(f"{folder}: {failed(folder, error).message}")
    return errors


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
