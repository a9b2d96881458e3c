"""``perturbrl data split``: the split that training would draw, written to a file for ``split.file=``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from perturbrl.config import require
from perturbrl.errors import UserError
from perturbrl.runner.dataset import load_cells
from perturbrl.runner.hydra.compose import compose_job
from perturbrl.screens.schema import PerturbationTable
from perturbrl.screens.split_files import sha256_in, write_split

ENV = "env=counterfactual"  # the task whose splits hold out perturbations


def write(out: Path, overrides: Sequence[str]) -> PerturbationTable:
    """Draw the split of ``perturbrl train OVERRIDES`` and write it to ``out``; return the cells and their split.

    Without an override of ``env`` it is that of ``env=counterfactual``.

    Raises
    ------
    UserError
        As training would; the split is one of cells; ``out`` holds something else, or cannot be written.
    """
    chosen = [word.partition("=")[0] for word in overrides]
    env = [] if "env" in chosen else [ENV]
    job = compose_job([*env, *overrides, "progress=quiet"], Path(), "split")
    split = job.config.split
    file = getattr(split, "file", None)
    require(file is None, f"split.file={file}", "reads a split; leave the key out to draw one, which --out writes")
    table = load_cells(job)
    if not isinstance(table, PerturbationTable):
        raise UserError(f"split={split.kind}: holds out cells, and has no file; choose {ENV} and split=unseen_single")
    if out.exists():
        same = sha256_in(out) == table.split.sha256
        require(same, f"--out {out}", "holds something else; choose another name, or remove it")
        return table
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_split(table.split, table.screen, out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror})") from None
    return table
