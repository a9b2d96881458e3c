"""How well networks are inferred: precision and recall of edges where the network is known, beside simple baselines.

Two data sets: haematopoietic progenitors of the mouse (Paul et al. 2015; the network is that of Krumsiek et al. 2011 as
far as its genes are in the file) and BEELINE's simulation of gonadal sex determination (Pratapa et al. 2020), with the
network that it was simulated from. They are not part of the project; ``--data`` names their folder.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import hypergeom

from perturbrl.landscape.infer import Trajectory, compare, infer_network, settings
from perturbrl.landscape.infer.cells import Columns, read_trajectory
from perturbrl.landscape.infer.information import association
from perturbrl.landscape.infer.trajectory import binarise
from perturbrl.landscape.networks import load

# Krumsiek's genes by the names in the file. cJun is not in it; Egr1, a part of EgrNab, is seen in 1 % of the cells.
KRUMSIEK = {
    **{"Gata2": "Gata2", "Gata1": "Gata1", "Zfpm1": "Fog1", "Klf1": "Eklf", "Fli1": "Fli1"},
    **{"Tal1": "Scl", "Cebpa": "Cebpa", "Sfpi1": "Pu1", "Gfi1": "Gfi1"},
}
OTHERS = ("Gfi1b", "Cebpe", "Lmo2", "Myb", "Irf8", "Runx1", "Ikzf1", "Cited2", "Nfe2", "Zbtb7a")
ARMS = Columns(("pseudotime_1", "pseudotime_2"), ("lineage_weight_1", "lineage_weight_2"), "cell_type")
FORMS = ("and", "or", "either")
SINGLE = "correlation of single cells"


@dataclass(frozen=True)
class Case:
    """Cells, the same not averaged, and the network between the genes ``scored``."""

    data: str
    cells: Trajectory
    single: Trajectory
    truth: compare.Truth
    scored: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A line of the table: the edges of a method against the truth, without and with their signs.

    ``p`` is the chance that as many of ``edges`` edges drawn at random are true. ``pair_precision`` is of as many pairs
    without direction as the rules have: a correlation knows no direction, so its precision of edges is low by nature.
    """

    data: str
    method: str
    edges: int
    precision: float
    recall: float
    average_precision: float
    signed_precision: float
    signed_recall: float
    signed_average_precision: float
    pair_precision: float
    p: float | None = None
    seconds: float | None = None


def row(data: str, method: str, ranking: compare.Ranking, truth: compare.Truth, n: int, n_pairs: int) -> Row:
    plain, signed = (compare.scores(ranking, truth, n, signed=s) for s in (False, True))
    pairs = compare.scores(*compare.undirected(ranking, truth), n_pairs, signed=False).precision
    n_true = sum(pair in truth for pair in ranking.pairs)
    p = float(hypergeom.sf(round(plain.precision * n) - 1, len(ranking.pairs), n_true, n))
    kinds = (plain.precision, plain.recall, plain.average_precision)
    return Row(data, method, n, *kinds, signed.precision, signed.recall, signed.average_precision, pairs, p)


