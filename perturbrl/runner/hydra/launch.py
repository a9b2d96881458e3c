"""Hand the rest of a command line to a function decorated with ``hydra.main``, and report the jobs that failed."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

from omegaconf import OmegaConf

from perturbrl import status
from perturbrl.errors import UserError
from perturbrl.records import RunDir
from perturbrl.registry import plugin_conf_dirs
from perturbrl.runner import guard
from perturbrl.runner.hydra import errors as hydra_errors
from perturbrl.runner.hydra import old_names, stage_settings, sub_groups
from perturbrl.runner.hydra.sweeps import check_asked, check_parsed, check_sweep
from perturbrl.runner.outcome import all_diverged

_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")


def flags_first(args: Sequence[str]) -> list[str]:
    """Move Hydra's flags before the overrides: Hydra 1.3 refuses ``agent=ppo -m seed=0,1``."""
    flags: list[str] = []
    overrides: list[str] = []
    words = iter(args)
    for word in words:
        if word == "--":
            overrides.extend(words)
        elif not word.startswith("-"):
            overrides.append(word)
        else:
            flags.append(word)
            following = next(words, None) if word in (*_WITH_VALUE, "--info", "-i") else None
            if following is not None:
                known = word in _WITH_VALUE or following in _INFO
                (flags if known else overrides).append(following)
    return [*flags, *overrides]


def run(module: str, function: str, args: Sequence[str], program: str) -> None:
    """Call ``module.function``, decorated with ``hydra.main``, as if ``args`` were its command line.

    Raises
    ------
    UserError
        The command line or the config is wrong.
    SystemExit
        With code 1 if a job of a sweep failed; the others have run, and the failed ones are listed.
    Exception
        What a single job raised.
    """
    ordered = flags_first(args)
    overrides = [word for word in ordered if not word.startswith("-")]
    flags = _check_flags(ordered)
    sweep = bool(flags.multirun)
    if not any((flags.cfg, flags.info, flags.help, flags.hydra_help, flags.shell_completion)):
        check_asked(overrides, sweep)
    check_sweep(overrides)
    with nullcontext() if "progress=quiet" in overrides else status.step("loading"):
        main = _load(module, function)
    with (
        _hydra_raises(),
        _checked_sweeps(),
        _collected_failures() as (failures, finished),
        _replaced(sys, "argv", [program, *ordered]),
        _composed_once(ordered, overrides),
        stage_settings.filled(),
        old_names.accepted(),
        sub_groups.accepted(),
    ):
        try:
            main()
        except Exception as error:
            user_error = hydra_errors.of_hydra(error, overrides)
            if not failures or isinstance(user_error, UserError):
                raise user_error from (None if user_error is error else error)
            # else a sweeper that got no value from any job: what is wrong with the jobs is printed below
    if not failures:
        if diverged := all_diverged(list(filter(None, map(_status, finished)))):
            print(diverged, file=sys.stderr)
            raise SystemExit(guard.FAILED)
        return
    if not sweep and len(failures) == 1 and not _is_sweep(failures[0]):
        raise hydra_errors.of_job(failures[0]._return_value)
    print(f"error: {len(failures)} job{'s' * (len(failures) > 1)} of the sweep failed:", file=sys.stderr)
    for job in failures:
        reason = guard.describe(hydra_errors.of_job(job._return_value))
        print(f"  {' '.join(job.overrides or ())}: {reason}", file=sys.stderr)
    raise SystemExit(guard.FAILED)


def _load(module: str, function: str) -> Callable[[], Any]:
    """Import without garbage collection: the objects of thousands of modules stay until the end anyway."""
    gc.disable()
    try:
        main: Callable[[], Any] = getattr(importlib.import_module(module), function)
    finally:
        gc.freeze()
        gc.enable()
    return main


