"""Names of genetic perturbations: knock-out, over-expression, knock-down and flip of a gene, alone and combined.

A name says what is done to one gene and for how long; ``+`` combines names. Everything starts with the simulation.

    Gata1_ko          held at 0 for good
    Gata1_oe          held at the level of over-expression; Gata1_oe1.5: at 1.5 (1 is a gene that is fully on)
    Gata1_kd0.7       expressed at 0.3 of what its regulators ask for: a knock-down by 70 %
    Gata1_flip        turned on if it is off in the progenitor, else turned off, and then free
    Gata1_ko@40       held for 40 steps of the simulation, then free; @0 is a pulse: set once, then free

Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from perturbrl.errors import UserError, choice, did_you_mean, one_of, require

CONTROL = "control"
KNOCK_OUT, OVER_EXPRESSION, KNOCK_DOWN, FLIP = "ko", "oe", "kd", "flip"
SETS = ("none", "single", "double")
"""Sets of perturbations by name: control cells only, every knock-out and over-expression, and every pair of these."""
FORM = "GENE_ko, GENE_oe[LEVEL], GENE_kdSHARE or GENE_flip, with @STEPS where it ends, joined by +"
_NAME = re.compile(r"(?P<gene>.+)_(?P<kind>ko|oe|kd|flip)(?P<dose>\d+(?:\.\d+)?)?(?:@(?P<steps>\d+))?")


@dataclass(frozen=True)
class Intervention:
    """What is done to one gene; ``str`` gives its name.

    ``dose`` is the level of an over-expression (None: that of the settings) or the share that a knock-down takes away;
    ``steps`` is how long it is held (None: for good; 0: set once, which is what a flip is).
    """

    gene: str
    kind: str
    dose: float | None = None
    steps: int | None = None

    def __str__(self) -> str:
        dose = "" if self.dose is None else f"{self.dose:g}"
        return f"{self.gene}_{self.kind}{dose}" + ("" if self.steps is None else f"@{self.steps}")


def parse(name: str, where: str = "perturbation") -> tuple[Intervention, ...]:
    """Return the interventions that a name combines, none for ``control``, in the order of the name.

    Raises
    ------
    UserError
        The name is none, a dose is out of range, or a gene stands in it twice.
    """
    if name == CONTROL:
        return ()
    parts = tuple(_part(part, f"{where}: {name!r}") for part in name.split("+"))
    genes = [part.gene for part in parts]
    twice = [gene for gene in genes if genes.count(gene) > 1]
    require(not twice, where, f"{name!r} perturbs {twice[:1]} twice; a gene can stand in a combination once")
    return parts


def _part(text: str, where: str) -> Intervention:
    match = _NAME.fullmatch(text)
    if match is None:
        raise UserError(f"{where}: is not {FORM}")
    gene, kind = match["gene"], match["kind"]
    dose = None if match["dose"] is None else float(match["dose"])
    steps = None if match["steps"] is None else int(match["steps"])
    if kind == KNOCK_DOWN:
        right = dose is not None and 0 < dose < 1 and steps != 0
        require(right, where, f"a knock-down takes a share between 0 and 1 away, as in {gene}_kd0.5 or {gene}_kd0.5@40")
    elif kind == OVER_EXPRESSION:
        require(dose is None or dose > 0, where, f"the level of an over-expression is above 0, as in {gene}_oe1.5")
    else:
        require(dose is None, where, f"takes no dose: {gene}_{kind}; a partial loss is a knock-down, {gene}_kd0.5")
        require(kind != FLIP or steps is None, where, f"a flip is not held; {gene}_ko@40 or {gene}_oe@40 are")
    return Intervention(gene, kind, dose, steps)


def require_genes(parts: Sequence[Intervention], genes: Collection[str], where: str) -> None:
    """Raise ``UserError`` for a gene that is not among ``genes``."""
    for part in parts:
        if part.gene not in genes:
            hint = did_you_mean(part.gene, genes)
            listed = one_of(genes) if len(genes) <= 30 else f"{len(genes)}, such as {min(genes)}"
            raise UserError(f"{where}: {part.gene!r} is not a gene of the network{hint}; its genes are {listed}")


class Perturbations:
    """A bound of a field: one of ``SETS``, or a list of names, each once."""

    def admit(self, value: Any, key: str) -> None:
        """Raise ``UserError`` for another word, or for a name of the list that is none or stands there twice."""
        if not isinstance(value, list):
            choice(value, SETS, key)
            return
        require(len(value) > 0, key, "is an empty list; name perturbations, such as [Gata1_ko, Pu1_oe], or say none")
        known: dict[frozenset[Intervention], str] = {}
        for index, name in enumerate(value):
            where = f"{key}[{index}]"
            right = isinstance(name, str) and name != CONTROL
            require(right, where, f"{name!r} is not {FORM}; control is always there")
            parts = frozenset(parse(name, where))
            require(parts not in known, where, f"{name!r} is {known.get(parts)!r} again; give every perturbation once")
            known[parts] = name
