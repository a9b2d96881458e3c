"""Labelled cells of a file as states of a network: genes by their aliases, on or off, what is not measured filled in.

Letters: N cells, G genes of the network, M of them measured.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import paths
from perturbrl.config import bind
from perturbrl.data.preprocess.config import DataConfig
from perturbrl.data.preprocess.modality import transform
from perturbrl.data.readers.cells import read_file
from perturbrl.data.readers.columns import ColumnKeys
from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError, did_you_mean, one_of
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.infer.cells import smoothed
from perturbrl.landscape.infer.trajectory import two_means
from perturbrl.landscape.network import Network
from perturbrl.landscape.plan.settings import PlanConfig

_LEAST_MEASURED = 2  # genes; with fewer no two types of cells can be told apart


@dataclass(frozen=True, eq=False)
class LabelledCells:
    """Cells as states: ``states`` [N, G] uint8, ``labels`` [N]; ``measured`` [G] says which genes the file has.

    ``notes`` are sentences on how the genes were matched and made on or off.
    """

    name: str
    states: Tensor
    labels: NDArray[np.str_]
    measured: Tensor
    notes: tuple[str, ...]

    def of(self, label: str) -> Tensor:
        """Return the states [n, G] of the cells with this label."""
        return self.states[torch.from_numpy(self.labels == label)]


def read_cells(
    path: Path, network: Network, config: PlanConfig, label: str | None = None, aliases: Path | None = None
) -> LabelledCells:
    """Read labelled cells as states of ``network``.

    Counts are divided by the depth of their cell and put on a log scale. Genes that the file does not have take the
    value of their rule, given the measured ones.

    Parameters
    ----------
    path
        A file that ``source=file`` reads (.h5ad, .h5mu, 10x).
    network, config
        The network, and the settings.
    label
        The column of obs with the labels; None: the first with a usual name (``cell_type``, ...).
    aliases
        A CSV with the columns ``gene`` and ``symbols`` (several with spaces between), besides those that are known.

    Raises
    ------
    UserError
        The file or a table of aliases cannot be read, has no labels, or fewer than two of the network's genes.
    """
    raw = read_file(path, path.name, None, "auto", ColumnKeys(None, None, None, label, None, None))
    if "cell_type" not in raw.obs:
        raise UserError(
            f"{path}: no column of obs names the type of the cells; give --label, one of {one_of(raw.obs.columns)}"
        )
    if "rna" not in raw.modalities:
        raise UserError(f"{path}: has no RNA (but {one_of(raw.modalities)}); the genes of a network are read from RNA")
    known = {**known_aliases(), **(_read_aliases(aliases) if aliases else {})}
    return labelled(raw, network, config, known, str(path))


def labelled(
    raw: RawCells, network: Network, config: PlanConfig, known: Mapping[str, Sequence[str]], name: str
) -> LabelledCells:
    """Return the cells of ``raw`` as states; see ``read_cells``."""
    rna = raw.modalities["rna"]
    columns, notes = matched(network.genes, rna.features, known, name)
    steps = bind(DataConfig, OmegaConf.load(paths.conf_dir() / "data" / "rna.yaml"), "data")
    x = transform("rna", rna, steps, np.arange(raw.n_cells), name)
    # Most zeros of a single cell are losses of the assay, so each cell becomes a mean over its neighbours.
    levels, _ = smoothed(x, [*columns.values()], config.neighbors, config.components)
    measured = torch.tensor([gene in columns for gene in network.genes])
    states = torch.zeros(raw.n_cells, len(network.genes), dtype=torch.uint8)
    constant = []
    for gene, values in zip(columns, levels.T, strict=True):
        if values.max() == values.min():
            constant.append(gene)
        cut = two_means(values) if config.threshold == "two_means" else _own(network, values)
        states[:, network.genes.index(gene)] = torch.from_numpy(values > cut).to(torch.uint8)
    if constant:
        notes.append(f"{', '.join(constant)}: the same value in every cell, counted as off.")
    if not measured.all():
        states = filled(network, states, measured, config)
    labels = raw.obs["cell_type"].astype(str).to_numpy().astype(np.str_)
    return LabelledCells(name, states, labels, measured, tuple(notes))


def matched(
    genes: Sequence[str], features: Sequence[str] | NDArray[np.str_], known: Mapping[str, Sequence[str]], name: str
) -> tuple[dict[str, int], list[str]]:
    """Return the column of each gene that a file has, and sentences on what was matched and what was not.

    A gene is sought by its own name, then by its aliases in their order; case and punctuation do not matter.

    Raises
    ------
    UserError
        Fewer than two genes are there.
    """
    place: dict[str, int] = {}
    for column, feature in enumerate(features):
        place.setdefault(plain(str(feature)), column)
    columns, renamed, missing = {}, [], []
    for gene in genes:
        words = [plain(gene), *(plain(alias) for alias in known.get(plain(gene), ()))]
        hit = next((word for word in words if word in place), None)
        if hit is None:
            missing.append(gene)
            continue
        columns[gene] = place[hit]
        feature = str(features[place[hit]])
        renamed += [f"{gene} = {feature}"] if hit != plain(gene) else []
    if len(columns) < _LEAST_MEASURED:
        example = f"{missing[0]!r}{did_you_mean(missing[0], [str(f) for f in features])}"
        raise UserError(
            f"{name}: has {len(columns)} of the network's {len(genes)} genes (not {example}); at least "
            f"{_LEAST_MEASURED} are needed; give --alias if they have other names"
        )
    notes = [f"{len(columns)} of {len(genes)} genes of the network are in {Path(name).name}."]
    notes += [f"By another name: {', '.join(renamed)}."] if renamed else []
    notes += [f"Not measured, set by their rules from the others: {', '.join(missing)}."] if missing else []
    return columns, notes


def filled(network: Network, states: Tensor, measured: Tensor, config: PlanConfig) -> Tensor:
    """Return ``states`` [N, G] in which the genes that are not ``measured`` [G] have followed their rules."""
    dynamics = BooleanDynamics(network)
    held = torch.where(measured, states.float(), torch.nan)
    keys = draw_keys(len(states), torch.Generator().manual_seed(config.seed))
    return dynamics.run(states, config.sweeps * len(network.genes), keys, held=held)


def plain(name: str) -> str:
    """Return a gene's name in lower case without punctuation, and without the ``v_`` of some model collections."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^v_", "", name.lower()))


@cache
def known_aliases() -> dict[str, tuple[str, ...]]:
    """Return the symbols of genes that networks call otherwise, by their plain name."""
    return _aliases(files(__package__).joinpath("aliases.csv").read_text(encoding="utf-8"), "aliases.csv")


def _read_aliases(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        return _aliases(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None


def _aliases(text: str, where: str) -> dict[str, tuple[str, ...]]:
    rows = list(csv.DictReader(text.splitlines()))
    for number, row in enumerate(rows, start=2):
        if not row.get("gene") or not row.get("symbols"):
            raise UserError(f"{where}, row {number}: the columns 'gene' and 'symbols' are needed, both filled")
    return {plain(row["gene"]): tuple(row["symbols"].split()) for row in rows}


def _own(network: Network, values: NDArray[np.float64]) -> float:
    """Return the network's threshold as a share of the gene's highest level (its 99th percentile)."""
    return network.default_threshold * float(np.quantile(values, 0.99))
