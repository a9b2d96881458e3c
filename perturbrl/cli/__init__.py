"""The command line: Typer parses the commands, Hydra the arguments of ``train``. Heavy modules load late."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from perturbrl import __version__, later
from perturbrl.cli import complete, fate_plan, infer
from perturbrl.runner.guard import guarded

PROGRAM = "perturbrl"
COMPLETE = "_PERTURBRL_COMPLETE"

app = typer.Typer(
    name=PROGRAM,
    help="Train and judge reinforcement-learning agents on single-cell perturbation tasks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
data_app = typer.Typer(name="data", help="Where cells come from, and what is wrong with a file.", no_args_is_help=True)
app.add_typer(data_app)
fate_app = typer.Typer(
    name="fate", help="Gene networks: attractors, and ways from one fate to another.", no_args_is_help=True
)
app.add_typer(fate_app)
fate_app.command("infer")(infer.command)
fate_app.command("plan")(fate_plan.command)

HYDRA = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
OUTPUTS = Path("outputs")
_OVERRIDE = re.compile(r"[+~]*[A-Za-z_][\w./@-]*=")


def main() -> None:
    """Run the console script."""
    later.install()
    with complete.bash_protocol(COMPLETE):
        app(prog_name=PROGRAM)


def _print_version(version: bool) -> None:
    if version:
        print(f"perturbrl {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


@app.command(context_settings=HYDRA)
def train(
    ctx: typer.Context,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-m] [GROUP=CHOICE | KEY=VALUE]...",
            autocompletion=complete.overrides,
            help="Hydra's overrides and flags: agent=ppo env.max_perturb=4 seed=1; -m sweeps; --help lists choices.",
        ),
    ] = None,
) -> None:
    """Train agents: one run, or with -m a sweep. `perturbrl train --help` lists the choices."""
    words = [*(overrides or ()), *ctx.args]
    with guarded():
        if script := complete.shell_script(words, PROGRAM, COMPLETE):
            print(script)
            return
        from perturbrl.runner.hydra import launch as hydra_job

        hydra_job.run("perturbrl.runner.hydra.main", "main", words, f"{PROGRAM} train")


@app.command(context_settings={"ignore_unknown_options": True})
def evaluate(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="PATH... [KEY=VALUE]...", help="Run folders, sweeps or globs; then overrides."),
    ] = None,
) -> None:
    """Evaluate the checkpoint of every run found under the given paths (default: outputs)."""
    with guarded():
        from perturbrl.runner.evaluate import main as evaluate_runs

        paths, overrides = split_paths(arguments or [])
        sys.exit(evaluate_runs(paths or [str(OUTPUTS)], overrides))


@app.command()
def report(
    paths: Annotated[list[Path] | None, typer.Argument(help="Runs, or folders of runs (default: outputs).")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: `report` in the first path.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Also write the tables there as a reference for `reproduce --check`.")
    ] = None,
) -> None:
    """Write tables, figures and one page from finished runs."""
    with guarded():
        from rich.console import Console

        from perturbrl.report.build import build_report
        from perturbrl.runner.outcome import all_diverged

        sources = paths or [OUTPUTS]
        built = build_report(sources, out or sources[0] / "report")
        Console().print(built.console)
        if reference is not None:
            from perturbrl.report.reference import scores_of, write

            print(f"reference: {reference}, {write(scores_of(sources), reference).name}")
        for item in built.collection.damaged:
            print(f"error: {item.run}: {item.reason}", file=sys.stderr)
        if diverged := all_diverged(list(built.collection.runs["status"])):
            print(diverged, file=sys.stderr)
        sys.exit(1 if built.collection.damaged or diverged else 0)


@app.command()
def reproduce(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            autocompletion=complete.overrides,
            help="Hydra's overrides, for every run: source=file path=cells.h5mu data=rna,atac device=cuda.",
        ),
    ] = None,
    schedule: Annotated[str, typer.Option(help="released, text, equal or per_iteration.")] = "released",
    study: Annotated[
        str | None, typer.Option(help="Instead of the tables, a study of conf/study: arms at equal steps and tuning.")
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(min=1, help="Runs of each agent, seeds 0, 1, ...; default: 1, or the study's."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Far fewer steps; the page says so.")] = False,
    networks: Annotated[
        int | None, typer.Option(min=1, help="Of a study: so many test networks, validation networks in proportion.")
    ] = None,
    tasks: Annotated[str | None, typer.Option(help="Of a study: these tasks alone, separated by commas.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of runs and report; default outputs/reproduce, or outputs/STUDY.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; default: as many as there are cores.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare with a shipped reference; exit 1 if a value has drifted.")
    ] = False,
    reference: Annotated[Path | None, typer.Option(help="Check against this file of `report --reference`.")] = None,
) -> None:
    """Reproduce Tables I-III: train, evaluate, report, compare with the published numbers. Or a study."""
    with guarded():
        from perturbrl.runner import study as studies
        from perturbrl.runner import study_run
        from perturbrl.runner.hydra.errors import translated
        from perturbrl.runner.reproduce import reproduce as run

        with translated(overrides or []):
            if study is not None:
                less = {"networks": networks, "tasks": None if tasks is None else tasks.split(",")}
                loaded = studies.load(study, quick, seeds, less)
                folder = out or OUTPUTS / (f"{loaded.name}-quick" if quick else loaded.name)
                study_run.run(loaded, folder, overrides or [], workers=workers)
                return
            run(
                schedule=schedule,
                seeds=seeds or 1,
                quick=quick,
                out=out or OUTPUTS / "reproduce",
                overrides=overrides or [],
                workers=workers,
                check=reference or check,
            )


@app.command("doctor")
def diagnose() -> None:
    """Check versions, device, threads, folders and plugins; exit 1 if something needed is broken."""
    with guarded():
        from perturbrl.cli.doctor import examine

        sys.exit(0 if examine(OUTPUTS) else 1)


@data_app.command("list")
def data_list() -> None:
    """List the sources of cells and the modalities that each has."""
    with guarded():
        from perturbrl.cli.data import list_sources

        list_sources()


@data_app.command("show")
def data_show(name: Annotated[str, typer.Argument(help="A name from `perturbrl data list`.")]) -> None:
    """Show what is known of one source: origin, size, citation, where it is cached."""
    with guarded():
        from perturbrl.cli.data import show_source

        show_source(name)


@data_app.command("validate")
def data_validate(
    file: Annotated[Path, typer.Argument(help=".h5ad, .h5mu, 10x .h5, or a 10x mtx folder.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            autocompletion=complete.overrides,
            help="As for train: data=atac source.layer=counts source.control_label=WT.",
        ),
    ] = None,
) -> None:
    """Say what a file holds and lacks, and which tasks can be trained on it; exit 2 if none can."""
    with guarded():
        from perturbrl.cli.data import validate_file
        from perturbrl.runner.hydra.errors import translated

        with translated(overrides or []):
            validate_file(file, overrides or [])


@data_app.command("split")
def data_split(
    overrides: Annotated[
        list[str],
        typer.Argument(
            metavar="[KEY=VALUE]...",
            autocompletion=complete.overrides,
            help="As for train: source=file path=screen.h5ad split=unseen_single split.seed=1.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to write (JSON), for split.file=.")],
) -> None:
    """Draw the split that train would draw, and write it to a file that others can train with."""
    with guarded():
        from perturbrl.cli.data import write_split_file
        from perturbrl.runner.hydra.errors import translated

        with translated(overrides):
            write_split_file(out, overrides)


@fate_app.command("show")
def fate_show(
    network: Annotated[
        str | None,
        typer.Argument(help="A shipped network (myeloid, toggle, ...) or a file (.bnet, .sbml, .aeon, .csv)."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Show these cells (.h5ad, .h5mu, 10x) instead of simulated ones.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pictures and the page.")] = OUTPUTS / "fate",
    hold: Annotated[
        str | None, typer.Option(help="Genes held at 0 or 1: Gata1=0,Pu1=1; inputs=0 holds all inputs.")
    ] = None,
    dynamics: Annotated[str, typer.Option(help="hill (stochastic Hill equations) or boolean.")] = "hill",
    noise: Annotated[float, typer.Option(min=0, help="Of the Hill equations.")] = 0.15,
    cells: Annotated[int, typer.Option(min=50, help="Cells to simulate.")] = 6000,
    seed: Annotated[int, typer.Option(help="Of the simulated cells.")] = 0,
    group: Annotated[str | None, typer.Option(help="With --data: the obs column of cell types.")] = None,
    pseudotime: Annotated[str | None, typer.Option(help="With --data: the obs column of pseudotime.")] = None,
    root: Annotated[
        str | None, typer.Option(help="With --data: a cell, or a cell type, where diffusion pseudotime starts.")
    ] = None,
    basis: Annotated[
        str | None, typer.Option(help="With --data: the obsm key of the plane; default X_umap or PCA.")
    ] = None,
    dark: Annotated[bool, typer.Option("--dark", help="PNG files on a dark ground.")] = False,
) -> None:
    """Show the attractors and the landscape of a network, or of cells: tables, PNG pictures and one page."""
    with guarded():
        from perturbrl.cli.fate import show

        show(
            network, data, out, hold=hold, dynamics=dynamics, noise=noise, cells=cells, seed=seed, group=group,
            pseudotime=pseudotime, root=root, basis=basis, dark=dark,
        )  # fmt: skip


def split_paths(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Separate run folders from overrides; folders of sweeps contain ``=`` too (``paper,max_perturb=4``)."""
    paths: list[str] = []
    overrides: list[str] = []
    for word in arguments:
        is_path = Path(word).exists() or not _OVERRIDE.match(word)
        (paths if is_path else overrides).append(word)
    return paths, overrides
