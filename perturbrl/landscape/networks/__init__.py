"""Networks by name or from a file: those shipped, one page each, and readers of the usual formats."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from perturbrl.errors import UserError, did_you_mean, one_of
from perturbrl.landscape.network import Network

SHIPPED: tuple[str, ...] = ("myeloid", "toggle", "gonadal", "cortical", "t_helper", "haematopoietic")
"""The names of the networks that come with perturbrl."""
SUFFIXES = (".bnet", ".sbml", ".aeon", ".csv", ".tsv")


def load(name_or_path: str | Path) -> Network:
    """Return a shipped network by its name, or read a network from a file.

    Parameters
    ----------
    name_or_path
        One of ``SHIPPED``, or a file whose name ends in one of ``SUFFIXES``: a model (see ``files``) or a list of
        signed edges (see ``edges``).

    Raises
    ------
    UserError
        There is no such network or file, or the file is not a network.
    """
    name = str(name_or_path)
    if name in SHIPPED:
        shipped: Callable[[], Network] = import_module(f"{__name__}.{name}").network
        return shipped()
    path = Path(name)
    if path.suffix not in SUFFIXES:
        choices = f"choose {one_of(SHIPPED)}, or a file ending in {one_of(SUFFIXES)}"
        raise UserError(f"network: {name!r} is not known{did_you_mean(name, SHIPPED)}; {choices}")
    if path.suffix in (".csv", ".tsv"):
        from perturbrl.landscape.networks.edges import read_network

        return read_network(path)
    from perturbrl.landscape.networks.files import read_model

    return read_model(path)
