"""Networks as .bnet text. The format has rules only; start and fates are comments, which other tools pass over.

# perturbrl start: A B
# perturbrl fate NAME: A !B
targets, factors
A, B & !C
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from perturbrl.errors import UserError
from perturbrl.landscape.network import Markers, Network

_START = re.compile(r"# perturbrl start:(.*)")
_FATE = re.compile(r"# perturbrl fate (.+):([^:]*)")
_OPERATORS = {"not": "!", "and": "&", "or": "|", "True": "true", "False": "false"}


def text(network: Network) -> str:
    """Return a network in .bnet format, with its start and its fates."""
    lines = [f"# perturbrl start: {' '.join(sorted(network.start))}".rstrip()]
    for fate, (on, off) in network.fates.items():
        lines.append(f"# perturbrl fate {fate}: {' '.join([*on, *(f'!{gene}' for gene in off)])}".rstrip())
    lines.append("targets, factors")
    lines += [f"{gene}, {_rule(rule)}" for gene, rule in network.rules.items()]
    return "\n".join(lines) + "\n"


def states(lines: str, names: Mapping[str, str], where: str) -> tuple[frozenset[str], dict[str, Markers]]:
    """Return start and fates of .bnet text, empty where it has none; ``names`` are the network's names by the file's.

    Raises
    ------
    UserError
        A gene of a start or fate is not in the network.
    """
    start: frozenset[str] = frozenset()
    fates: dict[str, Markers] = {}
    for number, line in enumerate(lines.splitlines(), start=1):
        at = f"{where}, line {number}"
        if match := _START.fullmatch(line.strip()):
            start = frozenset(_gene(word, names, at) for word in match[1].split())
        elif match := _FATE.fullmatch(line.strip()):
            words = match[2].split()
            on = tuple(_gene(word, names, at) for word in words if not word.startswith("!"))
            fates[match[1]] = on, tuple(_gene(word[1:], names, at) for word in words if word.startswith("!"))
    return start, fates


def _gene(word: str, names: Mapping[str, str], where: str) -> str:
    if word not in names:
        raise UserError(f"{where}: {word!r} is not a gene of the network")
    return names[word]


def _rule(rule: str) -> str:
    return re.sub(r"\b(?:not\b\s*|(?:and|or|True|False)\b)", lambda match: _OPERATORS[match[0].strip()], rule)
