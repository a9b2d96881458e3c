"""Write the pictures of a scene: PNG files and one page."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from perturbrl import status
from perturbrl.errors import UserError
from perturbrl.files import replacing, write_text
from perturbrl.landscape.pictures.scene import Scene
from perturbrl.report import style
from perturbrl.report.landscape import contours, surface, wiring
from perturbrl.report.landscape.page import page
from perturbrl.report.landscape.theme import LIGHT, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI, STILL_DPI = 150, 60


def write(scene: Scene, folder: Path, stem: str, theme: Theme) -> list[Path]:
    """Write ``stem``.png and ``stem``-plane.png (surfaces), -map.png (level lines), -network.png and ``stem``.html.

    Raises
    ------
    UserError
        The folder cannot be made or written to.
    """
    import matplotlib as mpl

    with mpl.rc_context({**style.RC, "svg.hashsalt": "perturbrl"}):
        written = []
        for name, figure in _figures(scene, theme):
            with status.step(f"drawing {stem}{name}.png"):
                written.append(_save(_png(figure, DPI), folder / f"{stem}{name}.png"))
        with status.step(f"drawing {stem}.html"):
            drawn = wiring.draw(scene, LIGHT)
            still = _png(surface.draw(scene, scene.views[-1], LIGHT), STILL_DPI)
            text = page(scene, still, "" if drawn is None else _svg(drawn))
    target = folder / f"{stem}.html"
    try:
        write_text(target, text)
    except OSError as error:
        raise _unwritable(target, error) from None
    return [*written, target]


def _figures(scene: Scene, theme: Theme) -> Iterable[tuple[str, Figure]]:
    last = scene.views[-1]
    yield "", surface.draw(scene, last, theme)
    for view in scene.views[:-1]:
        yield f"-{view.key}", surface.draw(scene, view, theme)
    yield "-map", contours.draw(scene, theme)
    drawn = wiring.draw(scene, theme)
    if drawn is not None:
        yield "-network", drawn


def _png(figure: Figure, dpi: int) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi, metadata={"Software": None})
    return out.getvalue()


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _save(content: bytes, path: Path) -> Path:
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise _unwritable(path, error) from None
    return path


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"--out: {path} cannot be written ({error.strerror}); choose a folder that you may write to")
