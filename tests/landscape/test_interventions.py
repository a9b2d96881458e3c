from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from perturbrl.errors import UserError
from perturbrl.landscape import perturb
from perturbrl.landscape import simulate as sim
from perturbrl.landscape.interventions import Intervention, parse
from perturbrl.landscape.networks import load

NET = load("myeloid")
G = {gene: k for k, gene in enumerate(NET.genes)}
doses = st.integers(1, 999).map(lambda k: k / 1000)
steps = st.none() | st.integers(1, 1000)
genes = st.sampled_from([*NET.genes, "a_ko", "x_1"])
parts = st.one_of(
    st.builds(Intervention, genes, st.just("ko"), st.none(), steps | st.just(0)),
    st.builds(Intervention, genes, st.just("oe"), st.none() | doses, steps | st.just(0)),
    st.builds(Intervention, genes, st.just("kd"), doses, steps),
    st.builds(Intervention, genes, st.just("flip")),
)


@given(st.lists(parts, min_size=1, max_size=3, unique_by=lambda part: part.gene))
def test_names_parse_both_ways(interventions: list[Intervention]) -> None:
    assert parse("+".join(map(str, interventions))) == tuple(interventions)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Gata1", "'Gata1': is not GENE_ko, GENE_oe[LEVEL], GENE_kdSHARE or GENE_flip, with @STEPS where it ends"),
        ("Gata1_ko+", "'Gata1_ko+': is not GENE_ko"),
        ("Gata1_up", "'Gata1_up': is not GENE_ko"),
        ("Gata1_ko0.5", "'Gata1_ko0.5': takes no dose: Gata1_ko; a partial loss is a knock-down, Gata1_kd0.5"),
        ("Gata1_kd", "'Gata1_kd': a knock-down takes a share between 0 and 1 away, as in Gata1_kd0.5"),
        ("Gata1_kd1.5", "'Gata1_kd1.5': a knock-down takes a share between 0 and 1 away"),
        ("Gata1_kd0.5@0", "'Gata1_kd0.5@0': a knock-down takes a share between 0 and 1 away"),
        ("Gata1_oe0", "'Gata1_oe0': the level of an over-expression is above 0, as in Gata1_oe1.5"),
        ("Gata1_flip@3", "'Gata1_flip@3': a flip is not held; Gata1_ko@40 or Gata1_oe@40 are"),
        ("Gata1_ko+Gata1_oe", "'Gata1_ko+Gata1_oe' perturbs ['Gata1'] twice"),
        ("Gata7_ko", "'Gata7_ko': 'Gata7' is not a gene of the network (did you mean"),
    ],
)
def test_bad_names_are_one_line(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        perturb.course(NET, (name,), 2.0)
    assert str(caught.value).startswith(f"perturbation: {message}")


def protein(name: str, times: list[int], noise: float = 0.0) -> torch.Tensor:
    """Protein of the regulators after some steps, [times, G]."""
    course = perturb.course(NET, (name,), 2.0)
    seen = torch.tensor([times]) / sim.N_STEPS
    draws = torch.Generator().manual_seed(0)
    return sim.simulate(NET, course, len(times), draws, noise=noise, pseudotime=seen).protein[0]


def test_levels_doses_and_durations_in_the_equations() -> None:
    pu1 = G["Pu1"]
    assert protein("Pu1_oe", [0, 240])[:, pu1].tolist() == [2.0, 2.0]
    assert protein("Pu1_oe1.5", [0, 240])[:, pu1].tolist() == [1.5, 1.5]
    # Held for 40 steps, then free: as for good until then, as no other after.
    held, good = protein("Pu1_ko@40", [0, 40, 41, 60]), protein("Pu1_ko", [0, 40, 41, 60])
    assert torch.equal(held[:2], good[:2])
    eklf = protein("Eklf_oe@40", [0, 40, 60, 240])[:, G["Eklf"]]
    assert eklf[:2].tolist() == [2.0, 2.0] and 0 < float(eklf[2]) < 2.0
    # A pulse is set once: what it turned on decays from there.
    pulse = protein("Eklf_oe1@0", [0, 1, 40])[:, G["Eklf"]]
    assert float(pulse[0]) == 1.0 and float(pulse[2]) < 0.2
    assert torch.equal(protein("Eklf_flip", [0, 1, 40]), protein("Eklf_oe1@0", [0, 1, 40]))
    assert torch.equal(protein("Pu1_flip", [0, 1, 40]), protein("Pu1_ko@0", [0, 1, 40]))


def test_a_knock_down_leaves_its_share_and_a_larger_one_less() -> None:
    # Gata2 loses its repressors without these two, so that it is on for good.
    on = protein("Gata1_ko+Pu1_ko", [240])[0, G["Gata2"]]
    levels = [float(protein(f"Gata1_ko+Pu1_ko+Gata2_kd{share}", [240])[0, G["Gata2"]]) for share in (0.1, 0.3, 0.5)]
    assert float(on) > levels[0] > levels[1] > levels[2]
    assert levels[0] == pytest.approx(0.9 * float(on), abs=0.03)
    back = protein("Gata1_ko+Pu1_ko+Gata2_kd0.5@40", [40, 240])[:, G["Gata2"]]
    assert float(back[0]) < 0.6 and float(back[1]) == pytest.approx(float(on), abs=1e-3)


def test_clamps_held_for_good_are_the_course_of_the_same_names() -> None:
    names = ("control", "Gata1_ko", "Pu1_oe+Fli1_ko")
    clamps = torch.stack([perturb.clamp(NET, name, 2.0) for name in names])
    a = sim.simulate(NET, clamps, 4, torch.Generator().manual_seed(1), noise=0.15)
    b = sim.simulate(NET, perturb.course(NET, names, 2.0), 4, torch.Generator().manual_seed(1), noise=0.15)
    assert torch.equal(a.final, b.final) and torch.equal(a.mrna, b.mrna)
