"""A conditional flow as a generator of cells, in the standardised space of genes.

Letters: S runs, B cells, M cells of a batch, G genes, K numbers of a condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.generators.cells import CellGenerator, Request
from perturbrl.generators.path import Path
from perturbrl.generators.sampling import follow
from perturbrl.generators.settings import NetworkConfig, PathConfig, SamplingConfig
from perturbrl.generators.transformer import Transformer, coexpressed
from perturbrl.generators.velocity import MLP, Velocity
from perturbrl.rng import derive

LEAST_SPREAD = 1e-2
"""Added to the standard deviation of every gene, so that one that training cells do not express stays near 0."""


@dataclass(frozen=True)
class FlowSettings:
    """What makes the generator: see ``conf/agent/flow.yaml``. ``drop`` above 0 adds an unconditional flow."""

    network: NetworkConfig
    path: PathConfig
    sampling: SamplingConfig
    effect: str
    shrinkage: float | None
    drop: bool


class FlowModel(CellGenerator):
    """S flows with parameters ``theta`` [S, n]; ``cells`` [N, G] (training cells) set the scale of each gene.

    Expression is standardised by gene over these cells. ``None`` stands for an unknown condition, which is told to the
    network by a number of its own.
    """

    def __init__(self, settings: FlowSettings, cells: Tensor, n_known: int, seeds: Sequence[int]) -> None:
        self.settings, self.n_runs, self.path = settings, len(seeds), Path(settings.path)
        self.effect, self.shrinkage = settings.effect, settings.shrinkage
        self.mean, self.spread = cells.mean(0), cells.std(0, correction=0) + LEAST_SPREAD
        self.network = _network(settings.network, cells, n_known + int(settings.drop))
        self.theta = torch.zeros(self.n_runs, self.network.layout.size, device=cells.device)
        for row, seed in zip(self.theta, seeds, strict=True):
            self.network.layout.initialise(row, torch.Generator().manual_seed(derive(seed, "policy")))

    def standardised(self, cells: Tensor) -> Tensor:
        """Return cells [..., G] in the space of the flow."""
        return (cells - self.mean) / self.spread

    def conditions(self, known: Tensor, unknown: Tensor | None = None) -> Tensor:
        """Return what the network is given of conditions [..., K]; those of ``unknown`` (bool [...]) are hidden."""
        if not self.settings.drop:
            return known
        hidden = torch.zeros_like(known[..., 0], dtype=torch.bool) if unknown is None else unknown
        return torch.cat([known.masked_fill(hidden[..., None], 0.0), hidden[..., None].to(known.dtype)], -1)

    def velocity(self, theta: Tensor, x: Tensor, t: Tensor, control: Tensor, given: Tensor) -> Tensor:
        """Return the velocity of S runs [S, M, G]; ``given`` [S, M, ...] is of ``conditions``."""
        return self.network(theta, x, t, control, given)

    def sample(self, request: Request) -> Tensor:
        """Return perturbed cells, [S, B, G]."""
        return self._sample(request, request.known)

    def sample_controls(self, request: Request) -> Tensor:
        """Return cells of the control condition from the same noise, [S, B, G]."""
        return self._sample(request, request.known_control)

    @torch.no_grad()
    def _sample(self, request: Request, known: Tensor) -> Tensor:
        config, shape = self.settings.sampling, (self.n_runs, *request.noise.shape)
        control = self.standardised(request.control)
        start = self.path.start(control, request.noise).expand(shape)
        control, given = control.expand(shape), self.conditions(known).expand(self.n_runs, -1, -1)
        nothing = self.conditions(known, torch.ones_like(known[:, 0], dtype=torch.bool)).expand(self.n_runs, -1, -1)

        def velocity(x: Tensor, t: float) -> Tensor:
            at = torch.full(shape[:2], t, device=x.device)
            v = self.velocity(self.theta, x, at, control, given)
            if config.guidance == 1.0:
                return v
            free = self.velocity(self.theta, x, at, control, nothing)
            return free + config.guidance * (v - free)

        return follow(velocity, start, config.steps, config.method) * self.spread + self.mean

    def first_not_finite(self, run: int) -> str | None:
        """Return which tensor of a run holds NaN or infinity, if any."""
        views = self.network.layout.views(self.theta[run : run + 1])
        return next((f"velocity network, {name}" for name, x in views.items() if not torch.isfinite(x).all()), None)


def _network(config: NetworkConfig, cells: Tensor, n_known: int) -> Velocity:
    if config.kind == "transformer":
        return Transformer(config, coexpressed(cells, config.neighbours), n_known)
    return MLP(config, cells.shape[1], n_known)
