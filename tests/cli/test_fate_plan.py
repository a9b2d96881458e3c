"""`perturbrl fate plan` and perturbrl.fate_plan: what is printed and written, and every mistake in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runner.tiny import cli_run

from perturbrl.landscape.plan.result import read_csv

Run = Callable[..., tuple[int, str, str]]
QUICK = ("stability_runs=0", "picture_cells=0")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return cli_run(capsys)


def test_a_plan_is_printed_and_written(run: Run) -> None:
    code, out, err = run("fate", "plan", "cortical", "--from", "anterior", "--to", "posterior", *QUICK)
    assert code == 0, err
    folder = Path("outputs/fate/cortical_anterior_to_posterior")
    assert f"written: {folder / 'plan.csv'}" in out
    assert "Without a perturbation no cell ends as posterior." in out
    assert max(map(len, out.splitlines())) <= 80
    best = read_csv(folder / "plan.csv")[1]
    assert best.name in out
    assert best.probability == pytest.approx(1.0)
    assert "posterior" in (folder / "plan.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_shows_the_landscape_as_it_is_and_while_the_best_set_acts(run: Run) -> None:
    command = ("fate", "plan", "cortical", "--from", "anterior", "--to", "posterior", "stability_runs=0")
    run(*command, "picture_cells=300", "--out", "there")
    html = Path("there/plan.html").read_text(encoding="utf-8")
    assert "<h3>Without a perturbation</h3>" in html
    assert html.count("<picture>") == 2
    assert html.count("data:image/png;base64,") == 4
    assert 'src="/' not in html


def test_options_reach_the_plan(run: Run) -> None:
    command = ("fate", "plan", "cortical", "--from", "anterior", "--to", "posterior", "--out", "there", *QUICK)
    run(*command, "--genes", "Pax6,Sp8", "--max-perturb", "2", "--method", "search", "runs=50", "duration=flip")
    found = read_csv(Path("there/plan.csv"))
    assert all({gene for gene, _ in one.perturbation} <= {"Pax6", "Sp8"} for one in found)
    assert found[0].low < found[0].probability or found[0].probability < found[0].high, "50 runs have an interval"


def test_recipes_are_ranked(run: Run) -> None:
    code, out, err = run("fate", "plan", "cortical", "--recipes")
    assert code == 0, err
    assert "Emx2_oe" in out
    assert "Hamasaki et al. 2004" in out


def test_a_fate_out_of_reach_is_said_and_no_error(run: Run) -> None:
    code, out, _ = run("fate", "plan", "--from", "monocyte", "--to", "erythrocyte", "--genes", "cJun", *QUICK)
    assert code == 0
    assert "cannot be reached" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--from: is needed: perturbrl fate plan --from"),
        (("--from", "monocyte"), "--to: is needed"),
        (("--from", "monocyte", "--to", "monocyte"), "--to: 'monocyte' is where the cells come from"),
        (("mieloid", "--from", "a", "--to", "b"), "network: 'mieloid' is not known (did you mean 'myeloid'?)"),
        (("myeloid", "toggle", "--from", "a", "--to", "b"), "one network is needed, got myeloid and toggle"),
        (("none.bnet", "--from", "a", "--to", "b"), "none.bnet: cannot be read: No such file or directory"),
        (("--from", "monocyte", "--to", "erythrocyte", "--max-perturb", "12"), "--max-perturb: must be 1 to 11"),
        (("--from", "monocyte", "--to", "erythrocyte", "--genes", "Gata9"), "--genes: 'Gata9' is not a gene"),
        (("--from", "monocyte", "--to", "erythrocyte", "colour=1"), "plan.colour: unknown key"),
        (("--from", "monocyte", "--to", "erythrocyte", "runs=many"), "plan.runs: 'many' is not a valid int"),
        (("--from", "monocyte", "--to", "erythrocyte", "runs=1", "runs=2"), "runs: is given twice"),
        (("--from", "monocyte", "--to", "erythrocyte", "--method", "exact", "method=exact"), "method: is given twice"),
        (("--from", "monocyte", "--to", "erythrocyte", "--method", "policy=none"), "none: no such file or folder"),
        (("--from", "monocyte", "--to", "erythrocyte", "--cells", "none.h5ad"), "none.h5ad"),
        (("--from", "monocyte", "--to", "erythrocyte", "--label", "x"), "--label: is a column of --cells"),
        (("--recipes", "toggle"), "--recipes: 'toggle' is not known"),
    ],
)
def test_every_mistake_is_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run("fate", "plan", *arguments, *QUICK)
    assert code == 2
    assert out == ""
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert "Traceback" not in err


def test_a_folder_that_cannot_be_written_is_said(run: Run) -> None:
    Path("taken").write_text("a file")
    command = ("fate", "plan", "cortical", "--from", "anterior", "--to", "posterior", *QUICK, "--out", "taken")
    code, _, err = run(*command)
    assert code == 2
    assert "error: taken: cannot be written" in err


def test_the_python_function_gives_the_plan_of_the_command(run: Run) -> None:
    import perturbrl

    plan = perturbrl.fate_plan(
        "cortical", "anterior", "posterior", settings={"stability_runs": 0, "picture_cells": 0}, out="python"
    )
    run("fate", "plan", "cortical", "--from", "anterior", "--to", "posterior", "--out", "command", *QUICK)
    assert Path("python/plan.csv").read_text() == Path("command/plan.csv").read_text()
    assert plan.candidates == read_csv(Path("python/plan.csv"))[1:]


def test_the_python_function_takes_cells_in_memory() -> None:
    import anndata as ad
    import numpy as np
    import pandas as pd

    import perturbrl

    on = np.array([[9, 9, 9, 0, 0]] * 10 + [[0, 0, 0, 9, 9]] * 10, dtype=np.float32)
    obs = pd.DataFrame({"cell_type": ["front"] * 10 + ["back"] * 10}, index=[f"c{k}" for k in range(20)])
    cells = ad.AnnData(on, obs, pd.DataFrame(index=["Fgf8", "Sp8", "Pax6", "Emx2", "Nr2f1"]))
    plan = perturbrl.fate_plan("cortical", "front", "posterior", cells=cells, settings={"stability_runs": 0})
    assert plan.n_cells == 10
    assert plan.candidates[0].probability == pytest.approx(1.0)