@contextmanager
def _composed_once(args: Sequence[str], overrides: Sequence[str]) -> Iterator[None]:
    """Skip the composition by which Hydra asks whether the config itself chooses a sweep.

    Only an experiment, a key of Hydra's, another folder of configs or a plugin can.
    """
    from hydra._internal.hydra import Hydra

    may_set_mode = any(word in override for override in overrides for word in ("hydra", "experiment"))
    if may_set_mode or len(args) > len(overrides) or plugin_conf_dirs():
        yield
    else:
        with _replaced(Hydra, "get_mode", lambda *_, **__: None):
            yield


def _check_flags(args: Sequence[str]) -> argparse.Namespace:
    """Refuse flags that Hydra does not know, in one line; return all flags."""
    from hydra._internal.utils import get_args_parser

    def refuse(message: str) -> NoReturn:
        raise UserError(f"train: {message}; perturbrl train --hydra-help lists the flags")

    parser: argparse.ArgumentParser = get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    known = parser.parse_args(list(args))
    if known.experimental_rerun is not None:
        raise UserError("--experimental-rerun: not supported, it loads a pickle; run the same command again instead")
    if known.resolve and known.cfg is None and not known.help:
        raise UserError("--resolve: only together with --cfg job, hydra or all")
    modes = [flag for flag in ("run", "cfg", "multirun", "shell_completion", "info") if getattr(known, flag)]
    if len(modes) > 1:
        raise UserError(f"train: choose one of {' and '.join('--' + flag.replace('_', '-') for flag in modes)}")
    return known


@contextmanager
def _checked_sweeps() -> Iterator[None]:
    """Check what Hydra's sweeper gets, the values of ``hydra.sweeper.params`` among it."""
    from hydra.core.plugins import Plugins

    Plugins.instance()  # looks for plugins, which imports the next module anew
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    plain = BasicSweeper.split_arguments

    def split(overrides: list[Any], max_batch_size: int | None) -> Any:
        check_parsed(overrides)
        return plain(overrides, max_batch_size)

    with _replaced(BasicSweeper, "split_arguments", staticmethod(split)):
        yield


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise errors. Otherwise it prints several lines and exits with 1, whatever the cause."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = vars(owner)[name]  # as it is: a static method stays one
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _collected_failures() -> Iterator[tuple[list[Any], list[Any]]]:
    """Collect failed jobs. Hydra's own sweeper would stop at the first; others expect the exception as the result.

    The second list has the other jobs.
    """
    from hydra.core.utils import JobReturn, JobStatus

    plain: property = JobReturn.return_value  # type: ignore[assignment]
    failures: list[Any] = []
    finished: list[Any] = []

    def read(job: Any) -> Any:
        if job.status is not JobStatus.FAILED:
            assert plain.fget is not None
            if not any(job is seen for seen in finished):
                finished.append(job)
            return plain.fget(job)
        if not any(job is seen for seen in failures):
            failures.append(job)
        if _sweeper_ignores_values(job):
            return None
        raise job._return_value  # Hydra would print a line more

    with _replaced(JobReturn, "return_value", property(read, plain.fset)):
        yield failures, finished


def _status(job: Any) -> str:
    """Return the status in the ``run.json`` of a job; empty where its folder is not known."""
    folder = None if job.hydra_cfg is None else OmegaConf.select(job.hydra_cfg, "hydra.runtime.output_dir")
    run = {} if folder is None else RunDir(Path(folder)).run
    return str(run.get("status", ""))


def _sweeper_ignores_values(job: Any) -> bool:
    """Return whether the sweeper ignores the values of jobs, so that one may be missing."""
    if job.hydra_cfg is None:  # a launcher that keeps no copy of it
        return True
    target = str(job.hydra_cfg.hydra.sweeper.get("_target_", ""))
    return not _is_sweep(job) or target.endswith("BasicSweeper")


def _is_sweep(job: Any) -> bool:
    return job.hydra_cfg is None or str(job.hydra_cfg.hydra.mode).endswith("MULTIRUN")
