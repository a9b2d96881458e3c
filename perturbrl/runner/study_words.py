"""The overrides of a study's arms: candidates of several overrides, and steps as parts of the study's."""

from __future__ import annotations

import re

from perturbrl.config import require

PART = re.compile(r"\{(\d+(?:\.\d+)?)\}")  # {0.5}: half of the study's steps
OPEN, CLOSED, QUOTES = "[{(", "]})", "\"'"


def words(candidate: object, where: str) -> list[str]:
    """Return the overrides of a candidate: those of a list, or those of a text, which spaces separate.

    Spaces within brackets and quotes separate nothing: ``agent.lr=1e-4 agent.stages=[trpo:1k, ppo:4k]`` is two.

    Raises
    ------
    UserError
        It is neither, or a bracket or quote is not closed.
    """
    if isinstance(candidate, list):
        every = all(isinstance(each, str) and "=" in each for each in candidate)
        require(every, where, f"must be a text or a list of key=value, got {candidate!r}")
        return [str(each) for each in candidate]
    require(isinstance(candidate, str), where, f"must be a text or a list of key=value, got {candidate!r}")
    assert isinstance(candidate, str)
    out, word, depth, quote = [], "", 0, ""
    for letter in candidate:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in QUOTES:
            quote = letter
        depth += 0 if quote else (letter in OPEN) - (letter in CLOSED)
        if letter.isspace() and not depth and not quote:
            out.append(word)
            word = ""
        else:
            word += letter
    require(not depth and not quote, where, f"a bracket or quote is not closed: {candidate}")
    return [word for word in (*out, word) if word]


def spelled(candidate: object) -> str:
    """Return a candidate as one line, for tables."""
    return " ".join(map(str, candidate)) if isinstance(candidate, list) else str(candidate)


def share(text: str) -> float:
    """Return the part of the study's steps that an override names, 0 where it names none."""
    return sum(float(part) for part in PART.findall(text))


def filled(text: str, steps: int | None, where: str) -> str:
    """Replace ``{0.5}`` by half of ``steps``.

    Raises
    ------
    UserError
        There is such a part and the study states no steps.
    """
    require(steps is not None or not PART.search(text), where, f"is missing: {text} names a part of it")
    return PART.sub(lambda part: str(round(float(part[1]) * (steps or 0))), text)
