"""Fates lost without a gene, in both forms of the myeloid network, beside what is known of mice that lack it.

The fates follow from the rules of Krumsiek et al. 2011 and are lost in mice too without C/EBPa (no granulocytes: Zhang
et al. 1997, PNAS 94:569), GFI-1 (no granulocytes: Hock et al. 2003, Immunity 18:109), EKLF (no mature erythrocytes:
Nuez et al. 1995, Nature 375:316) and FLI-1 (megakaryocytes do not mature: Hart et al. 2000, Immunity 13:167). The rules
use FOG-1 and SCL as brakes of GATA-2 and C/EBPa only, so nothing is lost without them; mice need both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from perturbrl.landscape import labels, perturb
from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.networks import load
from perturbrl.landscape.simulate import simulate

Ends = Callable[[str], torch.Tensor]
NET = load("myeloid")
ERYTHROID, MYELOID = {"erythrocyte", "megakaryocyte"}, {"monocyte", "granulocyte"}
N = 300
LOST = {
    "Pu1_ko": MYELOID,
    "Gata1_ko": ERYTHROID,
    "Gata2_ko": ERYTHROID,
    "Cebpa_ko": {"granulocyte"},
    "Gfi1_ko": {"granulocyte"},
    "EgrNab_ko": {"monocyte"},
    "cJun_ko": {"monocyte"},
    "Eklf_ko": {"erythrocyte"},
    "Fli1_ko": {"megakaryocyte"},
    "Fog1_ko": set[str](),
    "Scl_ko": set[str](),
    "Gata1_ko+Pu1_ko": ERYTHROID | MYELOID,
}


def boolean_ends(name: str) -> torch.Tensor:
    start = torch.tensor([[int(gene in NET.start) for gene in NET.genes]], dtype=torch.uint8).repeat(N, 1)
    keys = draw_keys(N, torch.Generator().manual_seed(0))
    return BooleanDynamics(NET).run(start, 60 * len(NET.genes), keys, held=perturb.clamp(NET, name, 2.0)).float()


def hill_ends(name: str) -> torch.Tensor:
    course = perturb.course(NET, (name,), 2.0)
    return simulate(NET, course, N, torch.Generator().manual_seed(0), noise=0.15).final[0]


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("ends", [boolean_ends, hill_ends], ids=["boolean", "hill"])
def test_the_fates_that_a_knock_out_loses_are_those_and_no_others(name: str, ends: Ends) -> None:
    counts = Counter(labels.fates(ends(name), NET).tolist())
    assert set(NET.fates) - set(counts) == LOST[name]


@pytest.mark.parametrize("ends", [boolean_ends, hill_ends], ids=["boolean", "hill"])
def test_every_fate_is_reached_without_a_perturbation(ends: Ends) -> None:
    counts = Counter(labels.fates(ends("control"), NET).tolist())
    assert min(counts[fate] for fate in NET.fates) > 0.05 * N and counts[labels.UNDECIDED] < 0.06 * N
