"""Let the YAML of perturbrl plugins be found by Hydra."""

from __future__ import annotations

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from perturbrl.registry import plugin_conf_dirs


class PerturbrlSearchPath(SearchPathPlugin):
    """Appends the ``conf/`` folders of plugins after perturbrl's own, so that they add choices and replace none."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append each folder of ``perturbrl.registry.plugin_conf_dirs``."""
        for folder in plugin_conf_dirs():
            search_path.append(provider="perturbrl-plugin", path=f"file://{folder}")
