"""Surfaces that are known exactly, for tests of their pages."""

import math

import numpy as np

from thalweg.landscape import Mark, Surface, Trail


def surface(function, size=9, norms=(2.0, 4.0), cosine=0.5, **fields):
    """A surface of a function on [-1, 1] x [-1, 1]."""
    x = np.linspace(-1, 1, size)
    across, up = np.meshgrid(x, x)
    losses = np.array(function(across, up))
    return Surface(
        x=tuple(x.tolist()),
        y=tuple(x.tolist()),
        losses=tuple(map(tuple, losses.tolist())),
        batch_norm="frozen",
        norms=norms,
        cosine=cosine,
        kind="filter",
        **fields,
    )


def quadratic(across, up):
    return 0.5 + 3 * across**2 + 2 * across * up + 4 * up**2


def hostile(across, up):
    """A bowl with a huge rim, a hole, and an infinite corner."""
    losses = 0.1 + across**2 + up**2
    losses[losses > 1.8] *= 1e9
    losses[3:5, 1:3] = math.nan
    losses[0, 0] = math.inf
    return losses


def marked(function=quadratic, **fields):
    marks = (Mark("<b>start</b>", -0.75, 0.5, 0.25), Mark("end", 0.0, 0.0, 0.0))
    trail = Trail("run", (0, 5, 10), (-0.75, -0.25, 0.0), (0.5, 0.5, 0.0), (0.25, 0.125, 0.0))
    return surface(function, marks=marks, trails=(trail,), **fields)
