"""A network of four genes, and where it ends by brute force: every state listed, every matrix dense."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from perturbrl.landscape.fate_task import Fate
from perturbrl.landscape.network import Network
from perturbrl.landscape.plan.outcomes import Question, question
from perturbrl.landscape.plan.result import Perturbation

TOY = Network(
    rules={
        "A": "(A or C) and not B",
        "B": "B and not C or D and not A",
        "C": "A and not D or C and not B",
        "D": "not A and not (B and C and D)",
    },
    start=frozenset({"A", "B"}),
    fates={"left": (("A",), ("B",)), "right": (("B",), ("A",))},
    stages={},
    thresholds={},
    default_threshold=0.5,
    name="toy",
)
GENES = tuple(TOY.rules)
STATES = [tuple(s >> g & 1 for g in range(4)) for s in range(16)]


def toy_question(start: list[tuple[int, ...]], target: str = "left", n_cells: int | None = None) -> Question:
    fates = [Fate.named(TOY, name) for name in TOY.fates]
    aim = next(fate for fate in fates if fate.name == target)
    return question(TOY, torch.tensor(start), "somewhere", aim, fates, n_cells)


def _limit(held: dict[str, bool], rules: dict[str, str]) -> NDArray[np.float64]:
    """Return the long-run distribution [16, 16] from every state: a lazy chain to the power 2^40."""
    step = np.zeros((16, 16))
    for s, state in enumerate(STATES):
        values = {gene: bool(on) for gene, on in zip(GENES, state, strict=True)}
        for g, gene in enumerate(GENES):
            new = values[gene] if gene in held else bool(eval(rules[gene], {}, values))
            after = tuple(int(new) if k == g else on for k, on in enumerate(state))
            step[s, STATES.index(after)] += 0.25
    step = (step + np.eye(16)) / 2
    for _ in range(40):
        step = step @ step
        step /= step.sum(1, keepdims=True)  # else rounding doubles with every square
    return step


def brute_force(
    start: list[tuple[int, ...]], perturbation: Perturbation, duration: str, rules: dict[str, str] | None = None
) -> dict[str, float]:
    """Return the probability of each fate after a set, and of none."""
    rules, held = rules or dict(TOY.rules), dict(perturbation)
    spread = np.zeros(16)
    for state in start:
        after = tuple(int(held.get(gene, on)) for gene, on in zip(GENES, state, strict=True))
        spread[STATES.index(after)] += 1 / len(start)
    if duration != "flip":
        spread = spread @ _limit(held, rules)
    if duration != "permanent":
        spread = spread @ _limit({}, rules)
    left = sum(p for p, state in zip(spread, STATES, strict=True) if state[0] and not state[1])
    right = sum(p for p, state in zip(spread, STATES, strict=True) if state[1] and not state[0])
    return {"left": left, "right": right, "no named fate": 1 - left - right}
