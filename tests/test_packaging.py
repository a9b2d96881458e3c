from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from perturbrl import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def git(*args: str) -> list[str]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", *args], cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.stdout.splitlines()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="session")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def test_the_wheel_holds_every_config(site: Path) -> None:
    configs = {file.relative_to(ROOT / "conf") for file in (ROOT / "conf").rglob("*.yaml")}
    assert len(configs) > 10
    assert {
        file.relative_to(site / "perturbrl" / "conf") for file in (site / "perturbrl/conf").rglob("*.yaml")
    } == configs
    for name in configs:
        assert (site / "perturbrl" / "conf" / name).read_bytes() == (ROOT / "conf" / name).read_bytes()


def test_the_wheel_holds_the_code_and_its_data(site: Path) -> None:
    for pattern in ("*.py", "*.csv"):
        wanted = {file.relative_to(ROOT) for file in (ROOT / "perturbrl").rglob(pattern)}
        assert wanted <= {file.relative_to(site) for file in site.rglob(pattern)}
    assert (site / "perturbrl" / "report" / "published.csv").is_file()
    assert (site / "hydra_plugins" / "perturbrl_plugins" / "searchpath.py").is_file()
    assert not (site / "tests").exists() and not (site / "conf").exists()


def test_types_reach_whoever_imports_the_wheel(site: Path, tmp_path: Path) -> None:
    assert (site / "perturbrl" / "py.typed").is_file() and "Typing :: Typed" in PROJECT["classifiers"]
    (tmp_path / "user.py").write_text("from perturbrl.cores import cores\n\nreveal_type(cores())\n")
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    env = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert re.search(r'type is "tuple\[(builtins\.)?int, \.\.\.\]"', done.stdout), done.stdout + done.stderr


@pytest.mark.slow  # mypy reads the whole package
def test_the_python_interface_has_types(site: Path, tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text("import perturbrl\n\nreveal_type(perturbrl.train)\nreveal_type(perturbrl.load)\n")
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--cache-dir", str(tmp_path), "user.py"]
    env = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
    assert done.stdout.count("-> perturbrl.runner.runs.Runs") == 2, done.stdout + done.stderr


def test_hydra_plugins_stays_a_namespace(site: Path) -> None:
    assert not (ROOT / "hydra_plugins" / "__init__.py").exists()
    assert not (site / "hydra_plugins" / "__init__.py").exists()


def test_the_wheel_says_what_it_is(site: Path) -> None:
    (info,) = site.glob("*.dist-info")
    text = (info / "METADATA").read_text()
    assert f"\nVersion: {__version__}\n" in text
    assert "License-Expression: Apache-2.0" in text
    assert "perturbrl = perturbrl.cli:main" in (info / "entry_points.txt").read_text()
    assert (info / "licenses" / "LICENSE").is_file()


def test_the_wheel_works_in_an_empty_folder(site: Path, tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}

    def perturbrl(*args: str) -> str:
        command = [sys.executable, "-m", "perturbrl", *args]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert perturbrl("--version") == f"perturbrl {__version__}\n"
    code = "import perturbrl.paths as p; print(p.conf_dir())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == str(site / "perturbrl" / "conf")
    config = yaml.safe_load(perturbrl("train", "agent=trpo", "--cfg", "job"))
    assert config["agent"]["name"] == "trpo"
    assert not list(tmp_path.iterdir())


def test_no_config_is_hidden_from_git() -> None:
    files = [str(file.relative_to(ROOT)) for folder in ("conf", "perturbrl") for file in (ROOT / folder).rglob("*.*")]
    kept = [file for file in files if file.endswith((".py", ".yaml", ".csv"))]
    assert git("check-ignore", *kept) == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    hosts = [
        "pypi" + r"\.org",
        "python" + "hosted",
        r"download\." + "pytorch",
        "--(extra-)?index" + "-url",
        "find" + "-links",
    ]
    folders = [rf"(?<![\w.~-])/{name}/" for name in ("work", "root", "home", "opt", "Users")]
    forbidden = re.compile("|".join(hosts + folders))
    for name in git("ls-files", "--cached", "--others", "--exclude-standard"):
        file = ROOT / name
        if file.is_file() and name != "tests/test_packaging.py":
            text = file.read_bytes().decode("utf-8", errors="ignore")
            found = forbidden.search(text)
            assert found is None, f"{name}: {found[0]!r}"


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; python_version [<>=]+ '3\.\d+')?", line), line
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    assert len(lines) == len({line.split("==")[0] for line in lines})
    return {name: rest.split(" ")[0] for name, _, rest in (line.partition("==") for line in lines)}


def test_constraints_are_exact_and_cover_everything() -> None:
    exact = pins()
    for line in [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]:
        requirement = Requirement(line)
        if requirement.name != "perturbrl":
            version = exact[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=False), f"{line}: constraints has {version}"


