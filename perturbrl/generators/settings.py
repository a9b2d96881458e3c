"""What can be set of a generator; meanings and defaults stand in ``conf/agent/flow.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from perturbrl.bounds import Number, OneOf, PositiveFloat, PositiveInt
from perturbrl.config import require

NETWORKS = ("mlp", "transformer")
CONDITIONINGS = ("film", "adaln")
STARTS = ("noise", "control")
PAIRINGS = ("random", "optimal_transport")
METHODS = ("euler", "heun")


@dataclass(frozen=True)
class NetworkConfig:
    """The velocity network. ``heads`` and ``neighbours`` are of the transformer, ``conditioning`` of the mlp."""

    kind: Annotated[str, OneOf(*NETWORKS)]
    hidden: PositiveInt
    blocks: PositiveInt
    embedding: PositiveInt
    conditioning: Annotated[str, OneOf(*CONDITIONINGS)]
    heads: PositiveInt
    neighbours: PositiveInt

    def check(self, where: str) -> None:
        """Raise ``UserError`` for heads that do not divide the width of a token."""
        if self.kind == "transformer":
            message = f"{self.heads} does not divide hidden = {self.hidden}"
            require(self.hidden % self.heads == 0, f"{where}.heads", message)


@dataclass(frozen=True)
class PathConfig:
    """Where the flow starts, and which start belongs to which cell."""

    start: Annotated[str, OneOf(*STARTS)]
    start_noise: PositiveFloat
    pairing: Annotated[str, OneOf(*PAIRINGS)]


@dataclass(frozen=True)
class SamplingConfig:
    """How the flow is followed: ``steps`` of a solver; ``guidance`` 1 is none."""

    method: Annotated[str, OneOf(*METHODS)]
    steps: PositiveInt
    guidance: Annotated[float, Number(least=0)]
