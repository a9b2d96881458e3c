"""From the cells of a source to what the task of predicting perturbations sees."""

from __future__ import annotations

from perturbrl import status
from perturbrl.data.preprocess import DataConfig
from perturbrl.data.schema import RawCells
from perturbrl.screens.conditions import ConditionsConfig
from perturbrl.screens.describe import DescriptionConfig, describe
from perturbrl.screens.genes import select
from perturbrl.screens.load import load_screen
from perturbrl.screens.schema import PerturbationTable
from perturbrl.screens.split import split_screen
from perturbrl.screens.split_config import ScreenSplitConfig


def load_perturbations(
    raw: RawCells,
    data: DataConfig,
    conditions: ConditionsConfig,
    split: ScreenSplitConfig,
    description: DescriptionConfig,
) -> PerturbationTable:
    """Read conditions, log-normalise, split, check for leaks, select features and describe, in this order.

    Selection and descriptions are fitted on ``split.train`` and ``split.control_train`` only.

    Raises
    ------
    UserError
        As ``load_screen``, ``split_screen``, ``select`` and ``describe``.
    """
    with status.step("reading conditions, log-normalising"):
        screen = load_screen(raw, data, conditions)
    with status.step("splitting conditions, looking for leaks"):
        chosen = split_screen(screen, split)
    with status.step("selecting features"):
        selected = select(screen, chosen, data)
    with status.step("describing perturbations"):
        return describe(selected, chosen, description)
