"""The example files of data/: small, valid, enough to train on, and made by the script beside them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from mudata import read_h5mu
from runner.tiny import cli_run

from perturbrl import paths, records

DATA = Path(__file__).resolve().parents[2] / "data"
NAMES = ("screen.h5ad", "joint.h5mu", "growth.csv")
TINY = (
    *("schedule.total=512", "agent.rollout_steps=256", "agent.n_envs=8", "policy.hidden=[16,16]", "curve_points=0"),
    *("device=cpu", "progress=quiet"),
)
TASKS = {
    "screen.h5ad": ("env=counterfactual", "source.perturbation_key=perturbation", "split=unseen_single"),
    "joint.h5mu": ("data=joint", "encoder=pca", "encoder.components=8", "env.horizon=20"),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_small(name: str) -> None:
    assert (DATA / name).stat().st_size < 150_000


@pytest.mark.parametrize("name", TASKS)
def test_an_example_is_valid_and_trains(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    perturbrl = cli_run(capsys)
    code, out, err = perturbrl("data", "validate", str(DATA / name))
    assert code == 0, out + err
    code, _, err = perturbrl("train", "source=file", f"path={DATA / name}", *TASKS[name], *TINY)
    assert code == 0, err
    (run,) = tmp_path.rglob(paths.RUN)
    assert records.read_json(run)["status"] == "complete"


def test_growth_scores_are_relative_to_control() -> None:
    table = pd.read_csv(DATA / "growth.csv", index_col="perturbation")
    singles = [name for name in table.index if name != "control" and "+" not in name]
    pairs = [name for name in table.index if "+" in name]
    assert (len(singles), len(pairs), len(table)) == (22, 220, 243)
    assert (table.loc["control", ["replicate1", "replicate2", "score"]] == 0).all()
    assert np.isfinite(table).all(axis=None)
    assert table["replicate1"].corr(table["replicate2"]) > 0.5
    assert table["score"].std() > 0.1


@pytest.mark.slow
def test_the_script_makes_these_files(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_examples", DATA / "make_examples.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(NAMES)
    same(read_h5ad(tmp_path / "screen.h5ad"), read_h5ad(DATA / "screen.h5ad"))
    new, stored = (read_h5mu(folder / "joint.h5mu") for folder in (tmp_path, DATA))
    for modality in ("rna", "atac"):
        same(new[modality], stored[modality])
    one, two = (pd.read_csv(folder / "growth.csv", index_col=0) for folder in (tmp_path, DATA))
    pd.testing.assert_frame_equal(one, two, atol=0.05)  # another processor may round a cell into another type


def same(one: AnnData, two: AnnData) -> None:
    assert one.shape == two.shape
    pd.testing.assert_index_equal(one.var_names, two.var_names)
    a, b = one.X.toarray(), two.X.toarray()
    assert (a != b).mean() < 0.01  # the same but for rounding
    np.testing.assert_allclose(a.mean(), b.mean(), rtol=0.01)
