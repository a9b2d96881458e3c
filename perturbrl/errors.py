"""The one exception a user is meant to see."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
    """A mistake the user can mend: what is wrong, where, and what would be right, in one line.

    The command line prints the message alone and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        # Names in damaged files can hold what no terminal prints, or what it would obey.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))


def one_of(choices: object) -> str:
    """Spell a set of valid choices for an error message: ``a, b or c``."""
    names = sorted(str(c) for c in choices)  # type: ignore[attr-defined]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} or {names[-1]}"


def choice(value: str, choices: Collection[str], location: str) -> str:
    """Return ``value`` if it is one of ``choices``, else raise a ``UserError`` that lists them."""
    if value not in choices:
        raise UserError(
            f"{location}: {value!r} is not known{did_you_mean(str(value), choices)}; choose {one_of(choices)}"
        )
    return value


def require(condition: bool, location: str, message: str) -> None:
    """Raise ``UserError('where: message')`` unless ``condition`` holds."""
    if not condition:
        raise UserError(f"{location}: {message}")


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for a known word that is nearly ``word``, else nothing."""
    close = difflib.get_close_matches(word, sorted(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
