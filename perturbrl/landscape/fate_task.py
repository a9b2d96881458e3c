"""The task of steering a cell to a fate on an executable network: what may be done, what follows, what is paid.

One description for the environment, the exact optimum and the planner. A decision perturbs up to ``max_perturb`` genes
at once; the cell then evolves, the goal is looked at, and the next decision follows.

Letters: G genes, n start states.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from perturbrl.errors import choice, require
from perturbrl.landscape.fate import Fate, require_gene
from perturbrl.landscape.network import Network

__all__ = ["Fate", "FateTask", "require_gene"]

DYNAMICS = ("boolean", "hill")
UPDATES = ("asynchronous", "synchronous")
MOVES = ("flip", "set")
DURATIONS = ("flip", "held", "permanent")
BETWEEN = ("updates", "attractor")
SHAPINGS = ("none", "potential", "tempting")


@dataclass(frozen=True, eq=False)
class FateTask:
    """From ``start`` to ``target``, by way of ``stages``.

    Parameters
    ----------
    network
        The G genes and their rules.
    start
        [n, G] uint8: an episode starts in one of them, drawn uniformly.
    target
        The episode ends when the last goal is reached.
    stages
        Goals that must be passed before ``target``, in this order, one at each decision at most.
    dynamics
        ``boolean``, or ``hill``: the SDE of the same rules, with amplitude ``noise``; its updates are Euler steps.
    update
        Of ``boolean``: ``asynchronous`` (one gene drawn uniformly for each update) or ``synchronous``.
    moves
        ``flip`` a gene (actions 0..G-1), or ``set`` it: action 2 g switches gene g off, 2 g + 1 on. The last action
        is "done". A gene is chosen once a decision at most.
    duration
        ``flip``: the cell is put into the new state and let go; ``held``: the genes are held for the first
        ``hold_updates`` updates of the decision; ``permanent``: until the end of the episode.
    between
        A decision's evolution lasts ``n_updates`` (``updates``; of ``hill`` always), or until the first state of an
        attractor of the unperturbed network (``attractor``; with permanent perturbations it is not looked for), at
        most ``n_updates`` changes of state.
    max_perturb, n_decisions
        The most genes of one decision; the most decisions of an episode.
    controllable
        The genes that may be chosen; empty: all.
    reward, stage_reward, bonus, cost
        Paid after each decision: ``reward`` if it reaches the target, ``stage_reward`` if it reaches a stage, ``bonus``
        always; less ``cost`` for each perturbed gene.
    shaping, shaping_weight, lure, discount
        ``potential``: adds weight x (discount x phi(s') - phi(s)), phi minus the distance to the next goal (Ng, Harada
        and Russell 1999, ICML), which leaves the optimal policy as it is. ``tempting``: adds weight x (1 - distance of
        s' to ``lure``, by default the target), which is no potential and may change it.

    Raises
    ------
    UserError
        A gene that the network does not have, an empty or (as far as genes that nothing can change say) unreachable
        target, no start state, or a number out of range.
    """

    network: Network
    start: Tensor
    target: Fate
    stages: tuple[Fate, ...] = ()
    dynamics: str = "boolean"
    update: str = "asynchronous"
    noise: float = 0.0
    moves: str = "flip"
    duration: str = "flip"
    hold_updates: int = 0
    between: str = "attractor"
    n_updates: int = 1000
    max_perturb: int = 1
    n_decisions: int = 10
    controllable: tuple[str, ...] = ()
    reward: float = 1.0
    stage_reward: float = 0.0
    bonus: float = 0.0
    cost: float = 0.0
    shaping: str = "none"
    shaping_weight: float = 0.0
    lure: Fate | None = None
    discount: float = 1.0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, choices in (
            ("dynamics", DYNAMICS),
            ("update", UPDATES),
            ("moves", MOVES),
            ("duration", DURATIONS),
            ("between", BETWEEN),
            ("shaping", SHAPINGS),
        ):
            choice(getattr(self, name), choices, f"task.{name}")
        for gene in self.controllable:
            require_gene(self.network, gene, "task.controllable")
        self._require_numbers()
        self._require_states()

    def _require_numbers(self) -> None:
        n_choices = len(self.controllable_genes)
        range_ = f"must be 1 to {n_choices}, the genes that may be chosen, got {self.max_perturb}"
        require(1 <= self.max_perturb <= n_choices, "task.max_perturb", range_)
        for name in ("n_decisions", "n_updates"):
            value = getattr(self, name)
            require(value >= 1, f"task.{name}", f"must be at least 1, got {value}; the horizon would be empty")
        least = int(self.duration == "held")
        hold = (
            f"must be {least} to task.n_updates={self.n_updates} for duration={self.duration}, got {self.hold_updates}"
        )
        require(least <= self.hold_updates <= self.n_updates, "task.hold_updates", hold)
        settles = "hill has no attractor to stop at; choose between=updates (240 steps are a whole differentiation)"
        require(self.dynamics == "boolean" or self.between == "updates", "task.between", settles)
        require(0 < self.discount <= 1, "task.discount", f"must be in (0, 1], got {self.discount}")
        for name in ("cost", "noise"):
            value = getattr(self, name)
            require(value >= 0, f"task.{name}", f"must be at least 0, got {value}")

    def _require_states(self) -> None:
        n_genes = len(self.network.genes)
        valid = self.start.ndim == 2 and self.start.shape[1] == n_genes and len(self.start) > 0
        shape = f"shape is {tuple(self.start.shape)}; [states, {n_genes}] with at least one state is needed"
        require(valid, "task.start", shape)
        for fate in (*self.goals, *((self.lure,) if self.lure else ())):
            width = fate.patterns.shape[1]
            require(width == n_genes, f"fate {fate.name!r}", f"patterns of {width} genes; the network has {n_genes}")
        for gene, value in self._unchangeable():
            g = self.network.genes.index(gene)
            for fate in self.goals:
                reachable = bool((fate.patterns[:, g] != 1 - value).any())
                stuck = f"cannot be reached: {gene} stays {'on' if value else 'off'} and may not be chosen"
                require(reachable, f"fate {fate.name!r}", stuck)

    def _unchangeable(self) -> list[tuple[str, int]]:
        """Return the genes that keep one value from every start, with that value: inputs that may not be chosen."""
        values = []
        for g, (gene, regulators) in enumerate(zip(self.network.genes, self.network.regulators, strict=True)):
            at_start = set(self.start[:, g].tolist())
            copies_itself = regulators == (gene,) and self.network.truth_tables[g] == (False, True)
            constant = not regulators and at_start == {int(self.network.truth_tables[g][0])}
            if gene not in self.controllable_genes and (copies_itself or constant) and len(at_start) == 1:
                values.append((gene, int(at_start.pop())))
        return values

    @cached_property
    def goals(self) -> tuple[Fate, ...]:
        """The stages in order, and the target."""
        return (*self.stages, self.target)

    @cached_property
    def controllable_genes(self) -> tuple[str, ...]:
        """The genes that may be chosen, in the order of the network."""
        chosen = set(self.controllable or self.network.genes)
        return tuple(gene for gene in self.network.genes if gene in chosen)

    @property
    def n_actions(self) -> int:
        """The number of discrete actions, "done" included."""
        return len(self.network.genes) * (2 if self.moves == "set" else 1) + 1

    @property
    def done(self) -> int:
        """The action that ends a decision."""
        return self.n_actions - 1

    def perturbation(self, action: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return gene and new value, int64 [...], of each ``action`` [...] (not "done") at ``state`` [..., G]."""
        if self.moves == "set":
            return action // 2, action % 2
        on = state.gather(-1, action[..., None])[..., 0] > 0.5
        return action, 1 - on.long()

    def decision_reward(self, n_perturbed: Tensor, reached: Tensor, is_target: Tensor) -> Tensor:
        """Return what a decision pays without shaping, float32 [...].

        ``n_perturbed`` counts its perturbed genes; ``reached`` says whether its goal was reached and ``is_target``
        whether that goal was the last, bool [...].
        """
        goal = torch.where(is_target, self.reward, self.stage_reward)
        return self.bonus + goal * reached - self.cost * n_perturbed

    def potential(self, states: Tensor, progress: Tensor) -> Tensor:
        """Return minus the distance of ``states`` [..., G] to the goal after ``progress`` [...] goals, [...] float.

        It is 0 where all goals are reached.
        """
        value = torch.zeros(progress.shape, device=states.device)
        for i, goal in enumerate(self.goals):
            value = torch.where(progress == i, -goal.distance(states), value)
        return value

    def shaping_reward(
        self, before: Tensor, after: Tensor, progress: Tensor, next_progress: Tensor, ends: Tensor
    ) -> Tensor:
        """Return what shaping adds when a decision takes the cell from ``before`` to ``after`` [..., G]: [...].

        ``progress`` and ``next_progress`` [...] count the goals that were reached before and after it. Where the
        episode ``ends`` [...] the potential is 0, else the optimal policy would change (Grzes 2017, AAMAS).
        """
        lure = (self.lure or self.target).distance(after)
        return self.shaped(self.potential(before, progress), self.potential(after, next_progress), lure, ends)

    def shaped(self, before: Tensor, after: Tensor, lure: Tensor, ends: Tensor) -> Tensor:
        """Return ``shaping_reward`` from the potentials ``before`` and ``after``, and the distance to the ``lure``."""
        if self.shaping == "potential":
            return self.shaping_weight * (self.discount * after * ~ends - before)
        if self.shaping == "tempting":
            return self.shaping_weight * (1 - lure)
        return torch.zeros_like(after)
