"""What a bug report needs, and what would stop a run before it starts."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path

from perturbrl import __version__, paths
from perturbrl.cores import cores
from perturbrl.errors import UserError

NEEDED = {
    "hydra-core": "hydra",
    "omegaconf": "omegaconf",
    "typer": "typer",
    "rich": "rich",
    "pyyaml": "yaml",
    "numpy": "numpy",
    "torch": "torch",
    "gymnasium": "gymnasium",
    "anndata": "anndata",
    "mudata": "mudata",
    "scanpy": "scanpy",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "safetensors": "safetensors",
    "h5py": "h5py",
    "pooch": "pooch",
    "requests": "requests",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "torch-geometric": "torch_geometric",
    "matplotlib": "matplotlib",
    "biodivine-aeon": "biodivine_aeon",
}
LOW_DISK = 1e9

Finding = tuple[str, str, bool]
"""What was checked, the result, and whether a run can work with it."""


def examine(outputs: Path) -> bool:
    """Print one line for everything a run needs; return whether all of it is in order."""
    fine = True
    for name, value, good in findings(outputs):
        fine &= good
        print(f"{'ok ' if good else 'BAD'}  {name:<16} {value}", flush=True)
    print("everything needed works" if fine else "something needed is broken: see BAD above")
    return fine


def findings(outputs: Path) -> Iterator[Finding]:
    """Yield all findings, the quick checks first."""
    yield "python", f"{platform.python_version()} on {platform.platform()}", True
    yield "perturbrl", __version__, True
    yield _configs()
    yield _folder("data cache", paths.cache_dir())
    yield _folder("outputs", outputs)
    yield from _plugins()
    for name, module in NEEDED.items():
        yield _package(name, module)
    yield from _device()


def _package(name: str, module: str) -> Finding:
    try:
        import_module(module)
        return name, metadata.version(name), True
    except Exception as error:
        return name, f"does not import: {type(error).__name__}: {' '.join(str(error).split())}", False


def _configs() -> Finding:
    folder = paths.conf_dir()
    return "configs", str(folder), (folder / "config.yaml").is_file()


def _folder(what: str, folder: Path) -> Finding:
    """Try to write where ``folder`` is or would be; leave nothing behind."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return what, f"{folder}: cannot be written ({error.strerror})", False
    free = shutil.disk_usage(there).free
    note = "" if free > LOW_DISK else ", which is little"
    return what, f"{folder}: writable, {free / 1e9:.1f} GB free{note}", True


def _plugins() -> Iterator[Finding]:
    from perturbrl import registry

    plugins = [f"{point.name} ({point.value})" for point in metadata.entry_points(group="perturbrl.plugins")]
    plugins += [str(file) for folder in paths.plugin_dirs() for file in sorted(folder.glob("*.py"))]
    try:
        registry.load_plugins()
    except UserError as error:
        yield "plugins", str(error), False
    except Exception as error:
        yield "plugins", f"{', '.join(plugins)}: {type(error).__name__}: {error}", False
    else:
        yield "plugins", ", ".join(plugins) or "none", True


def _device() -> Iterator[Finding]:
    try:
        import torch
    except Exception:  # reported among the packages
        return
    yield "threads", f"{torch.get_num_threads()} used by torch, {len(cores())} cores available", True
    from perturbrl.agents.kernels import BF16_EMULATED, build, native

    has_bf16 = False
    try:
        has_bf16 = native.load().has_bf16
    except build.Unavailable as error:
        yield "kernels", f"torch: {error}", True
    else:
        yield "kernels", "native", True
    yield _executors()
    yield "precision=bf16", "multiplied by this processor" if has_bf16 else BF16_EMULATED, True
    if not torch.cuda.is_available():
        yield "device", "cpu (no CUDA device)", True
        return
    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count))
    yield "device", f"cuda: {count} x {names}" if count == 1 else f"cuda: {count} devices: {names}", _try(_use_cuda)


def _executors() -> Finding:
    from perturbrl.agents.executors import available

    try:
        return "executors", ", ".join(f"{what}: {name}" for what, name in available().items()), True
    except Exception as error:  # a GPU that torch sees but cannot use
        return "executors", f"{type(error).__name__}: {' '.join(str(error).split())}", False


def _use_cuda() -> None:
    import torch

    torch.zeros(1, device="cuda").add_(1).cpu()


def _try(call: Callable[[], None]) -> bool:
    try:
        call()
    except Exception:
        return False
    return True
