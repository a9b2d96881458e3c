from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy import sparse

from perturbrl import paths, registry
from perturbrl.config import fingerprint
from perturbrl.data.schema import RawCells
from perturbrl.errors import UserError
from perturbrl.landscape import LandscapeConfig, build, dataset, fresh_cells, modalities
from perturbrl.landscape.config import checksum
from perturbrl.landscape.networks import SHIPPED, load

YAML = OmegaConf.load(paths.conf_dir() / "source" / "landscape.yaml")
SMALL = {"n_cells": 120, "n_target_genes": 20, "n_peaks": 40, "n_proteins": 6}


def config(**changes: Any) -> LandscapeConfig:
    bound = registry.sources.bind(OmegaConf.merge(YAML, SMALL, changes))
    assert isinstance(bound, LandscapeConfig)
    return bound


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERTURBRL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "landscape"


def dense(x: Any) -> Any:
    return x.toarray() if sparse.issparse(x) else x


def same(a: RawCells, b: RawCells) -> bool:
    return (
        a.name == b.name
        and a.checksum == b.checksum
        and a.obs.equals(b.obs)
        and list(a.modalities) == list(b.modalities)
        and all(
            np.array_equal(dense(a.modalities[k].x), dense(b.modalities[k].x))
            and type(a.modalities[k].x) is type(b.modalities[k].x)
            and a.modalities[k].x.dtype == b.modalities[k].x.dtype
            and np.array_equal(a.modalities[k].features, b.modalities[k].features)
            and a.modalities[k].kind == b.modalities[k].kind
            for k in a.modalities
        )
    )


def test_what_the_source_returns() -> None:
    cells = build(config())
    assert {k: m.x.shape for k, m in cells.modalities.items()} == {
        "rna": (120, 31),
        "atac": (120, 40),
        "protein": (120, 6),
    }
    for modality in cells.modalities.values():
        x = dense(modality.x)
        assert (
            modality.kind == "counts" and np.issubdtype(x.dtype, np.integer) and (x >= 0).all() and x.any(axis=0).all()
        )
        assert len(set(modality.features)) == x.shape[1]
    assert list(cells.modalities["rna"].features[:3]) == ["Gata2", "Gata1", "Fog1"]
    assert cells.obs.index.is_unique and cells.n_cells == 120
    assert cells.obs["pseudotime"].between(0, 1).all() and cells.obs["pseudotime"].dtype == np.float64
    assert set(cells.obs["perturbation"]) == {"control"} and cells.obs["is_control"].all()
    assert set(cells.obs["batch"]) == {"batch1", "batch2"}
    assert set(cells.obs["fate"]) >= {"erythrocyte", "megakaryocyte", "monocyte", "granulocyte"}


def test_every_peak_names_its_gene() -> None:
    features = build(config(n_peaks=70)).modalities["atac"].features
    genes = [name.split(":")[0] for name in features]
    assert sorted(genes.count(gene) for gene in set(genes)) == [2] * 23 + [3] * 8


def test_single_perturbations_share_the_cells() -> None:
    cells = build(config(perturbations="single", n_cells=100))
    counts = cells.obs["perturbation"].value_counts()
    assert counts["control"] == 100 - 22 * 4 and (counts.drop("control") == 4).all() and len(counts) == 23
    assert (cells.obs["is_control"] == (cells.obs["perturbation"] == "control")).all()
    # Not in blocks: a split by row number must not hold out whole perturbations.
    assert cells.obs["perturbation"].iloc[:50].nunique() > 10
    rna = dense(cells.modalities["rna"].x)
    column = {name: k for k, name in enumerate(cells.modalities["rna"].features)}["Gata1"]
    by = {name: rna[cells.obs["perturbation"] == f"Gata1_{name}", column].mean() for name in ("ko", "oe")}
    assert by["oe"] > 5 * by["ko"]


