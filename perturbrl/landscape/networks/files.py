"""Networks from the files of other tools: .bnet, SBML-qual and .aeon, parsed by biodivine_aeon."""

from __future__ import annotations

import keyword
import re
from pathlib import Path

import biodivine_aeon as aeon

from perturbrl.errors import UserError
from perturbrl.landscape.network import Network
from perturbrl.landscape.networks import bnet


def read_model(path: Path) -> Network:
    """Return the network of a .bnet, .sbml or .aeon file; a gene without a rule that others read is an input.

    What a Python name cannot hold becomes ``_`` (``miR-200`` is ``miR_200``). The network has no start and no fates,
    but for those that a .bnet file written here has in its comments (``bnet``).

    Raises
    ------
    UserError
        The file cannot be read, is malformed, has no genes, or leaves a rule open.
    """
    text = read_text(path)
    model = _parse(path, text)
    spelled = model.variable_names()
    if not spelled:
        raise UserError(f"{path}: holds no genes")
    names = identifiers(spelled, str(path))
    inputs = [gene for gene, variable in zip(spelled, model.variables(), strict=True) if _is_input(model, variable)]
    if path.suffix == ".bnet":
        _check_inputs(path, inputs, [gene for gene in spelled if gene not in inputs])
    rules = {}
    for gene, variable in zip(spelled, model.variables(), strict=True):
        function = model.get_update_function(variable)
        if gene in inputs:
            rules[names[gene]] = names[gene]
        elif function is None:
            raise UserError(f"{path}: gene {gene!r} has regulators but no rule; a rule for it is needed")
        else:
            rules[names[gene]] = _expression(function, model, names, f"{path}: gene {gene!r}")
    start, fates = bnet.states(text, names, str(path)) if path.suffix == ".bnet" else (frozenset(), {})
    return Network(rules, start, fates, {}, {}, 0.5, path.stem)


def read_text(path: Path) -> str:
    """Return the text of a file; raise ``UserError`` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{path}: cannot be read: {reason}") from None


def identifiers(names: list[str], where: str) -> dict[str, str]:
    """Return for each name the Python name that stands for it; raise ``UserError`` where two names become one."""
    result: dict[str, str] = {}
    owner: dict[str, str] = {}
    for name in names:
        word = re.sub(r"\W", "_", name)
        word = f"_{word}" if word[:1].isdigit() else f"{word}_" if keyword.iskeyword(word) else word
        if owner.setdefault(word, name) != name:
            raise UserError(f"{where}: genes {owner[word]!r} and {name!r} are both {word!r}; rename one")
        result[name] = word
    return result


def _parse(path: Path, text: str) -> aeon.BooleanNetwork:
    read = {
        ".bnet": aeon.BooleanNetwork.from_bnet,
        ".sbml": aeon.BooleanNetwork.from_sbml,
        ".aeon": aeon.BooleanNetwork.from_aeon,
    }[path.suffix]
    try:
        return read(text)
    except RuntimeError as error:
        where = _first_bad_line(text) if path.suffix == ".bnet" else ""
        raise UserError(f"{path}{where}: not a network in {path.suffix[1:]} format: {error}") from None


def _first_bad_line(text: str) -> str:
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            aeon.BooleanNetwork.from_bnet(line)
        except RuntimeError:
            return f", line {number}"
    return ""


def _is_input(model: aeon.BooleanNetwork, variable: aeon.VariableId) -> bool:
    return model.get_update_function(variable) is None and not model.predecessors(variable)


def _check_inputs(path: Path, inputs: list[str], ruled: list[str]) -> None:
    """Refuse a gene without a line whose name is another's in all but case and signs: it is hardly an input."""
    simple = {re.sub(r"[\W_]", "", gene).lower(): gene for gene in ruled}
    for gene in inputs:
        if (twin := simple.get(re.sub(r"[\W_]", "", gene).lower())) is not None:
            raise UserError(f"{path}: {gene!r} is read by a rule but has no line; did you mean {twin!r}?")


def _expression(function: aeon.UpdateFunction, model: aeon.BooleanNetwork, names: dict[str, str], where: str) -> str:
    """Return a rule as a Python expression."""

    def text(part: aeon.UpdateFunction) -> str:
        if (constant := part.as_const()) is not None:
            return str(constant)
        if (variable := part.as_var()) is not None:
            return names[model.get_variable_name(variable)]
        if (negated := part.as_not()) is not None:
            return f"not {text(negated)}" if negated.is_var() or negated.is_const() else f"not ({text(negated)})"
        binary = part.as_binary()
        if binary is None:
            raise UserError(f"{where}: its rule {function} has an open parameter; only rules that are known can be run")
        operator, a, b = binary
        if operator in ("and", "or"):
            # One level for a chain of the same operator: Python reads at most 200 nested parentheses.
            return f" {operator} ".join(operand(p) for p in _chain(part, operator))
        left, right = f"({text(a)})", f"({text(b)})"
        return {
            "imp": f"not {left} or {right}",
            "iff": f"{left} and {right} or not ({left} or {right})",
            "xor": f"({left} or {right}) and not ({left} and {right})",
        }[operator]

    def operand(part: aeon.UpdateFunction) -> str:
        return f"({text(part)})" if part.is_binary() else text(part)

    return text(function)


def _chain(part: aeon.UpdateFunction, operator: str) -> list[aeon.UpdateFunction]:
    """Return the operands of a chain of one operator, from left to right."""
    operands, waiting = [], [part]
    while waiting:
        last = waiting.pop()
        pair = last.as_and() if operator == "and" else last.as_or()
        if pair is None:
            operands.append(last)
        else:
            waiting += [pair[1], pair[0]]
    return operands
