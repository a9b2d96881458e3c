"""The CPU cores that this process may use."""

from __future__ import annotations

import os


def cores() -> tuple[int, ...]:
    """Return the numbers of the cores that this process may run on; all cores where the system has no limit (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