def test_same_settings_same_arrays_other_seed_others() -> None:
    a, b = (dataset.simulate_cells(config(), "x") for _ in range(2))
    assert same(a, b)
    other = dataset.simulate_cells(config(seed=1), "x")
    assert not np.array_equal(dense(a.modalities["rna"].x), dense(other.modalities["rna"].x))


def test_threads_change_nothing_and_are_given_back() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = dataset.simulate_cells(config(), "x")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert same(two, dataset.simulate_cells(config(), "x"))


CHANGES: dict[str, Any] = {
    "seed": 1, "n_cells": 121, "n_target_genes": 21, "n_peaks": 41, "n_proteins": 7, "noise": 0.3,
    "perturbations": "single",
    "overexpression": 3.0, "rna_depth": 900.0, "atac_depth": 900.0, "protein_depth": 900.0,
    "dropout": 0.4, "n_batches": 3, "batch_effect": 0.5, "capture": 0.5,
    "network": "random", "family": "modular", "n_regulators": 9, "network_seed": 1,
}  # fmt: skip


def test_every_key_is_live() -> None:
    assert set(CHANGES) == {field.name for field in dataclasses.fields(LandscapeConfig)} - {"name"}
    bases = {kind: config(perturbations=kind, n_cells=46) for kind in ("none", "single")}
    bases["random"] = config(network="random", n_regulators=8)
    cells = {kind: dataset.simulate_cells(base, "x") for kind, base in bases.items()}
    for key, value in CHANGES.items():
        # An over-expression level can only matter where a gene is over-expressed.
        kind = "single" if key == "overexpression" else "none"
        kind = "random" if key in ("family", "n_regulators", "network_seed") else kind
        size: dict[str, Any] = {"n_regulators": 8} if key == "network" else {}
        changed = dataclasses.replace(bases[kind], **{key: value}, **size)
        assert checksum(changed) != checksum(bases[kind])
        assert not same(dataset.simulate_cells(changed, "x"), cells[kind]), key


def never(*_: Any) -> RawCells:
    raise AssertionError("simulated again")


