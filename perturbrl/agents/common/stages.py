"""How stages meet: what each of them takes over from the one before."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

from torch import Tensor

from perturbrl.agents.common.learner import Stage, Stateful
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.model.heads import Model
from perturbrl.config import require

PARTS = ("policy", "value", "log_std")  # of the parameters; the policy is its network, without the log_std
HANDOVER = (*PARTS, "moments")


def chained(stages: Sequence[Stage], model: Model, handover: Collection[str] = PARTS) -> list[Stage]:
    """Return stages that begin with what ``handover`` names, and see what the stage before them logs.

    Parameters
    ----------
    stages
        In the order in which they are trained, each on a ``Recipe`` of its own; stages of one name are numbered.
    model
        The networks that all of them train, as they are before the first stage.
    handover
        Of ``HANDOVER``. A part of the parameters that is not named starts anew from its initial values. ``moments``
        are those of the optimiser of the value network and, where both stages have one, of the policy.

    Returns
    -------
    list of Stage
        For ``Learner``.

    Raises
    ------
    UserError
        ``moments``, and two stages have no optimisers of one kind in common.
    """
    anew = [_columns(model, part) for part in PARTS if part not in handover]
    start = model.theta.clone() if anew else None
    out = list(_numbered(stages))
    for k, (one, two) in enumerate(itertools.pairwise(out)):
        before, recipe = _recipe(one), _recipe(two)
        pairs = _pairs(one.name, before, two.name, recipe) if "moments" in handover else []
        out[k] = dataclasses.replace(out[k], after=functools.partial(recipe.watch, before))
        out[k + 1] = dataclasses.replace(two, begin=_begin(model, start, anew, pairs))
    return out


def _begin(
    model: Model, start: Tensor | None, anew: Sequence[slice], pairs: Sequence[tuple[Stateful, Stateful]]
) -> Callable[[], None]:
    def begin() -> None:
        for columns in anew:
            assert start is not None
            model.theta[:, columns] = start[:, columns]
        for before, after in pairs:
            after.load_state(before.state())

    return begin


def _columns(model: Model, part: str) -> slice:
    log_std = model.log_std_columns
    return {"policy": slice(0, log_std.start), "log_std": log_std, "value": slice(model.policy_size, None)}[part]


def _numbered(stages: Sequence[Stage]) -> Iterator[Stage]:
    """Give the second stage of a name the name ``<name>_2``: in logs, and for its tensors in a checkpoint."""
    seen: dict[str, int] = {}
    for stage in stages:
        seen[stage.name] = n = seen.get(stage.name, 0) + 1
        yield stage if n == 1 else dataclasses.replace(stage, name=f"{stage.name}_{n}")


def _recipe(stage: Stage) -> Recipe[Any]:
    assert isinstance(stage.recipe, Recipe)
    return stage.recipe


def _pairs(one: str, before: Recipe[Any], two: str, after: Recipe[Any]) -> list[tuple[Stateful, Stateful]]:
    common = [key for key in before.moments if key in after.moments]
    require(bool(common), "agent.handover", f"stages {one} and {two} have no moments in common; leave moments out")
    pairs = [(before.moments[key], after.moments[key]) for key in common]
    for key, (a, b) in zip(common, pairs, strict=True):
        alike = {name: x.shape for name, x in a.state().items()} == {name: x.shape for name, x in b.state().items()}
        message = f"stages {one} and {two} train the {key} network by optimisers of two kinds; leave moments out"
        require(alike, "agent.handover", message)
    return pairs
