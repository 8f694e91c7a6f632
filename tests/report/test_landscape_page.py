"""Pages of surfaces, lines and densities: what they hold is what was measured."""

import base64
import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from page_reader import Page, check_figure
from surfaces import hostile, marked, quadratic, surface

from thalweg.core.errors import UsageError
from thalweg.landscape import (
    CurveProfile,
    LayerBarrier,
    LayerBarriers,
    Line,
    Plane,
    Sharpness,
    Slice,
)
from thalweg.landscape.colour_maps import NAMES, colour_map
from thalweg.landscape.curvature import Eigenpairs, GradientStatistics, SpectralDensity
from thalweg.report import write_landscape


def written(results, tmp_path, **options):
    file = write_landscape(results, tmp_path / "page.html", **options)
    page = Page(file.read_text())
    page.check()
    return page


def held(page, place=0):
    data = json.loads(page.scripts["surfaces"])["surfaces"][place]
    x, y, losses = (
        np.frombuffer(base64.b64decode(data[name]), "<f8") for name in ("x", "y", "losses")
    )
    return data, x, y, losses.reshape(len(y), len(x))


@pytest.mark.parametrize("function", [quadratic, hostile])
def test_the_page_holds_the_losses_to_the_bit(function, tmp_path):
    one = marked(function)
    _, x, y, losses = held(written(one, tmp_path))
    assert x.tolist() == list(one.x)
    assert y.tolist() == list(one.y)
    assert losses.tobytes() == np.array(one.losses).tobytes()


def test_train_and_test_are_side_by_side_and_models_share_one_scale(tmp_path):
    one = dataclasses.replace(marked(), also={"test loss": surface(hostile).losses})
    page = written({"wide": one, "narrow": surface(quadratic)}, tmp_path, clip=3.0)
    names = [held(page, k)[0]["name"] for k in range(3)]
    assert names == ["wide, train loss", "wide, test loss", "narrow"]
    data = json.loads(page.scripts["surfaces"])
    assert data["state"]["clip"] == 3.0
    assert "wide, narrow on one scale" in page.text
    assert sum(tag == "canvas" for tag, _ in page.tags) == 7  # two a surface, and the colour bar


def test_metrics_are_beside_the_losses_and_not_on_their_scale(tmp_path):
    also = {name: surface(lambda x, y: -1000 * x * y).losses for name in ("accuracy", "test loss")}
    page = written(dataclasses.replace(marked(), also={"accuracy": also["accuracy"]}), tmp_path)
    data = json.loads(page.scripts["surfaces"])
    assert [one["kind"] for one in data["surfaces"]] == ["loss", "accuracy"]
    assert "Loss from 0.5 to 9.5" in page.text
    page = written(dataclasses.replace(marked(), also=also), tmp_path)
    kinds = [one["kind"] for one in json.loads(page.scripts["surfaces"])["surfaces"]]
    assert kinds == ["loss", "accuracy", "loss"]
    assert "Losses from \u22121000 to 1000" in page.text


def test_the_page_has_the_colours_of_every_map(tmp_path):
    data = json.loads(written(marked(), tmp_path).scripts["surfaces"])
    for name in NAMES:
        assert bytes.fromhex(data["maps"][name]) == colour_map(name).tobytes()


def test_the_numbers_are_there_for_readers(tmp_path):
    text = written(marked(), tmp_path, title="A <task>").text
    assert "A <task>" in text
    assert "<b>start</b>, loss" in text
    # H = [[6, 2], [2, 8]] and G = [[4, 4], [4, 16]]: eigenvalues of inverse(G) H.
    values = np.linalg.eigvals(np.linalg.inv([[4, 4], [4, 16]]) @ [[6, 2], [2, 8]])
    high, low = sorted(values.real, reverse=True)
    assert f"{high:.3g} and {low:.3g}" in text
    page = written(marked(hostile), tmp_path)
    row = page.text[page.text.index("infinite") :]
    assert "81 4 1" in row  # points, NaN, infinite


def test_an_unfinished_surface_shows_its_finest_whole_grid(tmp_path):
    one = surface(quadratic, size=33)
    losses = np.full((33, 33), math.nan)
    losses[::4, ::4] = np.array(one.losses)[::4, ::4]
    part = dataclasses.replace(one, losses=tuple(map(tuple, losses.tolist())), evaluated=100)
    columns, rows = part.finest()
    page = written(part, tmp_path)
    _, x, _, found = held(page)
    assert found.tolist() == losses[np.ix_(rows, columns)].tolist()
    assert len(x) == len(columns) < 33
    assert "100 of 1089 points are evaluated" in page.text


def test_the_same_result_is_the_same_page(tmp_path):
    one = write_landscape(marked(), tmp_path / "one.html").read_bytes()
    write_landscape(marked(), tmp_path / "other" / "one.html")
    assert (tmp_path / "other" / "one.html").read_bytes() == one


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"look": "dusk"}, 'unknown look "dusk"'),
        ({"colour_map": "viridiss"}, "Did you mean .?viridis"),
        ({"clip": 0.1}, "lies below every loss"),
        ({"scale": "logarithmic"}, "unknown scale"),
    ],
)
def test_bad_input_is_refused(options, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        write_landscape(marked(), tmp_path / "page.html", **options)
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_page_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"a page is a file in .html"):
        write_landscape(marked(), tmp_path / "page.svg")
    with pytest.raises(UsageError, match="no page of a int"):
        write_landscape(3, tmp_path / "page.html")
    with pytest.raises(UsageError, match="no loss is finite"):
        write_landscape(surface(lambda x, y: x * math.nan), tmp_path / "page.html")