def test_second_call_reads_the_cache(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    first = build(config())
    assert [file.name for file in own_cache.iterdir()] == [f"{first.checksum}.npz"]
    monkeypatch.setattr(dataset, "simulate_cells", never)
    assert same(build(config()), first)
    with pytest.raises(AssertionError, match="simulated again"):
        build(config(seed=5))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for at in range(len(content) // 4, len(content) // 2, 97):
        content[at] ^= 0xFF
    file.write_bytes(content)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def text(file: Path) -> None:
    file.write_text("not an archive")


def incomplete(file: Path) -> None:
    with np.load(file) as archive:
        kept = {name: archive[name] for name in archive.files if name != "rna/features" and "obs" not in name}
    np.savez(file, **kept)


def pickled(file: Path) -> None:
    np.savez(file, checksum=np.array([{"a": 1}], dtype=object))


@pytest.mark.parametrize("damage", [truncate, flip, empty, text, incomplete, pickled])
def test_a_damaged_cache_is_rebuilt(
    damage: Callable[[Path], None], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(config())
    file = own_cache / f"{first.checksum}.npz"
    damage(file)
    assert same(build(config()), first)
    monkeypatch.setattr(dataset, "simulate_cells", never)
    assert same(build(config()), first)


def test_a_failed_write_leaves_no_trace_and_no_failure(monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.warns(UserWarning, match=r"cannot be cached \(No space left on device\)"):
        cells = build(config())
    assert cells.n_cells == 120 and not list(own_cache.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perturbations": "triple"}, "source.perturbations: 'triple' is not known; choose double, none or single"),
        (
            {"perturbations": "single", "n_cells": 22},
            "source.n_cells: must be at least 23 for source.perturbations=single, got 22",
        ),
        ({"n_cells": 0}, "source.n_cells: must be at least 1, got 0"),
        ({"n_proteins": 21}, "source.n_proteins: must be at most source.n_target_genes=20, got 21"),
        ({"noise": -0.1}, "source.noise: must be at least 0, got -0.1"),
        ({"dropout": 1.0}, "source.dropout: must be at least 0 and below 1, got 1.0"),
        ({"rna_depth": 0.0}, "source.rna_depth: must be above 0, got 0.0"),
        ({"n_batches": 0}, "source.n_batches: must be at least 1, got 0"),
        ({"capture": 0.0}, "source.capture: must be above 0 and at most 1, got 0.0"),
        ({"network": "mieloid"}, "source.network: 'mieloid' is not known (did you mean 'myeloid'?); choose"),
        ({"network": "none.bnet"}, "source.network: "),
        ({"network": "random"}, "source.n_regulators: is needed for source.network=random: the number of its genes"),
        ({"network": "random", "n_regulators": 4}, "source.n_regulators: must be at least 5 and at most 500, got 4"),
        ({"n_regulators": 20}, "source.n_regulators: is for source.network=random; myeloid has its own genes"),
        ({"family": "ring"}, "source.family: 'ring' is not known; choose feed_forward, modular or scale_free"),
        (
            {"network": "random", "n_regulators": 60, "perturbations": "single"},
            "source.n_cells: must be at least 242 for source.perturbations=single, got 120",
        ),
        ({"perturbations": []}, "source.perturbations: is an empty list; name perturbations, such as [Gata1_ko"),
        ({"perturbations": ["Gata1"]}, "source.perturbations[0]: 'Gata1': is not GENE_ko, GENE_oe[LEVEL], GENE_kd"),
        ({"perturbations": ["Gata1_ko", "Gata7_ko"]}, "source.perturbations[1]: 'Gata7' is not a gene of the network"),
        ({"perturbations": ["A_ko+B_oe", "B_oe+A_ko"]}, "source.perturbations[1]: 'B_oe+A_ko' is 'A_ko+B_oe' again"),
        ({"perturbations": ["control"]}, "source.perturbations[0]: 'control' is not GENE_ko"),
        ({"perturbations": ["Pu1_ko"], "n_cells": 1}, "source.n_cells: must be at least 2 for source.perturbations=a"),
    ],
)
def test_bad_settings_are_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build(config(**changes))
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_counts_have_the_depth_and_the_dropout_asked_for() -> None:
    draw = torch.Generator().manual_seed(0)
    signal = torch.rand(4000, 30, generator=draw) + 0.5
    batch = torch.zeros(4000, dtype=torch.int64)
    whole = modalities.counts(signal, 600.0, 0.0, batch, 0.0, torch.Generator().manual_seed(1))
    assert float(whole.sum(dim=1).float().median()) == pytest.approx(600, rel=0.03)
    # At 20 counts an entry is hardly ever zero by chance: what is missing was dropped.
    lossy = modalities.counts(signal, 600.0, 0.25, batch, 0.0, torch.Generator().manual_seed(1))
    assert float((lossy == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    kept = lossy > 0
    assert torch.equal(lossy[kept], whole[kept])


def test_batches_shift_features() -> None:
    signal, batch = torch.ones(2000, 20), torch.arange(2000) % 2
    spread = []
    for effect in (0.0, 0.5):
        x = modalities.counts(signal, 2000.0, 0.0, batch, effect, torch.Generator().manual_seed(1)).float()
        spread.append(float((x[batch == 0].mean(dim=0) / x[batch == 1].mean(dim=0)).log().std()))
    assert spread[0] < 0.03 and 0.4 < spread[1] < 1.1


def test_importing_the_source_imports_no_torch() -> None:
    code = "import sys, perturbrl.landscape.source; assert 'torch' not in sys.modules and 'scanpy' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_default_landscape() -> None:
    cells = build(registry.sources.bind(YAML))
    shares = cells.obs["fate"].value_counts(normalize=True)
    assert cells.n_cells == 10_000 and cells.modalities["rna"].x.shape == (10_000, 300)
    assert (shares.drop("undecided") > 0.15).all() and len(shares.drop("undecided")) == 4 and shares["undecided"] < 0.04


def test_older_settings_have_the_checksum_that_they_had() -> None:
    """The checksum of the settings of 0.1.0 alone, as 0.1.0 computed it."""
    new = ("network", "family", "n_regulators", "network_seed", "capture")
    old = {key: value for key, value in dataclasses.asdict(config()).items() if key not in new}
    assert checksum(config()) == fingerprint({**old, "version": 1})
    without = {key: value for key, value in OmegaConf.merge(YAML, SMALL).items() if key not in new}
    assert registry.sources.bind(without) == config()


def test_a_generated_screen_names_genes_fates_and_perturbations() -> None:
    settings = {"network": "random", "n_regulators": 12, "perturbations": "single", "n_cells": 250}
    cells = build(config(**settings))
    network = config(**settings).load_network()
    assert tuple(cells.modalities["rna"].features[:12]) == network.genes
    assert set(cells.obs["perturbation"]) == {"control"} | {f"{g}_{k}" for g in network.genes for k in ("ko", "oe")}
    assert set(cells.obs["fate"]) >= set(network.fates)
    fresh = fresh_cells(config(**settings), 2)
    assert fresh.n_cells == 50 and tuple(fresh.modalities["rna"].features) == tuple(cells.modalities["rna"].features)


def test_many_conditions_leave_control_a_tenth() -> None:
    cells = build(config(network="random", n_regulators=60, perturbations="single", n_cells=1000, n_target_genes=8))
    counts = cells.obs["perturbation"].value_counts()
    assert counts["control"] >= 100 and counts.drop("control").nunique() == 1 and len(counts) == 121


def test_a_network_of_a_file_is_known_by_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "net.bnet"
    file.write_text("targets,factors\na, a | c\nb, !a\nc, !b\n")
    first = config(network=str(file), perturbations=["a_ko", "b_oe"])
    cells = build(first)
    assert set(cells.obs["perturbation"]) == {"control", "a_ko", "b_oe"}
    assert list(cells.modalities["rna"].features[:3]) == ["a", "b", "c"]
    copy = tmp_path / "copy.bnet"
    copy.write_text(file.read_text())
    assert checksum(config(network=str(copy), perturbations=["a_ko", "b_oe"])) == checksum(first)
    file.write_text("targets,factors\na, a & c\nb, !a\nc, !b\n# changed\n")
    assert checksum(first) != cells.checksum


def test_cells_of_a_file_begin_anywhere_and_end_in_its_fixed_points(tmp_path: Path) -> None:
    file = tmp_path / "net.bnet"
    file.write_text("targets,factors\na, a & !b\nb, b & !a\nc, a\n")
    settings = config(network=str(file), n_cells=200)
    network = settings.load_network()
    # The fixed points are a and c on, b on, and all off.
    assert set(network.fates) == {"a-high", "b-high", "a-b-low"}
    shares = build(settings).obs["fate"].value_counts(normalize=True)
    assert shares.reindex([*network.fates]).min() > 0.1 and shares.get("undecided", 0.0) < 0.3
    assert set(fresh_cells(settings, 100).obs["fate"]) >= set(network.fates)


def test_capture_thins_the_counts_of_sequencing_only() -> None:
    whole, half = (build(config(capture=share, dropout=0.0)) for share in (1.0, 0.5))
    for key, share in (("rna", 0.5), ("atac", 0.5), ("protein", 1.0)):
        ratio = dense(half.modalities[key].x).sum() / dense(whole.modalities[key].x).sum()
        assert ratio == pytest.approx(share, rel=0.02)


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "myeloid"])
def test_every_shipped_network_can_be_a_source(name: str) -> None:
    cells = build(config(network=name, n_cells=60))
    genes = load(name).genes
    assert tuple(cells.modalities["rna"].features[: len(genes)]) == genes
    assert set(cells.obs["fate"]) <= {*load(name).fates, "undecided"}
