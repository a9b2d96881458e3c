"""How much memory this machine has, and a refusal, before anything is allocated, of what it cannot hold."""

from __future__ import annotations

import functools
import os
from pathlib import Path

from perturbrl.errors import UserError

_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # version 2, version 1


@functools.cache
def machine_bytes() -> int:
    """Return the bytes of main memory that this process may use: the machine's, or the limit of its container."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _CGROUPS:
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # no such file; the word max
            continue
    return min(limits)


def require_memory(n_bytes: float, setting: str, advice: str, capacity: int | None = None) -> None:
    """Refuse what needs more bytes than there are.

    Parameters
    ----------
    n_bytes
        Bytes, as estimated.
    setting
        The key, or keys with their values, that ask for them.
    capacity
        Bytes of the GPU that must hold them; None: main memory must.

    Raises
    ------
    UserError
        Names ``setting``, both figures and ``advice``.
    """
    holder = "this machine" if capacity is None else "the GPU"
    capacity = machine_bytes() if capacity is None else capacity
    if n_bytes > capacity:
        raise UserError(
            f"{setting}: needs about {readable(n_bytes)} of memory, and {holder} has {readable(capacity)}; {advice}"
        )


def readable(n_bytes: float) -> str:
    """Spell a number of bytes: ``1.5 GB``, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} EB" if n_bytes < 1000 else f"{n_bytes:.1e} EB"
