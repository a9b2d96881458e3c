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
