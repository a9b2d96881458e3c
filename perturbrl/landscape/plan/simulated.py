"""Where a perturbed network ends, by simulation: all sets and all cells in one batch.

Run r of a set starts from the same cell and reads the same random numbers as run r of every other set, so that the
difference between two sets is known better than each of them.

Letters: S sets, R runs of a set, B = S R cells stepped together, G genes, K outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl.landscape.boolean import BooleanDynamics, draw_keys, hold
from perturbrl.landscape.plan.outcomes import Question
from perturbrl.landscape.plan.result import Perturbation

_CELLS = 1 << 17  # stepped together
_CHUNKS = 6  # a phase is cut into so many; cells that have settled leave after each


class Simulated:
    """Shares of outcomes among simulated runs.

    ``update`` is ``asynchronous`` or ``synchronous``. ``noise`` is the chance that a gene which is not held is flipped
    after each sweep, that is G asynchronous updates or one synchronous one: the random gene perturbations of
    Shmulevich et al. 2002 (Bioinformatics 18:1319). It acts as long as the genes are held (after a flip: for the same
    time); then the network settles without it, which shows which fate the cell is in.
    """

    exact = False

    def __init__(
        self,
        question: Question,
        duration: str,
        n_runs: int,
        sweeps: int,
        seed: int,
        update: str = "asynchronous",
        noise: float = 0.0,
    ) -> None:
        self.question = question
        self.duration = duration
        self.n_runs = n_runs
        self.sweeps = sweeps
        self.update = update
        self.noise = noise
        self._dynamics = BooleanDynamics(question.network)
        generator = torch.Generator().manual_seed(seed)
        self._keys = draw_keys(n_runs, generator)
        self._start = question.start[_stratified(question.weights, n_runs, generator)]
        self._flips = generator
        self._sweep = len(question.network.genes) if update == "asynchronous" else 1

    def shares(self, perturbations: Sequence[Perturbation]) -> NDArray[np.float64]:
        """Return the share of each outcome among the runs of each of S sets, [S, K]."""
        size = max(1, _CELLS // self.n_runs)
        parts = [self._block(perturbations[k : k + size]) for k in range(0, len(perturbations), size)]
        return np.concatenate(parts)

    def _block(self, perturbations: Sequence[Perturbation]) -> NDArray[np.float64]:
        n_sets = len(perturbations)
        held = self.question.held(perturbations).repeat_interleave(self.n_runs, dim=0)
        keys = self._keys.repeat(n_sets)
        state = hold(self._start.repeat(n_sets, 1), held)
        free = torch.full_like(held, torch.nan)
        phases = {"flip": [free], "held": [held, free], "permanent": [held]}[self.duration]
        first = 0
        if self.noise:
            state, first = self._phase(state, phases[0], keys, first, self.noise)
        for clamps in phases:
            state, first = self._phase(state, clamps, keys, first, 0.0)
        outcome = self.question.outcome(state).reshape(n_sets, self.n_runs)
        counts = torch.nn.functional.one_hot(outcome, len(self.question.names)).sum(1)
        shares: NDArray[np.float64] = (counts.double() / self.n_runs).numpy()
        return shares

    def _phase(self, state: Tensor, held: Tensor, keys: Tensor, first: int, noise: float) -> tuple[Tensor, int]:
        """Run one phase from update number ``first``; return the states [B, G] and the number after the last update."""
        state = state.clone()
        going = torch.arange(len(state))
        n_steps, sweeps = (self.sweeps, 1) if noise else (_CHUNKS, -(-self.sweeps // _CHUNKS))
        for step in range(n_steps):
            begin = first + step * sweeps * self._sweep
            part = self._dynamics.run(
                state[going], sweeps * self._sweep, keys[going], update=self.update, held=held[going], first=begin
            )
            if noise:
                flip = torch.rand(part.shape, generator=self._flips) < noise
                part = hold(part ^ flip.to(part.dtype), held[going])
            state[going] = part
            if not noise:
                going = going[(self._dynamics.image(part, held[going]) != part).any(1)]
            if not len(going):
                break
        return state, first + n_steps * sweeps * self._sweep


def _stratified(weights: Tensor, n_runs: int, generator: torch.Generator) -> Tensor:
    """Return ``n_runs`` places among start states, each about as often as its weight says, in random order.

    Systematic sampling (Madow 1949): the number of runs of a start differs by less than one from its expectation.
    """
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    ticks = (torch.arange(n_runs, dtype=torch.float64) + offset) / n_runs
    places = torch.searchsorted(weights.cumsum(0), ticks).clamp(max=len(weights) - 1)
    return places[torch.randperm(n_runs, generator=generator)]
