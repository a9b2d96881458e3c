"""A surface as a solid block seen from above: heights, an orthographic camera, light, what hides what.

The block has width 1, length ``LENGTH`` and a height; all coordinates here are those of the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from perturbrl.landscape.pictures.scene import View

Array = NDArray[np.float64]
HEIGHT, HEIGHT_DOWNHILL = 0.2, 0.24
"""Of the highest point over the deepest, where U differs by ``FULL`` or more."""
FULL = 5.0
FALL = 0.3
"""Of a surface that runs downhill along time, from end to end."""
LENGTH, LENGTH_DOWNHILL = 0.9, 0.8
BASE = -0.06
FINE = 240


@dataclass(frozen=True)
class Camera:
    """Looks down at the block at ``elevation`` degrees, turned by ``turn`` degrees around the vertical."""

    elevation: float
    turn: float

    def screen(self, points: Array) -> Array:
        """Return positions on the screen [..., 2] (right, up) of points [..., 3]."""
        up, turn = np.deg2rad(self.elevation), np.deg2rad(self.turn)
        x, y, z = np.moveaxis(points, -1, 0)
        right = x * np.cos(turn) - y * np.sin(turn)
        back = x * np.sin(turn) + y * np.cos(turn)
        return np.stack([right, back * np.sin(up) + z * np.cos(up)], axis=-1)

    @property
    def towards(self) -> Array:
        """The direction from the block to the camera, [3], of length 1."""
        up, turn = np.deg2rad(self.elevation), np.deg2rad(self.turn)
        return np.array([-np.sin(turn) * np.cos(up), -np.cos(turn) * np.cos(up), np.sin(up)])


class Relief:
    """The block of a view: x to the right, y to the back, z up; time runs from the back to the front."""

    def __init__(self, view: View, fine: int = FINE) -> None:
        self.length = LENGTH_DOWNHILL if view.downhill else LENGTH
        self._low = np.array([axis[0] for axis in view.surface.axes])
        self._size = np.array([np.ptp(axis) for axis in view.surface.axes])
        self._downhill = view.downhill
        self.top = float(view.surface.values.max())
        self.height = (HEIGHT_DOWNHILL if view.downhill else HEIGHT) * min(1.0, self.top / FULL)
        heights = view.surface.values * (self.height / max(self.top, 1e-12))
        if view.downhill:
            heights = heights[:, ::-1]
        self._plain = RectBivariateSpline(
            np.linspace(0, 1, heights.shape[0]), np.linspace(0, self.length, heights.shape[1]), heights, s=0
        )
        self.x, self.y = np.linspace(0, 1, fine), np.linspace(0, self.length, fine)
        self.level = self._plain(self.x, self.y).clip(0, self.height) / self.height
        self.z = self.level * self.height + self._slope(self.y)[None, :]

    def _slope(self, y: Array) -> Array:
        return FALL * y / self.length if self._downhill else np.zeros_like(y)

    def place(self, points: Array, lift: float = 0.004, *, sloped: bool = True) -> Array:
        """Return where points [..., 2] of the view lie on the block, [..., 3], ``lift`` above its surface.

        ``sloped``: with the slope along time, where the view has one.
        """
        share = ((points - self._low) / self._size).clip(0, 1)
        x, y = share[..., 0], (1 - share[..., 1] if self._downhill else share[..., 1]) * self.length
        z = self._plain.ev(x, y).clip(0, self.height) + lift + (self._slope(y) if sloped else 0)
        return np.stack([x, y, z], axis=-1)

    def shade(self) -> Array:
        """Return the light on each point of the fine grid, about 0 to 1: a lamp from the upper left."""
        dx, dy = np.gradient(self.z, self.x, self.y)
        normal = np.stack([-dx, -dy, np.ones_like(dx)], axis=-1)
        normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
        lamp = np.array([-0.55, 0.35, 0.75])
        return np.asarray((normal @ (lamp / np.linalg.norm(lamp))).clip(0, 1))

    def visible(self, points: Array, camera: Camera) -> NDArray[np.bool_]:
        """Return which points [N, 3] the surface does not hide from the camera."""
        clear = np.ones(len(points), dtype=bool)
        for s in np.linspace(0.008, 1.2 * (self.height + FALL), 90):
            x, y, z = (points + s * camera.towards).T
            inside = (x > 0) & (x < 1) & (y > 0) & (y < self.length)
            ground = self._plain.ev(x.clip(0, 1), y.clip(0, self.length)).clip(0, self.height) + self._slope(y)
            clear &= ~inside | (ground < z + 1e-9)
        return clear

    def sides(self, camera: Camera) -> list[Array]:
        """Return the outlines [K, 3] of the two sides of the block that face the camera."""
        front = 0 if camera.towards[1] < 0 else -1
        side = 0 if camera.towards[0] < 0 else -1
        across = np.column_stack([self.x, np.full(len(self.x), self.y[front]), self.z[:, front]])
        along = np.column_stack([np.full(len(self.y), self.x[side]), self.y, self.z[side]])
        outlines = []
        for edge in (along, across):
            foot = edge[::-1].copy()
            foot[:, 2] = BASE
            outlines.append(np.concatenate([edge, foot]))
        return outlines
