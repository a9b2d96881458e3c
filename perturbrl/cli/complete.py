"""Shell completion of Hydra's part of the command line: ``agent=<TAB>``, ``env.max_perturb=<TAB>``."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from typer.completion import get_completion_script  # type: ignore[attr-defined]

from perturbrl.runner import conf_tree

HYDRA_FLAGS = {
    "--cfg": "print the config and stop (job, hydra or all)",
    "--config-dir": "add a folder of configs",
    "--help": "the choices of every group",
    "--info": "print what Hydra composed",
    "--multirun": "sweep over comma-separated values",
    "--package": "print one part of the config",
    "--resolve": "with --cfg: resolve interpolations",
    "-m": "sweep over comma-separated values",
}
CFG = ("job", "hydra", "all")
UNINSTALL = {
    "bash": "complete -r {program}",
    "fish": "complete --erase --command {program}",
    "zsh": "compdef -d {program}",
}


def shell_script(words: Sequence[str], program: str, variable: str) -> str | None:
    """Return what a shell must evaluate for ``-sc install=SHELL`` or ``-sc uninstall=SHELL``; None for other ``words``.

    Hydra's own script completes programs without verbs only.

    Raises
    ------
    UserError
        The shell is not one of bash, fish and zsh.
    """
    from perturbrl.config import choice  # a Tab need not wait for it

    if not {"-sc", "--shell-completion"} & set(words):
        return None
    actions = [word.partition("=") for word in words if word.startswith(("install=", "uninstall="))]
    if not actions:
        return None
    action, _, shell = actions[0]
    choice(shell, UNINSTALL, f"train -sc {action}")
    if action == "uninstall":
        return UNINSTALL[shell].format(program=program)
    return get_completion_script(prog_name=program, complete_var=variable, shell=shell)


def overrides(ctx: Any, args: list[str], incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield (value, help) for the word being typed after ``train``; what Typer's ``autocompletion`` calls."""
    before = [*(ctx.params.get("overrides") or ()), *ctx.args, *args]
    yield from candidates(before, incomplete)


def candidates(before: Iterable[str], incomplete: str) -> Iterator[tuple[str, str]]:
    """Yield completions of ``incomplete``, given the words ``before`` it.

    A key is completed first; once only one key is left, its values are offered with it, so that the shell adds no
    space after ``=``.
    """
    words = list(before)
    if words and words[-1] in ("--cfg", "-c"):
        yield from ((what, "") for what in CFG)
        return
    if incomplete.startswith("-"):
        yield from HYDRA_FLAGS.items()
        return
    prefix = incomplete[: len(incomplete) - len(incomplete.lstrip("+~"))]
    key, equals, value = incomplete[len(prefix) :].partition("=")
    roots = conf_tree.conf_dirs()
    choices = conf_tree.groups(roots)
    defaults = conf_tree.keys(roots, conf_tree.chosen(words, choices))
    if equals:
        yield from ((f"{prefix}{text}", note) for text, note in _values(key, value, choices, defaults))
        return
    names = sorted(name for name in {*choices, *defaults} if name.startswith(key))
    if len(names) == 1:
        yield f"{prefix}{names[0]}=", ""
        yield from ((f"{prefix}{text}", note) for text, note in _values(names[0], "", choices, defaults))
        return
    for name in names:
        yield f"{prefix}{name}=", "choice" if name in choices else f"default {_spell(defaults[name])}"


def _values(key: str, typed: str, choices: dict[str, list[str]], defaults: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if key in choices:
        done, comma, _ = typed.rpartition(",")
        for option in choices[key]:
            if option not in done.split(","):
                yield f"{key}={done}{comma}{option}", ""
    elif key in defaults:
        default = defaults[key]
        values: tuple[Any, ...] = (True, False) if isinstance(default, bool) else (default,)
        for one in values:
            yield f"{key}={_spell(one)}", "default" if one is default else ""


def _spell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(map(_spell, value))}]"
    return str(value) if isinstance(value, (int, float, str)) else "{}"


def bash_words(words: list[str], current: int) -> tuple[list[str], int, str]:
    """Join what bash broke at ``=`` and ``:``; return the words, the number of the current one, and its cut-off prefix.

    Bash hands ``agent=p`` over as ``agent``, ``=``, ``p`` and replaces only the last of them.
    """
    joined: list[str] = []
    at, prefix, glue = 0, "", False
    for i, word in enumerate(words[: current + 1]):
        breaks = bool(word) and set(word) <= {"=", ":"}
        if joined and i > 1 and (breaks or glue):
            prefix = joined[-1] + (word if breaks else "")
            joined[-1] += word
        else:
            prefix = ""
            joined.append(word)
        glue = breaks
        at = len(joined) - 1
    return joined, at, prefix


@contextlib.contextmanager
def bash_protocol(variable: str) -> Iterator[None]:
    """Mend Typer's bash protocol around the body, which prints completions, where words hold ``=``."""
    if os.environ.get(variable) != "complete_bash" or "COMP_WORDS" not in os.environ:
        yield
        return
    words, current, prefix = bash_words(os.environ["COMP_WORDS"].split("\n"), int(os.environ.get("COMP_CWORD", "0")))
    os.environ |= {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(current)}
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            print(line.removeprefix(prefix))
