"""Simple predictors of mean changes that every table of the counterfactual task carries.

``BASELINES`` maps the name of a row to what makes its baseline; all share the contract of ``Baseline``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from perturbrl.effects.baselines.base import Baseline, covered
from perturbrl.effects.baselines.bilinear import Bilinear, Permuted, TunedBilinear
from perturbrl.effects.baselines.composed import Additive, MatchingMean, TransferMean
from perturbrl.effects.baselines.constant import BestConstant, NoChange, Random, TrainMean
from perturbrl.effects.baselines.descriptors import KernelRidge, NearestNeighbours
from perturbrl.effects.baselines.mlp import Mlp


@dataclass(frozen=True)
class Setting:
    """What baselines need besides data: a seed, and the rms of the changes of the policy that ``random`` matches."""

    seed: int
    action_rms: float


BASELINES: Mapping[str, Callable[[Setting], Baseline]] = MappingProxyType(
    {
        "no_change": lambda setting: NoChange(),
        "random": lambda setting: Random(setting.action_rms, setting.seed),
        "best_constant": lambda setting: BestConstant(),
        "train_mean": lambda setting: TrainMean(),
        "matching_mean": lambda setting: MatchingMean(),
        "additive": lambda setting: Additive(),
        "bilinear": lambda setting: Bilinear(),
        "bilinear_tuned": lambda setting: TunedBilinear(),
        "kernel_ridge": lambda setting: KernelRidge(),
        "knn": lambda setting: NearestNeighbours(),
        "mlp": lambda setting: Mlp(setting.seed),
        "transfer_mean": lambda setting: TransferMean(),
        "permuted": lambda setting: Permuted(setting.seed),
    }
)

__all__ = ["BASELINES", "Baseline", "Setting", "covered"]
