"""Surfaces as files for 3D programs: binary glTF 2.0, and VTK's unstructured grids in XML."""

from __future__ import annotations

import base64
import itertools
import json
import math
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

import numpy as np

from thalweg._version import __version__
from thalweg.core.errors import UsageError
from thalweg.core.files import make_folder, write_atomically
from thalweg.landscape.colour_maps import colour_map, linear
from thalweg.landscape.figures.families import on_scales
from thalweg.landscape.figures.heights import Scale

if TYPE_CHECKING:
    from thalweg.landscape.grid import Grid

TALL = 0.82
"""Height of the box in glTF, whose longer side is 2."""


def export(
    grid: Grid,
    path: str | os.PathLike[str],
    *,
    scale: Scale = "auto",
    clip: float | None = None,
    colours: str = "viridis",
) -> Path:
    """Write a surface for another program; see `Grid.export`."""
    file = check_export(path)
    columns, rows = grid.finest()
    if len(columns) < 2 or len(rows) < 2:
        raise UsageError(
            f"only {grid.evaluated} points are evaluated, which is not the coarsest grid yet"
        )
    content = _Content(grid, columns, rows, scale, clip, colours)
    make_folder(file.parent)
    write_atomically(file, _FORMATS[file.suffix.lower()](content))
    return file


def check_export(path: str | os.PathLike[str]) -> Path:
    """Return the path of an export.

    Raises:
        UsageError: its suffix is none that can be written.
    """
    file = Path(path)
    if file.suffix.lower() not in _FORMATS:
        raise UsageError(f"a surface is exported to {' or '.join(_FORMATS)}; found {file}")
    return file


_MOST = float(np.finfo(np.float32).max)


class _Content:
    """What both formats hold: grid points, their heights, and the squares without gaps."""

    def __init__(
        self,
        grid: Grid,
        columns: list[int],
        rows: list[int],
        scale: Scale,
        clip: float | None,
        colours: str,
    ) -> None:
        self.grid = grid
        self.x, self.y = np.array(grid.x)[columns], np.array(grid.y)[rows]
        picked = np.ix_(rows, columns)
        self.losses = {
            name: np.array(values)[picked]
            for name, values in {"loss": grid.losses, **grid.also}.items()
        }
        self.heights = on_scales(self.losses, scale, clip)
        self.colours = colour_map(colours)
        self.drawn = {name: one.drawn(one.values) for name, one in self.heights.items()}

    def squares(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the indices of points in use, and of each square's corners among them."""
        index = np.arange(self.x.size * self.y.size).reshape(self.y.size, self.x.size)
        corners = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], 2)
        corners = corners.reshape(-1, 4)
        whole = ~np.isnan(self.drawn[name].ravel()[corners]).any(1)
        used, place = np.unique(corners[whole], return_inverse=True)
        return used, place.reshape(-1, 4)

    def on(self, name: str, x: float, y: float) -> float:
        """Return the height of the nearest grid point."""
        return float(self.drawn[name][np.abs(self.y - y).argmin(), np.abs(self.x - x).argmin()])

    def ways(self) -> list[list[tuple[float, float]]]:
        return [list(zip(trail.x, trail.y, strict=True)) for trail in self.grid.trails]

    def marks(self) -> list[tuple[float, float]]:
        marked = [(mark.x, mark.y) for mark in self.grid.marks]
        return marked + list(self.grid.through().values())


