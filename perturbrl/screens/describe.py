"""What a model knows of a condition: which perturbation, in which context, at which dose; fitted on training cells.

Prior knowledge of genes comes from a file: gene sets, pathway weights or a network, made short by principal components.
Letters: P conditions, T targets, K numbers of a description, C covariates, G genes; g genes of a prior file, M sets.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from perturbrl.bounds import NotEmpty, OneOf, PositiveInt
from perturbrl.config import require
from perturbrl.data.readers.opened import listed
from perturbrl.errors import UserError
from perturbrl.rng import numpy_generator
from perturbrl.screens.genes import gene_embedding, training_rows
from perturbrl.screens.network import TargetKernel, target_kernel
from perturbrl.screens.schema import PerturbationTable, Screen, ScreenSplit

Block = NDArray[np.float64]
NAMES = ("gene_embedding", "one_hot", "prior", "network", "dose")
_MEMBER = ("gene", "target", "genesymbol", "gene_symbol", "to")
_SET = ("pathway", "set", "geneset", "gene_set", "tf", "source", "from")
_NETWORK = ("tf", "source", "from")
_WEIGHT = ("weight", "mor", "score")


@dataclass(frozen=True)
class DescriptionConfig:
    """What ``conf/description/*.yaml`` holds; the YAML says what each key means."""

    name: str
    kinds: Annotated[list[Annotated[str, OneOf(*NAMES)]], NotEmpty("[one_hot]")]
    components: PositiveInt
    scale: bool
    prior: str | None
    prior_components: PositiveInt
    prior_keep: dict[str, list[str]]
    network: str | None
    network_aliases: dict[str, str]
    network_shuffle: bool

    def check(self, where: str) -> None:
        """Raise ``UserError`` for a kind named twice, or a prior or a network without a file."""
        require(len(set(self.kinds)) == len(self.kinds), f"{where}.kinds", f"{self.kinds} names a kind twice")
        lacking = "prior" in self.kinds and self.prior is None
        require(not lacking, f"{where}.prior", "no file; the kind prior needs a .gmt, .csv or .tsv")
        lacking = "network" in self.kinds and self.network is None
        require(not lacking, f"{where}.network", "no file; the kind network needs a .csv of entity1 and entity2")


def describe(screen: Screen, split: ScreenSplit, config: DescriptionConfig) -> PerturbationTable:
    """Return the screen and its split with a description [P, K] and covariates [P, C] of each condition.

    A combination is described by the sum over its targets. With ``scale`` the numbers of a kind are divided by the root
    of their mean square over training targets, so that kinds weigh alike. Covariates: which of the contexts seen in
    training (all zero for another one; none where there is one context), and log(1 + dose) where there are doses. A
    network also gives the table a kernel between conditions.

    Raises
    ------
    UserError
        A prior or network file that cannot be used.
    """
    targets = sorted({t for c in screen.conditions for t in c.targets})
    trained = _trained_targets(screen, split)
    blocks, leaks = [], list(split.leaks)
    for kind in config.kinds:
        if kind == "dose":
            blocks.append(_doses(screen))
            continue
        numbers = KINDS[kind](screen, split, config, targets, trained)
        if config.scale and kind != "one_hot":
            numbers = _scaled(numbers, np.array([t in trained for t in targets]))
        blocks.append(_summed(screen, targets, numbers))
        if kind == "prior":
            leaks.append(f"descriptions read the prior file {config.prior}, which may know of the test conditions")
        if kind == "network":
            known = int((numbers[:, -1] == 0).sum())
            leaks.append(
                f"descriptions read the network {config.network} ({known} of {len(targets)} targets are in it), "
                "which may know of the test conditions"
            )
    return PerturbationTable(
        screen=screen,
        split=split,
        description=np.concatenate(blocks, axis=1).astype(np.float32),
        covariates=_covariates(screen, split).astype(np.float32),
        seen=np.isin(np.arange(len(screen.conditions)), screen.condition[training_rows(split)]),
        leaks=tuple(leaks),
        kernel=_kernel(screen, split, config, targets) if "network" in config.kinds else None,
    )


def _network(screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str]) -> TargetKernel:
    assert config.network is not None
    genes, seed = [screen.gene_of(t) for t in targets], split.seed if config.network_shuffle else None
    return target_kernel(config.network, genes, config.network_aliases, seed, "description.network")


def _kernel(screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str]) -> Block:
    """Return the kernel of the network between conditions, [P, P]."""
    row = {t: k for k, t in enumerate(targets)}
    return _network(screen, split, config, targets).between([[row[t] for t in c.targets] for c in screen.conditions])


def _from_network(
    screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str], trained: set[str]
) -> Block:
    """Return the coordinates of each target in the network's kernel, and 1 where it is not there: [T, K + 1]."""
    network = _network(screen, split, config, targets)
    numbers = network.components(np.array([t in trained for t in targets]), config.prior_components)
    return np.concatenate([numbers, network.missing[:, None].astype(np.float64)], axis=1)


def _embedded(
    screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str], trained: set[str]
) -> Block:
    """Return the embedding of each target's gene, times its sign, and 1 where the gene is not measured: [T, K + 1]."""
    scores = gene_embedding(screen, split, config.components)
    column = {name: k for k, name in enumerate(screen.features)}
    out = np.zeros((len(targets), scores.shape[1] + 1))
    for row, target in enumerate(targets):
        k = column.get(screen.gene_of(target))
        if k is None:
            out[row, -1] = 1.0
        else:
            out[row, :-1] = screen.sign_of(target) * scores[k]
    return out


def _one_hot(
    screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str], trained: set[str]
) -> Block:
    """Return one column for each target seen in training, [T, S]; an unseen target has none."""
    seen = sorted(trained)
    return np.array([[float(t == s) for s in seen] for t in targets]).reshape(len(targets), len(seen))


def _from_prior(
    screen: Screen, split: ScreenSplit, config: DescriptionConfig, targets: list[str], trained: set[str]
) -> Block:
    """Return the scores of each target's gene in the prior, times its sign, and 1 where it is not there: [T, K + 1]."""
    assert config.prior is not None
    prior = read_prior(config.prior, config.prior_components, config.prior_keep)
    out = np.zeros((len(targets), prior.scores.shape[1] + 1))
    for row, target in enumerate(targets):
        scores = prior.of(screen.gene_of(target))
        if scores is None:
            out[row, -1] = 1.0
        else:
            out[row, :-1] = screen.sign_of(target) * scores
    missing = int(out[:, -1].sum())
    require(missing < len(targets), "description.prior", f"none of the {missing} targets is in {config.prior}")
    return out


KINDS: dict[str, Callable[[Screen, ScreenSplit, DescriptionConfig, list[str], set[str]], Block]] = {
    "gene_embedding": _embedded,
    "one_hot": _one_hot,
    "prior": _from_prior,
    "network": _from_network,
}


def _trained_targets(screen: Screen, split: ScreenSplit) -> set[str]:
    return {t for k in np.unique(screen.condition[split.train]) for t in screen.conditions[k].targets}


def _scaled(numbers: Block, trained: NDArray[np.bool_]) -> Block:
    """Divide by one number, the root mean square over training targets; the last column, a flag, stays as it is."""
    size = float(np.sqrt(np.mean(numbers[trained, :-1] ** 2))) if trained.any() else 0.0
    return np.concatenate([numbers[:, :-1] / (size if size > 0 else 1.0), numbers[:, -1:]], axis=1)


def _summed(screen: Screen, targets: list[str], numbers: Block) -> Block:
    row = {t: k for k, t in enumerate(targets)}
    out = np.zeros((len(screen.conditions), numbers.shape[1]))
    for p, condition in enumerate(screen.conditions):
        for target in condition.targets:
            out[p] += numbers[row[target]]
    return out


def _doses(screen: Screen) -> Block:
    return np.log1p([[c.dose or 0.0] for c in screen.conditions])


def _covariates(screen: Screen, split: ScreenSplit) -> Block:
    every = {c.context for c in screen.conditions}
    trained = sorted({screen.conditions[k].context for k in np.unique(screen.condition[training_rows(split)])})
    names = trained if len(every) > 1 else []
    context = np.array([[float(c.context == n) for n in names] for c in screen.conditions])
    dosed = any(c.dose is not None for c in screen.conditions)
    blocks = [context.reshape(len(screen.conditions), len(names)), *([_doses(screen)] if dosed else [])]
    return np.concatenate(blocks, axis=1)


@dataclass(frozen=True)
class Prior:
    """``rows`` maps a gene to its row of ``scores`` [g, K]."""

    rows: Mapping[str, int]
    scores: NDArray[np.float64]

    def of(self, gene: str) -> NDArray[np.float64] | None:
        """Return the scores of a gene, None where the file does not have it."""
        row = self.rows.get(gene)
        return None if row is None else self.scores[row]


def read_prior(file: str, k: int, keep: Mapping[str, Sequence[str]]) -> Prior:
    """Read a .gmt file, or a table (.csv, .tsv, .txt, also .gz) with a header, and reduce it to ``k`` components.

    A table has columns gene and pathway, or tf (source) and target; and weight (mor) where there are weights. In a
    network a gene's row holds its neighbours, both ways. ``keep`` limits columns to values (``confidence: [A, B]``).

    Raises
    ------
    UserError
        The file is missing or of another form, or nothing is left of it.
    """
    path, where = Path(file).expanduser(), f"description.prior={file}"
    require(path.is_file(), where, "no such file; give a .gmt, or a .csv or .tsv with columns gene and pathway")
    plain = path.name.removesuffix(".gz")
    try:
        edges, network = (_gmt(path), False) if plain.endswith(".gmt") else _table(path, plain, keep, where)
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: cannot be read as a table ({str(error).splitlines()[0][:120]})") from None
    require(len(edges) > 0, where, "nothing is left of it; see description.prior_keep")
    if network:
        turned = edges.rename(columns={"gene": "set", "set": "gene"})
        edges = pd.concat([edges, turned[edges.columns]], ignore_index=True)
    genes, rows = np.unique(edges["gene"].to_numpy(dtype=str), return_inverse=True)
    sets, columns = np.unique(edges["set"].to_numpy(dtype=str), return_inverse=True)
    weights = edges["weight"].to_numpy(dtype=np.float64)
    require(bool(np.isfinite(weights).all()), where, "a weight is not a finite number")
    matrix = sparse.csr_matrix((weights, (rows, columns)), shape=(len(genes), len(sets)))
    return Prior({str(g): k for k, g in enumerate(genes)}, _components(matrix, k))


def _gmt(path: Path) -> pd.DataFrame:
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    fields = [line.split("\t") for line in content.decode("utf-8").splitlines() if line.strip()]
    pairs = [(gene, name) for name, *rest in fields for gene in rest[1:] if gene]
    return pd.DataFrame(pairs, columns=["gene", "set"]).assign(weight=1.0).drop_duplicates()


def _table(path: Path, plain: str, keep: Mapping[str, Sequence[str]], where: str) -> tuple[pd.DataFrame, bool]:
    table = pd.read_csv(path, sep="," if plain.endswith(".csv") else "\t", dtype=str, keep_default_na=False)
    by_lower = {str(c).lower(): c for c in table.columns}
    member, group, weight = (
        next((by_lower[n] for n in names if n in by_lower), None) for names in (_MEMBER, _SET, _WEIGHT)
    )
    if member is None or group is None:
        raise UserError(f"{where}: needs columns gene and pathway, or tf and target; it has {listed(table.columns)}")
    for column, values in keep.items():
        require(column in table.columns, "description.prior_keep", f"{column!r} is no column of {path.name}")
        table = table[table[column].isin([str(v) for v in values])]
    edges = pd.DataFrame({"gene": table[member], "set": table[group]})
    edges["weight"] = 1.0 if weight is None else pd.to_numeric(table[weight])
    return edges[edges["gene"] != ""], str(group).lower() in _NETWORK


def _components(matrix: sparse.csr_matrix, k: int) -> NDArray[np.float64]:
    """Return the scores U S [g, K] of the uncentred PCA, so that a gene without any set stays at zero."""
    k = min(k, *matrix.shape)
    if min(matrix.shape) <= 512 or k >= min(matrix.shape) - 1:
        small = matrix.toarray()
        u, s, _ = np.linalg.svd(small, full_matrices=False)
        u, s = u[:, :k], s[:k]
    else:
        start = numpy_generator(0, "prior").standard_normal(min(matrix.shape))
        u, s, _ = sparse.linalg.svds(matrix, k=k, v0=start)
        order = np.argsort(-s)
        u, s = u[:, order], s[order]
    largest = np.take_along_axis(u, np.abs(u).argmax(axis=0)[None], axis=0)[0]
    return np.asarray(u * s * np.where(largest < 0, -1.0, 1.0), dtype=np.float64)
