"""The regulations of a network, signed by what its rules say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from perturbrl.landscape.network import Network


@dataclass(frozen=True)
class Regulation:
    """``regulator`` stands in the rule of ``target``.

    ``raises``: turned on, it turns the target on in some state of the other regulators; ``lowers``: off in some.
    """

    regulator: str
    target: str
    raises: bool
    lowers: bool

    @property
    def acts(self) -> bool:
        """Whether the target depends on the regulator at all."""
        return self.raises or self.lowers

    @property
    def sign(self) -> int:
        """+1 or -1; 0 where the regulator does both, or nothing."""
        return int(self.raises) - int(self.lowers)


def regulations(network: Network) -> tuple[Regulation, ...]:
    """Return what stands in the rules, by target and in the order of its regulators."""
    found = []
    for target, names, table in zip(network.genes, network.regulators, network.truth_tables, strict=True):
        values = np.array(table, dtype=np.int8).reshape((2,) * len(names))
        for axis, regulator in enumerate(names):
            change = np.diff(values, axis=axis)
            found.append(Regulation(regulator, target, bool((change > 0).any()), bool((change < 0).any())))
    return tuple(found)
