from __future__ import annotations

import subprocess
import sys

import pytest

from perturbrl import later

INSTALLED = "from perturbrl import later; later.install(); "


def fresh(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", INSTALLED + code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``slow`` whose import leaves a mark, with a submodule."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "__init__.py").write_text("import sys\nsys.slow_ran = getattr(sys, 'slow_ran', 0) + 1\nvalue = 3\n")
    (folder / "part.py").write_text("import sys\nafter = sys.slow_ran\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(later, "MODULES", ("slow",))
    monkeypatch.setattr(sys, "meta_path", [later._LaterFinder(), *sys.meta_path])
    monkeypatch.setattr(sys, "slow_ran", 0, raising=False)
    yield
    for name in ("slow", "slow.part"):
        sys.modules.pop(name, None)


def test_a_module_runs_once_and_when_it_is_used(package):
    import slow

    assert slow.__name__ == "slow" and slow.__spec__.name == "slow" and not hasattr(slow, "__wrapped__")
    assert sys.slow_ran == 0
    assert slow.value == 3 and slow.value == 3
    assert sys.slow_ran == 1 and type(slow) is type(sys)
    with pytest.raises(AttributeError, match="nothing"):
        slow.nothing  # noqa: B018


def test_names_taken_from_it_and_its_submodules_load_it_first(package):
    from slow.part import after

    assert after == 1
    from slow import value

    assert value == 3 and sys.slow_ran == 1


def test_what_is_put_off_works_when_it_is_used():
    code = (
        "import torch, sys; waiting = '_waiting' in vars(sys.modules['torch.export']);"
        "twice = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)).module();"
        "print(waiting, tuple(twice(torch.ones(1, 2)).shape))"
    )
    assert fresh(code) == "True (1, 2)"


def test_a_run_imports_what_it_uses():
    code = (
        "import sys, perturbrl.runner.hydra.main; from perturbrl import registry;"
        "registry.agents['ppo'], registry.envs['paper'], registry.protocols['paper'], registry.sources['landscape'];"
        "print(*(m for m in ['perturbrl.agents.trpo', 'perturbrl.envs.counterfactual.task',"
        "'perturbrl.data.sources.paul15', 'perturbrl.evaluate.counterfactual.protocol', 'gymnasium', 'scipy.optimize',"
        "'anndata', 'scanpy', 'sklearn', 'torch_geometric', 'matplotlib'] if m in sys.modules))"
    )
    assert fresh(code) == ""


def test_help_imports_nothing_heavy():
    code = (
        "import sys; sys.argv = ['perturbrl', '--help']; from perturbrl import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print('HEAVY', *(m for m in ('torch', 'numpy', 'pandas', 'hydra') if m in sys.modules))"
    )
    assert fresh(code).splitlines()[-1].strip() == "HEAVY"
