"""``source=norman19`` and ``source=kang18``: published perturbation screens, hosted as .h5ad by scverse."""

from __future__ import annotations

from dataclasses import dataclass

from perturbrl import registry
from perturbrl.data.fetch import Remote, obtain
from perturbrl.data.readers import ColumnKeys, read_file
from perturbrl.data.schema import RawCells


@dataclass(frozen=True)
class PublishedConfig(Remote, ColumnKeys):
    """A .h5ad file and the columns to use."""

    layer: str | None


@registry.sources.register("norman19", PublishedConfig)
@registry.sources.register("kang18", PublishedConfig)
def build(config: PublishedConfig) -> RawCells:
    """Read the RNA of a screen with its perturbations (Norman et al. 2019; Kang et al. 2018).

    Raises
    ------
    UserError
        The file cannot be downloaded or read, or a column named in the config is absent.
    """
    file = obtain(config)
    return read_file(file.path, config.name, config.layer, "rna", config, file.sha256)
