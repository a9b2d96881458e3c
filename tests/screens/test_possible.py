"""An impossible split names the splits that can be drawn, and each of them can."""

from __future__ import annotations

import re

import numpy as np
import pytest
from fakes.configs import conditions_config, data_config, description_config, split_config
from fakes.screens import made_raw

from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError
from perturbrl.screens.load import load_perturbations
from perturbrl.screens.schema import PerturbationTable

ARMS = made_raw(labels=("stim",), contexts=("B cells", "CD14 Mono"), batches=("b1", "b2"))
PLAIN = made_raw(labels=("stim",), contexts=("",), batches=("b1",))
DRUGS = made_raw(labels=("dexa", "bud"), contexts=("P1", "P2"), doses=(1.0, 10.0, 30.0))


def batched(raw: RawCells, batch: np.ndarray) -> RawCells:
    return RawCells(raw.name, raw.modalities, raw.obs.assign(batch=batch), raw.checksum)


def one_armed(raw: RawCells) -> RawCells:
    """Each batch is all control or all perturbed."""
    control = (raw.obs["perturbation"] == "control").to_numpy()
    return batched(raw, np.where(control, "lane1", np.where(np.arange(len(control)) % 2, "lane2", "lane3")))


def load(raw: RawCells, kind: str, **conditions: object) -> PerturbationTable:
    config = conditions_config(**conditions)
    return load_perturbations(raw, data_config(), config, split_config(kind), description_config(kinds=["one_hot"]))


def refusal(raw: RawCells, kind: str, **conditions: object) -> str:
    with pytest.raises(UserError) as error:
        load(raw, kind, **conditions)
    return str(error.value)


DOSES = one_armed(made_raw(labels=("dexa", "bud"), contexts=("",), doses=(1.0, 10.0, 30.0)))
IN_LINE = "split=unseen_context conditions.context=line"
ONE_ARMED = "no batch holds both controls and perturbed cells (lane1 holds controls only"
NO_CONTROLS = "conditions.batch=batch; no controls in lane2, lane3"
NO_BATCH = "split=iid_cells conditions.batch=null (differences between batches"


@pytest.mark.parametrize(
    ("raw", "kind", "what", "instead"),
    [
        (ARMS, "unseen_single", "needs 3 or more genes perturbed alone; made has 1: stim", IN_LINE),
        (ARMS, "unseen_context", "conditions.context=null); made has none", IN_LINE),
        (ARMS, "additive", "made has none", "split=unseen_batch"),
        (DRUGS, "unseen_dose", "conditions.dose=null); made has none", "split=unseen_dose conditions.dose=amount"),
        (PLAIN, "unseen_batch", "made has 1: b1", "split=iid_cells"),
        (one_armed(DRUGS), "unseen_batch", ONE_ARMED, "conditions.batch=line"),
        (one_armed(DRUGS), "iid_cells", NO_CONTROLS, "split=iid_cells conditions.batch=line"),
        (one_armed(PLAIN), "iid_cells", "no controls in lane2", NO_BATCH),
        (DOSES, "unseen_dose", "conditions.dose=null); made has none", "conditions.dose=amount conditions.batch=null"),
        (DOSES, "unseen_batch", ONE_ARMED, "split=unseen_dose conditions.dose=amount conditions.batch=null"),
    ],
)
def test_the_error_names_what_can_be_drawn_and_it_can(raw: RawCells, kind: str, what: str, instead: str) -> None:
    text = refusal(raw, kind)
    assert what in text and instead in text
    offered = re.findall(r"split=(\w+)((?: conditions\.\w+=\w+)*)", text.partition("what can be drawn: ")[2])
    assert offered
    for other, keys in offered:  # as it is printed, so it works
        changes = dict(re.findall(r"conditions\.(\w+)=(\w+)", keys))
        load(raw, other, **{key: None if column == "null" else column for key, column in changes.items()})


def test_where_nothing_can_be_drawn_the_labels_are_asked_about() -> None:
    few = made_raw(labels=("stim",), n=3, n_control=3, batches=("b1",))
    assert "no split of perturbations can be drawn from these cells; were labels misread" in refusal(
        few, "unseen_single", min_cells=1
    )


def test_a_batch_of_one_arm_cannot_be_held_out_by_name() -> None:
    batches = np.where(np.arange(len(DRUGS.obs)) % 2, "b1", "b2").astype(object)
    batches[np.flatnonzero(DRUGS.obs["perturbation"] == "dexa")[:20]] = "treated"
    raw = batched(DRUGS, batches)
    load(raw, "iid_cells")
    config = split_config("unseen_batch", held_out="treated")
    with pytest.raises(
        UserError, match=r"held_out=treated: the batch lacks controls or perturbed cells; choose b1, b2"
    ):
        load_perturbations(raw, data_config(), conditions_config(), config, description_config(kinds=["one_hot"]))
