from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import sparse

from perturbrl import registry
from perturbrl.data.encoders.none import NoneConfig
from perturbrl.data.schema import Modality, RawCells
from perturbrl.data.table import load_table
from perturbrl.errors import UserError
from tests.data.made_cells import configs, made_cells, real_file

TINY = {"pca": ["encoder.components=4"], "gat": ["encoder.components=4", "encoder.epochs=2"]}
ENCODERS = ("none", "pca", "random_gat", "gat")
FEW = ["++data.n_features.atac=8", "data.n_features.rna=9"]


def table(raw, data="rna", encoder="none", *overrides):
    return load_table(raw, *configs(data, encoder, *TINY.get(encoder, []), *overrides))


@pytest.mark.parametrize(
    ("data", "encoder"),
    [*itertools.product(["rna", "atac", "cite", "joint"], ["none"]), *itertools.product(["joint"], ENCODERS[1:])],
)
def test_every_choice_gives_a_valid_table(data, encoder):
    raw = made_cells()
    made = table(raw, data, encoder)
    wanted = {"rna": ["rna"], "atac": ["atac"], "cite": ["rna", "protein"], "joint": ["rna", "atac"]}[data]
    assert list(made.slices) == wanted and made.leaks == ()
    assert made.x.shape == (60, len(made.features)) and made.x.dtype == np.float32
    assert np.isfinite(made.x).all() and len(set(made.features)) == len(made.features)
    covered = np.concatenate([np.arange(made.n_features)[s] for s in made.slices.values()])
    np.testing.assert_array_equal(covered, np.arange(made.n_features))
    np.testing.assert_allclose(made.x[made.train].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(made.x[made.train].std(0), 1, atol=1e-3)
    assert made.pseudotime.shape == (60,) and made.pseudotime.dtype == np.float64
    assert made.obs is raw.obs and (made.source, made.checksum) == (raw.name, raw.checksum)


def scrambled(raw, rows):
    """The same source with arbitrary values in ``rows``."""
    rng = np.random.default_rng(4)
    changed = {}
    for name, m in raw.modalities.items():
        x = m.x.toarray()
        x[rows] = rng.integers(0, 2 if m.kind == "binary" else 90, (len(rows), x.shape[1]))
        changed[name] = dataclasses.replace(m, x=sparse.csr_matrix(x))
    return dataclasses.replace(raw, modalities=changed)


@pytest.mark.parametrize(
    ("data", "encoder", "select"),
    [
        *itertools.product(["joint", "cite"], ["none"], ["hvg", "mutual_information", "none"]),
        *itertools.product(["joint"], ENCODERS[1:], ["hvg"]),
    ],
)
def test_training_features_do_not_depend_on_test_cells_by_one_bit(data, encoder, select):
    raw = made_cells()
    options = [f"data.select={select}", *FEW]
    before = table(raw, data, encoder, *options)
    after = table(scrambled(raw, before.test), data, encoder, *options)
    np.testing.assert_array_equal(before.x[before.train], after.x[after.train])
    np.testing.assert_array_equal(before.pseudotime[before.train], after.pseudotime[after.train])
    assert before.features == after.features
    assert not np.array_equal(before.x[before.test], after.x[after.test])


def test_the_released_preset_leaks_and_says_so():
    raw = made_cells()
    made = table(raw, "joint", "random_gat", "data.preset=released")
    other = table(scrambled(raw, made.test), "joint", "random_gat", "data.preset=released")
    assert not np.array_equal(made.x[made.train], other.x[other.train])
    np.testing.assert_allclose(made.x.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(made.x.std(0), 1, atol=1e-3)
    np.testing.assert_array_equal(made.pseudotime, np.arange(60))
    assert made.leaks == (
        "the encoder random_gat was fitted on all 60 cells, 12 of them test cells",
        "features were standardised over all 60 cells, 12 of them test cells",
        "pseudotime is the row number of a cell in the file, not an order of development",
    )


def test_only_what_leaked_is_told():
    made = table(made_cells(), "rna", "none", "data.preset=released", "data.scale=false", "data.pseudotime=obs")
    assert made.leaks == ()


def test_names_of_encoded_features_carry_the_modality():
    made = table(made_cells(), "joint", "random_gat")
    assert made.features[0] == "rna_gat0" and made.features[-1] == "atac_gat31"
    assert made.slices == {"rna": slice(0, 32), "atac": slice(32, 64)}


def test_a_protein_named_as_a_gene_is_told_apart():
    raw = made_cells()
    protein = dataclasses.replace(raw.modalities["protein"], features=np.array(["g3", "a", "b", "c", "d", "e"]))
    made = table(dataclasses.replace(raw, modalities={**raw.modalities, "protein": protein}), "cite")
    assert made.features[24:] == ("protein:g3", "a", "b", "c", "d", "e")


@pytest.mark.parametrize("as_sparse", [True, False])
def test_sparse_and_dense_sources_give_the_same_table(as_sparse):
    made = table(made_cells(as_sparse=as_sparse), "joint", "none", *FEW)
    reference = table(made_cells(), "joint", "none", *FEW)
    assert made.features == reference.features and made.n_features == 17
    np.testing.assert_allclose(made.x, reference.x, atol=1e-4)


@pytest.mark.parametrize(
    "override",
    [
        "preset=released",
        "target_sum=null",
        "log1p=false",
        "tfidf_scale=10",
        "clr=false",
        "select=mutual_information",
        "n_features.rna=5",
        "scale=false",
        "pseudotime=obs",
        "root=cell7",
        "dpt_pcs=2",
        "dpt_neighbors=5",
        "dpt_components=1",
    ],
)
def test_every_key_of_data_changes_the_table(override):
    raw, base = made_cells(), ["data.modalities=[rna,atac,protein]", *FEW]
    before, after = table(raw, "joint", "none", *base), table(raw, "joint", "none", *base, f"data.{override}")
    same = before.features == after.features and np.allclose(before.x, after.x, atol=1e-5)
    assert not (same and np.allclose(before.pseudotime, after.pseudotime, atol=1e-5))


def test_a_missing_modality_names_source_choice_and_remedy():
    with pytest.raises(UserError) as error:
        table(made_cells(modalities=("rna",)), "joint")
    assert str(error.value) == "data=joint: source made has no atac (it has rna); choose data=rna"
    with pytest.raises(UserError) as error:
        table(made_cells(modalities=("rna", "protein")), "joint")
    assert str(error.value).endswith("(it has rna and protein); choose data=cite or rna")
    with pytest.raises(UserError, match=r"has no rna and no atac \(it has protein\); no choice of data= fits it"):
        table(made_cells(modalities=("protein",)), "joint")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data.modalities=[]", "data.modalities: must not be empty; give at least one, such as [rna]"),
        ("data.modalities=[rna,rna]", "data.modalities: ['rna', 'rna'] names a modality twice"),
        ("data.modalities=[gex]", "data.modalities[0]: 'gex' is not known; choose atac, protein or rna"),
        ("+data.n_features.adt=3", "data.n_features: 'adt' is not known; choose atac, protein or rna"),
        ("data.n_features.rna=0", "data.n_features.rna: must be at least 1, got 0"),
        ("data.preset=strickt", "data.preset: 'strickt' is not known (did you mean 'strict'?)"),
        ("data.select=hvgs", "data.select: 'hvgs' is not known (did you mean 'hvg'?)"),
        ("data.pseudotime=time", "data.pseudotime: 'time' is not known"),
        ("data.target_sum=0", "data.target_sum: must be above 0, got 0.0"),
        ("data.dpt_pcs=0", "data.dpt_pcs: must be at least 1, got 0"),
    ],
)
def test_bad_values_are_named(override, said):
    with pytest.raises(UserError) as error:
        table(made_cells(), "rna", "none", override)
    assert said in str(error.value)


