"""What perturbrl uses of Hydra, private parts included: the list below is complete, and the installed Hydra has it.

When Hydra is upgraded and a test here fails, the file that needs care is named in ``USED``.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, RangeSweep
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import MissingConfigException, OverrideParseException
from hydra.types import HydraContext

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, PLUGINS = ROOT / "perturbrl", ROOT / "hydra_plugins"
ROOM = PACKAGE / "runner" / "hydra"

USED = {
    "callbacks.py": {"hydra.experimental.callback.Callback"},
    "compose.py": {
        "hydra.compose",
        "hydra.core.global_hydra.GlobalHydra.instance().clear",
        "hydra.initialize_config_dir",
    },
    "errors.py": {
        "hydra.errors.HydraException",
        "hydra.errors.MissingConfigException",
        "hydra.errors.OverrideParseException",
    },
    "launch.py": {
        "hydra._internal.core_plugins.basic_sweeper.BasicSweeper.split_arguments",  # replaced while main() runs
        "hydra._internal.hydra.Hydra.get_mode",  # replaced while main() runs
        "hydra._internal.utils.get_args_parser",
        "hydra.core.plugins.Plugins.instance",
        "hydra.core.utils.JobReturn._return_value",  # read on objects, so not found by their class
        "hydra.core.utils.JobReturn.return_value",  # replaced while main() runs
        "hydra.core.utils.JobStatus.FAILED",
    },
    "launcher.py": {
        "hydra.core.hydra_config.HydraConfig.instance().cfg",
        "hydra.core.hydra_config.HydraConfig.instance().set_config",
        "hydra.core.utils.JobReturn",
        "hydra.core.utils.JobStatus.COMPLETED",
        "hydra.core.utils.JobStatus.FAILED",
        "hydra.plugins.launcher.Launcher",
        "hydra.types.HydraContext.config_loader.load_sweep_config",
        "hydra.types.TaskFunction",
    },
    "stage_settings.py": {"hydra._internal.config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config"},
    "sub_groups.py": {"hydra._internal.config_loader_impl.ConfigLoaderImpl"},
    "main.py": {"hydra.core.hydra_config.HydraConfig.get", "hydra.main"},
    "old_names.py": {"hydra._internal.config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config"},  # replaced
    "searchpath.py": {
        "hydra.core.config_search_path.ConfigSearchPath",
        "hydra.plugins.search_path_plugin.SearchPathPlugin",
    },
    "sweeps.py": {
        "hydra.core.override_parser.overrides_parser.OverridesParser.create().parse_override",
        "hydra.core.override_parser.types.Glob",
        "hydra.core.override_parser.types.RangeSweep",
        "hydra.errors.HydraException",
    },
}
"""Names of Hydra by the file that uses them. ``()`` is a call: what follows belongs to the object that it returns."""

BY_OBJECT = {
    "_return_value": "hydra.core.utils.JobReturn._return_value",
    "load_sweep_config": "hydra.types.HydraContext.config_loader.load_sweep_config",
}
"""Attributes that are read on objects whose class does not stand in the file."""

SIGNATURES = {
    "hydra._internal.config_loader_impl.ConfigLoaderImpl._apply_overrides_to_config": ["overrides", "cfg"],
    "hydra._internal.hydra.Hydra.get_mode": ["self", "config_name", "overrides"],
    "hydra._internal.utils.get_args_parser": [],
    "hydra.compose": ["config_name", "overrides", "return_hydra_config"],
    "hydra.core.config_loader.ConfigLoader.load_sweep_config": ["self", "master_config", "sweep_overrides"],
    "hydra.core.config_search_path.ConfigSearchPath.append": ["self", "provider", "path"],
    "hydra.core.global_hydra.GlobalHydra.clear": ["self"],
    "hydra.core.hydra_config.HydraConfig.get": [],
    "hydra.core.hydra_config.HydraConfig.set_config": ["self", "cfg"],
    "hydra.core.override_parser.overrides_parser.OverridesParser.create": [],
    "hydra.core.override_parser.overrides_parser.OverridesParser.parse_override": ["self", "s"],
    "hydra.core.override_parser.types.Glob.filter": ["self", "names"],
    "hydra.core.override_parser.types.Override.is_discrete_sweep": ["self"],
    "hydra.core.override_parser.types.Override.is_sweep_override": ["self"],
    "hydra.core.override_parser.types.Override.sweep_iterator": ["self"],
    "hydra.core.override_parser.types.Override.value": ["self"],
    "hydra.initialize_config_dir": ["config_dir", "version_base"],
    "hydra.main": ["config_path", "config_name", "version_base"],
    "hydra.plugins.launcher.Launcher.launch": ["self", "job_overrides", "initial_job_idx"],
    "hydra.plugins.launcher.Launcher.setup": ["self", "hydra_context", "task_function", "config"],
    "hydra.plugins.search_path_plugin.SearchPathPlugin.manipulate_search_path": ["self", "search_path"],
}
"""The parameters that are relied on. Hydra may have others, if they have defaults."""

FLAGS = {"experimental_rerun", "resolve", "cfg", "help", "hydra_help", "run", "multirun", "shell_completion", "info"}


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the local name and the full name of everything that is imported, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield "", str(argument.value)


def is_hydra(name: str) -> bool:
    return name == "hydra" or name.startswith("hydra.")


def used(file: Path) -> set[str]:
    """Return the names of Hydra that a file uses, each as far as it can be followed."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {local: full for local, full in imports(tree) if is_hydra(full)}

    def path(node: ast.AST) -> str | None:
        if isinstance(node, ast.Name):
            return names.get(node.id)
        if isinstance(node, ast.Attribute):
            above = path(node.value)
            return above and f"{above}.{node.attr}"
        if isinstance(node, ast.Call):
            called = path(node.func)
            return called and f"{called}()"
        return None

    found = {full for full in names.values() if full != "hydra"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Call):
            of_object = BY_OBJECT.get(node.attr) if isinstance(node, ast.Attribute) else None
            found |= {name for name in (path(node), of_object) if name}
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_replaced", "getattr", "setattr"):
            owner, attribute = path(node.args[0]), node.args[1]
            if owner and isinstance(attribute, ast.Constant):
                found.add(f"{owner}.{attribute.value}")
    return {
        name.removesuffix("()")
        for name in found
        if not any(other.startswith((f"{name}.", f"{name}()")) for other in found)
    }


