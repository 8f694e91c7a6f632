"""Errors offer the nearest known names."""

from thalweg.core.errors import UnknownNameError, did_you_mean


def test_the_nearest_names_are_offered() -> None:
    assert did_you_mean("adamww", ["adamw", "adam", "sgd"]) == ' Did you mean "adamw" or "adam"?'
    assert did_you_mean("xyzzy", ["adamw", "sgd"]) == ""


def test_other_names_for_the_same_thing_are_known() -> None:
    assert did_you_mean("learning_rate", ["lr", "eps"]) == ' Did you mean "lr"?'
    assert did_you_mean("learning_rate", ["eps"]) == ""


def test_an_unknown_name_lists_the_known_ones() -> None:
    error = UnknownNameError("kind", "rulee", ["rule", "average"])
    assert 'unknown kind "rulee". Did you mean "rule"? Known: average, rule.' in str(error)
