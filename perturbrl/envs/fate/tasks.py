"""From the settings of ``env=fate`` to a network and its tasks: every source, with every target that it can have.

Letters: G genes, n states.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perturbrl.data.cache import stamps
from perturbrl.envs.fate.config import FateEnvConfig
from perturbrl.errors import UserError, choice, one_of, require
from perturbrl.landscape import networks
from perturbrl.landscape.attractors import attractors
from perturbrl.landscape.chosen import RANDOM, generated
from perturbrl.landscape.fate_task import Fate, FateTask, require_gene
from perturbrl.landscape.network import Network

ATTRACTORS, FATES, PROGENITOR = "attractors", "fates", "progenitor"
MOST_STATES = 4096  # of an attractor; a larger one is known by the genes that are constant in it


@dataclass(frozen=True)
class Landscape:
    """A network with its inputs set, and what its states are called."""

    network: Network
    inputs: tuple[str, ...]

    @cached_property
    def attractors(self) -> tuple[Fate, ...]:
        """The attractors of the asynchronous network, ``attractor:0`` and so on, as ``landscape.attractors`` orders."""
        return tuple(self._attractor(k, a) for k, a in enumerate(attractors(self.network)))

    @cached_property
    def settled(self) -> Fate:
        """The states of all attractors."""
        return Fate(ATTRACTORS, torch.cat([a.patterns for a in self.attractors]))

    def _attractor(self, k: int, found: Any) -> Fate:
        states = torch.as_tensor(found.states)
        if len(states) < found.n_states:
            constant = (states == states[:1]).all(0)
            states = torch.where(constant, states[:1].to(torch.int8), torch.tensor(-1, dtype=torch.int8))
        return Fate(f"attractor:{k}", states.to(torch.int8))

    def fate(self, name: str, key: str) -> Fate:
        """Return a fate, a stage, or ``attractor:K`` by name.

        Raises
        ------
        UserError
            There is none of that name; the message starts with ``key``.
        """
        kind, _, number = name.partition(":")
        if kind == "attractor":
            n = len(self.attractors)
            known = number.isdigit() and int(number) < n
            require(known, key, f"{name!r} is not known; this network has attractor:0 to attractor:{n - 1}")
            return self.attractors[int(number)]
        names = (*self.network.fates, *self.network.stages)
        if not names:
            raise UserError(
                f"{key}: {name!r} is not known; this network names no fates, choose attractors or attractor:K"
            )
        return Fate.named(self.network, choice(name, names, key))

    def states(self, name: str) -> list[Tensor]:
        """Return the sets of start states [n, G] that ``env.start`` means, one for each source."""
        if name == PROGENITOR:
            named = bool(self.network.start)
            require(named, "env.start", "this network has no progenitor; choose attractors or the name of a fate")
            return [torch.tensor([[gene in self.network.start for gene in self.network.genes]], dtype=torch.uint8)]
        sources = [a.patterns.clamp(min=0).to(torch.uint8) for a in self.attractors]
        if name == ATTRACTORS:
            return sources
        fate = self.fate(name, "env.start")
        chosen = [states[fate.contains(states)] for states in sources]
        require(any(map(len, chosen)), "env.start", f"no attractor is in the fate {name!r}; choose attractors")
        return [states for states in chosen if len(states)]

    def targets(self, name: str) -> Sequence[Fate]:
        """Return the targets that ``env.target`` means."""
        if name == ATTRACTORS:
            return self.attractors
        if name == FATES:
            require(bool(self.network.fates), "env.target", "this network names no fates; choose attractors")
            return [Fate.named(self.network, fate) for fate in self.network.fates]
        return [self.fate(name, "env.target")]


def tasks(config: FateEnvConfig) -> tuple[FateTask, ...]:
    """Return the tasks among which an episode draws: each source with each target that it is not already in.

    Raises
    ------
    UserError
        A network, gene, fate or file that there is not, or no source that is outside a target.
    """
    place = landscape(config)
    chosen = config.controllable or [g for g in place.network.genes if g not in place.inputs]
    shared = {
        **{f.name: getattr(config, f.name) for f in dataclasses.fields(FateTask) if hasattr(config, f.name)},
        "stages": tuple(place.fate(name, "env.stages") for name in config.stages),
        "lure": place.fate(config.lure, "env.lure") if config.lure else None,
        "controllable": tuple(chosen),
        "network": place.network,
    }
    made = []
    for states in place.states(config.start):
        for target in place.targets(config.target):
            outside = states[~target.contains(states)]
            # A source of which only a part is outside is no other state of the cell than its target.
            if len(outside) == len(states):
                made.append(FateTask(**{**shared, "start": states, "target": target}))
    already = f"every start of env.start={config.start} is in it already, or there is but one attractor"
    require(bool(made), f"env.target={config.target}", already)
    return tuple(made)


def landscape(config: FateEnvConfig) -> Landscape:
    """Return the network of a config with its inputs set; one network is read once."""
    drawn = [config.family, config.n_regulators, config.network_seed] if config.network == RANDOM else []
    key = json.dumps([config.network, drawn, config.inputs], sort_keys=True)
    files = (Path(value) for value in (config.network, config.inputs) if isinstance(value, str))
    return _landscape(key, tuple(stamp for file in files for stamp in stamps(file)))


@functools.lru_cache(maxsize=8)
def _landscape(key: str, versions: tuple[str, ...]) -> Landscape:
    name, drawn, inputs = json.loads(key)
    network = generated(*drawn) if name == RANDOM else networks.load(name)
    values = _inputs(inputs)
    for gene in values:
        require_gene(network, gene, "env.inputs")
    rules = {gene: str(values[gene]) if gene in values else rule for gene, rule in network.rules.items()}
    return Landscape(dataclasses.replace(network, rules=rules) if values else network, tuple(values))


def _inputs(given: Any) -> Mapping[str, bool]:
    """Return the values of inputs by gene, from a mapping or from a file with lines ``GENE true``."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        wrong = next((gene for gene, value in given.items() if not isinstance(value, bool)), None)
        require(wrong is None, "env.inputs", f"{wrong} must be true or false, got {given.get(wrong)!r}")
        return given
    file = Path(str(given)).expanduser()
    try:
        lines = [line.split() for line in file.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"env.inputs: {file}: {error.strerror or error}; give a file or {{GENE: true}}") from None
    for number, words in enumerate(lines, 1):
        valid = len(words) == 2 and words[1].lower() in ("true", "false")
        require(
            valid, f"{file}, line {number}", f"{' '.join(words)!r}: expected a gene and {one_of(['true', 'false'])}"
        )
    return {gene: value.lower() == "true" for gene, value in lines}
