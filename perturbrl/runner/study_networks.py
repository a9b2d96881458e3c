"""The networks of a study: those on which settings are chosen, and those on which arms are compared.

They are the units of inference: a claim is about networks of a family, of which these are a sample.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from perturbrl.bounds import NotEmpty
from perturbrl.config import bind, require

EXAMPLE = "{tuning: {scale_free: {...}}, test: {scale_free: {overrides: [...], key: env.seed, values: [1, 2]}}}"


@dataclass(frozen=True)
class Family:
    """Networks that differ in one key: a network for each of its ``values``, named ``<family>-<value>``."""

    overrides: list[str]
    key: Annotated[str, NotEmpty("env.network")]
    values: Annotated[list[Any], NotEmpty("[1, 2, 3]")]


@dataclass(frozen=True)
class Network:
    """A landscape to learn on: its family and the overrides that make it."""

    family: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Networks:
    """Validation networks (``tuning``) and those of the comparison (``test``), by name; none is both.

    A study without networks has one of each without a name, and its tasks say all.
    """

    tuning: Mapping[str, Network]
    test: Mapping[str, Network]

    @property
    def given(self) -> bool:
        """Whether the study names networks."""
        return list(self.test) != [""]

    def cut(self, n: int | None) -> Networks:
        """Return ``n`` test networks (None: all) and validation networks in proportion, at least one.

        Families take turns, so that every family is in a few.
        """
        if n is None:
            return self
        return Networks(_first(self.tuning, math.ceil(n * len(self.tuning) / len(self.test))), _first(self.test, n))


NO_NETWORK = Networks({"": Network("")}, {"": Network("")})


def read_networks(node: Any, where: str) -> Networks:
    """Read the key ``networks`` of a study; None where it has none.

    Raises
    ------
    UserError
        A part is missing or wrong, or a network is both.
    """
    if node is None:
        return NO_NETWORK
    whole = isinstance(node, dict) and set(node) == {"tuning", "test"}
    require(whole, where, f"must have the keys tuning and test, such as {EXAMPLE}")
    tuning, test = (_expanded(node[part], f"{where}.{part}") for part in ("tuning", "test"))
    both = [name for name, one in test.items() if one.overrides in [other.overrides for other in tuning.values()]]
    require(not both, f"{where}.test", f"{', '.join(both)} is a validation network too; choose others")
    return Networks(tuning, test)


def _expanded(node: Any, where: str) -> dict[str, Network]:
    require(isinstance(node, dict) and len(node) > 0, where, f"must be a mapping of families, got {node!r}")
    out: dict[str, Network] = {}
    for name, each in node.items():
        family = bind(Family, each, f"{where}.{name}")
        for value in family.values:
            out[f"{name}-{value}"] = Network(str(name), (*family.overrides, f"{family.key}={value}"))
    return out


def _first(networks: Mapping[str, Network], n: int) -> dict[str, Network]:
    families: dict[str, list[str]] = {}
    for name, one in networks.items():
        families.setdefault(one.family, []).append(name)
    turns = (name for turn in itertools.zip_longest(*families.values()) for name in turn if name is not None)
    chosen = set(itertools.islice(turns, n))
    return {name: one for name, one in networks.items() if name in chosen}
