"""Copy the example plugins into docs/extend.md again: ``python docs/make_excerpts.py``.

A line that holds nothing but the name of a file of examples/plugins in backquotes and a colon comes before its block.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "extend.md"
PLUGINS = PAGE.parents[1] / "examples" / "plugins"
BLOCK = re.compile(r"^`(\w+\.py)`:\n\n```python\n.*?^```$", re.MULTILINE | re.DOTALL)


def updated(page: str) -> str:
    """Return the page with the code of every example as its file has it now."""

    def block(match: re.Match[str]) -> str:
        (file,) = PLUGINS.rglob(match[1])
        return f"`{match[1]}`:\n\n```python\n{file.read_text(encoding='utf-8').rstrip()}\n```"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
