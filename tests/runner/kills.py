"""Children that are killed with SIGKILL at a chosen moment of training, as by ``kill -9`` or a power cut."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import safetensors.torch

from perturbrl.envs.paper.continuous import PaperEnv
from perturbrl.runner.job import Job

from .tiny import train

Rig = Callable[[], None]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at_call(owner: Any, name: str, n: int) -> None:
    """Replace a function by one that kills the process when called for the n-th time, before it does anything."""
    plain, calls = getattr(owner, name), count(1)

    def counted(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == n:
            die()
        return plain(*args, **kwargs)

    setattr(owner, name, counted)


def before_write_is_kept(n: int) -> Rig:
    """Kill when the n-th file is written beside its place but not yet renamed to it."""
    return lambda: die_at_call(os, "fsync", n)


def in_step(n: int) -> Rig:
    """Kill in the middle of a rollout, at the n-th step of training (``die_at_call`` counts those of curves too)."""
    return lambda: die_at_call(PaperEnv, "step", n)


def in_checkpoint(n: int) -> Rig:
    """Kill when half of the n-th checkpoint's bytes are written."""

    def rig() -> None:
        plain, calls = safetensors.torch.save_file, count(1)

        def half(tensors: Any, filename: Any, metadata: Any = None) -> None:
            plain(tensors, filename, metadata=metadata)
            if next(calls) == n:
                os.truncate(filename, Path(filename).stat().st_size // 2)
                die()

        safetensors.torch.save_file = half

    return rig


def killed(rig: Rig, *jobs: Job) -> None:
    """Train in a child that ``rig`` gets killed."""

    def body() -> None:
        rig()
        train(*jobs)

    child = multiprocessing.get_context("fork").Process(target=body)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL, child.exitcode
