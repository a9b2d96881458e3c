"""Copy the example plugins into docs/extend.md again: ``python docs/make_excerpts.py``.

A line that holds nothing but the name of a file of examples/plugins in backquotes and a colon comes before its block:
`reinforce.py`, or `conf/agent/reinforce.yaml`. Every block of Python and YAML is such a complete file.
"""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "extend.md"
PLUGINS = PAGE.parents[1] / "examples" / "plugins"
BLOCK = re.compile(r"^`([\w/]+\.(?:py|yaml))`:\n\n```(python|yaml)\n.*?^```$", re.MULTILINE | re.DOTALL)


def updated(page: str) -> str:
    """Return the page with every example as its file is now."""

    def block(match: re.Match[str]) -> str:
        (file,) = PLUGINS.rglob(match[1])
        return f"`{match[1]}`:\n\n```{match[2]}\n{file.read_text(encoding='utf-8').rstrip()}\n```"

    return BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
