"""A plan from names and files to a table, sentences and a page; the command line and Python both use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perturbrl import status
from perturbrl.config import read_changes
from perturbrl.errors import UserError, require
from perturbrl.files import write_text
from perturbrl.landscape import networks
from perturbrl.landscape.plan import places, result
from perturbrl.landscape.plan.cells import read_cells
from perturbrl.landscape.plan.plan import make_plan
from perturbrl.landscape.plan.result import Plan
from perturbrl.landscape.plan.settings import settings

POLICY = "policy="
PAGE = "plan.html"
DEFAULT_NETWORK = "myeloid"


@dataclass(frozen=True)
class Request:
    """What a user asks: fates by name, a network by name or file, labelled cells if there are any."""

    source: str
    target: str
    network: str = DEFAULT_NETWORK
    cells: Path | None = None
    label: str | None = None
    aliases: Path | None = None
    max_perturb: int = 1
    genes: Sequence[str] = ()
    method: str | None = None
    changes: Mapping[str, Any] | None = None


def network_and_changes(words: Sequence[str]) -> tuple[str | None, dict[str, Any]]:
    """Return the network among the words of a command line (None: none), and the settings that the others change.

    Raises
    ------
    UserError
        More than one word is no KEY=VALUE, or as ``config.read_changes``.
    """
    plain = [word for word in words if "=" not in word]
    require(len(plain) < 2, "fate plan", f"one network is needed, got {' and '.join(plain)}")
    return (plain[0] if plain else None), read_changes([word for word in words if "=" in word])


def both_ends(source: str | None, target: str | None) -> dict[str, str]:
    """Return the two ends of a plan; raise ``UserError`` if one is missing."""
    for option, value in (("--from", source), ("--to", target)):
        require(
            bool(value and value.strip()), option, "is needed: perturbrl fate plan --from monocyte --to erythrocyte"
        )
    return {"source": str(source), "target": str(target)}


def run(request: Request) -> Plan:
    """Return the plan that a request asks for.

    Raises
    ------
    UserError
        A name, file or setting is wrong, A is B, or there are too few cells.
    """
    changes = dict(request.changes or {})
    if request.method is not None:
        require("method" not in changes, "method", "is given twice, as --method and as method=")
        changes["method"] = request.method
    policy = str(changes.get("method", ""))
    if policy.startswith(POLICY):
        del changes["method"]
    for option, value, what in (("--label", request.label, "a column"), ("--alias", request.aliases, "for the genes")):
        require(value is None or request.cells is not None, option, f"is {what} of --cells, which are not given")
    config = settings(changes)
    network = networks.load(request.network)
    cells = None
    if request.cells is not None:
        with status.step(f"reading {request.cells}"):
            cells = read_cells(request.cells, network, config, request.label, request.aliases)
    question, understood = places.ask(network, request.source, request.target, config, cells)
    notes = (*(cells.notes if cells else ()), *understood)
    proposed = None
    if policy.startswith(POLICY):
        from perturbrl.runner.fate_policy import proposals

        run = Path(policy.removeprefix(POLICY))
        proposed = f"policy {run.name}", proposals(run, question, request.max_perturb)
    return make_plan(question, config, request.max_perturb, request.genes, notes, proposed)


def write(plan: Plan, request: Request, folder: Path) -> list[Path]:
    """Write the table, the whole plan as JSON and the page below ``folder``, and return their paths.

    Raises
    ------
    UserError
        A file cannot be written.
    """
    from perturbrl.report.fate_plan_page import page
    from perturbrl.runner.fate_pictures import landscapes

    config = settings({key: value for key, value in (request.changes or {}).items() if key != "method"})
    try:
        files = [*result.write(plan, folder)]
        pictures = landscapes(networks.load(request.network), plan, config.picture_cells, config.seed)
        write_text(folder / PAGE, page(plan, pictures))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror or error}") from error
    return [*files, folder / PAGE]
