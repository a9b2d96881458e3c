"""Make the tables, figures and numbers of README.md and docs again: ``python docs/make_results.py [STUDY...]``.

The studies stand in docs/results/studies.yaml. Runs go to ``outputs/results/paper`` and ``outputs/results/held_out``;
after an interruption the same command skips what is complete. Public files are searched below the folder ``$DATA``.
Values are written to docs/results, pictures to docs/img, and the pages are updated between their markers.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from results import collect, pages

from perturbrl.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
RUN = [sys.executable, "-m", "perturbrl"]
HELD_OUT = "train experiment=counterfactual"


@dataclass(frozen=True)
class Study:
    """Runs of one command. ``file`` is the public file that they need, empty for simulated cells."""

    kind: str
    name: str
    overrides: str
    file: str = ""
    seeds: int = 1

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"

    @property
    def command(self) -> str:
        """The command as a page shows it."""
        source = f"source=file path=$DATA/{self.file}" if self.file else ""
        first = f"reproduce --seeds {self.seeds} --out {self.name}" if self.kind == "paper" else HELD_OUT
        last = "" if self.kind == "paper" else f"name={self.name}"
        return " ".join(filter(None, ("perturbrl", first, source, self.overrides, last)))

    def commands(self, outputs: Path, data: str | None) -> Iterator[list[str]]:
        """Yield what is run, in order.

        Raises
        ------
        UserError
            The public file is not below the folder ``data``.
        """
        source = ["source=file", f"path={find(self.file, data)}"] if self.file else []
        words = [*source, *shlex.split(self.overrides)]
        if self.kind == "paper":
            yield [*RUN, "reproduce", "--seeds", str(self.seeds), "--out", str(outputs / self.name), *words]
            return
        group, _, name = self.name.rpartition("/")
        yield [*RUN, *HELD_OUT.split(), *words, f"name={name}", f"hydra.sweep.dir={outputs / group}"]
        if self.kind == "held_out":
            yield [*RUN, "evaluate", str(outputs / self.name)]

    def collect(self, outputs: Path) -> None:
        """Write values and pictures of the finished runs."""
        folder = outputs / self.name
        if self.kind == "tried":
            dataset, variant = self.name.split("/")
            collect.tried(dataset, variant, folder)
            if variant == "preset":
                collect.start(dataset, folder, pages.studies()["tried"]["start"])
            return
        collect.collect(self.kind, self.name, folder, self.command, pages.studies()["pictures"])


def studies() -> list[Study]:
    """Return every study of the list, variants of the held-out task last."""
    listed = pages.studies()
    made = [
        Study(kind, name, about.get("overrides", ""), about.get("file", ""), about.get("seeds", 1))
        for kind in ("paper", "held_out")
        for name, about in listed[kind].items()
    ]
    tried = listed["tried"]
    for where, one in tried["sets"].items():
        for name, variant in tried["variants"].items():
            words = " ".join(filter(None, (one["overrides"], tried["base"], variant.get("overrides", ""))))
            made.append(Study("tried", f"{where}/{name}", words, one.get("file", "")))
    return made


def find(file: str, data: str | None) -> Path:
    """Return the place of a public file below the folder ``data``.

    Raises
    ------
    UserError
        It is not there.
    """
    places = sorted(Path(data).expanduser().rglob(file)) if data else []
    if not places:
        raise UserError(
            f"{file} is not below DATA={data or ''}: its sections stay as they are; docs/data.md says where it is"
        )
    return places[0].resolve()


def make(study: Study, outputs: Path, run: bool) -> None:
    """Run a study, unless only finished runs are asked for, and write its values.

    Raises
    ------
    UserError
        A file is missing, a command failed, or there are no finished runs.
    """
    for command in study.commands(outputs, os.environ.get("DATA")) if run else ():
        print("$", shlex.join(command), flush=True)
        if code := subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise UserError(f"{study}: {shlex.join(command[1:])} ended with {code}")
    study.collect(outputs)


def render() -> None:
    """Update the generated parts of every page."""
    for page in pages.PAGES:
        text = page.read_text(encoding="utf-8")
        page.write_text(pages.updated(text), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Make the studies that were asked for; return 1 if one could not be made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="paper, held_out, tried, or one of them: paper/landscape")
    parser.add_argument("--outputs", type=Path, default=ROOT / "outputs" / "results", help="folder of the runs")
    for kind in ("paper", "held_out", "tried"):
        parser.add_argument(f"--{kind}", type=Path, help=f"folder of these runs; default: OUTPUTS/{kind}")
    parser.add_argument("--finished", action="store_true", help="run nothing: read the finished runs that are there")
    parser.add_argument("--render", action="store_true", help="read no runs: make the pages from docs/results")
    parser.add_argument("--background", action="store_true", help="go on without a terminal; log: OUTPUTS/log.txt")
    options = parser.parse_args(argv)
    if options.background:
        return background(options.outputs, [word for word in argv or sys.argv[1:] if word != "--background"])
    wanted = [s for s in studies() if not options.studies or {str(s), s.kind} & set(options.studies)]
    failed = 0
    for study in () if options.render else wanted:
        outputs = (getattr(options, study.kind) or options.outputs / study.kind).resolve()
        if options.finished and not (outputs / study.name).is_dir():
            print(f"{study}: no runs in {outputs / study.name}, its sections stay as they are", flush=True)
            continue
        try:
            make(study, outputs, run=not options.finished)
            print(f"{study}: made", flush=True)
        except UserError as error:
            failed += 1
            print(f"error: {study}: {error}", file=sys.stderr, flush=True)
    render()
    return 1 if failed else 0


def background(outputs: Path, words: list[str]) -> int:
    """Start the same command again without a terminal; return at once."""
    outputs.mkdir(parents=True, exist_ok=True)
    with (outputs / "log.txt").open("a", encoding="utf-8") as log:
        command = [sys.executable, str(Path(__file__).resolve()), *words]
        started = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    print(f"process {started.pid}, log {outputs / 'log.txt'}; the same command resumes after an interruption")
    return 0


if __name__ == "__main__":
    sys.exit(main())
