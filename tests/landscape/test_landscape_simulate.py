from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from perturbrl.errors import UserError
from perturbrl.landscape import kinetics, labels, modalities, perturb
from perturbrl.landscape import simulate as sim
from perturbrl.landscape.networks import load

NET = load("myeloid")
GENES = NET.genes
NOISE = 0.15
ERYTHROID, MYELOID = {"erythrocyte", "megakaryocyte"}, {"monocyte", "granulocyte"}
EVERY = ERYTHROID | MYELOID


def clamps_of(names: tuple[str, ...], level: float) -> Tensor:
    return torch.stack([perturb.clamp(NET, name, level) for name in names])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def shares() -> Mapping[str, Mapping[str, float]]:
    """The share of each fate under each single perturbation."""
    names, n = perturb.single_perturbations(NET), 150
    final = sim.simulate(NET, clamps_of(names, 2.0), n, generator(), noise=NOISE).final
    counts = (Counter(labels.fates(rows, NET).tolist()) for rows in final)
    return {
        name: {fate: c[fate] / n for fate in (*NET.fates, "undecided")} for name, c in zip(names, counts, strict=True)
    }


def test_control_cells_reach_all_four_fates() -> None:
    final = sim.simulate(NET, clamps_of(("control",), 2.0), 600, generator(1), noise=NOISE).final
    counts = Counter(labels.fates(final[0], NET).tolist())
    assert all(counts[fate] > 0.1 * 600 for fate in NET.fates)
    assert counts["undecided"] < 0.06 * 600


@pytest.mark.parametrize(
    ("perturbation", "lost"),
    [
        ("Gata1_ko", ERYTHROID),
        ("Gata2_ko", ERYTHROID),
        ("Pu1_ko", MYELOID),
        ("Cebpa_ko", {"granulocyte"}),
        ("Gfi1_ko", {"granulocyte"}),
        ("EgrNab_ko", {"monocyte"}),
        ("cJun_ko", {"monocyte"}),
        ("Eklf_ko", {"erythrocyte"}),
        ("Fli1_ko", {"megakaryocyte"}),
        ("Gata1_oe", MYELOID),
        ("Gata2_oe", MYELOID),
        ("Pu1_oe", ERYTHROID),
        ("Eklf_oe", {"megakaryocyte"}),
        ("Fli1_oe", {"erythrocyte"}),
        ("Gfi1_oe", {"monocyte"}),
        ("EgrNab_oe", {"granulocyte"}),
    ],
)
def test_perturbations_lose_the_fates_they_should_and_only_those(
    shares: Mapping[str, Mapping[str, float]], perturbation: str, lost: set[str]
) -> None:
    share = shares[perturbation]
    assert sum(share[fate] for fate in lost) == 0
    # Without PU.1's rivals, or with it held high, the monocyte is favoured over the granulocyte.
    kept = EVERY - lost - ({"granulocyte"} if perturbation in ("Gata2_ko", "Pu1_oe") else set())
    assert all(share[fate] > 0.03 for fate in kept)


def test_clamped_genes_stay_at_their_clamps_and_others_do_not() -> None:
    names = ("Gata1_ko", "Gata1_oe+Pu1_ko")
    cells = sim.simulate(NET, clamps_of(names, 1.5), 20, generator(), noise=NOISE)
    g, p = GENES.index("Gata1"), GENES.index("Pu1")
    for level in (cells.mrna, cells.protein, cells.final):
        assert (level[0, :, g] == 0).all() and (level[1, :, g] == 1.5).all() and (level[1, :, p] == 0).all()
        assert len(set(level[0, :, p].tolist())) > 10


def naive(clamps: list[float | None], until: int) -> tuple[dict[str, list[float]], list[float]]:
    """Explicit Euler of one cell without noise, in plain Python floats."""
    n = len(GENES)
    net = kinetics.circuit(NET)
    c, m, p = ([float(gene in NET.start) for gene in GENES] for _ in range(3))
    for g, level in enumerate(clamps):
        if level is not None:
            m[g] = p[g] = level
    seen: dict[str, list[float]] = {}
    for step in range(sim.N_STEPS + 1):
        if step == until:
            seen = {"accessibility": c, "mrna": m, "protein": p}
        if step == sim.N_STEPS:
            break
        f = kinetics.network_production(torch.tensor([p]), net)[0].tolist()
        c_new = [c[g] + sim.DT / kinetics.TAU_ACCESSIBILITY * (f[g] - c[g]) for g in range(n)]
        m_new = [m[g] + sim.DT / kinetics.TAU_MRNA * (c[g] - m[g]) for g in range(n)]
        p_new = [p[g] + sim.DT / kinetics.TAU_PROTEIN * (m[g] - p[g]) for g in range(n)]
        for g, level in enumerate(clamps):
            if level is not None:
                m_new[g] = p_new[g] = level
        c, m, p = c_new, m_new, p_new
    return seen, p