def test_a_cell_without_counts_is_kept():
    raw = made_cells(modalities=("rna",))
    x = raw.modalities["rna"].x.toarray()
    x[[3, 17]] = 0
    empty = dataclasses.replace(raw, modalities={"rna": Modality(x, raw.modalities["rna"].features, "counts")})
    assert np.isfinite(table(empty, "rna", "random_gat").x).all()


@pytest.fixture
def foreign_encoder():
    name = "foreign"

    def use(build):
        registry.encoders.register(name, NoneConfig)(build)
        return load_table(made_cells(), configs("joint")[0], NoneConfig(name), configs()[2])

    yield use
    registry.encoders._entries.pop(name)


def test_an_encoder_from_outside_may_confess_a_leak(foreign_encoder):
    made = foreign_encoder(lambda config, x, train, seed: (np.asarray(x[:, :2]), ("a", "b"), ("it saw everything",)))
    assert made.leaks == ("it saw everything",)
    assert made.features == ("rna_a", "rna_b", "atac_a", "atac_b")


@pytest.mark.parametrize(
    ("block", "names", "said"),
    [
        (np.zeros((59, 2), "f4"), (), r"features of shape \(59, 2\) came back; \[60, at least 1\] is needed"),
        (np.zeros((60, 0), "f4"), (), r"features of shape \(60, 0\)"),
        (np.zeros((60, 3), "f4"), ("a",), "1 names came back for 3 features"),
        (np.full((60, 2), np.nan, "f4"), ("a", "b"), "60 cells have NaN or infinite features"),
    ],
)
def test_what_an_encoder_gives_back_is_checked(foreign_encoder, block, names, said):
    with pytest.raises(UserError, match=f"encoder=foreign: rna of made: {said}"):
        foreign_encoder(lambda config, x, train, seed: (block, names, ()))


def read_h5mu(name, kinds):
    import mudata

    cells = mudata.read_h5mu(real_file(name))
    parts = {ours: (cells.mod[theirs], kind) for theirs, (ours, kind) in kinds.items()}
    return RawCells(
        name=name,
        modalities={ours: Modality(m.X, m.var_names.to_numpy(str), kind) for ours, (m, kind) in parts.items()},
        obs=cells.obs,
        checksum="",
    )


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore:diffusion pseudotime")
@pytest.mark.parametrize("encoder", ENCODERS)
def test_bone_marrow_multiome(encoder):
    kinds = {"rna": ("rna", "log"), "atac": ("atac", "binary")}
    made = table(read_h5mu("multiome_bmmc_neurips21/bmmc_multiome.h5mu", kinds), "joint", encoder)
    assert made.x.shape[0] == 500 and (len(made.train), len(made.test)) == (400, 100)
    assert np.isfinite(made.x).all() and made.leaks == ()
    np.testing.assert_allclose(made.x[made.train].mean(0), 0, atol=1e-4)


@pytest.mark.real_data
def test_perturbed_monocytes():
    import anndata

    cells = anndata.read_h5ad(real_file("perturb_papalexi21_thp1/papalexi21_thp1.h5ad"))[:3000]
    modality = Modality(cells.X, cells.var_names.to_numpy(str), "counts")
    made = table(RawCells("papalexi21", {"rna": modality}, cells.obs, ""), "rna", "random_gat")
    assert made.x.shape == (3000, 32) and np.isfinite(made.x).all()
    with pytest.raises(UserError, match="data=joint: source papalexi21 has no atac"):
        table(RawCells("papalexi21", {"rna": modality}, cells.obs, ""), "joint")
