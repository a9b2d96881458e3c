"""From a user's file to a network in a file, by the function behind ``perturbrl fate infer``."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import typer
from scipy import sparse
from typer.testing import CliRunner

from perturbrl.cli.infer import command, infer_network
from perturbrl.errors import UserError
from perturbrl.landscape.infer import settings
from perturbrl.landscape.infer.cells import Columns, read_trajectory, smoothed
from perturbrl.landscape.networks import load

pytest.importorskip("z3")

N = 600
GENES = ["X", "Y", "H2-Aa"]  # X and Y exclude each other, H2-Aa follows Y


def counts(path: Path, **obs: object) -> Path:
    """Counts of cells on two ways: X comes on the left; on the right Y, later H2-Aa. There are 50 other genes."""
    rng = np.random.default_rng(0)
    time, right = rng.random(N), rng.random(N) < 0.5
    on = np.stack([~right & (time > 0.3), right & (time > 0.3), right & (time > 0.6)], axis=1)
    state = 2.0 * right * (time > 0.3) + 2 * time
    others = rng.poisson(np.exp(rng.normal(0, 0.5, 50) + np.outer(state, rng.normal(0, 0.3, 50))))
    x = np.concatenate([rng.poisson(0.05 + 1.5 * on), others], axis=1)
    columns = {
        "time": time,
        "left": np.where(right, np.nan, time),
        "right": np.where(right, time, np.nan),
        "weight_left": np.where(right, 0.0, 1.0),
        "weight_right": np.where(right, 1.0, 0.0),
        "cell_type": np.where(time < 0.3, "start", np.where(right, "R", "L")),
        "donor": "d",
        **obs,
    }
    names = [*GENES, *(f"g{k}" for k in range(50))]
    frame = pd.DataFrame(columns, index=[f"c{k}" for k in range(N)])
    cells = ad.AnnData(sparse.csr_matrix(x.astype(np.float32)), obs=frame, var=pd.DataFrame(index=names))
    cells.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    return counts(tmp_path_factory.mktemp("cells") / "cells.h5ad")


def infer(file: Path, out: Path, genes: str | None = ",".join(GENES), edges=None, changes=(), **columns) -> None:
    infer_network(file, out, genes, Columns(**(columns or {"pseudotime": ("left", "right")})), edges, None, changes)


@pytest.mark.parametrize(
    "columns",
    [
        {"pseudotime": ("left", "right")},
        {"pseudotime": ("time", "time"), "weights": ("weight_left", "weight_right")},
        {"pseudotime": ("time",), "fates": ("L", "R")},
    ],
    ids=["two pseudotimes", "weights", "fates"],
)
def test_counts_become_a_network_that_is_read_again(file, tmp_path, capsys, columns):
    infer(file, tmp_path / "net.bnet", **columns)
    network = load(tmp_path / "net.bnet")
    rules = dict(zip(network.genes, network.regulators, strict=True))
    assert rules == {"X": ("Y",), "Y": ("X",), "H2_Aa": ("Y",)}, "what a Python name cannot hold is an underscore"
    text = (tmp_path / "net.txt").read_text()
    assert "Fate L" in text and "Fate R" in text and "Ends that are steady in the network: 2 of 2" in text
    assert text in capsys.readouterr().out
    edges = pd.read_csv(tmp_path / "net.edges.csv")
    assert set(edges[edges.in_rule].sign) == {"+", "-"} and (edges[edges.in_rule].support > 0).all()


def test_genes_from_a_file_and_settings(file, tmp_path):
    (tmp_path / "genes.txt").write_text("X\n\n Y\n")
    infer(file, tmp_path / "net.bnet", genes=str(tmp_path / "genes.txt"), changes=["form=either", "seconds=5"])
    assert load(tmp_path / "net.bnet").genes == ("X", "Y")


def test_edges_from_a_file_restrict_the_network(file, tmp_path):
    (tmp_path / "edges.csv").write_text("tf,target,mor\nX,Y,-1\nY,X,\nH2_Aa,Q,1\n")
    infer(file, tmp_path / "net.bnet", genes="X,Y", edges=tmp_path / "edges.csv")
    assert set(pd.read_csv(tmp_path / "net.edges.csv").sign) == {"-"}
    assert "1 of 3 listed edges name a gene that is not in the network" in (tmp_path / "net.txt").read_text()


def test_diffusion_pseudotime_from_a_cell_type(file):
    cells = read_trajectory(file, GENES, Columns(root="start", fates=("L", "R")), settings())
    assert cells.branches == ("L", "R") and np.nanmin(cells.pseudotime) == 0
    for k, fate in enumerate(cells.branches):
        inside = np.isfinite(cells.pseudotime[:, k])
        assert set(cells.labels[inside]) == {"start", fate}
        mean = {label: cells.pseudotime[inside & (cells.labels == label), k].mean() for label in ("start", fate)}
        assert mean["start"] < mean[fate]


def test_smoothing_takes_the_mean_of_a_cell_and_its_nearest():
    x = np.array([[0.0, 1.0], [0.1, 3.0], [9.0, 5.0], [9.1, 7.0]])
    values, n = smoothed(x[:, :1], [0], neighbors=2, components=5)
    assert n == 2 and np.allclose(values[:, 0], [0.05, 0.05, 9.05, 9.05])
    assert np.array_equal(smoothed(sparse.csr_matrix(x), [1], 1, 5)[0], x[:, 1:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"root": None}, "no column of obs holds pseudotime; name one with --pseudotime, or give --root"),
        ({"pseudotime": ("tim",)}, "--pseudotime: obs has no column 'tim'; its columns are time"),
        ({"pseudotime": ("donor",)}, "obs\\['donor'\\] holds no number"),
        ({"root": "nobody"}, "--root 'nobody' is neither a cell nor a cell type; cell types are L, R, start"),
        ({"pseudotime": ("time",), "fates": ("Q",)}, "no cell has the type 'Q' of --fates; cell types are L, R, start"),
        ({"pseudotime": ("left", "right"), "fates": ("L",)}, "--fates makes branches of one pseudotime; there are 2"),
        ({"pseudotime": ("time",), "weights": ("left", "right")}, "2 columns of --weights for 1 of pseudotime"),
        ({"genes": "X,Yy"}, "no gene is called 'Yy' \\(1 of 2 names are missing\\)"),
        ({"genes": "X,y"}, "there is 'Y'"),
        ({"genes": "X,X"}, "gene 'X' is named twice"),
        (
            {"genes": None, "changes": ["max_genes=10"]},
            "has 53 genes; name the regulators with --genes \\(at most 10\\)",
        ),
        ({"changes": ["form"]}, "'form' is no setting; settings are KEY=VALUE"),
        ({"changes": ["form=[a"]}, r"form: '\[a' cannot be read as a value"),
        ({"changes": ["form=or", "form=and"]}, "form: is given twice"),
        ({"changes": ["form=nand"]}, "infer.form: 'nand' is not known"),
        ({"edges": "no.csv"}, "no.csv: cannot be read: No such file"),
    ],
)
def test_a_mistake_is_one_line(file, tmp_path, arguments, message):
    arguments = dict(arguments)
    if "edges" in arguments:
        arguments["edges"] = Path(arguments["edges"])
    with pytest.raises(UserError, match=message) as caught:
        infer(file, tmp_path / "net.bnet", **arguments)
    assert "\n" not in str(caught.value) and not (tmp_path / "net.bnet").exists()


def test_a_constant_gene_and_too_few_cells_are_one_line(tmp_path):
    file = counts(tmp_path / "cells.h5ad", short=np.where(np.arange(N) < 12, np.arange(N), np.nan))
    with pytest.raises(UserError, match="branch 'short' has 12 cells; 3 genes need at least 30"):
        infer(file, tmp_path / "net.bnet", pseudotime=("short",))
    cells = ad.read_h5ad(file)
    cells.X = cells.X @ sparse.diags(np.array(cells.var_names != "Y", dtype=np.float32))
    cells.write_h5ad(file)
    with pytest.raises(UserError, match="gene 'Y' is 0 in every cell"):
        infer(file, tmp_path / "net.bnet")


def test_the_command_reads_its_options(file, tmp_path):
    app = typer.Typer()
    app.command()(command)
    out = tmp_path / "net.bnet"
    words = [str(file), "form=or", "--genes", "X, Y", "--pseudotime", "time", "--fates", "L,R", "--out", str(out)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    network = load(out)
    assert (network.rules, set(network.fates)) == ({"X": "not Y", "Y": "not X"}, {"L", "R"})
    assert f"written: {out}" in result.output
    result = CliRunner().invoke(app, [str(file), "--genes", "X,Q", "--pseudotime", "time"])
    assert result.exit_code == 2 and "no gene is called 'Q'" in result.output


def test_the_file_to_write_is_a_bnet_file(file, tmp_path):
    with pytest.raises(UserError, match="name a file such as network.bnet"):
        infer(file, tmp_path / "net.sbml")