class _Binary:
    """The binary part of a glTF file, and what describes it."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: np.ndarray, kind: str, bounds: bool = False, target: int = 34962) -> int:
        content = np.ascontiguousarray(values).tobytes()
        offset = sum(map(len, self.parts))
        self.views.append(
            {"buffer": 0, "byteOffset": offset, "byteLength": len(content), "target": target}
        )
        self.parts.append(content + bytes(-len(content) % 4))
        component = 5126 if values.dtype == np.float32 else 5125
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if bounds:
            accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def _glb(content: _Content) -> bytes:
    """Return glTF: positions are coordinates and heights; nodes scale them to a box."""
    binary, meshes, nodes = _Binary(), [], []
    labels = content.grid.labels()
    g = content.grid.gram()
    wide = float(np.ptp(content.x)), float(np.ptp(content.y))
    ratio = min(max(wide[1] * math.sqrt(g[2]) / (wide[0] * math.sqrt(g[0])), 0.5), 2.0)
    half = (1.0, ratio) if ratio <= 1 else (1 / ratio, 1.0)
    across, up = np.meshgrid(content.x, content.y)
    for place, (name, losses) in enumerate(content.losses.items()):
        heights = content.heights[name]
        low, high = heights.drawn(heights.low), heights.drawn(heights.high)
        span = high - low or 1.0
        sizes = [2 * half[0] / wide[0], TALL / span, 2 * half[1] / wide[1]]
        used, squares = content.squares(name)
        if not len(used):
            raise UsageError(f'no square of "{name}" has four numbers at its corners')
        z = content.drawn[name].ravel()[used]
        points = np.stack([across.ravel()[used], z, -up.ravel()[used]], 1).astype(np.float32)
        share = np.clip(np.rint((z - low) / span * 255), 0, 255).astype(int)
        triangles = squares[:, [0, 1, 3, 1, 2, 3]].ravel().astype(np.uint32)
        attributes = {
            "POSITION": binary.add(points, "VEC3", bounds=True),
            "COLOR_0": binary.add(linear(content.colours[share]).astype(np.float32), "VEC3"),
            # The format allows no infinity.
            "_LOSS": binary.add(
                np.clip(losses.ravel()[used], -_MOST, _MOST).astype(np.float32), "SCALAR"
            ),
        }
        indices = binary.add(triangles, "SCALAR", target=34963)
        parts = [{"attributes": attributes, "indices": indices, "material": 0, "mode": 4}]
        for way in content.ways():
            line = [(x, content.on(name, x, y), -y) for x, y in way]
            line = [point for point in line if not math.isnan(point[1])]
            if len(line) > 1:
                at = binary.add(np.array(line, np.float32), "VEC3", bounds=True)
                parts.append({"attributes": {"POSITION": at}, "material": 1, "mode": 3})
        meshes.append({"name": name, "primitives": parts})
        nodes.append(
            {
                "name": name,
                "mesh": place,
                "scale": sizes,
                "translation": [
                    2.4 * half[0] * place - sizes[0] * float(content.x[0] + content.x[-1]) / 2,
                    -sizes[1] * low,
                    sizes[2] * float(content.y[0] + content.y[-1]) / 2,
                ],
                "extras": {
                    "x": labels[0],
                    "y": labels[1],
                    "height": f"log10 of {name}" if heights.log else name,
                },
            }
        )
    document = {
        "asset": {"version": "2.0", "generator": f"Thalweg {__version__}"},
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": meshes,
        "accessors": binary.accessors,
        "bufferViews": binary.views,
        "buffers": [{"byteLength": sum(map(len, binary.parts))}],
        "materials": [
            {
                "name": "loss",
                "doubleSided": True,
                "pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 0.75},
            },
            {
                "name": "trajectory",
                "pbrMetallicRoughness": {
                    "baseColorFactor": [0.8, 0.05, 0.05, 1],
                    "metallicFactor": 0,
                },
            },
        ],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    numbers = b"".join(binary.parts)
    total = 28 + len(text) + len(numbers)
    head = struct.pack("<IIIII", 0x46546C67, 2, total, len(text), 0x4E4F534A)
    return head + text + struct.pack("<II", len(numbers), 0x004E4942) + numbers


def _vtu(content: _Content) -> bytes:
    """Return VTK: squares with every quantity, trajectories as lines, marks as vertices."""
    used, squares = content.squares("loss")
    low = content.heights["loss"].drawn(content.heights["loss"].low)
    across, up = np.meshgrid(content.x, content.y)
    points = np.stack([a.ravel()[used] for a in (across, up, content.drawn["loss"])], 1).tolist()
    cells, types, parts = squares.tolist(), [9] * len(squares), [0] * len(squares)

    def put(x: float, y: float) -> int:
        height = content.on("loss", x, y)
        points.append([x, y, low if math.isnan(height) else height])
        return len(points) - 1

    for place, way in enumerate(content.ways(), 1):
        at = [put(x, y) for x, y in way]
        cells += [list(pair) for pair in itertools.pairwise(at)]
        types += [3] * (len(at) - 1)
        parts += [place] * (len(at) - 1)
    for x, y in content.marks():
        cells.append([put(x, y)])
        types.append(1)
        parts.append(-1)
    extra = np.full(len(points) - len(used), np.nan)
    scalars = "".join(
        _array(name, np.concatenate([losses.ravel()[used], extra]))
        for name, losses in content.losses.items()
    )
    ends = np.cumsum([len(cell) for cell in cells]).astype(np.int64)
    flat = np.array([corner for cell in cells for corner in cell], np.int64)
    return (
        '<?xml version="1.0"?>\n<VTKFile type="UnstructuredGrid" version="0.1" '
        'byte_order="LittleEndian"><UnstructuredGrid>'
        f'<Piece NumberOfPoints="{len(points)}" NumberOfCells="{len(cells)}">'
        f"<Points>{_array('Points', np.array(points), 3)}</Points>"
        f"<Cells>{_array('connectivity', flat)}{_array('offsets', ends)}"
        f"{_array('types', np.array(types, np.uint8))}</Cells>"
        f'<PointData Scalars="loss">{scalars}</PointData>'
        f"<CellData>{_array('part', np.array(parts, np.int64))}</CellData>"
        "</Piece></UnstructuredGrid></VTKFile>\n"
    ).encode()


def _array(name: str, values: np.ndarray, width: int = 1) -> str:
    kind = {"f": "Float64", "i": "Int64", "u": "UInt8"}[values.dtype.kind]
    content = np.ascontiguousarray(values).tobytes()
    text = base64.b64encode(struct.pack("<I", len(content)) + content).decode()
    several = f' NumberOfComponents="{width}"' if width > 1 else ""
    return (
        f'<DataArray type="{kind}" Name={quoteattr(name)}{several} format="binary">{text}'
        "</DataArray>"
    )


_FORMATS: dict[str, Callable[[_Content], bytes]] = {".glb": _glb, ".vtu": _vtu}
