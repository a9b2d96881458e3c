"""Fixed points of the Hill equations of a network by simulation: stability, basins, transitions under noise.

Letters: B cells, G regulators, K fixed points, T recorded times.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.landscape import kinetics
from perturbrl.landscape.kinetics import Circuit
from perturbrl.landscape.network import Network
from perturbrl.landscape.simulate import N_STEPS, Stages, advance

Array = NDArray[np.float64]
AT_REST = 1e-3
"""A cell whose production differs from its levels by less has come to rest."""
APART = 0.05
"""Two fixed points differ by at least this in the level of some gene."""
CHUNK = 240
MOST_PAIRS = 100
"""Pairs of stable points between which a saddle is looked for."""


@dataclass(frozen=True)
class FixedPoints:
    """Fixed points of the noise-free equations, largest basin first, and how cells reach them.

    ``levels`` [K, G] (accessibility, mRNA and protein are equal at a fixed point); ``growth`` [K] the largest real part
    of the Jacobian's eigenvalues, below 0 for a stable point; ``share`` [K] of random starts that come to rest there,
    ``error`` [K] its standard error; ``unsettled`` the share of starts that do not come to rest (a cycle, or slower
    than the simulated time).
    """

    levels: Array
    growth: Array
    share: Array
    error: Array
    unsettled: float

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Which of the fixed points are stable, [K]."""
        return self.growth < 0


def fixed_points(
    network: Network, generator: torch.Generator, *, n_starts: int = 1024, held: Tensor | None = None
) -> FixedPoints:
    """Return where cells from random levels come to rest without noise, and saddles by Newton's method.

    Parameters
    ----------
    network, held
        ``held`` [G] are clamps (see ``perturb``), None leaves every gene free.
    generator
        Source of the starts, and of the points that Newton's method starts from.
    n_starts
        Cells from levels uniform in [0, 1]^G, which give the shares, and as many from random corners of that cube.
    """
    net = kinetics.circuit(network)
    clamps = torch.full((len(network.genes),), torch.nan) if held is None else held
    start = torch.rand(2 * n_starts, len(network.genes), generator=generator)
    start[n_starts:].round_()  # corners of the cube find small basins; shares are those of the others
    everywhere = settle(net, start, clamps)
    resting = everywhere[_residual(net, everywhere, clamps) <= AT_REST]
    final = everywhere[:n_starts]
    moving = _residual(net, final, clamps) > AT_REST
    exact = _Equations(net, clamps)
    points = _distinct([exact.solve(level) for level in _distinct(resting.double().numpy())])
    saddles = [exact.solve(guess) for guess in _guesses(points, len(clamps), generator)]
    levels = np.array(_distinct([*points, *saddles])).reshape(-1, len(clamps))
    growth = np.array([exact.growth(level) for level in levels])
    counts = np.zeros(len(levels))
    if not bool(moving.all()):
        counts += np.bincount(nearest(final[~moving].double().numpy(), levels), minlength=len(levels))
    share = counts / n_starts
    order = np.lexsort((growth, -share))
    error = np.sqrt(share * (1 - share) / n_starts)
    unsettled = float(moving.double().mean())
    return FixedPoints(levels[order], growth[order], share[order], error[order], unsettled)


def walk(
    net: Circuit, start: Tensor, clamps: Tensor, n_steps: int, generator: torch.Generator, *, noise: float, every: int
) -> Tensor:
    """Return the protein [T, B, G] of cells on their way, at step 0 and after every ``every`` steps.

    Cells start with all three stages at ``start`` [B, G]; ``clamps`` [G]. Randomness: ``simulate.advance``.
    """
    clamped = clamps.expand_as(start)
    free = clamped.isnan()
    held = torch.where(free, start, clamped)
    state = Stages(start.clone(), held.clone(), held.clone())
    seen = [state.protein.clone()]
    for k in range(1, n_steps + 1):
        advance(state, net, clamped, free, noise, generator)
        if k % every == 0:
            seen.append(state.protein.clone())
    return torch.stack(seen)


def settle(net: Circuit, start: Tensor, clamps: Tensor, most_steps: int = 20 * CHUNK) -> Tensor:
    """Return where cells from ``start`` [B, G] are without noise, [B, G], once all rest or after ``most_steps``."""
    unused = torch.Generator(device=start.device)
    level = start
    for _ in range(0, most_steps, CHUNK):
        level = walk(net, level, clamps, CHUNK, unused, noise=0.0, every=CHUNK)[-1]
        if bool((_residual(net, level, clamps) < AT_REST / 10).all()):
            break
    return level


