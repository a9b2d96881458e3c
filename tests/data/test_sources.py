from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import h5py
import numpy as np
import pandas as pd
import pytest
from cell_files import counts, peaks, write_10x_h5, write_h5ad
from omegaconf import OmegaConf
from scipy import sparse

from perturbrl import paths, registry
from perturbrl.data import fetch
from perturbrl.data.sources import catalogue, pbmc68k_reduced
from perturbrl.errors import UserError

CONTENT = bytes(np.random.default_rng(0).integers(0, 256, 900_000, dtype=np.uint8))
SHA = hashlib.sha256(CONTENT).hexdigest()


def config(name, **changes):
    node = OmegaConf.load(paths.conf_dir() / "source" / f"{name}.yaml")
    path = changes.pop("path", None)
    root = OmegaConf.create({"path": None if path is None else str(path), "source": OmegaConf.merge(node, changes)})
    return registry.sources.bind(root.source)


def build(name, **changes):
    return registry.sources[name].build(config(name, **changes))


# --- a server that can cut the connection


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): ...

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.seen.append((asked, self.headers.get("If-Range")))
        if server.status != 200:
            self.send_error(server.status)
            return
        start = 0
        if asked and server.ranges and self.headers.get("If-Range") in (None, server.tag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        self.send_header("Content-Length", str(len(body)))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        cut = server.cuts.pop(0) if server.cuts else None
        self.wfile.write(body if cut is None else body[:cut])
        self.close_connection = True


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.content, httpd.cuts, httpd.seen, httpd.ranges, httpd.tag, httpd.status = CONTENT, [], [], True, '"v1"', 200
    thread = threading.Thread(target=partial(httpd.serve_forever, poll_interval=0.01), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
    thread.join()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTURBRL_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "downloads"


def remote(server, sha256=SHA, path=None):
    return fetch.Remote("demo", path, f"http://127.0.0.1:{server.server_port}/demo.bin", sha256, "demo.bin")


def obtain(server, **changes):
    return fetch.obtain(remote(server, **changes), backoff_seconds=0)


def test_download_once_then_cached(server, cache):
    got = obtain(server)
    assert got.path == cache / "demo.bin" and got.sha256 == SHA
    assert got.path.read_bytes() == CONTENT
    assert obtain(server) == got
    assert len(server.seen) == 1
    assert sorted(p.name for p in cache.iterdir()) == ["demo.bin", "demo.bin.lock"]


@pytest.mark.parametrize("tag", ['"v1"', ""])
def test_cut_connection_is_resumed_where_it_stopped(server, cache, tag):
    server.cuts, server.tag = [450_000, 10], tag
    assert obtain(server).path.read_bytes() == CONTENT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked, _ in server.seen[1:]]
    assert server.seen[0][0] is None and len(starts) == 2
    assert all(450_000 - fetch._BLOCK < start <= 450_010 for start in starts)
    assert {condition for _, condition in server.seen[1:]} == {tag or None}


def test_another_process_resumes_what_the_first_left(server, cache):
    server.cuts = [450_000, *[0] * 20]
    with pytest.raises(UserError, match="cannot download"):
        obtain(server)
    kept = (cache / "demo.bin.part").stat().st_size
    assert not (cache / "demo.bin").exists() and 450_000 - fetch._BLOCK < kept <= 450_000
    server.cuts, server.seen[:] = [], []
    assert obtain(server).path.read_bytes() == CONTENT
    assert server.seen == [(f"bytes={kept}-", '"v1"')]
    assert not (cache / "demo.bin.part").exists() and not (cache / "demo.bin.part.etag").exists()


def test_changed_file_is_fetched_anew(server, cache):
    server.cuts = [450_000, *[0] * 20]
    with pytest.raises(UserError):
        obtain(server)
    changed = CONTENT[::-1]
    server.cuts, server.content, server.tag = [], changed, '"v2"'
    assert obtain(server, sha256=None).path.read_bytes() == changed


def test_server_without_ranges_starts_over(server, cache):
    server.ranges, server.cuts = False, [450_000]
    assert obtain(server).path.read_bytes() == CONTENT


def test_part_that_was_already_whole(server, cache):
    cache.mkdir(parents=True)
    (cache / "demo.bin.part").write_bytes(CONTENT)
    assert obtain(server).path.read_bytes() == CONTENT
    (cache / "demo.bin").unlink()
    (cache / "demo.bin.part").write_bytes(CONTENT + b"too long")
    assert obtain(server).path.read_bytes() == CONTENT


def test_wrong_hash_leaves_nothing_in_place(server, cache):
    with pytest.raises(
        UserError, match=r"does not have the expected sha256 0{64}.*put the file at .*demo.bin, or give"
    ):
        obtain(server, sha256="0" * 64)
    assert not (cache / "demo.bin").exists()


def test_null_hash_is_pinned_at_first_download(server, cache):
    assert obtain(server, sha256=None).sha256 == SHA
    assert (cache / "demo.bin.sha256").read_text().strip() == SHA
    assert obtain(server, sha256=None).sha256 == SHA
    (cache / "demo.bin").write_bytes(b"tampered")
    with pytest.raises(UserError, match=r"the sha256 is .*, but demo.bin.sha256 says .*delete the file"):
        obtain(server, sha256=None)
    (cache / "demo.bin").unlink()
    server.content = b"another release"
    with pytest.raises(UserError, match="does not have the expected sha256"):
        obtain(server, sha256=None)


def test_file_placed_by_hand_is_used_and_checked(server, cache):
    cache.mkdir(parents=True)
    (cache / "demo.bin").write_bytes(CONTENT)
    assert obtain(server).sha256 == SHA and server.seen == []
    (cache / "demo.bin").write_bytes(b"something else")
    with pytest.raises(UserError, match="but its config says"):
        obtain(server)


def test_offline_names_url_cache_and_path_in_one_line(server, cache):
    there = remote(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError) as caught:
        fetch.obtain(there, backoff_seconds=60)
    message = str(caught.value)
    assert "\n" not in message
    assert there.url in message and str(cache / "demo.bin") in message and "path=FILE" in message


def test_http_error_is_reported(server, cache):
    server.status = 404
    with pytest.raises(UserError, match="HTTP 404 Not Found"):
        obtain(server)


def test_path_needs_no_network(server, cache, tmp_path):
    own = tmp_path / "own.bin"
    own.write_bytes(b"x")
    assert obtain(server, path=str(own)) == fetch.LocalFile(own, None)
    with pytest.raises(UserError, match=r"path=.*gone.bin: no such file or folder; path= must name"):
        obtain(server, path=str(tmp_path / "gone.bin"))
    assert server.seen == []


def test_unusable_cache_is_a_clear_error(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PERTURBRL_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot use the cache at .*file/downloads"):
        obtain(server)


# --- each source


def test_pbmc68k_reduced_is_the_log_matrix_of_scanpy():
    import anndata

    cells = build("pbmc68k_reduced")
    rna = cells.modalities["rna"]
    truth = anndata.read_h5ad(pbmc68k_reduced.shipped_file())
    assert rna.kind == "log" and rna.x.shape == (700, 765) and sparse.issparse(rna.x)
    assert (rna.x != truth.raw.X).nnz == 0
    assert rna.features.tolist() == truth.raw.var_names.tolist()
    assert cells.obs["cell_type"].tolist() == truth.obs["bulk_labels"].tolist()


def write_paul(path, x, genes, clusters, informative):
    with h5py.File(path, "w") as file:
        file["data.debatched"] = x.T
        file["data.debatched_rownames"] = np.array(genes, dtype="S")
        file["data.debatched_colnames"] = np.array([f"W{i}" for i in range(len(x))], dtype="S")
        file["cluster.id"] = np.array([clusters], dtype=float)
        file["info.genes_strings"] = np.array(informative, dtype="S")


def test_paul15_as_published(tmp_path):
    x = counts(4, 4)
    genes, informative = ["Gata1;G1", "Klf1", "Rps1", "Sfpi1"], ["Sfpi1", "Gata1", "Mar-01"]
    write_paul(tmp_path / "p.h5", x, genes, [7, 1, 19, 13], informative)
    cells = build("paul15", path=tmp_path / "p.h5")
    rna = cells.modalities["rna"]
    assert rna.features.tolist() == ["Gata1", "Sfpi1"] and rna.kind == "counts"
    np.testing.assert_array_equal(rna.x, x[:, [0, 3]])
    assert cells.obs["cell_type"].tolist() == ["7MEP", "1Ery", "19Lymph", "13Baso"]
    write_paul(tmp_path / "q.h5", x, list("abcd"), [7, 1, 20, 13], list("ab"))
    with pytest.raises(UserError, match=r"cluster.id has values outside 1 to 19"):
        build("paul15", path=tmp_path / "q.h5")


@pytest.mark.real_data
def test_paul15_from_a_copy(real_data):
    path = real_data / "traj_paul15" / "paul15.h5ad"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    cells = build("paul15", path=path)
    assert cells.name == "paul15" and cells.modalities["rna"].x.shape == (2660, 3004)
    assert {"Gata1", "Klf1", "Sfpi1"} <= set(cells.modalities["rna"].features.tolist())


def write_moignard(path, cells, sheet="dCt_values.txt"):
    genes = ["Cbfa2t3h", "Polr2a", "Ubc", "Gata1"]
    table = pd.DataFrame(-1.5 * counts(len(cells), 4) - 0.25, index=cells, columns=genes)
    if path.suffix == ".csv":
        table.to_csv(path)
    else:
        table.to_excel(path, sheet_name=sheet)
    return table


def test_moignard15(tmp_path):
    table = write_moignard(tmp_path / "m.csv", ["PSA1", "NP2", "4SGB3", "4SFGA4", "HFC5"])
    cells = build("moignard15", path=tmp_path / "m.csv")
    rna = cells.modalities["rna"]
    assert rna.kind == "continuous" and rna.features.tolist() == ["Cbfa2t3h", "Gata1"]
    np.testing.assert_allclose(rna.x, table[["Cbfa2t3h", "Gata1"]])
    assert cells.obs["cell_type"].tolist() == ["PS", "NP", "4SG", "4SFG", "HF"]
    write_moignard(tmp_path / "n.csv", ["PSA1", "XX2"])
    with pytest.raises(UserError, match="cell 'XX2' does not start with a stage"):
        build("moignard15", path=tmp_path / "n.csv")


def test_moignard15_xlsx(tmp_path):
    pytest.importorskip("openpyxl", reason="openpyxl, which reads .xlsx, is not installed")
    table = write_moignard(tmp_path / "m.xlsx", ["PSA1", "4SFGA4"])
    rna = build("moignard15", path=tmp_path / "m.xlsx").modalities["rna"]
    np.testing.assert_allclose(rna.x, table[["Cbfa2t3h", "Gata1"]])
    with pytest.raises(UserError, match=r"not a readable table .*other"):
        build("moignard15", path=tmp_path / "m.xlsx", sheet="other")


def test_xlsx_without_openpyxl_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "m.xlsx").write_bytes(b"PK\x03\x04")
    with pytest.raises(UserError, match=r"pip install openpyxl, or save the sheet as .csv|not a readable table"):
        build("moignard15", path=tmp_path / "m.xlsx")


def test_pbmc10k_multiome(tmp_path, server, cache, monkeypatch):
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    x = counts(8, 7)
    names = ["GATA1", "SPI1", "SPI1", *peaks(4)]
    types = ["Gene Expression"] * 3 + ["Peaks"] * 4
    path = write_10x_h5(tmp_path / "m.h5", x, names, types, [f"AAAC{i}-1" for i in range(8)])
    server.content, server.cuts = path.read_bytes(), [path.stat().st_size // 2]
    cells = build("pbmc10k_multiome", url=f"http://127.0.0.1:{server.server_port}/m.h5", file_name="m.h5")
    assert len(server.seen) == 2
    np.testing.assert_array_equal(cells.modalities["rna"].x.toarray(), x[:, :3])
    np.testing.assert_array_equal(cells.modalities["atac"].x.toarray(), x[:, 3:])
    assert cells.modalities["rna"].features.tolist() == ["GATA1", "SPI1", "SPI1-1"]
    assert cells.checksum == hashlib.sha256(path.read_bytes()).hexdigest()
    again = build("pbmc10k_multiome", path=path)
    assert again.checksum == cells.checksum and again.name == "pbmc10k_multiome"
    write_10x_h5(tmp_path / "r.h5", x[:, :3], names[:3], types[:3], [f"AAAC{i}-1" for i in range(8)])
    with pytest.raises(UserError, match="needs rna and atac in one file; it holds rna"):
        build("pbmc10k_multiome", path=tmp_path / "r.h5")
    assert list(build("pbmc10k_multiome", path=tmp_path / "r.h5", modality="rna").modalities) == ["rna"]


def test_iqcell_tcell(tmp_path):
    x = counts(5, 3)
    table = pd.DataFrame(x, index=[f"c{i}" for i in range(5)], columns=["Tcf7", "Bcl11b", "Gata3"])
    table.assign(Pseudotime=np.linspace(0, 1, 5)).to_csv(tmp_path / "t.csv")
    cells = build("iqcell_tcell", path=tmp_path / "t.csv")
    np.testing.assert_array_equal(cells.modalities["rna"].x, x)
    np.testing.assert_allclose(cells.obs["pseudotime"], np.linspace(0, 1, 5))
    table.T.to_csv(tmp_path / "u.csv")
    turned = build("iqcell_tcell", path=tmp_path / "u.csv", rows="genes")
    np.testing.assert_array_equal(turned.modalities["rna"].x, x)
    h5ad = write_h5ad(tmp_path / "a.h5ad", x)
    assert build("iqcell_tcell", path=h5ad).name == "iqcell_tcell"


def test_kang18_and_norman19(tmp_path):
    x = counts(4, 3)
    obs = {"label": ["ctrl", "stim", "stim", "ctrl"], "replicate": list("aabb"), "cell_type": ["B"] * 4}
    kang = build("kang18", path=write_h5ad(tmp_path / "k.h5ad", x, obs=obs))
    assert kang.obs["perturbation"].tolist() == ["control", "stim", "stim", "control"]
    assert kang.obs["is_control"].tolist() == [True, False, False, True] and kang.obs["batch"].tolist() == list("aabb")
    obs = {"perturbation_name": ["control", "KLF1", "KLF1+AHR", "AHR"], "gemgroup": [1, 1, 2, 2]}
    norman = build("norman19", path=write_h5ad(tmp_path / "n.h5ad", x, obs=obs))
    assert norman.obs["perturbation"].tolist() == ["control", "KLF1", "AHR+KLF1", "AHR"]
    assert norman.obs["batch"].tolist() == ["1", "1", "2", "2"]
    with pytest.raises(UserError, match=r"source.perturbation_key='label' is not a column"):
        build("kang18", path=tmp_path / "n.h5ad")


# --- configs and catalogue


@pytest.mark.parametrize(
    "name",
    ["file", "pbmc68k_reduced", "paul15", "moignard15", "pbmc10k_multiome", "iqcell_tcell", "norman19", "kang18"],
)
def test_config_binds_and_names_itself(name):
    bound = config(name)
    assert bound.name == name
    if isinstance(bound, fetch.Remote):
        assert bound.url.startswith("https://") and bound.path is None
        assert config(name, path="here").path == "here"
        assert bound.sha256 is None or len(bound.sha256) == 64
    with pytest.raises(UserError, match="unknown key"):
        config(name, colour="red")


def test_catalogue_covers_every_source(cache):
    rows = {row.name: row for row in catalogue.describe()}
    assert set(rows) >= set(registry.sources)
    for row in rows.values():
        assert row.origin and row.licence and not row.cached
        if row.name in registry.sources:
            assert row.download == issubclass(registry.sources[row.name].schema, fetch.Remote)
    assert not rows["pbmc68k_reduced"].download and rows["paul15"].download
    cache.mkdir(parents=True)
    (cache / "paul15.h5").write_bytes(b"x")
    assert {row.name for row in catalogue.describe() if row.cached} == {"paul15"}


def test_catalogue_matches_what_is_read():
    cells, row = build("pbmc68k_reduced"), next(r for r in catalogue.describe() if r.name == "pbmc68k_reduced")
    assert row.cells == cells.n_cells and row.modalities == tuple(cells.modalities)


def test_show(cache):
    facts = catalogue.show("paul15")
    assert facts["source.url"] == config("paul15").url and facts["download"] == "needed at first use"
    assert facts["cache"] == str(cache / "paul15.h5")
    with pytest.raises(UserError, match=r"'paul16' is not known \(did you mean 'paul15'\?\)"):
        catalogue.show("paul16")
