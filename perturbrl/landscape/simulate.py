"""Euler-Maruyama simulation of a regulatory network and its target genes, all cells at once.

Letters: P perturbations, N cells for each, B = P N cells stepped together, G regulators, M target genes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from perturbrl.errors import UserError
from perturbrl.landscape import kinetics
from perturbrl.landscape.kinetics import Circuit, Targets
from perturbrl.landscape.network import Network
from perturbrl.landscape.perturb import Course

DURATION = 30.0
N_STEPS = 240
DT = DURATION / N_STEPS


@dataclass
class Stages:
    """Accessibility, mRNA and protein of some genes, each [B, genes]; stepped in place."""

    accessibility: Tensor
    mrna: Tensor
    protein: Tensor

    def relax(self, production: Tensor, tau_mrna: Tensor | float) -> None:
        """Take one explicit Euler step of the chain production -> accessibility -> mRNA -> protein."""
        # Last stage first: each must read the stage before it as it was at the start of the step.
        self.protein.lerp_(self.mrna, DT / kinetics.TAU_PROTEIN)
        self.mrna.lerp_(self.accessibility, DT / tau_mrna)
        self.accessibility.lerp_(production, DT / kinetics.TAU_ACCESSIBILITY)

    def rows(self, where: slice | Tensor) -> Stages:
        """Return the cells ``where``: views for a slice, copies for an index."""
        return Stages(self.accessibility[where], self.mrna[where], self.protein[where])

    def copy_rows(self, source: Stages, where: slice) -> None:
        """Overwrite the cells ``where`` by those of ``source``."""
        self.accessibility[where] = source.accessibility[where]
        self.mrna[where] = source.mrna[where]
        self.protein[where] = source.protein[where]


@dataclass(frozen=True)
class Trajectories:
    """Cells seen once each on their way, and where each ended.

    ``pseudotime`` [P, N] in [0, 1], the share of the simulated time at which the cell was seen. ``accessibility``,
    ``mrna`` and ``protein`` [P, N, G + M] at that moment, regulators first. ``final`` [P, N, G] is the regulators'
    protein at the end. All levels are relative to a gene that is fully on.
    """

    pseudotime: Tensor
    accessibility: Tensor
    mrna: Tensor
    protein: Tensor
    final: Tensor


def simulate(
    network: Network,
    perturbed: Course | Tensor,
    n_cells: int,
    generator: torch.Generator,
    *,
    noise: float,
    targets: Targets | None = None,
    pseudotime: Tensor | None = None,
    start: Tensor | None = None,
) -> Trajectories:
    """Simulate ``n_cells`` cells under each of P perturbations, from the progenitor to the end, all at once.

    Parameters
    ----------
    network, perturbed, n_cells
        The regulators; what is done to them (``perturb.course``), or clamps [P, G] that are held for good (NaN leaves
        a gene free); N cells for each of the P rows.
    generator
        Source of all randomness, on the device of ``perturbed``: first the sampling times, then the noise of each step.
    noise
        Amplitude of the chemical Langevin noise on the regulators' mRNA; 0 is the deterministic model.
    targets
        M downstream genes, or None for the regulators alone.
    pseudotime
        [P, N] in [0, 1]: when each cell is seen (rounded to a step); drawn from U[0, 1) when None.
    start
        [P N, G]: levels of the regulators of each cell at the beginning; those of the progenitor when None.

    Raises
    ------
    UserError
        ``perturbed`` is not [P, G], or ``pseudotime`` is not [P, N] within [0, 1].
    """
    course = Course.held(perturbed) if isinstance(perturbed, Tensor) else perturbed
    clamps = course.clamps
    device, shape = clamps.device, (clamps.shape[0], n_cells)
    if clamps.ndim != 2 or clamps.shape[1] != len(network.genes):
        raise UserError(f"clamps: shape is {tuple(clamps.shape)}; [conditions, {len(network.genes)}] is needed")
    if pseudotime is None:
        pseudotime = torch.rand(shape, generator=generator, device=device)
    elif pseudotime.shape != shape or not bool(((pseudotime >= 0) & (pseudotime <= 1)).all()):
        raise UserError(f"pseudotime: shape {tuple(pseudotime.shape)}; numbers in [0, 1] of shape {shape} are needed")
    net = kinetics.circuit(network, device)
    seen = (pseudotime * N_STEPS).round().long().flatten()
    each = course.rows(torch.arange(len(clamps), device=device).repeat_interleave(n_cells))
    weights, tau_mrna = _weights(targets, net)
    levels = _integrate(net, each, seen, weights, tau_mrna, noise, generator, start)
    return Trajectories(pseudotime, *(level.reshape(*shape, level.shape[1]) for level in levels))


def _integrate(
    net: Circuit,
    course: Course,
    seen: Tensor,
    weights: Tensor,
    tau_mrna: Tensor,
    noise: float,
    generator: torch.Generator,
    start: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the levels of Trajectories of B cells, one for each row of ``course``, seen after ``seen`` [B] steps."""
    # Latest seen first: the cells whose targets are still to be followed are then always a leading block.
    seen, order = seen.sort(descending=True, stable=True)
    schedule, back = Schedule(course.rows(order)), order.argsort()
    n_left = [*torch.bincount(seen, minlength=N_STEPS + 1).flip(0).cumsum(0).flip(0).tolist(), 0]

    first = net.start.expand(len(seen), -1) if start is None else start[order]
    regulators = schedule.begin(Stages(*(first.clone() for _ in range(3))))
    begin = kinetics.target_production(net.start[None] if start is None else first, weights).expand(len(seen), -1)
    downstream = Stages(*(begin.clone() for _ in range(3)))
    snapshot = regulators.rows(back)
    for step in range(N_STEPS + 1):
        waiting = slice(0, n_left[step + 1])
        snapshot.copy_rows(regulators, slice(n_left[step + 1], n_left[step]))
        if step == N_STEPS:
            break
        if len(tau_mrna):
            # The targets of a cell that has been seen stay as they were seen.
            downstream.rows(waiting).relax(kinetics.target_production(regulators.protein[waiting], weights), tau_mrna)
        free, share = schedule.at(step)
        advance(regulators, net, schedule.clamped, free, noise, generator, share)
    above, below = snapshot.rows(back), downstream.rows(back)
    return (
        torch.cat([above.accessibility, below.accessibility], dim=1),
        torch.cat([above.mrna, below.mrna], dim=1),
        torch.cat([above.protein, below.protein], dim=1),
        regulators.protein[back],
    )


