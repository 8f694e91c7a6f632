import math

import pytest

from thalweg.core.checks import check_choice, check_flag, check_number, check_whole
from thalweg.core.errors import UsageError


@pytest.mark.parametrize(
    ("value", "interval"),
    [(0, "[0, 1)"), (0.999, "[0, 1)"), (math.inf, "[1, inf]"), (1e-300, "(0, inf)"), (1, "(0, 1]")],
)
def test_numbers_inside_pass(value, interval):
    check_number("x", value, interval)


@pytest.mark.parametrize(
    ("value", "interval"),
    [
        (1, "[0, 1)"),
        (-1e-9, "[0, 1)"),
        (0, "(0, 1]"),
        (math.inf, "[0, inf)"),
        (math.nan, "[0, inf]"),
        (True, "[0, 1]"),
        ("0.5", "[0, 1]"),
        (None, "[0, 1]"),
        ((0.5,), "[0, 1]"),
    ],
)
def test_numbers_outside_and_other_things_are_refused(value, interval):
    with pytest.raises(UsageError) as caught:
        check_number("ema: decay", value, interval)
    assert str(caught.value) == f"ema: decay must be a number in {interval}, found {value!r}"


@pytest.mark.parametrize("value", [0, -3, 1.0, True, "2", None])
def test_whole_numbers(value):
    check_whole("k", 1, least=1)
    with pytest.raises(UsageError, match="k must be a whole number of at least 1, found"):
        check_whole("k", value, least=1)


def test_flags():
    check_flag("f", False)
    with pytest.raises(UsageError, match="f must be True or False, found 1"):
        check_flag("f", 1)


def test_choices_offer_the_nearest():
    check_choice("shape", "linear", ["linear", "1-sqrt"])
    with pytest.raises(UsageError, match=r'"linear", "1-sqrt", found \'linaer\'.*mean "linear"'):
        check_choice("shape", "linaer", ["linear", "1-sqrt"])
    with pytest.raises(UsageError, match="found 3"):
        check_choice("shape", 3, ["linear"])
