"""The processor's cores that this process may use."""

from __future__ import annotations

import os


def cores() -> tuple[int, ...]:
    """Return the numbers of the cores that this process may run on; all of them where a system does not say (macOS)."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))
