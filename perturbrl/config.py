"""Bind YAML to frozen dataclasses. Defaults are in the YAML; a field declares its type and its bounds."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import types
import typing
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from perturbrl import bounds
from perturbrl.errors import UserError, choice, did_you_mean, one_of, require

__all__ = [
    "bind",
    "choice",
    "fingerprint",
    "new_names",
    "read_changes",
    "renamed",
    "require",
    "warn_of_old_name",
    "without_added",
]

T = TypeVar("T")

RENAMED = {("env", "counterfactual"): {"max_perturb": "max_train_targets"}}
"""New names of keys by their old names, for a group and the entry that its ``name`` says."""

ADDED: dict[str, dict[str, Any]] = {
    "agent": {"optimizer": {"name": "adam", "beta1": 0.9, "beta2": 0.999, "eps": 1e-5}, "fisher_fraction": 1.0},
    "baseline": {"optimizer": "adamw"},
    "description": {"network": None, "network_aliases": {}, "network_shuffle": False},
    "encoder": {"optimizer": "adam"},
    "env": {"threshold_rate": 0.0},
    "source": {"network": "myeloid", "family": "scale_free", "n_regulators": None, "network_seed": 0, "capture": 1.0},
}
"""Keys that are new since 0.1.0, by the group that has them or nests them: each with its neutral value.

The neutral value is what runs did before there was the key, and never changes, whatever the YAML's default becomes. A
config that lacks the key means it, and a key that has it is left out of the fingerprint: older runs stay valid.
"""


def bind(schema: type[T], node: Any, group: str) -> T:
    """Turn a config node into a frozen ``schema`` object.

    Every value is checked against the type and the bounds (``bounds``) of its field. If the schema has a method
    ``check(group)``, it is called last; it checks rules between fields.

    Parameters
    ----------
    schema
        A frozen dataclass. Its fields must be exactly the keys of the node.
    node
        An OmegaConf node or a mapping.
    group
        The key of the node, such as ``agent``; empty for the whole config.

    Returns
    -------
    T
        An instance of ``schema``; nested dataclasses are bound too.

    Raises
    ------
    UserError
        A key is unknown, or a value is missing, of the wrong type or out of bounds. The message names the full key.
    """
    content: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    if not isinstance(content, Mapping):
        raise UserError(f"{group or 'config'}: expected a group of keys, got {content!r}")
    values: dict[str, Any] = dict(content)
    schema = _variant(schema, values, group)
    hints = typing.get_type_hints(schema)
    declared = typing.get_type_hints(schema, include_extras=True)
    fields = {f.name: f"{group}.{f.name}".lstrip(".") for f in dataclasses.fields(schema)}  # type: ignore[arg-type]
    values |= {k: v for k, v in ADDED.get(group.partition(".")[0], {}).items() if k in fields and k not in values}
    for key in values:
        if key not in fields:
            full = f"{group}.{key}".lstrip(".")
            raise UserError(f"{full}: unknown key{did_you_mean(key, fields)}; valid keys are {one_of(fields)}")
    for key in sorted(fields):
        if key not in values or values[key] == "???":
            raise UserError(f"{fields[key]}: a value is required and none was given")
    bound: dict[str, Any] = {}
    for key, full in fields.items():
        bound[key] = _convert(hints[key], values[key], full)
        bounds.check(declared[key], bound[key], full)
    config = schema(**bound)
    between: Callable[[str], None] | None = getattr(config, "check", None)
    if between is not None:
        between(group)
    return config


def _variant(schema: type[T], values: Mapping[str, Any], group: str) -> type[T]:
    """Return the schema for these values, where one schema stands for several (``variant(values, group)``)."""
    choose: Callable[[Mapping[str, Any], str], type[T]] | None = getattr(schema, "variant", None)
    return schema if choose is None else choose(values, group)


def _convert(annotation: Any, value: Any, key: str) -> Any:
    if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
        return value if isinstance(value, annotation) else bind(annotation, value, key)
    if annotation is Any or _fits(annotation, value):
        return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
    try:
        return OmegaConf.to_object(OmegaConf.merge(_holder(annotation), {"value": value})).value  # type: ignore[union-attr]
    except OmegaConfBaseException:
        name = annotation.__name__ if isinstance(annotation, type) else str(annotation)
        raise UserError(f"{key}: {value!r} is not a valid {name}") from None


def _fits(annotation: Any, value: Any) -> bool:
    """Return whether a value has a type that the annotation names, so that OmegaConf would return it unchanged."""
    plain = type(value) in (int, float, bool, type(None)) or (type(value) is str and "$" not in value)
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return plain and type(value) in (typing.get_args(annotation) if union else (annotation,))


@functools.cache
def _holder(annotation: Any) -> DictConfig:
    """Return a config of one value of this type; to make one is slow, and a run has a hundred values."""
    holder: DictConfig = OmegaConf.structured(dataclasses.make_dataclass("Holder", [("value", annotation)]))
    return holder


def new_names(group: str, node: Any) -> Mapping[str, str]:
    """Return the new names of keys by their old names, in the group of a config with the content ``node``."""
    return RENAMED.get((group, str(node.get("name"))), {}) if isinstance(node, Mapping | DictConfig) else {}


def renamed(group: str, node: Mapping[str, Any], warn: bool = False) -> dict[str, Any]:
    """Return a group with keys under their new names.

    A value under an old name replaces that under the new name, which is a default where both are there.
    """
    names = new_names(group, node)
    values = {key: value for key, value in node.items() if key not in names}
    for old, new in names.items():
        if old in node:
            values[new] = node[old]
            if warn:
                warn_of_old_name(group, str(node["name"]), old)
    return values


def warn_of_old_name(group: str, name: str, old: str) -> None:
    """Warn that a key has a new name; once, however many runs use it."""
    new = RENAMED[group, name][old]
    warnings.warn(f"{group}.{old}: is called {group}.{new} with {group}={name}; the old name is accepted", stacklevel=2)


def without_added(group: str, node: Any) -> Any:
    """Return what a group of the config holds, at any depth, without the keys of ``ADDED`` that are neutral."""
    neutral = ADDED.get(group)
    if not neutral or not isinstance(node, Mapping):
        return node
    missing = object()
    return {k: without_added(group, v) for k, v in node.items() if neutral.get(k, missing) != v}


def read_changes(words: Iterable[str]) -> dict[str, Any]:
    """Return words KEY=VALUE of a command line as values by key, read as YAML.

    Raises
    ------
    UserError
        A word is no KEY=VALUE, a key is given twice, or a value cannot be read.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals):
            raise UserError(f"{word!r} is no setting; settings are KEY=VALUE")
        require(key not in values, key, "is given twice")
        try:
            values[key] = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]), resolve=True)["value"]  # type: ignore[index, call-overload]
        except (YAMLError, OmegaConfBaseException):
            raise UserError(f"{key}: {text!r} cannot be read as a value") from None
    return values


def fingerprint(config: DictConfig | dict[str, Any], ignore: tuple[str, ...] = ()) -> str:
    """Return the sha256 of a resolved config without the top-level keys in ``ignore``.

    Renamed keys are hashed under their old names, and added keys that have their neutral value are left out, so that
    finished runs stay valid.
    """
    values = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else dict(config)
    assert isinstance(values, dict)
    hashed = {k: v for k, v in values.items() if k not in ignore}
    for group, node in hashed.items():
        old_names = {new: old for old, new in new_names(str(group), node).items()}
        if old_names:
            hashed[group] = {old_names.get(key, key): value for key, value in node.items()}
    hashed = {group: without_added(str(group), node) for group, node in hashed.items()}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()
