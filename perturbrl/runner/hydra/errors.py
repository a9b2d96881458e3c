"""Errors of Hydra and OmegaConf as one line that names the key and the valid choices."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from perturbrl.config import choice
from perturbrl.errors import UserError, one_of
from perturbrl.runner import conf_tree


def of_job(error: BaseException) -> BaseException:
    """Return ``error``, raised by a job; as a ``UserError`` where the config it was given has a gap."""
    from omegaconf.errors import InterpolationResolutionError, MissingMandatoryValue

    user_error = _within(error)
    if user_error is not None:
        return user_error
    if isinstance(error, MissingMandatoryValue):
        return UserError(f"{getattr(error, 'full_key', None) or 'config'}: a value is required and none was given")
    if isinstance(error, InterpolationResolutionError):
        return UserError(f"{getattr(error, 'full_key', None) or 'config'}: {_first_line(error)}")
    return error


def of_hydra(error: BaseException, overrides: Sequence[str]) -> BaseException:
    """Return ``error``, raised before any job could start; as a ``UserError`` where the command line is at fault."""
    from hydra.errors import HydraException, MissingConfigException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException

    user_error = _within(error)
    if user_error is not None:
        return user_error
    if isinstance(error, MissingConfigException):
        return _missing(error.missing_cfg_file or "", error)
    if isinstance(error, OverrideParseException):
        return _unreadable(error.override, error.message)
    if isinstance(error, (HydraException, OmegaConfBaseException)):
        return _composition(of_job(error), overrides)
    if isinstance(error, ValueError) and _raised_by_hydra(error):
        return _composition(error, overrides)
    if isinstance(error, OSError) and error.filename:  # Hydra makes the folder of a run before the job is called
        return UserError(f"{error.filename}: cannot be written ({error.strerror}); choose another folder")
    return error


@contextmanager
def translated(overrides: Sequence[str]) -> Iterator[None]:
    """Convert what Hydra raises in the body into a ``UserError``; the body composes configs itself."""
    from hydra.errors import HydraException

    try:
        yield
    except HydraException as error:
        raise of_hydra(error, overrides) from error


def _within(error: BaseException | None) -> UserError | None:
    """Return the ``UserError`` that OmegaConf wraps when a resolver raises it."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _missing(config: str, error: BaseException) -> UserError:
    group, _, option = config.rpartition("/")
    options = getattr(error, "options", None)
    known = sorted({*(options or ()), *conf_tree.groups(conf_tree.conf_dirs()).get(group, ())})
    if group and known:
        try:
            choice(option, tuple(known), group if group.startswith("hydra/") else group.replace("/", "."))
        except UserError as unknown:
            return unknown
    return UserError(f"config {config!r}: no such file in the config folders {_folders()}")


def _unreadable(override: str, message: str) -> UserError:
    if "=" not in override and not override.startswith("~"):
        return UserError(f"{override!r}: not an override; write key=value, for example agent=ppo or seed=1")
    key, _, value = override.partition("=")
    reason = message.split(", see http")[0]
    return UserError(f"{key}: {value!r} cannot be read ({_line(reason)}); quote special characters: '{key}=\"...\"'")


def _composition(error: BaseException, overrides: Sequence[str]) -> UserError:
    if isinstance(error, UserError):
        return error
    text = str(error)
    if match := re.match(r"Ambiguous value for argument '([^=]*)=(.*)'", text):
        key, value = match.groups()
        return UserError(
            f"{key}: {value!r} is several values; to sweep over them add -m, to pass a list write [{value}]"
        )
    if match := re.match(r"Sweep parameters '([^']*)' requires --multirun", text):
        return UserError(f"{match[1]}: a sweep needs -m: perturbrl train -m {match[1]}")
    if match := re.search(r"Could not (?:override|delete from config\.|delete) '([^']*)'", text):
        return _unknown_key(match[1], overrides)
    if match := re.search(r"config group '([^']*)' does not\s+exist", text):
        return _unknown_key(match[1], overrides)
    if match := re.match(r"Could not append to config\. An item is already at '([^']*)'", text):
        return UserError(f"{match[1]}: the key exists already; leave out the +")
    if match := re.match(r"Config group override must be a string or a list", text):
        groups = conf_tree.groups(conf_tree.conf_dirs())
        for word in overrides:
            key, _, value = word.partition("=")
            if key in groups:
                return _missing(f"{key}/{value}", error)
    if match := re.match(r"Error merging override (.*)", text):
        cause = error.__cause__
        return UserError(f"{match[1]}: {_first_line(cause) if cause is not None else 'not a valid value'}")
    cause = error.__cause__
    return UserError(_first_line(error) or (_first_line(cause) if cause is not None else type(error).__name__))


def _unknown_key(key: str, overrides: Sequence[str]) -> UserError:
    """Name the valid neighbours of ``key``: the choices at its level of the composed config."""
    group, _, package = key.split("=")[0].lstrip("+~").partition("@")
    key = package or group
    roots = conf_tree.conf_dirs()
    groups = conf_tree.groups(roots)
    above, _, leaf = key.replace("/", ".").rpartition(".")
    keys = conf_tree.keys(roots, conf_tree.chosen(overrides, groups))
    if group in conf_tree.sub_groups():
        return _no_such_choice(group, above, leaf, keys)
    names = {*keys, *(group.replace("/", ".") for group in groups)}
    level = {n[len(above) + 1 if above else 0 :].split(".")[0] for n in names if not above or n.startswith(f"{above}.")}
    if above in names and not level:
        return UserError(f"{key}: unknown key; {above} is a value, it has no keys below it")
    if not level:
        return _unknown_key(above, overrides) if above else UserError(f"{key}: unknown key")
    if leaf in level:
        return UserError(
            f"{key}: this key cannot be overridden this way; perturbrl train --cfg job prints the composed config"
        )
    close = difflib.get_close_matches(leaf, sorted(level), n=1)
    guess = f" (did you mean {close[0]!r}?)" if close else ""
    return UserError(f"{key}: unknown key{guess}; valid keys are {one_of(level)}")


def _no_such_choice(group: str, above: str, leaf: str, keys: Collection[str]) -> UserError:
    """Say where a choice of a group within a group can be made: each stage of an agent may have its own."""
    top = group.partition("/")[0]
    places = sorted({".".join(parts[: parts.index(leaf) + 1]) for key in keys if leaf in (parts := key.split("."))})
    places = [place for place in places if place.startswith(f"{top}.") and place != f"{above}.{leaf}"]
    advice = f"choose it at {one_of(places)}" if places else f"this {top} has no choice of it"
    if f"{top}.stages" in keys:
        advice = f"choose it for a stage, such as {top}.ppo.{leaf}"
    return UserError(f"{above}.{leaf}: there is no such choice here; {advice}")


def _raised_by_hydra(error: BaseException) -> bool:
    frame = error.__traceback__
    if frame is None:
        return False
    while frame.tb_next is not None:
        frame = frame.tb_next
    return str(frame.tb_frame.f_globals.get("__name__", "")).startswith(("hydra.", "omegaconf."))


def _first_line(error: BaseException) -> str:
    return _line(str(error))


def _line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _folders() -> str:
    return ", ".join(str(folder) for folder in conf_tree.conf_dirs())
