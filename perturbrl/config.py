"""Bind YAML to frozen dataclasses. Defaults live in the YAML; dataclass fields only say the type."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from perturbrl.errors import UserError, one_of

T = TypeVar("T")


def bind(schema: type[T], node: Any, where: str) -> T:
    """Turn a config node into a frozen ``schema`` object.

    Raises
    ------
    UserError
        An unknown key, a missing value or a value of the wrong type; the message names ``where.key``.
    """
    found: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(found, Mapping):
        raise UserError(f"{where}: expected a group of keys, got {found!r}")
    values: Mapping[str, Any] = found
    hints = typing.get_type_hints(schema)
    fields = {f.name for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
    for key in values:
        if key not in fields:
            raise UserError(f"{where}.{key}: unknown key{_did_you_mean(key, fields)}; valid keys are {one_of(fields)}")
    for key in sorted(fields):
        if key not in values or values[key] == "???":
            raise UserError(f"{where}.{key}: a value is required and none was given")
    bound = {key: _convert(hints[key], values[key], f"{where}.{key}") for key in fields}
    return schema(**bound)


def _convert(wanted: Any, value: Any, where: str) -> Any:
    if isinstance(wanted, type) and dataclasses.is_dataclass(wanted):
        return bind(wanted, value, where)
    if wanted is Any:
        return value
    holder = dataclasses.make_dataclass("Holder", [("value", wanted)])
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(holder), {"value": value})).value  # type: ignore[union-attr]
    except OmegaConfBaseException:
        name = wanted.__name__ if isinstance(wanted, type) else str(wanted)
        raise UserError(f"{where}: {value!r} is not a valid {name}") from None


def choice(value: str, choices: Mapping[str, Any] | set[str] | tuple[str, ...], where: str) -> str:
    """Return ``value`` if it is one of ``choices``, else raise a ``UserError`` that lists them."""
    if value not in choices:
        raise UserError(
            f"{where}: {value!r} is not known{_did_you_mean(str(value), set(choices))}; choose {one_of(choices)}"
        )
    return value


def require(condition: bool, where: str, message: str) -> None:
    """Raise ``UserError('where: message')`` unless ``condition`` holds."""
    if not condition:
        raise UserError(f"{where}: {message}")


def fingerprint(config: DictConfig | dict[str, Any], ignore: tuple[str, ...] = ()) -> str:
    """Return a sha256 of a resolved config, leaving out the top-level keys in ``ignore``."""
    values = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else dict(config)
    assert isinstance(values, dict)
    kept = {k: v for k, v in values.items() if k not in ignore}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def _did_you_mean(word: str, known: set[str]) -> str:
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
