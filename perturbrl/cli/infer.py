"""What ``perturbrl fate infer`` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perturbrl.errors import UserError

if TYPE_CHECKING:
    from perturbrl.landscape.infer.cells import Columns


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
        Settings of ``conf/infer.yaml`` as KEY=VALUE.

    Raises
    ------
    UserError
        ``out`` is no .bnet file, or as ``cells.read_trajectory``, ``networks.edges.read_edges`` and
        ``infer_network``.
    """
    from perturbrl.landscape.infer import infer_network as infer
    from perturbrl.landscape.infer import settings
    from perturbrl.landscape.infer.cells import read_trajectory
    from perturbrl.landscape.infer.solver import require_z3
    from perturbrl.landscape.infer.write import report, write
    from perturbrl.landscape.networks.edges import read_edges
    from perturbrl.landscape.networks.files import identifiers

    require_z3()
    if out.suffix != ".bnet":
        raise UserError(f"--out {out}: the network is written in .bnet format; name a file such as network.bnet")
    config = settings(**_settings(changes))
    listed = None
    if edges is not None:
        rows = read_edges(edges, unsigned=True)
        spelled = identifiers([*dict.fromkeys(gene for row in rows for gene in (row.source, row.target))], str(edges))
        listed = [(spelled[row.source], spelled[row.target], row.sign) for row in rows]
    result = infer(read_trajectory(file, _names(genes), columns, config, layer), config, listed, out.stem)
    files = write(result, out, str(file))
    print(report(result, str(file)))
    print(f"written: {', '.join(map(str, files))}")


def _names(genes: str | None) -> list[str]:
    if genes is None:
        return []
    path = Path(genes)
    text = path.read_text(encoding="utf-8") if "," not in genes and path.is_file() else genes.replace(",", "\n")
    return [name.strip() for name in text.splitlines() if name.strip()]


def _settings(changes: Sequence[str]) -> dict[str, Any]:
    from omegaconf import OmegaConf

    for change in changes:
        if "=" not in change:
            raise UserError(f"{change!r} is no setting; settings are KEY=VALUE, such as form=either")
    return {str(key): value for key, value in OmegaConf.from_dotlist(list(changes)).items()}
