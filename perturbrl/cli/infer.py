"""``perturbrl fate infer``: a network from labelled cells along pseudotime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perturbrl.errors import UserError
from perturbrl.runner.guard import guarded

if TYPE_CHECKING:
    from perturbrl.landscape.infer.cells import Columns


def command(
    file: Annotated[Path, typer.Argument(help="Cells: .h5ad, .h5mu, 10x .h5, or a 10x mtx folder.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings of conf/fate/infer.yaml: form=either seconds=60."),
    ] = None,
    genes: Annotated[
        str | None, typer.Option(help="The regulators: A,B,C, or a file with a name on each line; default: all genes.")
    ] = None,
    pseudotime: Annotated[
        str | None, typer.Option(help="Column of pseudotime, or a column for each branch: A,B; default: a common name.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="For each branch the column of cells' weights; 0.5 and more is in the branch.")
    ] = None,
    cell_type: Annotated[str | None, typer.Option(help="Column of cell types; default: a common name.")] = None,
    fates: Annotated[str | None, typer.Option(help="Cell types at which branches of one pseudotime end: A,B.")] = None,
    root: Annotated[
        str | None, typer.Option(help="Without a column: the cell, or cell type, where diffusion pseudotime begins.")
    ] = None,
    edges: Annotated[
        Path | None, typer.Option(help="CSV of the edges that may be used: source,target[,sign] or DoRothEA's columns.")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Matrix to read; default: X.")] = None,
    out: Annotated[Path, typer.Option(help="The .bnet file; edges and a text are written beside it.")] = Path(
        "network.bnet"
    ),
) -> None:
    """Infer a Boolean network: on or off, ordered in pseudotime, rules that agree with the order of states."""
    with guarded():
        from perturbrl.landscape.infer.cells import Columns

        columns = Columns(_words(pseudotime), _words(weights), cell_type, _words(fates), root)
        infer_network(file, out, genes, columns, edges, layer, changes or ())


def infer_network(
    file: Path,
    out: Path,
    genes: str | None,
    columns: Columns,
    edges: Path | None,
    layer: str | None,
    changes: Sequence[str],
) -> None:
    """Infer a network from the cells of ``file``, write it to ``out``, and print what there is to know about it.

    Parameters
    ----------
    file
        The cells.
    out
        The .bnet file; the edges and the text are written beside it.
    genes
        Names separated by commas, or a file with a name on each line; None: all genes.
    columns
        The columns of obs.
    edges
        A CSV of edges, which alone may be used; None: all significant ones.
    layer
        The matrix; None for X.
    changes
        Settings of ``conf/fate/infer.yaml`` as KEY=VALUE.

    Raises
    ------
    UserError
        ``out`` is no .bnet file, or as ``cells.read_trajectory``, ``networks.edges.read_edges`` and
        ``infer.infer_network``.
    """
    from perturbrl.config import read_changes
    from perturbrl.landscape.infer import infer_network as infer
    from perturbrl.landscape.infer import settings
    from perturbrl.landscape.infer.cells import read_trajectory
    from perturbrl.landscape.infer.solver import require_z3
    from perturbrl.landscape.infer.write import report, write

    require_z3()
    if out.suffix != ".bnet":
        raise UserError(f"--out {out}: the network is written in .bnet format; name a file such as network.bnet")
    config = settings(**read_changes(changes))
    listed = None if edges is None else _listed(edges)
    result = infer(read_trajectory(file, _names(genes), columns, config, layer), config, listed, out.stem)
    files = write(result, out, str(file))
    print(report(result, str(file)))
    print(f"written: {', '.join(map(str, files))}")


def _listed(edges: Path) -> list[tuple[str, str, int]]:
    from perturbrl.landscape.networks.edges import read_edges
    from perturbrl.landscape.networks.files import identifiers

    rows = read_edges(edges, unsigned=True)
    spelled = identifiers([*dict.fromkeys(gene for row in rows for gene in (row.source, row.target))], str(edges))
    return [(spelled[row.source], spelled[row.target], row.sign) for row in rows]


def _words(text: str | None) -> tuple[str, ...]:
    return tuple(word.strip() for word in (text or "").split(",") if word.strip())


def _names(genes: str | None) -> list[str]:
    if genes is None:
        return []
    path = Path(genes)
    text = path.read_text(encoding="utf-8") if "," not in genes and path.is_file() else genes.replace(",", "\n")
    return [name.strip() for name in text.splitlines() if name.strip()]
