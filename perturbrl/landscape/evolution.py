"""What cells do between two decisions of a ``FateTask``: Boolean updates, or the SDE of the same rules.

The randomness of a cell is a hash of its key (``perturbrl.mixing``), so its path depends on its key alone.

Letters: N cells, G genes, L numbers that describe a cell: G (boolean), or 3 G (hill: accessibility, mRNA, protein).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from perturbrl.landscape import kinetics
from perturbrl.landscape.boolean import BooleanDynamics
from perturbrl.landscape.fate_task import Fate, FateTask
from perturbrl.landscape.simulate import DT, Stages
from perturbrl.mixing import pick, uniforms, words


def hold(levels: Tensor, held: Tensor) -> Tensor:
    """Return ``levels`` [N, G] with the genes that are not NaN in ``held`` [N, G] at its values."""
    return torch.where(held.isnan(), levels, held.to(levels.dtype))


class BooleanEvolution:
    """Asynchronous or synchronous updates; a cell is its state, [N, G] uint8."""

    def __init__(self, task: FateTask, attractors: Fate | None, device: torch.device | str = "cpu") -> None:
        """``attractors`` are the states at the first of which a cell stops with ``between=attractor``; None: none."""
        self.task = task
        # Genes that are held keep a cell from the attractors of the free network, so it goes on to the last update.
        self._attractors = attractors if task.between == "attractor" and task.duration != "permanent" else None
        self._dynamics = BooleanDynamics(task.network, device)

    def start(self, states: Tensor) -> Tensor:
        """Return cells in ``states`` [N, G]."""
        return states.to(torch.uint8)

    def genes(self, cells: Tensor) -> Tensor:
        """Return the level of each gene, [N, G] float32."""
        return cells.float()

    def run(self, cells: Tensor, chosen: Tensor, held: Tensor, key: Tensor) -> Tensor:
        """Return the cells at the next decision.

        Parameters
        ----------
        cells
            [N, L], not changed.
        chosen
            [N, G]: the values that the decision gives to genes, NaN for the others.
        held
            [N, G]: what earlier decisions hold for good, NaN for free genes (``duration=permanent``).
        key
            [N] int64.
        """
        task = self.task
        cells = hold(cells, chosen)
        clamps = held.where(chosen.isnan(), chosen) if task.duration == "permanent" else None
        n_held = task.hold_updates if task.duration == "held" else 0
        if n_held:
            cells = self._updated(cells, n_held, key, chosen, 0)
        return self._settled(cells, range(n_held, task.n_updates), key, clamps)

    def _settled(self, cells: Tensor, numbers: range, key: Tensor, held: Tensor | None) -> Tensor:
        """Update cells until they are in an attractor, at most for all ``numbers``."""
        if self._attractors is None:
            return self._updated(cells, len(numbers), key, held, numbers.start)
        cells = cells.clone()
        moving = torch.arange(len(cells), device=cells.device)
        now = cells
        for number in numbers:
            going = ~self._attractors.contains(now)
            moving, now = moving[going], now[going]
            if not len(moving):
                break
            now = self._changed(now, number, key[moving])
            cells[moving] = now
        return cells

    def _changed(self, cells: Tensor, number: int, key: Tensor) -> Tensor:
        """Return the cells after their next change of state, the ``number``-th of the decision.

        Of asynchronous updates most change nothing. Leaving those out, the gene that changes next is drawn uniformly
        among those that can change; which states are visited, and in which order, has the same law.
        """
        image = self._dynamics.image(cells)
        if self.task.update == "synchronous":
            return image
        changeable = image != cells
        n = changeable.sum(-1)
        rank = pick(words(key, number), n)
        gene = ((changeable.cumsum(-1) == rank[:, None] + 1) & changeable).to(torch.uint8).argmax(-1, keepdim=True)
        # A cell that no gene can change is in a fixed point; argmax then gives gene 0, which keeps its value.
        return cells.scatter(1, gene, image.gather(1, gene))

    def _updated(self, cells: Tensor, n: int, key: Tensor, held: Tensor | None, first: int) -> Tensor:
        return self._dynamics.run(cells, n, key, update=self.task.update, held=held, first=first)


class HillEvolution:
    """Euler-Maruyama steps of the rules' continuous form; see ``BooleanEvolution`` for the methods.

    A perturbed gene has its accessibility, mRNA and protein set at once to those of a gene that is fully on or off;
    while it is held, mRNA and protein stay there, as in ``simulate``.
    """

    def __init__(self, task: FateTask, device: torch.device | str = "cpu") -> None:
        self.task, self.n_genes = task, len(task.network.genes)
        self._circuit = kinetics.circuit(task.network, device)
        self._tau = torch.full((self.n_genes,), kinetics.TAU_MRNA, device=device)
        self._gene = torch.arange(self.n_genes, device=device)

    def start(self, states: Tensor) -> Tensor:
        """Return cells whose genes are fully on or off as in ``states`` [N, G]."""
        return states.float().repeat(1, 3)

    def genes(self, cells: Tensor) -> Tensor:
        """Return the protein level of each gene, [N, G] float32."""
        return cells[:, 2 * self.n_genes :]

    def run(self, cells: Tensor, chosen: Tensor, held: Tensor, key: Tensor) -> Tensor:
        """Return the cells at the next decision; arguments as in ``BooleanEvolution.run``."""
        task = self.task
        stages = Stages(*(hold(part, chosen) for part in cells.chunk(3, dim=1)))
        lasting = (
            held.where(chosen.isnan(), chosen) if task.duration == "permanent" else torch.full_like(chosen, torch.nan)
        )
        for step in range(task.n_updates):
            clamps = chosen if task.duration == "held" and step < task.hold_updates else lasting
            production = kinetics.network_production(stages.protein, self._circuit)
            amplitude = kinetics.langevin_amplitude(stages.accessibility, stages.mrna, kinetics.TAU_MRNA, task.noise)
            stages.relax(production, self._tau)
            if task.noise > 0:
                kick = normal(key[:, None], 2 * (step * self.n_genes + self._gene))
                stages.mrna.addcmul_(amplitude, kick, value=DT**0.5).clamp_(min=0.0)
            stages.mrna, stages.protein = hold(stages.mrna, clamps), hold(stages.protein, clamps)
        return torch.cat([stages.accessibility, stages.mrna, stages.protein], 1)


def normal(key: Tensor, counter: Tensor) -> Tensor:
    """Return a standard normal number of each key from its words ``counter`` and ``counter`` + 1, float32.

    By Box and Muller 1958 (Ann. Math. Statist. 29:610).
    """
    radius = (-2 * uniforms(key, counter).log()).sqrt()
    return (radius * (2 * math.pi * uniforms(key, counter + 1)).cos()).float()


Evolution = BooleanEvolution | HillEvolution


def evolution(
    task: FateTask, attractors: Callable[[], Fate] | None = None, device: torch.device | str = "cpu"
) -> Evolution:
    """Return the dynamics of a task; ``attractors`` is asked for where cells run until they are in one."""
    if task.dynamics == "hill":
        return HillEvolution(task, device)
    stops = attractors is not None and task.between == "attractor" and task.duration != "permanent"
    return BooleanEvolution(task, attractors() if stops and attractors else None, device)