class Schedule:
    """What is done to B cells in each step, read off a ``Course`` of B rows."""

    def __init__(self, course: Course) -> None:
        self.clamped, self.share, self.steps = course.clamps, course.share, course.steps
        self.free = course.clamps.isnan()
        self.holds = not bool(self.free.all())
        self.ends = bool((course.steps < N_STEPS).any())
        self.lowers = bool((course.share != 1.0).any())

    def begin(self, state: Stages) -> Stages:
        """Bring progenitors under their perturbations, in place; a pulse sets the chromatin too."""
        if self.lowers:
            for level in (state.accessibility, state.mrna, state.protein):
                level.mul_(self.share)
        if self.ends:
            once = ~self.free & (self.steps == 0)
            torch.where(once, self.clamped, state.accessibility, out=state.accessibility)
        return _hold(state, self.clamped, self.free)

    def at(self, step: int) -> tuple[Tensor | None, Tensor | None]:
        """Return which genes are free in a step, and the share of their production that is left; None: all, or all."""
        over = self.steps <= step if self.ends else None
        free = (self.free if over is None else self.free | over) if self.holds else None
        if not self.lowers:
            return free, None
        return free, self.share if over is None else torch.where(over, 1.0, self.share)


def advance(
    state: Stages,
    net: Circuit,
    clamped: Tensor,
    free: Tensor | None,
    noise: float,
    generator: torch.Generator,
    share: Tensor | None = None,
) -> None:
    """Take one Euler-Maruyama step of the regulators in place.

    Genes not ``free`` (None: all are) keep their ``clamped`` level; of the production of the others ``share`` is left.
    """
    kick = torch.randn(clamped.shape, generator=generator, device=clamped.device)
    for rows in kinetics.blocks(clamped):
        part = state.rows(rows)
        production = kinetics.network_production(part.protein, net)
        if share is not None:
            production *= share[rows]
        amplitude = kinetics.langevin_amplitude(part.accessibility, part.mrna, kinetics.TAU_MRNA, noise)
        part.relax(production, kinetics.TAU_MRNA)
        part.mrna.addcmul_(amplitude, kick[rows], value=DT**0.5).clamp_(min=0.0)
        if free is not None:
            _hold(part, clamped[rows], free[rows])


def _hold(state: Stages, clamped: Tensor, free: Tensor) -> Stages:
    for level in (state.mrna, state.protein):
        torch.where(free, level, clamped, out=level)
    return state


def _weights(targets: Targets | None, net: Circuit) -> tuple[Tensor, Tensor]:
    device = net.start.device
    if targets is None:
        return torch.zeros(len(net.start), 0, device=device), torch.ones(0, device=device)
    return targets.weights.to(device), targets.tau_mrna.to(device)
