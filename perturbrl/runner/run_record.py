"""``run.json``: the config of a run, its data, its machine and its status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perturbrl import files, paths, records
from perturbrl.runner.dataset import DatasetInfo
from perturbrl.runner.job import Job


@dataclass(frozen=True)
class Conditions:
    """How runs were trained: how many together, on which device, by which kernels and products, and by what each stage.

    ``interface``: what their policies observe and how they act. ``pretrained``: the run that one started from, if any.
    """

    population: int
    device: str
    kernels: str
    precision: str
    executors: Mapping[str, str]
    interface: Mapping[str, Any]
    pretrained: Mapping[str, str] | None


def write_run(
    job: Job, dataset: DatasetInfo, where: Conditions, status: str, message: str, steps: int, seconds: float
) -> None:
    """Write ``run.json`` of a job; ``seconds`` is wall time. A finished run gets digests of its files."""
    config = job.config
    content = {
        "status": status,
        "message": message,
        "config_hash": job.hash,
        "name": config.name,
        "source": dataset.source,
        "source_choice": config.source.name,
        "data": config.data.name,
        "env": config.env.name,
        "agent": config.agent.name,
        "variant": job.path.parent.name if job.labels is None else str(job.labels.agent),
        "policy": config.policy.net,
        "schedule": config.schedule.name,
        "preset": config.data.preset,
        "encoder": config.encoder.name,
        "split": config.split.kind,
        "conditions": None if config.conditions is None else config.conditions.name,
        "description": None if config.description is None else config.description.name,
        "compare_published": config.compare_published,
        "seed": config.seed,
        "steps": steps,
        "wall_seconds": round(seconds, 3),
        "population": where.population,
        "device": where.device,
        "kernels": where.kernels,
        "executors": dict(where.executors),
        "precision": where.precision,
        "n_cells": dataset.n_cells,
        "n_features": dataset.n_features,
        "interface": dict(where.interface),
        "data_checksum": dataset.checksum,
        "leaks": list(dataset.leaks),
        "versions": records.versions(),
        "git_commit": records.git_commit(),
    }
    if where.pretrained is not None:
        content["pretrained"] = dict(where.pretrained)
    if job.labels is not None:
        content["labels"] = job.labels.to_json()
    if status in records.FINISHED:
        content["digests"] = files.digests(job.path, (paths.CHECKPOINT, paths.PROGRESS))
    records.write_json(job.path / paths.RUN, content)
