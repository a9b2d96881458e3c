"""The exception for mistakes of the user, and the parts of its messages."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


class UserError(Exception):
    """A mistake that the user can correct. The message is one line: what is wrong, where, and what is valid.

    The command line prints the message alone and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        # Names in damaged files can contain control characters, which a terminal would execute.
        super().__init__("".join(c if c.isprintable() else repr(c)[1:-1] for c in line))


def one_of(choices: object) -> str:
    """Return the valid choices as text for an error message: ``a, b or c``."""
    names = sorted(str(c) for c in choices)  # type: ignore[attr-defined]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} or {names[-1]}"


def choice(value: str, choices: Collection[str], location: str) -> str:
    """Return ``value`` if it is one of ``choices``.

    Parameters
    ----------
    value
        The name to look up.
    choices
        The valid names.
    location
        What the message starts with: a full key, a file, a column.

    Raises
    ------
    UserError
        ``value`` is none of them. The message lists them and suggests a similar one.
    """
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
    """Return `` (did you mean 'x'?)`` if one of ``choices`` is similar to ``word``, else an empty text."""
    close = difflib.get_close_matches(word, sorted(choices), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
