"""``hydra/launcher=population``; Hydra finds launchers only below ``hydra_plugins``."""

from __future__ import annotations

from perturbrl.runner.hydra import launcher


class PopulationLauncher(launcher.PopulationLauncher):
    """See ``perturbrl.runner.hydra.launcher``."""
