import itertools

import numpy as np
import pytest

from thalweg.report import look
from thalweg.report.labels import short_labels

# Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
OKABE_ITO = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000"]


def linear(colour):
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    lms = rgb @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(np.clip(lms, 0, 1)) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def contrast(one, other):
    a, b = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (b + 0.05) / (a + 0.05)


def least_distance(colours, matrix):
    seen = [oklab(np.clip(matrix @ linear(colour), 0, 1)) for colour in colours]
    return min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("side", [0, 1])
def test_entrants_are_told_apart_with_every_kind_of_vision(side, vision):
    colours = [pair[side] for pair in look.ENTRANT_COLOURS]
    assert least_distance(colours, VISION[vision]) > 0.11


def test_the_palette_does_better_than_the_usual_one_where_that_is_weakest():
    def worst(colours):
        return min(least_distance(colours, matrix) for matrix in VISION.values())

    assert worst([light for light, _ in look.ENTRANT_COLOURS]) > 1.5 * worst(OKABE_ITO)


@pytest.mark.parametrize("side", [0, 1])
def test_contrast_meets_the_guidelines(side):
    tokens = {name: pair[side] for name, pair in look.TOKENS.items()}
    for ground in ("paper", "surface", "sunken"):
        assert contrast(tokens["ink"], tokens[ground]) > 7
        for name in ("muted", "accent"):
            assert contrast(tokens[name], tokens[ground]) >= 4.5, (name, ground)
    assert contrast(tokens["warning"], tokens["warning-surface"]) >= 4.5
    assert contrast(tokens["warning"], tokens["paper"]) >= 4.5
    for i in range(len(look.ENTRANT_COLOURS)):
        for ground in ("paper", "surface"):
            assert contrast(tokens[f"entrant-{i}"], tokens[ground]) >= 3, (i, ground)


def test_depths_and_chances_are_monotone_in_lightness_so_that_grey_print_keeps_their_order():
    for side in (0, 1):
        for names in (
            [f"depth-{i}" for i in range(5)],
            ["even", "for-1", "for-2"],
            ["even", "against-1", "against-2"],
        ):
            lightness = [oklab(linear(look.TOKENS[name][side]))[0] for name in names]
            assert lightness in (sorted(lightness), sorted(lightness, reverse=True)), names


def test_twenty_entrants_differ_by_colour_line_and_marker_together():
    line = {(look.colour_name(i), look.dash(i)) for i in range(20)}
    mark = {(look.colour_name(i), look.symbol(i)) for i in range(20)}
    assert len(line) == len(mark) == 20
    assert len({look.swatch(i) for i in range(20)}) == 20


def test_labels_are_short_and_differ():
    recipes = [
        "adamw + warmup(0.05) + linear",
        "sgd(momentum=0.9, nesterov=True) + warmup(0.05) + cosine",
        "adamw + warmup(0.05) + linear + sam(rho=0.1 + 0.2)",
        "adamw(lr=0.1) + warmup(0.05) + linear",
        "lion",
    ]
    labels = short_labels([*recipes, "mine", "x" * 100], [*recipes, "lion", "lion"])
    assert labels[:6] == ["adamw", "sgd", "adamw + sam", "adamw (2)", "lion", "mine"]
    assert len(labels[6]) <= 28
    assert len(set(labels)) == 7


def test_numbered_repetitions_of_a_recipe_keep_different_labels():
    recipe = "adamw + warmup(0.05) + linear"
    names = [recipe, f"{recipe} (2)", f"{recipe} (3)"]
    labels = short_labels(names, [recipe] * 3)
    assert len(set(labels)) == 3
    assert all(label.startswith("adamw") for label in labels)