def random_row(data: str, genes: tuple[str, ...], truth: compare.Truth, n: int, n_pairs: int) -> Row:
    """Return the mean over 500 random orders with random signs."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(500):
        ranking = compare.of_matrix(
            genes, rng.random((len(genes), len(genes))) * rng.choice([-1, 1], (len(genes),) * 2)
        )
        rows.append(asdict(row(data, "random", ranking, truth, n, n_pairs)))
    means = pd.DataFrame(rows).drop(columns=["data", "method", "edges", "p", "seconds"]).mean()
    return Row(data, "random", n, **means.to_dict())


def table(
    data: str,
    cells: Trajectory,
    single: Trajectory,
    truth: compare.Truth,
    scored: tuple[str, ...],
    forms: tuple[str, ...] = FORMS,
) -> list[Row]:
    """Return the rows of one data set; only edges between the genes ``scored`` count, ``single`` is not averaged."""
    rows = []
    n = n_pairs = 0
    for form in forms:
        begin = time.perf_counter()
        result = infer_network(cells, settings(form=form))
        seconds = time.perf_counter() - begin
        chosen = [(e.regulator, e.target) for e in result.edges if e.in_rule and {e.regulator, e.target} <= {*scored}]
        if form == forms[0]:
            n, n_pairs = len(chosen), len({frozenset(pair) for pair in chosen})
        ranking, pairs = compare.of_edges(result.edges, scored), len({frozenset(pair) for pair in chosen})
        rows.append(replace(row(data, f"rules, form={form}", ranking, truth, len(chosen), pairs), seconds=seconds))
    inside = [cells.genes.index(gene) for gene in scored]
    used = np.isfinite(cells.pseudotime).any(axis=1)
    found = association(binarise(cells.values)[used][:, inside], cells.n_independent)
    rankings = {
        "mutual information alone": compare.information(found),
        SINGLE: compare.correlation(single.values[used][:, inside]),
    }
    if cells.averaged > 1:
        rankings["correlation of averaged cells"] = compare.correlation(cells.values[used][:, inside])
    rows += [row(data, name, compare.of_matrix(scored, m), truth, n, n_pairs) for name, m in rankings.items()]
    return [*rows, random_row(data, scored, truth, n, n_pairs)]


def part_of(cells: Trajectory, rows: NDArray[np.int64]) -> Trajectory:
    labels = None if cells.labels is None else cells.labels[rows]
    return replace(cells, values=cells.values[rows], pseudotime=cells.pseudotime[rows], labels=labels)


def resampled(case: Case, times: int) -> str:
    """Return how much more precise rules are than correlations, over draws of 80 % of the cells."""
    rng = np.random.default_rng(0)
    gains: dict[str, list[float]] = {"edges": [], "pairs": []}
    for _ in range(times):
        drawn = np.sort(rng.choice(len(case.cells.values), int(0.8 * len(case.cells.values)), replace=False))
        cells, single = part_of(case.cells, drawn), part_of(case.single, drawn)
        rows = {r.method: r for r in table(case.data, cells, single, case.truth, case.scored, ("and",))}
        rules, other = rows["rules, form=and"], rows.get("correlation of averaged cells", rows[SINGLE])
        gains["edges"].append(rules.precision - other.precision)
        gains["pairs"].append(rules.pair_precision - other.pair_precision)
    texts = [f"{kind} {np.mean(g):+.2f} ({min(g):+.2f} to {max(g):+.2f})" for kind, g in gains.items()]
    return f"{case.data}: precision of rules minus that of correlations, {times} draws of the cells: {', '.join(texts)}"


def paul15(folder: Path) -> list[Case]:
    """Return the cases of the real cells: 9 genes alone, and 19 genes of which the edges between the 9 count."""
    file = folder / "traj_paul15" / "paul15.h5ad"
    mouse = {known: gene for gene, known in KRUMSIEK.items()}
    truth = {
        (mouse[r], mouse[t]): sign
        for (r, t), sign in compare.true_edges(load("myeloid")).items()
        if r in mouse and t in mouse
    }
    cases = []
    for genes in ((*KRUMSIEK,), (*KRUMSIEK, *OTHERS)):
        cells, single = (read_trajectory(file, genes, ARMS, settings(**c)) for c in ({}, {"neighbors": 1}))
        cases.append(Case(f"paul15, {len(genes)} genes", cells, single, truth, (*KRUMSIEK,)))
    return cases


def gsd_cells(folder: Path) -> Trajectory:
    """Return BEELINE's simulated cells, two branches."""
    values = pd.read_csv(folder / "traj_beeline_gsd" / "ExpressionData.csv", index_col=0).T
    times = pd.read_csv(folder / "traj_beeline_gsd" / "PseudoTime.csv", index_col=0).loc[values.index]
    return Trajectory("GSD", tuple(values.columns), values.to_numpy(float), times.to_numpy(float), tuple(times.columns))


def gsd(folder: Path) -> list[Case]:
    """Return the case of the simulated cells."""
    edges = pd.read_csv(folder / "traj_beeline_gsd" / "GroundTruthNetwork.csv")
    signs = {"+": 1, "-": -1}
    truth = {(r, t): signs[kind] for r, t, kind in edges.itertuples(index=False) if r != t}
    cells = gsd_cells(folder)
    return [Case("GSD, 19 genes", cells, cells, truth, cells.genes)]


def rows_of(case: Case) -> list[Row]:
    """Return the rows of one case."""
    return table(case.data, case.cells, case.single, case.truth, case.scored)


def markdown(rows: list[Row]) -> str:
    signed = ("signed: precision", "recall", "AUPRC")
    heads = ("data", "method", "edges", "precision", "recall", "AUPRC", *signed, "pairs: precision", "p", "seconds")
    lines = ["| " + " | ".join(heads) + " |", "|:--|:--|" + "--:|" * (len(heads) - 2)]
    for r in rows:
        cells = [f"{v:.2f}" for v in list(asdict(r).values())[3:10]]
        ends = ["" if r.p is None else f"{r.p:.1g}", "" if r.seconds is None else f"{r.seconds:.1f}"]
        lines.append(f"| {' | '.join([r.data, r.method, str(r.edges), *cells, *ends])} |")
    return "\n".join(lines)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, default=os.environ.get("PERTURBRL_REAL_DATA", "../shared/data"))
    options.add_argument("--out", type=Path, default=Path("outputs/bench"))
    options.add_argument("--only", choices=("paul15", "gsd"))
    options.add_argument("--resamples", type=int, default=0, help="draws of 80 %% of the cells for each data set")
    given = options.parse_args()
    folder = Path(given.data)
    cases = [
        case for name, of in (("paul15", paul15), ("gsd", gsd)) if given.only in (None, name) for case in of(folder)
    ]
    rows = [row for case in cases for row in rows_of(case)]
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "network_inference.json").write_text(json.dumps([asdict(r) for r in rows], indent=2))
    print(markdown(rows))
    for case in cases if given.resamples else ():
        print(resampled(case, given.resamples))


if __name__ == "__main__":
    main()
