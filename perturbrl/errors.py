"""The one exception a user is meant to see."""

from __future__ import annotations


class UserError(Exception):
    """A mistake the user can mend: what is wrong, where, and what would be right, in one line.

    The command line prints the message alone and exits with code 2.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def one_of(choices: object) -> str:
    """Spell a set of valid choices for an error message: ``a, b or c``."""
    names = sorted(str(c) for c in choices)  # type: ignore[attr-defined]
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} or {names[-1]}"
