"""The best single action: what a policy that ignores the cell can earn.

Under the released metric the best constant action is zero, so the word "best" is taken in the environment: the
constant action with the greatest true return, searched on training cells only. Letters: N training cells, G features,
A action size, K candidates.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from perturbrl import registry
from perturbrl.data.schema import CellTable
from perturbrl.envs.base import ActionSpace
from perturbrl.evaluate.actions import check_space, constant, do_nothing, together
from perturbrl.evaluate.paper.config import PaperProtocolConfig
from perturbrl.evaluate.returns import episode_returns

_SCREEN = 64
_FINALISTS = 8  # doing nothing included
_NUMBERS = 8_000_000  # feature values held at once, 32 MB
# From 0.001 to 2: a constant action adds up over a whole episode, so that the good ones are small.
_SCALES = tuple(0.001 * 2.0**k for k in range(12))


def best_constant(table: CellTable, env_config: Any, config: PaperProtocolConfig) -> Tensor:
    """Return the constant action with the greatest mean return on training cells: [A] in the box, or a scalar int64.

    Discrete: every action is tried. In a box: doing nothing, and twelve lengths of each of three directions and their
    opposites, clipped to the box. The directions are the mean target (the mean over cells of the mean later cell), the
    mean target minus the mean start, and all features alike.

    Why the first: in the paper's environment knock-outs erase a feature again and again, so that a constant action a
    leaves it near a_g D, with D (the time since the last knock-out, in steps of the action) distributed alike for all
    features. E(a_g D - y_g)^2 is then least at a_g = E y_g x E D / E D^2: along the mean target y. A search feature by
    feature fits the noise of the search episodes: on three simulated tables it earned no more on new cells.

    Every candidate meets the same draws; of equal candidates the first, doing nothing, is taken. More than 64
    candidates are screened on an eighth of the episodes; the best seven and doing nothing meet all of them.
    """
    build = registry.envs[env_config.name].build
    space: ActionSpace = build([env_config], table, table.train, 1, "cpu").action_space
    check_space(space, table.n_features)
    candidates = _box(table, space) if space.kind == "box" else _discrete(space)

    def returns(actions: Tensor, n_envs: int) -> Tensor:
        means = []
        chunk = max(1, _NUMBERS // (n_envs * table.n_features))
        for batch in torch.split(actions, chunk):
            env = build([env_config] * len(batch), table, table.train, n_envs, "cpu")
            act = together([constant(action) for action in batch])
            means.append(episode_returns(act, env, config.seed, config.max_steps).mean(dim=1))
        return torch.cat(means)

    if len(candidates) > _SCREEN:
        screened = returns(candidates, max(1, config.search_episodes // 8))
        screened[0] = torch.inf
        candidates = candidates[screened.topk(_FINALISTS).indices.sort().values]
    return candidates[int(returns(candidates, config.search_episodes).argmax())]


def later_mean(x: NDArray[np.float32], pseudotime: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean, over cells, of the mean of all strictly later cells (of the cell itself where none is), [G].

    It is the expected target of the paper's environment, in closed form: ``x`` [N, G], ``pseudotime`` [N].
    """
    order = np.argsort(pseudotime, kind="stable")
    cells, times = x[order].astype(np.float64), pseudotime[order]
    first_later = np.searchsorted(times, times, side="right")
    n_later = len(times) - first_later
    sums = np.vstack([np.cumsum(cells[::-1], axis=0)[::-1], np.zeros((1, cells.shape[1]))])[first_later]
    means = np.where(n_later[:, None] > 0, sums / np.maximum(n_later, 1)[:, None], cells)
    return np.asarray(means.mean(axis=0))


def _box(table: CellTable, space: ActionSpace) -> Tensor:
    x = table.x[table.train]
    target = later_mean(x, table.pseudotime[table.train])
    directions = torch.from_numpy(np.stack([target, target - x.mean(axis=0, dtype=np.float64), np.ones_like(target)]))
    scales = torch.tensor([sign * scale for scale in _SCALES for sign in (1.0, -1.0)], dtype=torch.float64)
    ways = (scales[:, None, None] * directions).flatten(0, 1).float().clamp(space.low, space.high)
    return torch.cat([torch.zeros(1, space.size), ways])


def _discrete(space: ActionSpace) -> Tensor:
    still = do_nothing(space)(torch.empty(1, 1))
    return torch.cat([still, torch.arange(space.size)])