def test_without_noise_each_row_is_the_naive_euler_of_its_own_clamps() -> None:
    names = ("Gata2_ko", "Pu1_ko", "Eklf_oe+Pu1_ko")
    clamps = clamps_of(names, 2.0)
    steps = [[0, 13], [240, 60], [101, 7]]
    cells = sim.simulate(NET, clamps, 2, generator(), noise=0.0, pseudotime=torch.tensor(steps) / sim.N_STEPS)
    for row, held in enumerate(clamps.tolist()):
        for column in range(2):
            seen, final = naive([None if x != x else x for x in held], steps[row][column])
            for name, want in seen.items():
                got = getattr(cells, name)[row, column].tolist()
                assert got == pytest.approx(want, abs=2e-4), (names[row], name)
            assert cells.final[row, column].tolist() == pytest.approx(final, abs=2e-4)


def profiles(name: str, n: int = 241) -> tuple[Tensor, Tensor, Tensor]:
    """Noise-free accessibility, mRNA and protein of all genes along pseudotime, each [n, K]."""
    targets = modalities.wire_targets(11, 60, generator(5))
    times = torch.linspace(0, 1, n)[None]
    clamps = clamps_of((name,), 2.0)
    cells = sim.simulate(NET, clamps, n, generator(), noise=0.0, targets=targets, pseudotime=times)
    return cells.accessibility[0], cells.mrna[0], cells.protein[0]


def lag(first: Tensor, second: Tensor) -> int:
    """The delay, in steps, of ``second`` after ``first``, at the largest correlation of their rates of change."""
    a, b = np.gradient(first.numpy()), np.gradient(second.numpy())
    delays = range(-40, 41)
    n = len(a)
    scores = [np.corrcoef(a[max(0, -d) : n - max(0, d)], b[max(0, d) : n - max(0, -d)])[0, 1] for d in delays]
    return delays[int(np.argmax(scores))]


@pytest.mark.parametrize("name", ["Pu1_ko+Eklf_ko", "Gata2_ko"])
def test_chromatin_leads_and_protein_lags_expression(name: str) -> None:
    chromatin, mrna, protein = profiles(name)
    moving = [g for g in range(11, chromatin.shape[1]) if float(chromatin[:, g].max() - chromatin[:, g].min()) > 0.3]
    assert len(moving) >= 10
    assert all(lag(chromatin[:, g], mrna[:, g]) > 0 for g in moving)
    assert all(lag(mrna[:, g], protein[:, g]) > 0 for g in moving)


def test_pseudotime_follows_progress_toward_the_fate() -> None:
    targets = modalities.wire_targets(11, 40, generator(5))
    cells = sim.simulate(NET, clamps_of(("control",), 2.0), 500, generator(), noise=NOISE, targets=targets)
    mrna, time = cells.mrna[0], cells.pseudotime[0]
    fate = labels.fates(cells.final[0], NET)
    start = mrna[time < 0.05].mean(dim=0)
    for name in NET.fates:
        here = torch.from_numpy(fate == name)
        direction = mrna[here & (time > 0.9)].mean(dim=0) - start
        progress = (mrna[here] - start) @ direction
        assert spearmanr(progress.numpy(), time[here].numpy()).statistic > 0.7


def test_cell_types_begin_as_progenitors_and_end_as_fates() -> None:
    times = torch.tensor([[0.0] * 100 + [1.0] * 100])
    clamps = clamps_of(("control",), 2.0)
    cells = sim.simulate(NET, clamps, 200, generator(), noise=NOISE, pseudotime=times)
    types = labels.cell_types(cells.protein[0, :, :11], NET)
    assert set(types[:100]) == {"progenitor"}
    fate = labels.fates(cells.final[0], NET)
    decided = fate[100:] != "undecided"
    assert (types[100:][decided] == fate[100:][decided]).all()


def test_same_generator_same_cells_and_other_generator_others() -> None:
    clamps = clamps_of(("control", "Gata1_ko"), 2.0)
    a, b, c = (sim.simulate(NET, clamps, 5, generator(seed), noise=NOISE) for seed in (1, 1, 2))
    for name in ("pseudotime", "accessibility", "mrna", "protein", "final"):
        assert torch.equal(getattr(a, name), getattr(b, name))
        assert not torch.equal(getattr(a, name), getattr(c, name))


def test_levels_are_never_negative_even_under_strong_noise() -> None:
    cells = sim.simulate(NET, clamps_of(("control",), 2.0), 50, generator(), noise=1.0)
    for level in (cells.accessibility, cells.mrna, cells.protein, cells.final):
        assert (level >= 0).all() and level.isfinite().all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(UserError, match="clamps: shape is"):
        sim.simulate(NET, torch.zeros(2, 3), 1, generator(), noise=0.0)
    clamps = clamps_of(("control",), 2.0)
    with pytest.raises(UserError, match="pseudotime"):
        sim.simulate(NET, clamps, 2, generator(), noise=0.0, pseudotime=torch.tensor([[0.1, 1.2]]))
