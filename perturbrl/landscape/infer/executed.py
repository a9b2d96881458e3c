"""An inferred network, run from its start: does it go where the cells went? Letters: B runs, G genes, K branches."""

from __future__ import annotations

import torch

from perturbrl.landscape.boolean import BooleanDynamics, draw_keys
from perturbrl.landscape.infer.inference import Inferred

UPDATES_PER_GENE = 100  # after which a run counts as ended


def end_shares(inferred: Inferred, n_runs: int = 1000, seed: int = 0) -> tuple[float, ...]:
    """Return the share of asynchronous runs from the start that are in the last state of each branch at their end.

    Parameters
    ----------
    inferred
        The network and its K branches.
    n_runs
        The number of runs.
    seed
        Seed of the runs.

    Returns
    -------
    tuple
        K shares. What they leave of 1 are runs that end elsewhere, or in no steady state.
    """
    first = torch.from_numpy(inferred.branches[0].states[0]).to(torch.uint8)
    key = draw_keys(n_runs, torch.Generator().manual_seed(seed))
    dynamics = BooleanDynamics(inferred.network)
    ends = dynamics.run(first.expand(n_runs, -1).clone(), UPDATES_PER_GENE * len(first), key)
    return tuple(
        float((ends.bool() == torch.from_numpy(b.states[-1])).all(1).double().mean()) for b in inferred.branches
    )
