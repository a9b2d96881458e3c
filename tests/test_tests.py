"""The tests themselves, checked on their syntax trees: each asserts, and every part of the package has some."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
PACKAGE = TESTS.parent / "perturbrl"
FILES = sorted(f for f in TESTS.rglob("test_*.py") if "fixtures" not in f.relative_to(TESTS).parts)
ASSERTING = ("assert_", "check_")  # how the names of functions begin that assert
RAISING = ("pytest.raises", "pytest.warns")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def functions(module: ast.Module) -> Iterator[Function]:
    """The test functions of a module, those of its classes included."""
    for node in ast.walk(module):
        if isinstance(node, Function) and node.name.startswith("test_"):
            yield node


def asserts(function: Function) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in RAISING or called.split(".")[-1].startswith(ASSERTING):
                return True
    return False


@pytest.mark.parametrize("folder", sorted({f.parent for f in FILES}), ids=lambda f: str(f.relative_to(TESTS.parent)))
def test_each_test_asserts(folder: Path) -> None:
    idle = [
        f"{file.name}:{function.lineno} {function.name}"
        for file in FILES
        if file.parent == folder
        for function in functions(tree(file))
        if not asserts(function)
    ]
    assert not idle, f"no assert, pytest.raises or {'/'.join(ASSERTING)} in {idle}"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def test_a(): f()", False),
        ("def test_a():\n    with pytest.raises(E): f()", True),
        ("def test_a(): check_all(1)", True),
        ("def test_a(): np.testing.assert_equal(1, 1)", True),
        ("def test_a(): recheck_all(1)", False),
        ("def test_a():\n    for x in y: assert x", True),
    ],
)
def test_what_counts_as_an_assertion(code: str, expected: bool) -> None:
    (function,) = functions(ast.parse(code))
    assert asserts(function) == expected


def parts() -> list[Path]:
    """Folders of the package that hold modules, relative to it."""
    return sorted({file.parent.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py")} - {Path()})


@pytest.mark.parametrize("part", parts(), ids=str)
def test_each_folder_of_the_package_has_its_tests(part: Path) -> None:
    """In a folder of the same name; of a folder within a folder, in a file named after it will do."""
    there = list((TESTS / part).rglob("test_*.py"))
    named = list((TESTS / part.parent).glob(f"test_*{part.name}*.py")) if part.parent != Path() else []
    assert there or named, f"tests/{part}/ has no tests of perturbrl/{part}/"
