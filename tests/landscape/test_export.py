"""Surfaces as files, read back by independent readers."""

import dataclasses
import json
import math
import struct

import meshio
import numpy as np
import pytest
import trimesh
from PIL import Image

from thalweg.core.errors import UsageError
from thalweg.landscape import Mark, Surface, Trail
from thalweg.landscape.colour_maps import colour_map, linear

X, Y = (-1.0, 0.0, 0.5, 1.0), (0.0, 1.0, 2.0)
LOSSES = np.array([[0.5, 1.0, math.nan, 4.0], [2.0, 8.0, 3.0, 2.0], [1.0, 1.0, 90.0, math.inf]])


def surface(losses=LOSSES, **fields):
    return Surface(
        x=X,
        y=Y,
        losses=tuple(map(tuple, losses.tolist())),
        also={"test <loss>": tuple(map(tuple, (losses + 1).tolist()))},
        marks=(Mark("end", 0.0, 1.0, 0.0),),
        trails=(Trail("run", (0, 1, 2), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)),),
        batch_norm="frozen",
        norms=(1.0, 1.0),
        cosine=0.0,
        kind="given",
        **fields,
    )


def attribute(content, name):
    """Return an attribute of the first mesh of a glTF file."""
    size = int.from_bytes(content[12:16], "little")
    document = json.loads(content[20 : 20 + size])
    place = document["meshes"][0]["primitives"][0]["attributes"][name]
    accessor = document["accessors"][place]
    view = document["bufferViews"][accessor["bufferView"]]
    start = 28 + size + view["byteOffset"]
    held = np.frombuffer(content[start : start + view["byteLength"]], "<f4")
    return held.reshape(accessor["count"], -1)


def test_vtk_holds_every_number(tmp_path):
    file = surface().export(tmp_path / "new" / "x.vtu", clip=10.0, scale="linear")
    found = meshio.read(file)
    # Squares with a NaN at a corner are gone: two of six.
    assert len(found.cells_dict["quad"]) == 4
    x, y, z = found.points[: len(found.points) - 4].T
    i, j = np.searchsorted(X, x), np.searchsorted(Y, y)
    losses = LOSSES[j, i]
    np.testing.assert_array_equal(z, np.minimum(losses, 10))
    np.testing.assert_array_equal(found.point_data["loss"][:-4], losses)
    np.testing.assert_array_equal(found.point_data["test <loss>"][:-4], losses + 1)
    line = found.points[found.cells_dict["line"]]
    np.testing.assert_array_equal(line[:, :, 0], [[-1, 0], [0, 0]])
    np.testing.assert_array_equal(line[:, :, 2], [[0.5, 1], [1, 8]])
    (mark,) = found.points[found.cells_dict["vertex"].ravel()]
    assert mark.tolist() == [0, 1, 8]
    parts = [part.tolist() for part in found.cell_data["part"]]
    assert sorted(map(tuple, parts)) == [(-1,), (0, 0, 0, 0), (1, 1)]


def test_gltf_holds_heights_colours_and_losses(tmp_path):
    file = surface().export(tmp_path / "x.glb", scale="log", clip=50.0, colour_map="tarn")
    scene = trimesh.load(file)
    assert list(scene.geometry) == ["loss", "test <loss>"]
    mesh = scene.geometry["loss"]
    assert len(mesh.faces) == 8
    x, height, y = mesh.vertices.T
    losses = LOSSES[np.searchsorted(Y, -y), np.searchsorted(X, x)]
    np.testing.assert_allclose(height, np.log10(np.minimum(losses, 50)), rtol=1e-6, atol=1e-7)
    low, high = np.log10(0.5), np.log10(50)
    share = np.rint((height - low) / (high - low) * 255).astype(int)
    seen = attribute(file.read_bytes(), "COLOR_0")
    np.testing.assert_allclose(seen, linear(colour_map("tarn")[share]), rtol=1e-6)
    # Neither NaN nor infinity is allowed in glTF.
    np.testing.assert_array_equal(
        attribute(file.read_bytes(), "_LOSS").ravel(),
        np.minimum(losses, np.finfo(np.float32).max).astype(np.float32),
    )
    # All triangles face up.
    assert (mesh.face_normals[:, 1] > 0).all()


def test_gltf_is_what_the_format_asks_for(tmp_path):
    content = surface().export(tmp_path / "x.glb").read_bytes()
    magic, version, total, size, kind = struct.unpack_from("<4sIII4s", content)
    assert (magic, version, total, kind) == (b"glTF", 2, len(content), b"JSON")
    document = json.loads(content[20 : 20 + size])
    length, kind = struct.unpack_from("<I4s", content, 20 + size)
    assert (kind, size % 4, length % 4) == (b"BIN\0", 0, 0)
    assert length == document["buffers"][0]["byteLength"] == len(content) - 28 - size
    binary = content[28 + size :]
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        assert view["byteOffset"] % 4 == 0
        width = {"SCALAR": 1, "VEC3": 3}[accessor["type"]]
        assert view["byteLength"] == 4 * width * accessor["count"]
        if "min" in accessor:
            numbers = np.frombuffer(
                binary, "<f4", width * accessor["count"], view["byteOffset"]
            ).reshape(-1, width)
            assert numbers.min(0).tolist() == accessor["min"]
            assert numbers.max(0).tolist() == accessor["max"]


def test_the_same_surface_is_the_same_file(tmp_path):
    for name in ("x.glb", "x.vtu"):
        one = surface().export(tmp_path / name).read_bytes()
        assert surface().export(tmp_path / "again" / name).read_bytes() == one


def test_bad_input_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.glb or \.vtu"):
        surface().export(tmp_path / "x.obj")
    with pytest.raises(UsageError, match="unknown colour map"):
        surface().export(tmp_path / "x.glb", colour_map="jet")
    with pytest.raises(UsageError, match="not the coarsest grid"):
        dataclasses.replace(surface(), evaluated=1).export(tmp_path / "x.glb")
    with pytest.raises(UsageError, match=r"a film is a file in \.gif"):
        surface().film(tmp_path / "x.mp4")
    with pytest.raises(UsageError, match="two frames"):
        surface().film(tmp_path / "x.gif", frames=1)


def test_a_film_turns_once(tmp_path):
    told = []
    file = surface().film(
        tmp_path / "new" / "x.gif",
        frames=4,
        seconds=2.0,
        clip=10.0,
        progress=lambda done, total: told.append((done, total)),
    )
    film = Image.open(file)
    assert film.n_frames == 4
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    frames = []
    for k in range(4):
        film.seek(k)
        assert film.info["duration"] == 500
        frames.append(np.asarray(film.convert("RGB")).tobytes())
    assert len(set(frames)) == 4
    film.seek(0)
    seen = np.asarray(film.convert("RGB")).reshape(-1, 3).astype(int)
    assert np.abs(seen - (167, 6, 0)).sum(1).min() < 60  # the trajectory
    assert len(np.unique(seen, axis=0)) > 60