def test_constraints_reach_what_is_installed() -> None:
    """Everything that the requirements pull in, as far as it is installed here, has an exact version."""
    exact = pins()
    seen: set[str] = set()
    todo = [Requirement(line) for line in [*PROJECT["dependencies"], *EXTRAS["test"]]]
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if name in seen or not applies:
            continue
        seen.add(name)
        assert name in exact, f"{name} is not in constraints.txt"
        try:
            todo.extend(Requirement(line) for line in metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue
    assert len(seen) > 50


def test_every_import_is_a_declared_dependency() -> None:
    """What an extra brings may be imported inside functions only."""
    declared = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    optional = {canonicalize_name(Requirement(line).name) for extra in EXTRAS.values() for line in extra}
    by_module = metadata.packages_distributions()
    for file in sorted((ROOT / "perturbrl").rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for module in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"perturbrl", ""}:
                owners = {canonicalize_name(owner) for owner in by_module.get(module, [module])}
                allowed = declared if node in tree.body else declared | optional
                assert owners & allowed, f"{file}: {module} is no dependency in pyproject.toml"


def test_versions_agree() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == __version__
    assert __version__ in (ROOT / "CHANGELOG.md").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(["make", *args], cwd=folder, env=env, capture_output=True, text=True, timeout=60)


def fake_python(folder: Path, body: str) -> str:
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return f"PYTHON={file}"


def test_make_alone_lists_the_targets(checkout: Path) -> None:
    done = make(checkout)
    assert done.returncode == 0
    for target in ("install", "test", "test-full", "bench", "lint", "smoke", "reproduce", "tables", "results", "clean"):
        assert f"make {target} " in done.stdout


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac',
            "is Python 3.9.2; perturbrl needs Python 3.11 to",
        ),
        ('case "$2" in *ensurepip*) exit 1;; esac', "has no venv module; on Debian: apt-get install python3-venv"),
    ],
)
def test_make_says_what_python_it_needs(checkout: Path, body: str, said: str) -> None:
    done = make(checkout, "install", fake_python(checkout, body))
    assert done.returncode != 0
    assert said in done.stderr
    assert not (checkout / ".venv").exists()


Asked = Callable[..., tuple[list[str], str]]


@pytest.fixture
def asked(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """``make`` with a stand-in for Python that makes venvs that hold itself: what it was asked, what was printed."""
    (checkout / "python").write_text(
        '#!/bin/sh\necho "$@" >>"$LOG"\n'
        'case "$*" in *"-m venv"*) mkdir -p .venv/bin; cp "$SELF" .venv/bin/python;; esac\n'
    )
    (checkout / "python").chmod(0o755)
    log = checkout / "log"
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.setenv("SELF", str(checkout / "python"))

    def ask(target: str = "install") -> tuple[list[str], str]:
        log.write_text("")
        done = make(checkout, target, f"PYTHON={checkout / 'python'}")
        assert done.returncode == 0, done.stderr
        return log.read_text().splitlines(), done.stdout + done.stderr

    return ask


def installs(lines: list[str]) -> list[str]:
    return [line for line in lines if "pip install" in line]


def test_make_install_is_done_once_and_mends_a_broken_venv(checkout: Path, asked: Asked) -> None:
    first, _ = asked()
    assert "-m venv --clear .venv" in first and installs(first)[-1].endswith("-e .[test]")
    assert installs(asked()[0]) == []
    (checkout / ".venv" / "bin" / "python").write_text("#!/no/such/python\n")
    mended, _ = asked()
    assert "-m venv --clear .venv" in mended and installs(mended)[-1].endswith("-e .[test]")
    (checkout / ".venv" / ".installed").unlink()
    half, _ = asked()
    assert "-m venv --clear .venv" not in half and installs(half)[-1].endswith("-e .[test]")


@pytest.mark.parametrize(("target", "extras"), [("test-full", "test,launchers,peers"), ("bench", "test,peers")])
def test_peers_are_installed_once(target: str, extras: str, checkout: Path, asked: Asked) -> None:
    assert [line.split(" -e ")[-1] for line in installs(asked(target)[0])][-2:] == [".[test]", f".[{extras}]"]
    assert installs(asked(target)[0]) == []
    (checkout / ".venv" / "bin" / "python").write_text("#!/no/such/python\n")
    assert len(installs(asked(target)[0])) == 3


def test_source_packages_are_built_with_pinned_tools(asked: Asked) -> None:
    """A new venv has an old setuptools or none, and no wheel: what builds there comes from constraints.txt."""
    tools, package = installs(asked()[0])
    assert tools.endswith(" hatchling setuptools")
    assert "--use-pep517 --no-build-isolation" in package
    assert all("-c constraints.txt" in line and " -q " in line for line in (tools, package))
    assert Version(pins()["setuptools"]) >= Version("70.1")  # from here on it has a bdist_wheel of its own


def test_an_install_prints_one_line(asked: Asked) -> None:
    _, printed = asked()
    assert re.fullmatch(r"installing perturbrl into \.venv: about \d+ minutes.*\n", printed)


def test_the_python_interface_loads_late() -> None:
    code = """
import sys
import perturbrl
from perturbrl import paths, config
assert "torch" not in sys.modules and "perturbrl.api" not in sys.modules
from perturbrl import api
for name in api.__all__:
    assert getattr(perturbrl, name) is getattr(api, name), name
try:
    perturbrl.no_such_name
except AttributeError:
    sys.exit(0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
