"""The outcome of a job."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from perturbrl import paths
from perturbrl.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """``status`` is complete, diverged, skipped (finished before), interrupted or failed.

    ``error`` is the exception of a job that failed in this process.
    """

    path: Path
    status: str
    message: str = ""
    error: Exception | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        words = {"complete": "done", "skipped": f"skipped: {self.message or 'already complete'}"}
        return f"{self.path}: {words.get(self.status, self.message)}"


def all_diverged(statuses: Sequence[str]) -> str:
    """Return the error of a command none of whose finished runs has a policy that can be used, empty if one has."""
    if not statuses or set(statuses) != {"diverged"}:
        return ""
    what = "the run" if len(statuses) == 1 else f"every run ({len(statuses)} of {len(statuses)})"
    return f"error: {what} diverged; its message in {paths.RUN} says where, a smaller learning rate is the usual remedy"


def failed(path: Path, error: BaseException) -> Outcome:
    """Convert an exception into a failed outcome, with a message of one line."""
    cause = error if isinstance(error, Exception) else None
    if isinstance(error, UserError):
        return Outcome(path, "failed", str(error), cause)
    at = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(at[-1].filename).name}:{at[-1].lineno})" if at else ""
    return Outcome(path, "failed", f"internal error: {type(error).__name__}: {error}{where}", cause)
