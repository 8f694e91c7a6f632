"""Figures: what they draw is what was measured, and they say what they leave out."""

import dataclasses
import math

import numpy as np
import pytest
from landscape_results import everything

from thalweg.core.errors import UsageError
from thalweg.landscape import (
    CurveProfile,
    LayerBarriers,
    Line,
    Plane,
    Sharpness,
    Slice,
    Surface,
    side_by_side,
)
from thalweg.landscape.curvature import Eigenpairs, GradientStatistics, SpectralDensity
from thalweg.landscape.figures.heights import Heights

RESULTS = everything()


def words(figure) -> str:
    return "" if figure._supxlabel is None else figure._supxlabel.get_text()


@pytest.mark.parametrize(
    "kind",
    [
        Line,
        Plane,
        Slice,
        Surface,
        CurveProfile,
        LayerBarriers,
        SpectralDensity,
        Eigenpairs,
        GradientStatistics,
        Sharpness,
    ],
    ids=lambda kind: kind.__name__,
)
def test_every_result_becomes_a_file(kind, tmp_path):
    file = tmp_path / "new" / "figure.svg"
    RESULTS[kind].plot(file)
    text = file.read_text()
    assert "<svg" in text
    RESULTS[kind].plot(tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == text


@pytest.mark.parametrize(("suffix", "magic"), [("pdf", b"%PDF"), ("png", b"\x89PNG")])
def test_the_suffix_decides_the_format(suffix, magic, tmp_path):
    RESULTS[Line].plot(tmp_path / f"x.{suffix}")
    assert (tmp_path / f"x.{suffix}").read_bytes().startswith(magic)
    with pytest.raises(UsageError, match="a figure is a file in"):
        RESULTS[Line].plot(tmp_path / "x.gif")


def test_a_line_is_drawn_at_its_losses_and_says_what_is_clipped():
    losses = (0.5, 3.0, math.nan, 1.0)
    line = dataclasses.replace(RESULTS[Line], losses=losses, also={})
    figure = line.plot(clip=2.0, scale="linear")
    (axes,) = figure.axes
    drawn = axes.lines[0].get_ydata()
    np.testing.assert_array_equal(drawn, [0.5, 2.0, math.nan, 1.0])
    assert "clipped at 2: 1 of 4 points lie above, up to 3" in words(figure)
    assert "1 of 4 points are NaN and left out" in words(figure)
    assert axes.get_yscale() == "linear"


def test_a_surface_says_what_it_shows():
    surface = RESULTS[Surface]
    figure = surface.plot(view="contour")
    assert f"{surface.explained[0]:.1%} of the variance" in figure.axes[0].get_xlabel()
    assert "off the plane" in words(figure)
    trail = [line for line in figure.axes[0].lines if line.get_label() == "walk"]
    np.testing.assert_allclose(trail[0].get_xdata(), surface.trails[0].x)
    assert len(RESULTS[Plane].plot().axes) == 6  # two quantities: contour, its bar, 3D


def test_train_and_test_are_side_by_side():
    line = RESULTS[Line]
    losses, accuracy = line.plot(scale="linear").axes
    assert [x.get_label() for x in losses.lines[:2]] == ["train loss", "test loss"]
    np.testing.assert_array_equal(losses.lines[1].get_ydata(), line.also["test loss"])
    assert accuracy.get_ylabel() == "accuracy"
    assert [x.get_label() for x in accuracy.lines[:2]] == ["train accuracy", "test accuracy"]
    # Each barrier, and each quantity's change, has a panel.
    assert len(RESULTS[LayerBarriers].plot().axes) == 4


def test_a_clip_is_of_losses_alone():
    line = dataclasses.replace(
        RESULTS[Line], losses=(1.0, 5.0, 2.0, 1.0), also={"accuracy": (3.0, 4.0, 5.0, 6.0)}
    )
    losses, accuracy = line.plot(clip=2.0, scale="linear").axes
    np.testing.assert_array_equal(losses.lines[0].get_ydata(), [1.0, 2.0, 2.0, 1.0])
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), [3.0, 4.0, 5.0, 6.0])


def test_side_by_side_has_one_scale(tmp_path):
    plane = RESULTS[Plane]
    higher = dataclasses.replace(
        plane, losses=tuple(tuple(3 * x for x in row) for row in plane.losses)
    )
    both = {"one": plane, "other": higher}
    figure = side_by_side(both, tmp_path / "x.png", scale="linear", view="both")
    norms = [axes.collections[0].norm for axes in figure.axes[:2]]
    ends = {(norm.vmin, norm.vmax) for norm in norms}
    low, high = np.min(plane.losses), 3 * np.max(plane.losses)
    assert len(ends) == 1
    assert ends.pop() == pytest.approx((low, high))
    for axes in figure.axes[2:4]:
        assert axes.get_zlim() == pytest.approx((low, high))
    assert len(figure.axes) == 5  # one bar
    side_by_side(both, quantity="test loss")
    with pytest.raises(UsageError, match="no quantity"):
        side_by_side(both, quantity="test los")
    with pytest.raises(UsageError, match="nothing to draw"):
        side_by_side({})


def test_heights_choose_their_scale():
    assert Heights(np.array([0.1, 10.0])).log
    assert not Heights(np.array([1.0, 10.0])).log
    assert not Heights(np.array([-1.0, 1e6])).log
    infinite = Heights(np.array([1.0, 2.0, math.inf]))
    np.testing.assert_array_equal(infinite.values, [1.0, 2.0, 2.0])
    assert "infinity" in infinite.notes[0]
    with pytest.raises(UsageError, match="positive losses"):
        Heights(np.array([0.0, 1.0]), "log")
    with pytest.raises(UsageError, match="below every loss"):
        Heights(np.array([1.0, 2.0]), clip=0.5)
    with pytest.raises(UsageError, match="no loss is finite"):
        Heights(np.array([math.nan]))
    with pytest.raises(UsageError, match='"log"'):
        Heights(np.array([1.0]), "logs")  # type: ignore[arg-type]
