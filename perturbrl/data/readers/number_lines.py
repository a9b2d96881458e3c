"""Check lines of numbers before scipy's parser, which ignores text after a number and assumes complete lines."""

from __future__ import annotations

import re
from typing import IO

_SPACES = b" \t\r\n"
_LONGEST_LINE = 4096
_INTEGER = rb"[+-]?\d+"
_REAL = rb"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?i:nan|inf(?:inity)?))"
# a word that is no number: what a look-ahead does not recognise at the start of a word
_BAD_WORD = {
    field: re.compile(rb"(?<!\S)(?!" + number + rb"(?!\S))\S+")
    for field, number in (("integer", _INTEGER), ("pattern", _INTEGER), ("real", _REAL))
}
_TWO_POINTS = re.compile(rb"\.\d*\.|(?<!\d)\.(?!\d)")
_STARTS = bytes(int(c not in _SPACES) for c in range(256))


class CheckedLines:
    """A stream of bytes for ``scipy.io.mmread``; ``words`` is how many words came after the byte ``start``.

    ``read`` raises ``ValueError`` at a word that is not a number of the kind ``field``, and ends the last line.
    """

    def __init__(self, stream: IO[bytes], start: int, field: str) -> None:
        self.words = 0
        self._stream = stream
        self._header = start
        self._field = field
        self._line = b""  # the part of a line that was read
        self._ended = True

    def read(self, size: int = -1) -> bytes:
        """Return the next ``size`` bytes, checked."""
        block = self._stream.read(size)
        if not block and not self._ended:
            block = b"\n"
        if block:
            self._ended = block.endswith(b"\n")
        body = block[self._header :]
        self._header = max(0, self._header - len(block))
        text = self._line + body
        end = text.rfind(b"\n") + 1
        self._line = text[end:]
        if len(self._line) > _LONGEST_LINE:
            raise ValueError(f"a line is longer than {_LONGEST_LINE} bytes")
        self._check(text[:end])
        return block

    def _check(self, lines: bytes) -> None:
        marks = lines.translate(_STARTS)
        self.words += marks.count(b"\0\1") + marks.startswith(b"\1")
        # Nearly all files hold nothing but digits and points; only others are looked at word by word.
        others = lines.translate(None, b"0123456789" + _SPACES)
        if not others or (self._field == "real" and not others.strip(b".") and not _TWO_POINTS.search(lines)):
            return
        bad = _BAD_WORD[self._field].search(lines)
        if bad:
            kind = "a number" if self._field == "real" else "an integer"
            raise ValueError(f"{bad[0][:20].decode('utf-8', 'backslashreplace')!r} is not {kind}")
