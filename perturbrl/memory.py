"""The memory of this machine, and a check before large arrays are allocated."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from perturbrl.errors import UserError

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # version 2, version 1


@functools.cache
def machine_bytes() -> int:
    """Return the main memory that this process may use, in bytes: the machine's, or the limit of its container."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _CGROUPS:
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # no such file; the word max
            continue
    return min(limits)


def require_memory(n_bytes: float, setting: str, advice: str, capacity: int | None = None) -> None:
    """Raise an error if more memory is needed than exists.

    Parameters
    ----------
    n_bytes
        Estimated need in bytes.
    setting
        The key, or keys with values, that determine the need, such as ``source.n_cells=1000``.
    advice
        What the user can change, at the end of the message.
    capacity
        Memory of the GPU in bytes; None: the main memory of this machine.

    Raises
    ------
    UserError
        The memory is too small. The message has ``setting``, both numbers of bytes and ``advice``.
    """
    holder = "this machine" if capacity is None else "the GPU"
    capacity = machine_bytes() if capacity is None else capacity
    if n_bytes > capacity:
        raise UserError(
            f"{setting}: needs about {readable(n_bytes)} of memory, and {holder} has {readable(capacity)}; {advice}"
        )


def readable(n_bytes: float) -> str:
    """Return a number of bytes as text, such as ``1.5 GB``; units are powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} EB" if n_bytes < 1000 else f"{n_bytes:.1e} EB"
