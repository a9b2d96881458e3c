"""The rules of docs/architecture.md, read from that page and checked on the syntax trees."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "perturbrl"
FILES = sorted(PACKAGE.rglob("*.py"))
PLUGINS = sorted((ROOT / "hydra_plugins").rglob("*.py"))
LONGEST_FILE = 300
LONGEST_FUNCTION = 60  # lines, its docstring among them
TOP = 99
NO_TORCH = ("report", "stats")


def rows() -> dict[str, int]:
    """Names of modules and subpackages, and the row of the table that they stand in."""
    found: dict[str, int] = {}
    for line in (ROOT / "docs" / "architecture.md").read_text().splitlines():
        if match := re.match(r"\|\s*(\d+|top)\s*\|([^|]*)\|", line):
            for name in " ".join(re.findall(r"`([^`]*)`", match[2])).split():
                found[name.removesuffix("/").removesuffix(".py")] = TOP if match[1] == "top" else int(match[1])
    return found


ROWS = rows()


def unit(file: Path) -> str:
    """The row entry that ``file`` belongs to: its subpackage, or itself at the top of the package."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def dotted(file: Path) -> str:
    return ".".join(("perturbrl", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


@cache
def imports(file: Path) -> frozenset[str]:
    """Every module that ``file`` names in an import statement, wherever in the file it stands."""
    names: set[str] = set()
    here = dotted(file).split(".")
    package = here if file.name == "__init__.py" else here[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            names.update(f"{module}.{alias.name}" for alias in node.names)
    return frozenset(names)


def own(file: Path) -> Iterator[Path]:
    """The package's files that ``file`` imports."""
    for name in imports(file):
        parts = name.split(".")
        for length in (len(parts), len(parts) - 1):
            stem = PACKAGE.joinpath(*parts[1:length])
            target = next((f for f in (stem.with_suffix(".py"), stem / "__init__.py") if f in _KNOWN), None)
            if parts[0] == "perturbrl" and length > 1 and target is not None:
                yield target
                break


_KNOWN = frozenset(FILES)


def ids(file: Path) -> str:
    return str(file.relative_to(ROOT))


def test_the_page_names_every_part() -> None:
    parts = {unit(file) for file in FILES} - {"__init__", "__main__"}
    assert parts <= set(ROWS), f"not in the table of docs/architecture.md: {sorted(parts - set(ROWS))}"


@pytest.mark.parametrize("file", FILES, ids=ids)
def test_imports_point_up_the_page(file: Path) -> None:
    row = ROWS.get(unit(file), TOP)
    below = sorted({unit(f) for f in own(file) if ROWS.get(unit(f), TOP) > row} - {"__init__"})
    assert not below, f"{ids(file)} stands in row {row} and imports {below} from a row below it"


def test_no_two_parts_of_a_row_import_each_other() -> None:
    edges = {(unit(a), unit(b)) for a in FILES for b in own(a) if unit(a) != unit(b)}
    edges = {(a, b) for a, b in edges if "__init__" not in (a, b) and ROWS.get(a, TOP) != TOP}
    assert not [(a, b) for a, b in edges if a < b and (b, a) in edges]


def circles(graph: dict[Path, set[Path]]) -> list[list[Path]]:
    """Strongly connected components of more than one module (Tarjan 1972)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    components: list[list[Path]] = []

    def visit(module: Path) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in sorted(graph[module]):
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            component = stack[stack.index(module) :]
            del stack[stack.index(module) :]
            if len(component) > 1:
                components.append(sorted(component))

    for module in graph:
        if module not in index:
            visit(module)
    return components


def test_circles_are_found() -> None:
    a, b, c, d = (Path(name) for name in "abcd")
    assert circles({a: {b}, b: {c}, c: {a, d}, d: set()}) == [[a, b, c]]
    assert circles({a: {b}, b: {c, d}, c: {d}, d: set()}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and under TYPE_CHECKING count: they only hide a circle."""
    graph = {file: {*own(file)} - {file} for file in FILES}
    assert [[ids(file) for file in circle] for circle in circles(graph)] == []


@pytest.mark.parametrize("part", NO_TORCH)
def test_a_report_needs_no_torch(part: str) -> None:
    seen: set[Path] = set()
    todo = [file for file in FILES if unit(file) == part]
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo.extend(own(file))
    guilty = sorted(ids(f) for f in seen if any(name.split(".")[0].startswith("torch") for name in imports(f)))
    assert not guilty, f"{part} reaches torch through {guilty}"


@pytest.mark.parametrize("file", [*FILES, *PLUGINS], ids=ids)
def test_functions_are_short(file: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    lengths = {f"{ids(file)}:{f.name}": (f.end_lineno or f.lineno) - f.lineno + 1 for f in functions}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("file", [*FILES, *PLUGINS], ids=ids)
def test_files_are_short_and_annotations_lazy(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    body = ast.parse(text).body
    defines = any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AnnAssign)) for node in body)
    futures = [node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert not defines or any(alias.name == "annotations" for node in futures for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=ids)
def test_nothing_unpickles_or_evaluates(file: Path) -> None:
    assert not {name.split(".")[0] for name in imports(file)} & {"pickle", "dill", "cloudpickle", "shelve", "marshal"}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "torch.load", "joblib.load"), f"{ids(file)}:{node.lineno}: {called}"


def test_agents_see_no_data() -> None:
    for file in (f for f in FILES if unit(f) == "agents"):
        assert not {unit(f) for f in own(file)} & {"data", "landscape"}, ids(file)


def test_envs_see_no_anndata() -> None:
    for file in (f for f in FILES if unit(f) == "envs"):
        assert not {name.split(".")[0] for name in imports(file)} & {"anndata", "mudata", "scanpy"}, ids(file)