def look_up(name: str) -> Any:
    """Follow a dotted name; modules that are not loaded yet are imported."""
    parts = name.split(".")
    found: Any = importlib.import_module(parts[0])
    for k, part in enumerate(parts[1:], 2):
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(".".join(parts[:k]))
    return found


def test_hydra_is_imported_in_one_room_only() -> None:
    outside = {
        str(file.relative_to(ROOT))
        for file in PACKAGE.rglob("*.py")
        if not file.is_relative_to(ROOM)
        and any(is_hydra(name) for _, name in imports(ast.parse(file.read_text(encoding="utf-8"))))
    }
    assert not outside


def test_the_list_of_what_is_used_is_complete() -> None:
    files = [*ROOM.glob("*.py"), *PLUGINS.rglob("*.py")]
    assert {file.name: names for file in files if (names := used(file))} == USED


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_hydra_takes_what_it_is_called_with(name: str) -> None:
    parameters = inspect.signature(look_up(name)).parameters.values()
    known = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    assert {p.name for p in known} >= set(SIGNATURES[name])
    assert [p.name for p in known if p.default is p.empty and p.name not in SIGNATURES[name]] == []


@pytest.mark.parametrize("name", sorted({name.partition("()")[0] for names in USED.values() for name in names}))
def test_hydra_has_what_is_used(name: str) -> None:
    if name.endswith("JobReturn._return_value"):
        assert "_return_value" in {field.name for field in dataclasses.fields(JobReturn)}
    elif name.endswith("config_loader.load_sweep_config"):
        hints = inspect.signature(HydraContext.__init__).parameters
        assert "config_loader" in hints
        assert callable(ConfigLoader.load_sweep_config)
    else:
        assert look_up(name) is not None


def test_a_failed_job_raises_when_its_value_is_read() -> None:
    assert isinstance(JobReturn.return_value, property)
    job = JobReturn(status=JobStatus.FAILED)
    job.return_value = KeyError("k")
    assert isinstance(job._return_value, KeyError)
    with pytest.raises(KeyError):
        _ = job.return_value


def test_the_flags_that_are_checked_exist() -> None:
    assert set(vars(get_args_parser().parse_args([]))) >= FLAGS


def test_overrides_and_errors_have_the_fields_that_are_read() -> None:
    override = OverridesParser.create().parse_override("seed=range(0,3)")
    assert isinstance(override, Override)
    assert override.key_or_group == "seed"
    value = override.value()
    assert isinstance(value, RangeSweep)
    assert (value.start, value.stop, value.step) == (0, 3, 1)
    glob = OverridesParser.create().parse_override("agent=glob(p*)").value()
    assert isinstance(glob, Glob)
    assert glob.filter(["ppo", "trpo"]) == ["ppo"]
    with pytest.raises(OverrideParseException) as unreadable:
        OverridesParser.create().parse_overrides(["seed=[1"])
    assert unreadable.value.override == "seed=[1"
    assert unreadable.value.message
    assert MissingConfigException("m", "agent/x", ["ppo"]).missing_cfg_file == "agent/x"


def test_nothing_imports_the_command_line_but_itself() -> None:
    importers = {
        str(file.relative_to(file.parents[0] if file.is_relative_to(PLUGINS) else PACKAGE))
        for file in [*PACKAGE.rglob("*.py"), *PLUGINS.rglob("*.py")]
        if any(
            name == "perturbrl.cli" or name.startswith("perturbrl.cli.")
            for _, name in imports(ast.parse(file.read_text(encoding="utf-8")))
        )
    }
    assert {name for name in importers if not name.startswith("cli/")} == {"__main__.py"}
