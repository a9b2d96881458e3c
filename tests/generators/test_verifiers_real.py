"""PROGENy's weights on a real screen: what of the pathways is measured, and what verifiers say of real cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from fakes.configs import conditions_config, data_config, description_config, file_config, split_config

from perturbrl.data.sources.file import build
from perturbrl.generators.training_cells import TrainingCells, training_cells
from perturbrl.generators.verifiers.base import make_verifier
from perturbrl.generators.verifiers.calibration import calibrate
from perturbrl.generators.verifiers.pathway import Pathway
from perturbrl.screens.genes import training_rows
from perturbrl.screens.load import load_perturbations

pytestmark = [pytest.mark.slow, pytest.mark.real_data]
SCREEN = "perturb_papalexi21_thp1/papalexi21_thp1.h5ad"
WEIGHTS = "prior_progeny/progeny_human_top100.csv"


@pytest.fixture(scope="module")
def papalexi(real_data: Path) -> TrainingCells:
    for file in (SCREEN, WEIGHTS):
        if not (real_data / file).is_file():
            pytest.skip(f"{file} is not in the folder of real data sets")
    table = load_perturbations(
        build(file_config(real_data / SCREEN)),
        data_config("rna"),
        conditions_config("papalexi"),
        split_config("unseen_single", seed=0),
        description_config(),
    )
    rows, screen = training_rows(table.split), table.screen
    return training_cells(
        torch.from_numpy(screen.x[rows].toarray()),
        torch.from_numpy(screen.condition[rows]),
        names=[c.name for c in screen.conditions],
        targets=[c.targets for c in screen.conditions],
        genes=screen.features,
        contexts=[c.context for c in screen.conditions],
    )


def test_coverage_of_progeny(papalexi: TrainingCells, real_data: Path) -> None:
    given = {"weights": str(real_data / WEIGHTS), "least_genes": 3}
    pathway = make_verifier("pathway", given).fit(papalexi)
    assert isinstance(pathway, Pathway)
    coverage = pathway.coverage()
    print(f"\n{coverage.to_string(index=False)}")
    assert len(coverage) == 14 and coverage["genes"].eq(100).all()
    assert coverage["kept"].eq(coverage["measured"] >= 3).all() and 2 <= coverage["kept"].sum() < 14
    assert coverage.set_index("pathway").loc["JAK-STAT", "kept"]


def test_the_receptor_of_interferon_lowers_jak_stat(papalexi: TrainingCells, real_data: Path, tmp_path: Path) -> None:
    """Known biology, no cell of a condition read: the strongest knock-outs of this screen stop that response."""
    known = ("IFNGR1", "IFNGR2", "JAK2", "STAT1")
    signs = tmp_path / "signs.csv"
    signs.write_text("target,pathway,sign\n" + "".join(f"{t},JAK-STAT,-1\n" for t in known))
    given = {"weights": str(real_data / WEIGHTS), "reference": "literature", "signs": str(signs)}
    pathway = make_verifier("pathway", given).fit(papalexi)
    trained = [p for p in papalexi.perturbed.tolist() if papalexi.targets[p][0] in known]
    assert trained
    for p in trained:
        of_condition = pathway.score(papalexi.x[papalexi.rows(p)][None], torch.tensor([p])).mean()
        of_controls = pathway.score(papalexi.x[papalexi.controls[0]][None], torch.tensor([p])).mean()
        assert of_condition > of_controls + 0.2, papalexi.names[p]


def test_calibration_on_real_cells(papalexi: TrainingCells, real_data: Path) -> None:
    """Weak effects: a single cell says little of its condition, and the table shows how little."""
    given = {
        "pearson_topk": {},
        "rmse_topk": {},
        "de_spearman": {},
        "pathway": {"weights": str(real_data / WEIGHTS), "least_genes": 3},
        "energy_witness": {},
        "plausibility": {},
    }
    frame = calibrate(lambda: [make_verifier(n, s) for n, s in given.items()], papalexi, seed=0)
    print(f"\n{frame.round(3).to_string(index=False)}")
    frame = frame.set_index("verifier")
    assert np.isfinite(frame.to_numpy(dtype=float)).all() and frame["n_conditions"].eq(15).all()
    # new cells of the condition are as far from its cells as those are from each other
    assert abs(frame.loc["energy_witness", "real"]) < 3 * frame.loc["energy_witness", "real_se"]
    for name in ("pearson_topk", "de_spearman", "pathway", "energy_witness"):
        assert frame.loc[name, "real"] > frame.loc[name, "shuffled"]
