"""What a run needs of this machine, checked before anything is read or allocated.

Letters: S runs, G observed features, A actions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from perturbrl.agents.model.actor_critic import PolicyConfig
from perturbrl.config import require
from perturbrl.errors import UserError
from perturbrl.memory import require_memory
from perturbrl.runner.job import Job

FLOAT = 4  # bytes of a number in single precision
# parameters, gradient, two moments of Adam; and, should a run diverge, a copy of all but the gradient
PARAMETER_COPIES = 7
TRANSITION_NUMBERS = 20  # of a step, beside observation and action: rewards, values, advantages, uniform numbers, ...
ROW = 2000  # bytes of a row of the training log


@dataclass(frozen=True)
class Shape:
    """Sizes that memory depends on besides the config; 1 if unknown, which gives a lower bound."""

    runs: int = 1
    observed: int = 1
    actions: int = 1


def pick_device(choice: str) -> torch.device:
    """Resolve ``device=auto|cpu|cuda``.

    Raises
    ------
    UserError
        ``cuda`` on a machine without one.
    """
    if choice == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU here; use device=auto or device=cpu")
    return torch.device("cuda" if choice != "cpu" and torch.cuda.is_available() else "cpu")


def require_machine(job: Job, device: torch.device) -> None:
    """Refuse a run that this machine cannot do.

    Raises
    ------
    UserError
        ``precision=tf32`` without a GPU, or sizes that do not fit in memory whatever the cells are.
    """
    fits = job.config.precision != "tf32" or device.type == "cuda"
    require(fits, "precision", "tf32 needs a GPU, and this run is on the CPU; choose float32 or bf16")
    require_training_memory(job, Shape(), device)


def require_training_memory(job: Job, shape: Shape, device: torch.device) -> None:
    """Refuse S runs together that the device cannot hold.

    Raises
    ------
    UserError
        Names the key that asks for most, with the bytes needed in all and those there are.
    """
    there = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    needs = sorted(_needs(job, shape))
    _, where, advice = needs[-1]
    together = f" in {shape.runs} runs together" if shape.runs > 1 else ""
    require_memory(shape.runs * sum(n for n, _, _ in needs), f"{where}{together}", advice, there)


def _needs(job: Job, shape: Shape) -> Iterator[tuple[float, str, str]]:
    """Yield the bytes that one run needs, the config key that causes them, and how to reduce them."""
    policy = job.config.policy
    yield (
        FLOAT * PARAMETER_COPIES * n_parameters(policy, shape),
        f"policy.hidden={policy.hidden}",
        "use narrower layers",
    )
    for key, stage in _stages(job.config.agent):
        steps = float(stage.rollout_steps)
        # the batch, the noise of its actions and a shuffled copy; the value network sees all of it at once
        numbers = 2 * shape.observed + 3 * shape.actions + TRANSITION_NUMBERS + sum(policy.hidden)
        yield FLOAT * steps * numbers, f"{key}.rollout_steps={stage.rollout_steps}", "collect fewer steps"
        if kept := getattr(stage, "buffer", 0):  # the replay buffer: observation, action, reward, end of an episode
            kept = min(kept, stage.total_steps)
            numbers = shape.observed + shape.actions + 2
            yield FLOAT * float(kept) * numbers, f"{key}.buffer={stage.buffer}", "keep fewer transitions"
        for name in ("epochs", "critic_epochs"):
            passes = getattr(stage, name, 0)
            yield 8 * steps * passes, f"{key}.{name}={passes}", "make fewer passes"  # an order of the batch for each
        rows = getattr(stage, "total_steps", 0) / steps
        yield ROW * rows, f"{key}.total_steps={getattr(stage, 'total_steps', 0)}", "train for fewer steps"


def _stages(agent: Any) -> Iterator[tuple[str, Any]]:
    """Yield the settings of each stage of an agent, under their keys; an agent without stages is one itself."""
    nested = [(f"agent.{key}", value) for key, value in vars(agent).items() if hasattr(value, "rollout_steps")]
    yield from nested or ([("agent", agent)] if hasattr(agent, "rollout_steps") else [])


def n_parameters(policy: PolicyConfig, shape: Shape) -> float:
    """Return the number of parameters of the two networks of a run (with ``net=branches`` it is more)."""
    widths = [shape.observed, *policy.hidden]
    body = sum((float(i) + 1) * o for i, o in itertools.pairwise(widths))
    return 2 * body + (float(widths[-1]) + 1) * (shape.actions + 1)
