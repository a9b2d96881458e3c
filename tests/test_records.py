"""Tables are read without threads of Arrow: a process that ends while one lives may abort, its work done."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from perturbrl import records

PACKAGE = Path(records.__file__).parent
READS = ("read_parquet", "read_table", "read")
CODE = "import sys; from pathlib import Path; from perturbrl import records; records.read_parquet(Path(sys.argv[1]))"


def reads(file: Path) -> list[ast.Call]:
    """Calls of pandas and pyarrow that read a table."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in READS:
            library = ast.unparse(node.func).split(".")[0] in ("pd", "pq")
            if library or any(word.arg == "columns" for word in node.keywords):
                found.append(node)
    return found


def on_one_thread(call: ast.Call) -> bool:
    words = {word.arg or ast.unparse(word.value): ast.unparse(word.value) for word in call.keywords}
    return "ONE_THREAD" in words or words.get("use_threads") == "False"


def test_every_table_is_read_on_one_thread() -> None:
    calls = {f"{file.name}:{call.lineno}": call for file in PACKAGE.rglob("*.py") for call in reads(file)}
    assert len(calls) >= 6 and all(map(on_one_thread, calls.values())), calls.keys()
    assert records.ONE_THREAD["use_threads"] is False


@pytest.mark.slow
def test_a_process_that_has_read_a_table_ends_well(tmp_path: Path) -> None:
    """With the defaults of pyarrow 25 one in five of these aborted."""
    file = tmp_path / "a.parquet"
    records.write_parquet(file, pd.DataFrame({f"c{k}": [1.0] * 500 for k in range(20)}))
    for _ in range(30):
        done = subprocess.run([sys.executable, "-c", CODE, str(file)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