def transitions(
    network: Network,
    points: FixedPoints,
    generator: torch.Generator,
    *,
    noise: float,
    n_cells: int = 200,
    n_steps: int = 4 * N_STEPS,
) -> Array:
    """Return the probability [S, S + 1] that a cell at stable point i is in the basin of j after ``n_steps``.

    S stable fixed points in their order; the last column is the share that comes to rest at none of them.
    The time simulated is ``n_steps`` x ``simulate.DT``, in mRNA lifetimes.
    """
    net = kinetics.circuit(network)
    free = torch.full((len(network.genes),), torch.nan)
    stable = points.levels[points.stable]
    n = len(stable)
    start = torch.as_tensor(stable, dtype=torch.float32).repeat_interleave(n_cells, dim=0)
    final = walk(net, start, free, n_steps, generator, noise=noise, every=n_steps)[-1]
    basin = basin_of(net, final, free, stable).reshape(n, n_cells)
    return np.array([np.bincount(row, minlength=n + 1) / n_cells for row in basin]).reshape(n, n + 1)


def basin_of(net: Circuit, levels: Tensor, clamps: Tensor, stable: Array) -> NDArray[np.int64]:
    """Return which of the stable points [S, G] cells at ``levels`` [B, G] rest at without noise, [B]; S for none."""
    final = settle(net, levels, clamps).double().numpy()
    index = nearest(final, stable)
    return np.where(np.abs(final - stable[index]).max(axis=1) < APART, index, len(stable))


def nearest(levels: Array, points: Array) -> NDArray[np.int64]:
    """Return the nearest of ``points`` [K, G] to each of ``levels`` [B, G], by the largest difference of a gene."""
    distances = np.stack([np.abs(levels - point).max(axis=1) for point in points], axis=1)
    return np.asarray(distances.argmin(axis=1), dtype=np.int64)


def _residual(net: Circuit, level: Tensor, clamps: Tensor) -> Tensor:
    gap = (kinetics.network_production(level, net) - level).abs()
    return torch.where(clamps.isnan(), gap, 0.0).amax(dim=1)


class _Equations:
    """p = F(p) in float64, and the Jacobian of all three stages."""

    def __init__(self, net: Circuit, clamps: Tensor) -> None:
        self._net = replace(net, thresholds=net.thresholds.double(), start=net.start.double())
        self._clamps = clamps.double()
        self._free = clamps.isnan()

    def production(self, level: Tensor) -> Tensor:
        return torch.where(self._free, kinetics.network_production(level[None], self._net)[0], self._clamps)

    def slope(self, level: Array) -> Array:
        """dF/dp, [G, G]."""
        jacobian = torch.autograd.functional.jacobian(self.production, torch.as_tensor(level), vectorize=True)  # type: ignore[no-untyped-call]
        return np.asarray(jacobian.numpy(), dtype=np.float64)

    def solve(self, guess: Array) -> Array | None:
        """Return the fixed point near a guess [G] by Powell's hybrid method, or None if there is none in [0, inf)."""
        from scipy.optimize import root

        found = root(lambda p: self.production(torch.as_tensor(p)).numpy() - p, guess, tol=1e-12)
        resting = np.abs(found.fun).max() < 1e-9
        if not resting or found.x.min() < -1e-9:
            return None
        return np.where(self._free, found.x.clip(0.0), self._clamps)

    def growth(self, level: Array) -> float:
        """Return the largest real part of the eigenvalues of accessibility, mRNA and protein together."""
        n, eye, nothing = len(level), np.eye(len(level)), np.zeros((len(level), len(level)))
        lifetimes = np.repeat([kinetics.TAU_ACCESSIBILITY, kinetics.TAU_MRNA, kinetics.TAU_PROTEIN], n)
        flow = np.block([[-eye, nothing, self.slope(level)], [eye, -eye, nothing], [nothing, eye, -eye]])
        return float(np.linalg.eigvals(flow / lifetimes[:, None]).real.max())


def _distinct(levels: Iterable[Array | None]) -> list[Array]:
    """Return the levels that differ by more than ``APART`` from those before them."""
    out: list[Array] = []
    for level in levels:
        if level is not None and all(np.abs(level - other).max() > APART for other in out):
            out.append(level)
    return out


def _guesses(points: list[Array], n_genes: int, generator: torch.Generator, n_random: int = 60) -> list[Array]:
    """Return where saddles are looked for: half way between stable points, and at random levels."""
    between = [(a + b) / 2 for k, a in enumerate(points) for b in points[:k]]
    return [*between[:MOST_PAIRS], *torch.rand(n_random, n_genes, generator=generator, dtype=torch.float64).numpy()]
