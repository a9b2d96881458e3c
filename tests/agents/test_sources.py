"""What the source of the agents must not hold: a wait for the device inside the update loop."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import perturbrl.agents

HOME = Path(perturbrl.agents.__file__).parent
FILES = sorted(f for f in HOME.rglob("*.py") if f.parent.name != "kernels")  # those run on one core of a CPU
SYNCHRONISES = {"cpu", "numpy", "item", "tolist", "nonzero", "synchronize"}
# (file, function) that may wait: once an iteration, or on the CPU only
ALLOWED = {
    *(("heads.py", "first_not_finite"), ("networks.py", "first_not_finite"), ("natural.py", "line_search")),
    *(("groups.py", "require_alike"), ("groups.py", "rollout"), ("random_search.py", "rollout")),  # once a rollout
    *(("sharpness.py", "curvature"), ("sharpness.py", "times")),  # after training
}


def calls(file: Path) -> list[tuple[str, int, str]]:
    """Return (function, line, name) of the calls that make the host wait for a tensor's value."""
    found = []
    for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr in SYNCHRONISES:
                found.append((function.name, node.lineno, node.func.attr))
            # bool(tensor.all()) and the like wait too
            reduces = [a for a in node.args if isinstance(a, ast.Call) and isinstance(a.func, ast.Attribute)]
            if isinstance(node.func, ast.Name) and node.func.id in ("bool", "float", "int"):
                found += [
                    (function.name, node.lineno, node.func.id) for a in reduces if a.func.attr in ("all", "any", "sum")
                ]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_no_update_waits_for_the_device(file: Path) -> None:
    waits = [c for c in calls(file) if (file.name, c[0]) not in ALLOWED]
    assert not waits, f"{file.name}: {waits}"


def test_the_check_sees_what_it_looks_for() -> None:
    seen = {(file.name, c[0]) for file in FILES for c in calls(file)}
    assert seen == ALLOWED


def test_the_line_search_waits_on_a_cpu_only() -> None:
    tree = ast.parse(next(f for f in FILES if f.name == "natural.py").read_text(encoding="utf-8"))
    waits = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "bool" and _of_all(n)]
    guarded = [
        after
        for node in ast.walk(tree)
        if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And)
        for before, after in zip(node.values, node.values[1:], strict=False)
        if ast.unparse(before).endswith("device.type == 'cpu'")
    ]
    assert len(waits) == 1 and waits[0] in guarded


def _of_all(call: ast.Call) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "all" for node in ast.walk(call))
