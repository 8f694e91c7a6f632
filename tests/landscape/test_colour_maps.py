"""Colour maps: even steps, lighter all the way, and the published ones as published."""

import matplotlib
import numpy as np
import pytest

from thalweg.core.errors import UsageError
from thalweg.landscape.colour_maps import NAMES, colour_map, to_oklab


@pytest.mark.parametrize("name", NAMES)
def test_a_map_becomes_lighter_all_the_way(name):
    found = colour_map(name)
    assert found.shape == (256, 3)
    assert found.dtype == np.uint8
    lightness = to_oklab(found)[:, 0]
    assert (np.diff(lightness) > -0.001).all()  # bytes are rounded
    assert lightness[-1] - lightness[0] > 0.6


@pytest.mark.parametrize("name", ["tarn", "ember"])
def test_equal_steps_look_equally_large(name):
    steps = np.linalg.norm(np.diff(to_oklab(colour_map(name))[::8], axis=0), axis=1)
    assert steps.max() / steps.min() < 1.25
    viridis = np.linalg.norm(np.diff(to_oklab(colour_map("viridis"))[::8], axis=0), axis=1)
    assert steps.std() / steps.mean() < viridis.std() / viridis.mean()


@pytest.mark.parametrize("name", ["viridis", "cividis"])
def test_published_maps_are_as_published(name):
    published = np.rint(np.array(matplotlib.colormaps[name](np.arange(256)))[:, :3] * 255)
    found = colour_map(name).astype(int)
    assert np.abs(found - published).max() <= 3
    assert (found[::5] == published[::5]).all()


def test_oklab_knows_white_and_the_lightness_of_grey():
    np.testing.assert_allclose(to_oklab(np.array([255, 255, 255])), [1, 0, 0], atol=1e-6)
    # The published example of the transform: sRGB red.
    np.testing.assert_allclose(
        to_oklab(np.array([255, 0, 0])), [0.62796, 0.22486, 0.12585], atol=1e-4
    )


def test_an_unknown_map_is_refused():
    with pytest.raises(UsageError, match="viridis"):
        colour_map("viridsi")
