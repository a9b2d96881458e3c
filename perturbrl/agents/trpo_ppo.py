"""TRPO -> PPO, the proposed method of arXiv 2510.13018, in the two readings of how the stages meet.

``stages``: some TRPO rollouts, then PPO from the parameters reached (what the released code does). ``interleaved``:
Algorithm 1 as printed, in each iteration a natural step and then PPO epochs on the same batch. Budgets come from
``schedule=``. ``agent=staged`` is the first reading with any stages.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from perturbrl.agents.common.build import staged_agent
from perturbrl.agents.common.learner import Stage, same
from perturbrl.agents.common.natural import natural_step
from perturbrl.agents.common.recipe import Recipe
from perturbrl.agents.common.rollout import Log, Rollout
from perturbrl.agents.common.stages import PARTS, chained
from perturbrl.agents.model.heads import Model
from perturbrl.agents.ppo import PPO
from perturbrl.agents.settings.trpo import TRPOConfig
from perturbrl.agents.settings.trpo_ppo import TRPOPPOConfig
from perturbrl.agents.trpo import TRPO
from perturbrl.rng import Streams


class Interleaved(Recipe[TRPOConfig]):
    """Algorithm 1; ratios (eq. 1) refer to theta_k, which collected the batch.

    So ``clip_fraction_first`` in the log is the share of ratios that the natural step alone has moved beyond the clip.
    """

    def __init__(self, trpo: TRPO, ppo: PPO) -> None:
        super().__init__(trpo.configs, trpo.model, trpo.streams)
        self.trpo, self.ppo = trpo, ppo
        self.stateful = {"": ppo}
        self.executor_name, self.notes = ppo.executor_name, ppo.notes

    def update(self, batch: Rollout, iteration: int) -> Log:
        """Lines 4 to 16; ``Learner.iterate`` has collected the batch and estimated advantages (lines 1 to 3)."""
        with torch.no_grad():
            old = self.trpo.old_policy(batch)  # pi at theta_k
            g = old.gradient()  # line 4
            d = self.trpo.direction(old, g)  # line 5 (Fisher-vector products) and line 6 (conjugate gradient)
            step = natural_step(g, d, self.trpo.c.target_kl)  # line 7
            natural = self.trpo.move(old, step)  # line 8: theta' = theta_k + step
        # lines 9 to 15: epochs (9) of minibatches (10), in each the loss (11, 12: PPO.loss) and Adam (13: PPO.step)
        clipped = self.ppo.update(batch, iteration)
        return natural | clipped  # line 16: theta_k+1 = theta'


@staged_agent("trpo_ppo", TRPOPPOConfig)
def stages(configs: Sequence[TRPOPPOConfig], model: Model, streams: Streams) -> list[Stage]:
    """Return one stage for both updates, or one for each, where PPO may take over the moments of the value network."""
    trpo, ppo = TRPO([c.trpo for c in configs], model, streams), PPO([c.ppo for c in configs], model, streams)
    first, second = (Stage.of(name, r.configs, r, streams.device) for name, r in (("trpo", trpo), ("ppo", ppo)))
    if same(configs, "mode") == "interleaved":
        return [dataclasses.replace(second, name="trpo_ppo", recipe=Interleaved(trpo, ppo))]
    moments = ("moments",) if same(configs, "handover") == "parameters_and_moments" else ()
    return chained([first, second], model, (*PARTS, *moments))
