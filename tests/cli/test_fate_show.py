from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from runner.tiny import cli_run

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    return cli_run(capsys)


def test_show_prints_attractors_and_writes_pictures(run: Run, tmp_path: Path) -> None:
    (tmp_path / "switch.bnet").write_text("targets, factors\na, !b\nb, !a\n")
    code, out, _ = run("fate", "show", "switch.bnet", "--dynamics", "boolean", "--cells", "60", "--out", "pictures")
    assert code == 0
    lines = out.splitlines()
    rows = [line for line in lines if "fixed point" in line]
    assert len(rows) == 2 and all("50.0 %" in row for row in rows)
    written = [Path(line.removeprefix("written: ")) for line in lines if line.startswith("written: ")]
    assert {file.suffix for file in written} == {".png", ".html"} and all(file.is_file() for file in written)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["myelod"], "did you mean 'myeloid'"),
        (["missing.bnet"], "missing.bnet"),
        ([], "needs a NETWORK"),
        (["--data", "missing.h5ad"], "missing.h5ad"),
        (["myeloid", "--dynamics", "hil"], "--dynamics: 'hil' is not known"),
        (["myeloid", "--hold", "Gata9=1"], "--hold: 'Gata9' is not known"),
    ],
)
def test_a_mistake_is_one_line(run: Run, words: list[str], message: str) -> None:
    code, out, err = run("fate", "show", *words)
    errors = [line for line in err.splitlines() if not line.endswith(("...", " s"))]
    assert code == 2 and len(errors) == 1 and message in errors[0] and "Traceback" not in out + err


SMALL = {"always on": "a, 1\n", "an input": "a, a\n", "a cycle": "a, !b\nb, a\n", "apart": "a, a\nb, 0\n"}


@pytest.mark.slow
@pytest.mark.parametrize("dynamics", ["boolean", "hill"])
@pytest.mark.parametrize("rules", SMALL.values(), ids=SMALL.keys())
def test_the_smallest_networks_are_drawn_or_refused_in_one_line(run: Run, rules: str, dynamics: str) -> None:
    Path("small.bnet").write_text(rules)
    code, out, err = run("fate", "show", "small.bnet", "--dynamics", dynamics, "--cells", "60", "--out", "pictures")
    if "!" in rules and dynamics == "hill":
        assert code == 2 and "comes to rest (a cycle); use --dynamics boolean" in err
        return
    assert code == 0, err
    assert "pictures/small-network.png" in out and "pictures/small.html" in out and "-0.00" not in out


def test_one_gene_that_oscillates_is_drawn_and_not_called_off(run: Run) -> None:
    Path("osc.bnet").write_text("a, !a\n")
    code, out, err = run("fate", "show", "osc.bnet", "--cells", "60")
    assert code == 0, err
    rows = [line for line in out.splitlines() if "100.0 %" in line]
    assert len(rows) == 2 and all("between on and off" in row and "-0.00" not in row for row in rows)
    assert "osc-network.png" in out
