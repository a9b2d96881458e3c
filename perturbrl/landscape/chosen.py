"""The network that the settings of a landscape name: shipped, read from a file, or generated. Imports nothing heavy."""

from __future__ import annotations

import functools
from pathlib import Path

from perturbrl.config import fingerprint
from perturbrl.errors import UserError, require
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import SHIPPED, load

RANDOM = "random"
"""The value of ``source.network`` and ``env.network`` for a generated network."""


def chosen_network(network: str, family: str, n_regulators: int | None, seed: int) -> Network:
    """Return the network ``network``: a name, a file, or ``random`` for one of a family with a number of genes.

    A network of a file, which names no fates, gets its common fixed points as fates.

    Raises
    ------
    UserError
        As ``networks.load`` or ``families.generate``; the message starts with the key.
    """
    if network != RANDOM:
        return _with_fates(network, content(read_network(network)))
    assert n_regulators is not None
    return generated(family, n_regulators, seed)


def read_network(network: str) -> Network:
    """Return a shipped network or one of a file; a file is read again where it has changed."""
    file = Path(network)
    stamp = () if network in SHIPPED or not file.is_file() else (file.stat().st_mtime_ns, file.stat().st_size)
    try:
        found = _loaded(network, stamp)
    except UserError as error:
        raise UserError(f"source.network: {str(error).removeprefix('network: ')}") from None
    require(len(found.genes) > 1, "source.network", f"{network} has one gene; a landscape needs two or more")
    return found


def content(network: Network) -> str:
    """Return a fingerprint of all that shapes the cells of a network."""
    thresholds = [[*edge, value] for edge, value in network.thresholds.items()]
    markers = [[[name, *map(list, m)] for name, m in labels.items()] for labels in (network.fates, network.stages)]
    rules = [[gene, rule] for gene, rule in network.rules.items()]
    shape = {"rules": rules, "start": sorted(network.start), "markers": markers, "thresholds": thresholds}
    return fingerprint({**shape, "default_threshold": network.default_threshold})


@functools.lru_cache(maxsize=32)
def _loaded(network: str, stamp: tuple[int, ...]) -> Network:
    return load(network)


@functools.lru_cache(maxsize=32)
def _with_fates(network: str, fingerprint: str) -> Network:
    from perturbrl.landscape.markers import with_fates  # imports torch

    return with_fates(read_network(network))


@functools.lru_cache(maxsize=32)
def generated(family: str, n_regulators: int, seed: int) -> Network:
    """Return a network of a family, drawn once; as ``families.generate``."""
    from perturbrl.landscape.families import generate  # imports torch

    return generate(family, n_regulators, seed)