LINE = Line(
    names=("<i>a</i>", "b"),
    distance=12.0,
    positions=(0.0, 0.25, 0.5, 0.75, 1.0),
    losses=(0.5, 1.0, math.nan, 70.0, 0.25),
    barrier=math.nan,
    batch_norm="frozen",
)


def figure_of(page):
    (figure,) = page.figures.values()
    check_figure(figure)
    return figure


def test_a_line_is_drawn_as_it_was_measured(tmp_path):
    page = written(LINE, tmp_path, clip=60.0)
    curve, start, end = figure_of(page)["data"]
    assert curve["x"] == list(LINE.positions)
    assert curve["y"] == [0.5, 1.0, None, 60.0, 0.25]
    assert curve["customdata"][3] == "70.00"
    assert (start["y"], end["y"]) == ([0.5], [0.25])
    assert "Clipped at 60" in page.text
    assert "<i>a</i> to b: a loss is not finite on the way" in page.text


def test_curves_slices_barriers_and_densities_have_pages(tmp_path):
    curve = CurveProfile(
        (0.0, 0.5, 1.0), (0.0, 4.0, 9.0), (0.5, 0.75, 0.25), 0.25, 0.5, "recalibrate"
    )
    page = written(curve, tmp_path)
    assert figure_of(page)["data"][0]["y"] == list(curve.losses)
    assert "0.25 above the worse end" in page.text
    cut = Slice((-1.0, 0.0, 1.0), (2.0, 0.5, 3.0), 4.0, "filter", "frozen")
    assert figure_of(written(cut, tmp_path))["data"][0]["x"] == [-4.0, 0.0, 4.0]
    names = ("a", "b")
    bars = LayerBarriers(
        names=names,
        ends=(0.5, 0.25),
        positions=(0.0, 1.0),
        order="single",
        barriers=tuple(
            LayerBarrier((layer,), host, (0.5, 1.0), value)
            for (layer, host), value in zip(
                [(x, h) for x in ("0", "1") for h in names], (1.0, 2.0, math.nan, -0.5), strict=True
            )
        ),
        controls=(),
        batch_norm="frozen",
    )
    page = written(bars, tmp_path)
    assert [bar["x"] for bar in figure_of(page)["data"]] == [[1.0, None], [2.0, -0.5]]
    assert "Layer 0 of the other solution raises the loss of b most, by 2" in page.text
    nodes = torch.tensor([[-1.0, 0.0, 3.0], [-1.0, 0.5, 3.5]], dtype=torch.float64)
    density = SpectralDensity(nodes, torch.full_like(nodes, 1 / 3), 30, 6)
    page = written(density, tmp_path)
    x, values, _ = density.curve(points=1500)
    drawn = figure_of(page)["data"][-1]
    assert drawn["x"] == x.tolist()
    np.testing.assert_allclose(drawn["y"], values.clamp(min=float(values.max()) * 1e-7))
    assert f"{30 * nodes.mean():.4g}" in page.text  # the trace


def test_eigenvalues_are_drawn_with_their_residuals(tmp_path):
    values, residuals = (torch.tensor(v, dtype=torch.float64) for v in ([3.0, 1.0], [0.25, 0.5]))
    page = written(Eigenpairs(values, torch.eye(4)[:, :2], residuals, 7, False), tmp_path)
    (points,) = figure_of(page)["data"]
    assert (points["x"], points["y"]) == ([1, 2], [3.0, 1.0])
    assert points["error_y"]["array"] == [0.25, 0.5]
    assert "Within the tolerance no" in page.text


def test_vectors_are_drawn_by_the_sizes_of_their_entries(tmp_path):
    moved = torch.tensor([0.0, -2.0, 1.0, math.nan])
    page = written(Sharpness(0.5, 1.25, 3.0, moved), tmp_path)
    (curve,) = figure_of(page)["data"]
    assert (curve["x"], curve["y"]) == ([1.0, 2.0], [0.5, 0.75])
    assert "The loss of 1.25 rises by 0.5" in page.text
    assert "displacement: 2 entries are zero or not finite" in page.text
    many = torch.arange(1.0, 5001.0)
    page = written(GradientStatistics(many, many.square(), 40, 12.5), tmp_path)
    mean, deviation = figure_of(page)["data"]
    assert mean["x"] == deviation["x"]
    assert (mean["x"][0], mean["x"][-1], len(mean["x"])) == (1.0, 5000.0, 600)
    assert "Noise scale 12.5" in page.text
    assert "50 % 2500 2500" in page.text


def test_a_plane_marks_the_solutions_it_goes_through(tmp_path):
    one = surface(quadratic, size=5)
    plane = Plane(
        x=one.x,
        y=one.y,
        losses=one.losses,
        batch_norm="recalibrate",
        names=("a", "b", "c"),
        coordinates=((0.0, 0.0), (0.5, 1.0), (1.0, 0.0)),
    )
    data, *_ = held(written(plane, tmp_path))
    assert data["marks"] == [
        {"name": "a", "x": 0.0, "y": 0.0},
        {"name": "b", "x": 0.5, "y": 1.0},
        {"name": "c", "x": 1.0, "y": 0.0},
    ]
    assert data["metric"] == [1.0, 0.0, 1.0]
