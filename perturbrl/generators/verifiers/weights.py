"""Linear pathway weights and expected signs, from files or from the true wiring of a landscape.

Letters: G genes, K pathways, P conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf
from torch import Tensor

from perturbrl import registry
from perturbrl.config import bind, require
from perturbrl.errors import UserError, one_of
from perturbrl.generators.training_cells import Names
from perturbrl.landscape.config import LandscapeConfig
from perturbrl.landscape.dataset import design, gene_names


def read_table(file: str, columns: Sequence[str], key: str) -> pd.DataFrame:
    """Read a .csv (else tab-separated) table of two columns of names and one of finite numbers, each pair once.

    Raises
    ------
    UserError
        The file is missing or no such table. The message names the file, and the row where one is wrong.
    """
    path, where = Path(file).expanduser(), f"{key}={file}"
    form = f"a table (.csv, or .tsv) with columns {', '.join(columns)}"
    require(path.is_file(), where, f"no such file; give {form}")
    try:
        plain = path.name.removesuffix(".gz")
        table = pd.read_csv(path, sep="," if plain.endswith(".csv") else "\t", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read as {form} ({str(error).splitlines()[0][:120]})") from None
    table.columns = [str(c).strip().lower() for c in table.columns]
    lacking = [c for c in columns if c not in table.columns]
    require(not lacking, where, f"no column {one_of(lacking)}; needs {form}, it has {one_of(table.columns)}")
    table = table[list(columns)]
    numbers = pd.to_numeric(table[columns[2]], errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        row = table.iloc[wrong[0]]
        raise UserError(
            f"{where}: row {wrong[0] + 2}: {columns[2]} of {row.iloc[0]!r} in {row.iloc[1]!r} is {row.iloc[2]!r}, "
            "which is not a finite number"
        )
    twice = np.flatnonzero(table.duplicated(list(columns[:2])).to_numpy())
    if len(twice):
        pair = " in ".join(repr(v) for v in table.iloc[twice[0], :2])
        raise UserError(f"{where}: row {twice[0] + 2}: {pair} is given a second time; give each pair once")
    require(len(table) > 0, where, f"holds no rows; give {form}")
    return table.assign(**{columns[2]: numbers})


def regulons(settings: Mapping[str, Any], key: str) -> pd.DataFrame:
    """Return the true targets of each regulator of a landscape: gene, pathway (the regulator), weight.

    Parameters
    ----------
    settings
        Keys of the landscape's source that differ from ``conf/source/landscape.yaml``.
    key
        The key of the settings, for messages.

    Raises
    ------
    UserError
        A setting is wrong.
    """
    node = OmegaConf.merge(registry.sources.defaults("landscape"), dict(settings))
    name = OmegaConf.select(node, "name")
    require(name == "landscape", f"{key}.name", f"the source {name} has no known regulons; use which=file")
    made = design(bind(LandscapeConfig, node, key))
    weights = made.targets.weights.double().numpy()
    genes = np.array(gene_names(made.network, weights.shape[1]))
    regulator, target = np.nonzero(weights)
    return pd.DataFrame(
        {"gene": genes[len(weights) + target], "pathway": genes[regulator], "weight": weights[regulator, target]}
    )


def matrix(table: pd.DataFrame, genes: Names, least: int, where: str) -> tuple[pd.DataFrame, Tensor]:
    """Return how well each pathway is measured, and the weights of those that are.

    Parameters
    ----------
    table
        gene, pathway, weight.
    genes
        The G genes that are measured.
    least
        Measured genes that a pathway must have.
    where
        What messages start with.

    Returns
    -------
    coverage
        One row for each pathway: pathway, genes (in the table), measured, kept.
    weights
        [G, K] float32 of the kept pathways, in the order of ``coverage``.

    Raises
    ------
    UserError
        No pathway has ``least`` measured genes.
    """
    known = table["gene"].isin(genes)
    count = table.groupby("pathway")["gene"].size()
    measured = table[known].groupby("pathway")["gene"].size().reindex(count.index, fill_value=0)
    coverage = pd.DataFrame({"pathway": count.index, "genes": count.to_numpy(), "measured": measured.to_numpy()})
    coverage["kept"] = coverage["measured"] >= least
    best = int(coverage["measured"].max())
    require(
        bool(coverage["kept"].any()),
        where,
        f"{known.sum()} of its {table['gene'].nunique()} genes are among the {len(genes)} measured genes, at most "
        f"{best} of a pathway, and least_genes is {least}; check that both use the same gene names",
    )
    kept = coverage.loc[coverage["kept"], "pathway"].tolist()
    used = table[known & table["pathway"].isin(kept)]
    row = {gene: k for k, gene in enumerate(genes)}
    weights = np.zeros((len(genes), len(kept)), dtype=np.float32)
    weights[[row[g] for g in used["gene"]], [kept.index(p) for p in used["pathway"]]] = used["weight"]
    return coverage, torch.from_numpy(weights)


def expected_signs(table: pd.DataFrame, targets: Sequence[Names], pathways: Names) -> tuple[Tensor, Tensor]:
    """Return the expected sign of each pathway under each condition, and where one is expected.

    Parameters
    ----------
    table
        target, pathway, sign; a sign of 0 says that the pathway does not respond.
    targets
        What each of P conditions perturbs; signs of several targets are added.
    pathways
        K names.

    Returns
    -------
    sign
        -1, 0 or 1, float32 [P, K].
    annotated
        bool [P, K].
    """
    sign, annotated = torch.zeros(len(targets), len(pathways)), torch.zeros(len(targets), len(pathways))
    column = {name: k for k, name in enumerate(pathways)}
    by_target = dict(tuple(table[table["pathway"].isin(pathways)].groupby("target")))
    for p, names in enumerate(targets):
        for rows in (by_target[name] for name in names if name in by_target):
            at = torch.tensor([column[name] for name in rows["pathway"]])
            sign[p, at] += torch.tensor(rows["sign"].to_numpy(), dtype=torch.float32)
            annotated[p, at] = 1.0
    return sign.sign(), annotated > 0
