"""Which jobs can be trained together, and how many at a time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from perturbrl.cores import cores
from perturbrl.runner.job import Job
from perturbrl.runner.machine import pick_device

CPU_RUNS = 5  # on a CPU more runs a process fall out of its cache


def group(jobs: Sequence[Job], workers: int, limit: int) -> list[list[Job]]:
    """Group jobs of one signature, at most ``limit`` together, into ``workers`` groups or more where possible.

    The groups with the most environment steps come first.
    """
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        alike.setdefault(job.signature, []).append(job)
    spread = -(-workers // len(alike)) if alike else 1
    groups = []
    for members in alike.values():
        size = min(limit, -(-len(members) // spread))
        groups += [members[i : i + size] for i in range(0, len(members), size)]
    return sorted(groups, key=lambda g: sum(_steps(job.raw["agent"]) for job in g), reverse=True)


def _steps(agent: dict[str, Any]) -> int:
    nested = sum(_steps(v) for v in agent.values() if isinstance(v, dict))
    return int(agent.get("total_steps", 0)) + nested


def default_workers(device: str) -> int:
    """One process a core on a CPU; one in all on a GPU, which holds every run at once."""
    return 1 if pick_device(device).type == "cuda" else len(cores())


def default_limit(device: str) -> int:
    """How many runs to step together."""
    return sys.maxsize if pick_device(device).type == "cuda" else CPU_RUNS
