"""``perturbrl data validate FILE``: what the file has, what is missing, and which tasks can be trained on it.

Whether a task can be trained is found by running the code of training up to the first step: the same config, reader,
checks, split, preprocessing, environment, networks and protocol. So validation and training cannot disagree.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from perturbrl.data.examine import ENVS, everything, examine
from perturbrl.data.findings import Finding, Severity
from perturbrl.data.preprocess.config import data_needs
from perturbrl.data.readers import assemble, open_file, sha256_of
from perturbrl.data.schema import Modality, RawCells
from perturbrl.data.split import SplitConfig, holds_out_cells
from perturbrl.data.table import load_table
from perturbrl.envs.factory import Table
from perturbrl.errors import UserError
from perturbrl.runner.build import build_learner
from perturbrl.runner.dataset import prepare, renamed
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.runner.job import Job, of_file
from perturbrl.runner.learning_curve import LearningCurve

MOST_CELLS = 5000  # of larger tables, this many random cells: the cost of diffusion pseudotime grows with the square
SCREENS = "counterfactual"  # the task that reads conditions
DEFAULT = "data=rna"  # what perturbrl train takes without data=

T = TypeVar("T")


def validate(path: str | Path, overrides: Sequence[str] = ()) -> list[Finding]:
    """Examine a file of cells, and try every task on it up to its first training step.

    Parameters
    ----------
    path
        A .h5ad, .h5mu or 10x .h5 file, or a 10x mtx folder.
    overrides
        Overrides of ``perturbrl train``; ``data=`` and ``env=`` limit the tasks that are tried.

    Returns
    -------
    list of Finding
        First those about the file. The last ones, with ``where`` = ``task``, say for each task that it is ready, or
        give the error of ``perturbrl train``.

    Raises
    ------
    UserError
        An override is wrong. Faults of the file are findings.
    """
    chosen = dict(word.partition("=")[::2] for word in overrides)
    needs = {name: held for name, held in data_needs().items() if name == chosen.get("data", name)}
    envs = [chosen["env"]] if "env" in chosen else [env.removeprefix("env=") for env in ENVS]
    if not needs:
        needs = {chosen["data"]: []}  # composing says which choices there are

    def jobs(data: str, env: str) -> Job:
        return _job(Path(path), data, env, _words(overrides, env))

    source = jobs(next(iter(needs)), envs[0]).config.source
    file = Path(source.path)
    tasks = everything() if not {"data", "env"} & set(chosen) else (*(f"data={d}" for d in needs), f"env={envs[0]}")

    cell_file, refusal = _attempt(lambda: open_file(file, source.layer, source.modality))
    if cell_file is None:
        return [Finding("error", "task", refusal, "", (task,)) for task in tasks]
    findings, unforeseen = _attempt(lambda: examine(cell_file, source))
    file_findings = findings or [Finding("warning", "file", f"cannot be described ({unforeseen})", "", ())]
    file_findings += [
        Finding("warning", "override", notice, "", ("env=counterfactual",)) for notice in renamed(overrides)
    ]
    raw, refusal = _attempt(lambda: assemble(cell_file, file.stem, source, sha256_of(file)))
    if raw is None:
        return file_findings + [Finding("error", "task", refusal, "", (task,)) for task in tasks]
    return file_findings + _tried(raw, jobs, needs, envs)


def _words(overrides: Sequence[str], env: str) -> tuple[str, ...]:
    """Return the overrides that a task reads: how a screen is read and split is nothing to the other tasks."""
    words = [word for word in overrides if word.partition("=")[0] not in ("data", "env")]
    if env == SCREENS:
        return tuple(words)
    held_out = any(word.startswith("split=") and not holds_out_cells(word.partition("=")[2]) for word in words)
    left_out = ("conditions", "description", *(["split"] if held_out else []))
    return tuple(word for word in words if word.lstrip("+~").partition("=")[0].partition(".")[0] not in left_out)


def usable(findings: Sequence[Finding]) -> bool:
    """Say whether any choice of ``data=`` can be trained."""
    return any(f.severity == "ok" and f.tasks[0].startswith("data=") for f in findings if f.location == "task")


def refusal(findings: Sequence[Finding]) -> str:
    """Return why a file that is not ``usable`` is refused, of the tasks that it offers if there are any."""
    refused = [f for f in findings if f.location == "task" and f.severity != "ok"]
    return min(refused, key=lambda f: (f.severity != "error", f.tasks != (DEFAULT,))).what


@functools.lru_cache(maxsize=64)  # composing takes a fifth of a second
def _composed(data: str, env: str, overrides: tuple[str, ...]) -> Job:
    return compose_job(["source=file", *overrides, f"data={data}", f"env={env}", "progress=quiet"], Path(), "validate")


def _job(path: Path, data: str, env: str, overrides: tuple[str, ...]) -> Job:
    """Return the job of ``perturbrl train source=file path=PATH data=DATA env=ENV``."""
    return of_file(_composed(data, env, overrides), path)


def _tried(
    raw: RawCells, jobs: Callable[[str, str], Job], needs: Mapping[str, Sequence[str]], envs: Sequence[str]
) -> list[Finding]:
    """Try the first of ``envs`` with every choice of ``data=``, the others with those that the file has."""
    first, *others = envs
    complete = [data for data, modalities in needs.items() if set(modalities) <= set(raw.modalities)]
    if not complete:  # then what perturbrl train would say
        usual = DEFAULT.removeprefix("data=")
        complete = [usual if usual in needs else next(iter(needs))]
    refusals = {data: _rehearsed(jobs, data, first, raw) for data in needs}
    some = raw.n_cells > MOST_CELLS and isinstance(jobs(complete[0], first).config.split, SplitConfig)
    drawn = f"; tried on {MOST_CELLS} of {raw.n_cells} cells" if some else ""
    findings = []
    for data, modalities in needs.items():
        verdict = refusals[data] or f"ready (needs {' and '.join(modalities)}{drawn})"
        severity: Severity = "ok" if not refusals[data] else "error" if data in complete else "warning"
        findings.append(Finding(severity, "task", verdict, "", (f"data={data}",)))
    findings.append(_of_env(first, {data: refusals[data] for data in complete}, raw))
    for env in others:
        findings.append(_of_env(env, {data: _rehearsed(jobs, data, env, raw) for data in complete}, raw))
    return findings


def _of_env(env: str, refusals: Mapping[str, str], raw: RawCells) -> Finding:
    ready = [f"data={data}" for data, reason in refusals.items() if not reason]
    if ready:
        refused = [f"; data={data}: {reason}" for data, reason in refusals.items() if reason]
        return Finding("ok", "task", f"ready (with {', '.join(ready)}){''.join(refused)}", "", (f"env={env}",))
    offered = env != "counterfactual" or "perturbation" in raw.obs
    return Finding("error" if offered else "warning", "task", next(iter(refusals.values())), "", (f"env={env}",))


def _rehearsed(jobs: Callable[[str, str], Job], data: str, env: str, raw: RawCells) -> str:
    """Return the error with which training would refuse these cells, or ""."""
    return _attempt(lambda: rehearse(jobs(data, env), raw))[1]


def rehearse(job: Job, raw: RawCells) -> None:
    """Do everything that training does before its first step, with ``raw`` as the cells of the source.

    Raises
    ------
    UserError
        As training would.
    """
    table, device = _table(job, raw), torch.device("cpu")
    LearningCurve([job], table, build_learner([job], table, device), device)


def _table(job: Job, raw: RawCells) -> Table:
    config = job.config
    if raw.n_cells > MOST_CELLS and isinstance(config.split, SplitConfig):
        rows = np.sort(np.random.default_rng(0).choice(raw.n_cells, MOST_CELLS, replace=False))
        parts = {name: Modality(m.x[rows], m.features, m.kind) for name, m in raw.modalities.items()}
        try:
            return load_table(
                replace(raw, modalities=parts, obs=raw.obs.iloc[rows]), config.data, config.encoder, config.split
            )
        except UserError:  # a rare group may be missing in the random cells only
            pass
    return prepare(job, lambda: raw)


def _attempt(action: Callable[[], T]) -> tuple[T | None, str]:
    """Return the result of ``action`` and "", or None and its error in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return action(), ""
    except UserError as error:
        return None, str(error)
    except Exception as error:
        return None, f"internal error: {type(error).__name__}: {' '.join(str(error).split())}"
