"""The contract of a task: S runs x B cells stepped together, with all randomness handed in.

Letters: S runs, B cells stepped together, G features, A action size, D uniform numbers a step consumes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from perturbrl.errors import UserError, require


@dataclass(frozen=True)
class ActionSpace:
    """``box``: ``size`` numbers in [low, high]. ``discrete``: one of ``size`` choices.

    ``mask`` names ``size`` columns of an observation of a discrete task, 1 where a state allows an action and 0 where
    it does not: policies never take the others. The columns are part of the state, so networks see them too.

    Raises
    ------
    UserError
        A mask of a box, or one that has not a column for each action.
    """

    kind: str
    size: int
    low: float = -1.0
    high: float = 1.0
    mask: slice | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        """Check the columns of the mask."""
        if self.mask is not None:
            start, stop, step = self.mask.start, self.mask.stop, self.mask.step
            valid = self.kind == "discrete" and None not in (start, stop) and stop - start == self.size and step is None
            message = f"must be slice(k, k + {self.size}), a column for each choice of a discrete task, got {self.mask}"
            require(valid, "ActionSpace.mask", message)

    def allowed(self, obs: Tensor) -> Tensor | None:
        """Return which actions the states ``obs`` [..., G] allow, bool [..., A]; None where all are always allowed."""
        return None if self.mask is None else obs[..., self.mask] > 0.5

    def require_choice(self, obs: Tensor) -> None:
        """Raise ``UserError`` if one of the states ``obs`` [..., G] allows no action. Waits for the device."""
        allowed = self.allowed(obs)
        if allowed is not None and not bool(allowed.any(-1).all()):
            place = (~allowed.any(-1)).nonzero()[0].tolist()
            raise UserError(
                f"env: the state at {place} allows no action; a task must always allow one, such as a no-op"
            )


@dataclass(frozen=True)
class Step:
    """What one step gives. ``obs`` [S, B, G] is already that of the next episode where one ended.

    ``final_obs`` [S, B, G] is the observation before any reset (what a truncated episode bootstraps from).
    ``reward`` [S, B] float32; ``terminated`` and ``truncated`` [S, B] bool.
    """

    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor


class BatchedEnv(Protocol):
    """A task as batched tensors, on one device, that resets episodes by itself.

    Every random choice is read from ``u``, uniform numbers in [0, 1) of shape [S, B, D]: the caller owns the streams,
    a test can hand in what it likes, and a run in a population is the same run alone. ``can_truncate`` says whether
    ``Step.truncated`` and ``Step.final_obs`` can ever matter: where it is false a learner need not keep them.

    A task that knows good actions may say so: an optional ``demonstration()`` returns the next action of each cell,
    [S, B, A] (box), which ``agent.clone_steps`` lets a policy imitate. A task in which the reward of a cell depends on
    other cells has an optional ``mates``: that many cells side by side (a divisor of B) depend on each other.
    """

    n_runs: int
    n_envs: int
    obs_dim: int
    n_uniforms: int
    can_truncate: bool
    action_space: ActionSpace

    def reset(self, u: Tensor) -> Tensor:
        """Start every episode anew; return observations [S, B, G]."""
        ...

    def step(self, action: Tensor, u: Tensor) -> Step:
        """Advance every cell. ``action`` is [S, B, A] (box; clipped here) or [S, B] int64 (discrete)."""
        ...

    def state(self) -> dict[str, Tensor]:
        """Return copies of the tensors that a checkpoint needs."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Go on from what ``state()`` returned."""
        ...
