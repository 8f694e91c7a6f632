"""Pictures of a surface from any side, painted from the back to the front."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator, RegularGridInterpolator

from thalweg.landscape.colour_maps import colour_map, linear

TALL = 0.82
FLOOR = -0.05
ELEVATION = 0.56
DISTANCE = 5.4
QUADS = 7500
"""Most quadrilaterals of a surface; between grid points it is a monotone cubic."""

INK, MUTED, FAINT, SUNKEN = (22, 32, 43), (86, 98, 112), (214, 219, 214), (246, 247, 245)
TRAIL = (167, 6, 0)


class Turning:
    """A surface that can be painted from any azimuth.

    Args:
        x: coordinates along the first direction.
        y: along the second.
        shares: heights from 0 to 1, NaN where there is none, shape (y, x).
        levels: heights of level lines.
        half: half the sides of the box, the longer one 1.
        trails: coordinates of trajectories.
        marks: names and coordinates of points.
        colours: a name of `colour_map`.
        labels: what the two axes are called.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        shares: np.ndarray,
        levels: np.ndarray,
        half: tuple[float, float],
        trails: list[np.ndarray],
        marks: list[tuple[str, float, float]],
        colours: str,
        labels: tuple[str, str],
    ) -> None:
        self.half = half
        self.labels = labels
        self.table = linear(colour_map(colours))
        places = [2 * (axis - axis[0]) / (axis[-1] - axis[0]) - 1 for axis in (x, y)]
        wx, wy = places[0] * half[0], places[1] * half[1]
        ground = RegularGridInterpolator((wy, wx), shares, bounds_error=False)
        wx, wy, fine = _refined(wx, wy, shares)
        self.points = np.stack([*np.meshgrid(wx, wy), fine * TALL], -1)
        slopes = np.gradient(fine * TALL, wy, wx) if min(fine.shape) > 1 else (fine, fine)
        normals = np.stack([-slopes[1], -slopes[0], np.ones_like(fine)], -1)
        normals = np.nan_to_num(normals, nan=0.0)
        self.quads, whole = _corners(self.points)
        mean = _corners(normals / np.linalg.norm(normals, axis=-1, keepdims=True))[0][whole]
        self.quads = self.quads[whole]
        self.normals = mean.mean(1)
        share = np.clip(np.rint(self.quads[..., 2].mean(1) / TALL * 255), 0, 255).astype(int)
        self.base = self.table[share]
        self.lines = _level_lines(self.quads, levels * TALL)

        def world(path: np.ndarray) -> np.ndarray:
            return np.stack(
                [
                    (2 * (path[:, k] - axis[0]) / (axis[-1] - axis[0]) - 1) * half[k]
                    for k, axis in enumerate((x, y))
                ],
                1,
            )

        self.trails = []
        for trail in trails:
            way = world(trail)
            dense = np.concatenate(
                [
                    np.linspace(a, b, max(2, math.ceil(math.dist(a, b) / 0.03)))
                    for a, b in itertools.pairwise(way)
                ]
            )
            z = ground(dense[:, ::-1])
            self.trails.append(np.concatenate([dense, z[:, None] * TALL], 1))
        self.marks = []
        for name, a, b in marks:
            ((u, v),) = world(np.array([[a, b]]))
            self.marks.append((name, np.array([u, v, float(ground([(v, u)])[0]) * TALL])))

    def paint(self, draw: Any, font: Any, place: tuple[int, int, int, int], azimuth: float) -> None:
        """Paint into a rectangle (left, top, width, height) of a picture.

        Args:
            draw: a Pillow ``ImageDraw``.
            font: the font of names.
            place: the rectangle.
            azimuth: of the camera, in radians.
        """
        left, top, width, height = place
        sin, cos = math.sin(ELEVATION), math.cos(ELEVATION)
        side, front = math.sin(azimuth), math.cos(azimuth)
        right = np.array([front, side, 0.0])
        up = np.array([-sin * side, sin * front, cos])
        toward = np.array([cos * side, -cos * front, sin])
        radius = math.hypot(*self.half)
        focal = DISTANCE * min(0.44 * width / radius, 0.43 * height / (0.62 * radius + 0.42 * TALL))
        unit = width / 480

        def project(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            q = points - np.array([0.0, 0.0, 0.44 * TALL])
            depth = DISTANCE - q @ toward
            return np.stack(
                [
                    left + width / 2 + focal * (q @ right) / depth,
                    top + height * 0.49 - focal * (q @ up) / depth,
                ],
                -1,
            ), depth

        self._box(draw, font, project, toward, unit)
        light_turn = azimuth - 0.75
        light = np.array([0.66 * math.sin(light_turn), -0.66 * math.cos(light_turn), 0.75])
        wrapped = np.maximum((self.normals @ light + 0.25) / 1.25, 0)
        lit = np.clip(self.base * (0.62 + 0.5 * wrapped)[:, None], 0, 1)
        coded = np.where(lit <= 0.0031308, 12.92 * lit, 1.055 * lit ** (1 / 2.4) - 0.055)
        colours = [tuple(one) for one in np.rint(coded * 255).astype(int).tolist()]
        dark = [tuple(one) for one in np.rint(coded * 255 * 0.62).astype(int).tolist()]
        quads, depth = project(self.quads)
        order = [(d, 0, k) for k, d in enumerate(depth.mean(1).tolist())]
        cells, ends = self.lines
        lines, line_depth = project(ends)
        order += [(d - 0.03, 1, k) for k, d in enumerate(line_depth.mean(1).tolist())]
        ways = [project(trail) for trail in self.trails]
        pieces = [
            (way[k : k + 2].ravel().tolist(), float(far[k]))
            for way, far in ways
            for k in range(len(way) - 1)
            if np.isfinite(way[k : k + 2]).all()
        ]
        order += [(d - 0.1, 2, k) for k, (_, d) in enumerate(pieces)]
        order += [(d - 0.12, 3, k) for k, (_, d) in enumerate(pieces)]
        flat = quads.reshape(len(quads), 8).tolist()
        strokes = lines.reshape(len(lines), 4).tolist()
        for _, kind, k in sorted(order, reverse=True):
            if kind == 0:
                draw.polygon(flat[k], fill=colours[k], outline=colours[k])
            elif kind == 1:
                draw.line(strokes[k], fill=dark[cells[k]], width=max(1, round(unit)))
            else:
                size = (5, 2.4)[kind - 2] * unit
                fill = ((255, 255, 255), TRAIL)[kind - 2]
                draw.line(pieces[k][0], fill=fill, width=round(size))
        for name, point in self.marks:
            if np.isfinite(point).all():
                (at,), _ = project(point[None])
                _pin(draw, font, name, at, unit)

    def _box(self, draw: Any, font: Any, project: Any, toward: np.ndarray, unit: float) -> None:
        hx, hy = self.half
        sx, sy = (1 if toward[k] >= 0 else -1 for k in (0, 1))

        def line(*points: tuple[float, float, float], fill: Any = FAINT) -> None:
            at = project(np.array(points))[0].ravel().tolist()
            draw.line(at, fill=fill, width=max(1, round(unit)))

        floor = [(x * hx, y * hy, FLOOR) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
        draw.polygon(project(np.array(floor))[0].ravel().tolist(), fill=SUNKEN)
        for z in (FLOOR, TALL / 3, 2 * TALL / 3, TALL):
            line((-hx * sx, hy * sy, z), (-hx * sx, -hy * sy, z), (hx * sx, -hy * sy, z))
        for x, y in ((-sx, -sy), (-sx, sy), (sx, -sy)):
            line((x * hx, y * hy, FLOOR), (x * hx, y * hy, TALL))
        corner = (hx * sx, hy * sy, FLOOR)
        line((-hx * sx, hy * sy, FLOOR), corner, (hx * sx, -hy * sy, FLOOR), fill=MUTED)
        for name, at in zip(
            self.labels, ((0.0, hy * sy, FLOOR), (hx * sx, 0.0, FLOOR)), strict=True
        ):
            (middle, inner), _ = project(np.array([at, [0.0, 0.0, FLOOR]]))
            way = (middle - inner) / max(float(np.linalg.norm(middle - inner)), 1e-9)
            wide = draw.textlength(name, font=font) / 2
            gap = 8 * unit + abs(way[0]) * wide + abs(way[1]) * 7 * unit
            draw.text(tuple(middle + gap * way), name, font=font, fill=MUTED, anchor="mm")


def _refined(
    x: np.ndarray, y: np.ndarray, z: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    parts = int(math.sqrt(QUADS / max((len(x) - 1) * (len(y) - 1), 1)))
    if parts < 2 or not np.isfinite(z).all():
        return x, y, z
    finer = [
        np.interp(np.arange((len(a) - 1) * parts + 1) / parts, np.arange(len(a)), a) for a in (x, y)
    ]
    z = PchipInterpolator(x, z, axis=1)(finer[0])
    return finer[0], finer[1], PchipInterpolator(y, z, axis=0)(finer[1])


def _corners(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values at the corners of each cell, and which cells are without gaps."""
    parts = values[:-1, :-1], values[:-1, 1:], values[1:, 1:], values[1:, :-1]
    found = np.stack(parts, 2).reshape(-1, 4, values.shape[-1])
    return found, np.asarray(np.isfinite(found).all((1, 2)))


def _level_lines(quads: np.ndarray, levels: np.ndarray) -> tuple[list[int], np.ndarray]:
    """Return the pieces of level lines: the quadrilateral of each, and its ends."""
    cells: list[int] = []
    ends = [np.zeros((0, 2, 3))]
    following = np.roll(quads, -1, axis=1)
    for level in levels:
        above = quads[..., 2] >= level
        crossed = above != np.roll(above, -1, axis=1)
        two = np.flatnonzero(crossed.sum(1) == 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (level - quads[..., 2]) / (following[..., 2] - quads[..., 2])
            at = quads + share[..., None] * (following - quads)
        ends.append(at[two][crossed[two]].reshape(-1, 2, 3))
        cells += two.tolist()
    return cells, np.concatenate(ends)


def _pin(draw: Any, font: Any, name: str, at: np.ndarray, unit: float) -> None:
    x, y = (float(v) for v in at)
    head = y - 30 * unit
    draw.line([x, y, x, head], fill=INK, width=max(1, round(1.3 * unit)))
    r = 3.6 * unit
    draw.ellipse([x - r, y - r, x + r, y + r], fill="white", outline=INK, width=round(1.6 * unit))
    wide = draw.textlength(name, font=font) / 2 + 7 * unit
    box = [x - wide, head - 19 * unit, x + wide, head]
    draw.rounded_rectangle(box, 9 * unit, fill="white", outline=MUTED, width=max(1, round(unit)))
    draw.text((x, head - 9.5 * unit), name, font=font, fill=INK, anchor="mm")
