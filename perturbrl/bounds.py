"""Declarations on the fields of a config: valid values, and which settings may differ between runs of a population.

    lr: PerRun[PositiveFloat]
    kl: Annotated[str, OneOf("per_dimension", "summed")]
    hidden: Annotated[list[PositiveInt], NotEmpty()]

``config.bind`` checks them. Every float must be finite, unless its field says ``Number(finite=False)``; every int must
fit in 64 bits. A setting without ``PerRun`` is shared by all runs of a population.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, TypeVar, runtime_checkable

from perturbrl.errors import UserError, choice, require

T = TypeVar("T")

LARGEST_FLOAT = 3.4e38  # of single precision, in which everything is computed
LARGEST_INT = 2**63 - 1


@runtime_checkable
class Bound(Protocol):
    """A rule on the value of one field. A plugin may define its own class with this method."""

    def admit(self, value: Any, key: str) -> None:
        """Check one value.

        Parameters
        ----------
        value
            The value, already of the field's type.
        key
            The full key, such as ``agent.lr``; the message starts with it.

        Raises
        ------
        UserError
            The value breaks the rule. The message names the key, the value and the valid values.
        """
        ...


@dataclass(frozen=True)
class Number:
    """A range of numbers. A limit of None is not checked; the value None is always valid.

    Parameters
    ----------
    above, below
        Limits outside the range (exclusive).
    least, most
        Limits inside the range (inclusive).
    finite
        Whether infinity is refused.
    """

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    finite: bool = True

    def admit(self, value: Any, key: str) -> None:
        """Raise ``UserError`` for a number outside the range."""
        if value is None:
            return
        inside = (
            (self.above is None or value > self.above)
            and (self.least is None or value >= self.least)
            and (self.below is None or value < self.below)
            and (self.most is None or value <= self.most)
        )
        require(inside, key, f"must be {self}, got {value}")

    def __str__(self) -> str:
        limits = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        return " and ".join(f"{word} {limit}" for word, limit in limits.items() if limit is not None)


class OneOf:
    """One of the names ``choices``."""

    def __init__(self, *choices: str) -> None:
        self.choices = choices

    def admit(self, value: Any, key: str) -> None:
        """Raise ``UserError`` for another name; the message lists the valid ones."""
        choice(value, self.choices, key)


@dataclass(frozen=True)
class NotEmpty:
    """A list or a text that is not empty; ``example`` is a valid value, shown in the message."""

    example: str = ""

    def admit(self, value: Any, key: str) -> None:
        """Raise ``UserError`` for an empty list or text."""
        hint = f", such as {self.example}" if self.example else ""
        require(len(value) > 0, key, f"must not be empty; give at least one{hint}, got {value!r}")


@dataclass(frozen=True)
class NumberOrAll:
    """An integer of at least ``least``, or ``all``; null means the same as ``all``."""

    least: int

    def admit(self, value: Any, key: str) -> None:
        """Raise ``UserError`` for a smaller number or another word."""
        valid = value in (None, "all") or (isinstance(value, int) and value >= self.least)
        require(valid, key, f"must be all, or a number from {self.least} up, got {value!r}")


class _PerRun:
    """The mark of ``PerRun``."""


PerRun = Annotated[T, _PerRun()]
"""A setting that may differ between the runs of a population. The code that builds them must read it for each run."""

PositiveInt = Annotated[int, Number(least=1)]
NonNegativeInt = Annotated[int, Number(least=0)]
PositiveFloat = Annotated[float, Number(above=0)]
NonNegativeFloat = Annotated[float, Number(least=0)]
Probability = Annotated[float, Number(least=0, most=1)]
Fraction = Annotated[float, Number(above=0, below=1)]
Episodes = Annotated[int, Number(least=1, most=1_000_000)]
Seed = Annotated[int, Number(least=0, most=LARGEST_INT)]


def check(annotation: Any, value: Any, key: str, finite: bool = True) -> None:
    """Check a value against all bounds that its annotation declares.

    Parameters
    ----------
    annotation
        The type of the field with its ``Annotated`` bounds.
    value
        The value, already of that type.
    key
        The full key, for messages.
    finite
        Whether floats must be finite.

    Raises
    ------
    UserError
        The value breaks a bound. The message names the full key, the value and the valid values.
    """
    if typing.get_origin(annotation) is Annotated:
        marks = annotation.__metadata__
        check(annotation.__origin__, value, key, finite and all(getattr(mark, "finite", True) for mark in marks))
        for mark in marks:
            if isinstance(mark, Bound):
                mark.admit(value, key)
    elif annotation is float:
        require(not math.isnan(value), key, "must be a number, got nan")
        require(not finite or abs(value) <= LARGEST_FLOAT, key, f"must be a finite number, got {value}")
    elif annotation is int:
        require(-LARGEST_INT <= value <= LARGEST_INT, key, f"must be at most {LARGEST_INT}, got {value}")
    else:
        for part, item, item_key in _parts(annotation, value, key):
            check(part, item, item_key, finite)


def _parts(annotation: Any, value: Any, key: str) -> list[tuple[Any, Any, str]]:
    """Return the elements of a union, list, tuple or mapping: annotation, value and full key of each."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return [(arm, value, key) for arm in arguments if type(value) is _plain(arm)][:1]
    if origin in (list, tuple):
        return [(arguments[0], item, f"{key}[{index}]") for index, item in enumerate(value)]
    if origin is dict:
        return [(arguments[1], item, f"{key}.{name}") for name, item in value.items()]
    return []


def _plain(annotation: Any) -> Any:
    if typing.get_origin(annotation) is Annotated:
        return _plain(annotation.__origin__)
    return typing.get_origin(annotation) or annotation


def shared_settings(schema: type[Any], values: Mapping[str, Any], package: str) -> dict[str, Any]:
    """Return the part of a config that all runs of a population must share.

    ``PerRun`` counts only on fields that ``package`` declares: a plugin that inherits a schema of perturbrl may read
    the settings of the first run only.

    Parameters
    ----------
    schema
        The dataclass of the config.
    values
        The config as a mapping.
    package
        The top-level package of the code that builds the runs.
    """
    hints = typing.get_type_hints(schema, include_extras=True)
    shared: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints.get(key)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            shared[key] = shared_settings(hint, value, package)
        elif not (_is_per_run(hint) and _declared_by(schema, key) == package):
            shared[key] = value
    return shared


def per_run_keys(schema: type[Any]) -> list[str]:
    """Return the keys that a schema declares ``PerRun``; keys of a nested schema are dotted."""
    names: list[str] = []
    for key, hint in typing.get_type_hints(schema, include_extras=True).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            names += [f"{key}.{inner}" for inner in per_run_keys(hint)]
        elif _is_per_run(hint):
            names.append(key)
    return names


def require_shared(configs: Sequence[Any], group: str) -> None:
    """Raise ``UserError`` for the first setting of a population that differs and is not declared ``PerRun``."""
    hints = typing.get_type_hints(type(configs[0]), include_extras=True)
    for key, hint in hints.items():
        if not _is_per_run(hint):
            values = sorted({str(getattr(config, key)) for config in configs})
            if len(values) > 1:
                raise UserError(f"{group}.{key}: runs trained together need one value, got {', '.join(values)}")


def _is_per_run(hint: Any) -> bool:
    return any(isinstance(mark, _PerRun) for mark in getattr(hint, "__metadata__", ()))


def _declared_by(schema: type[Any], key: str) -> str:
    """Return the top-level package of the class that declares a field."""
    declaring = next(c for c in schema.__mro__ if key in inspect.get_annotations(c))
    return declaring.__module__.partition(".")[0]
