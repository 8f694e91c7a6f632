import math

import pytest

from thalweg.report.numbers import integer, metric_format, number, seconds, size

THIN = "\u202f"
NONE = "\u2013"
MINUS = "\u2212"
TIMES = f"{THIN}\u00d7{THIN}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, NONE),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, f"{MINUS}∞"),
        (0.0, "0"),
        (0.1, "0.1"),
        (0.12345, "0.123"),
        (-0.5, f"{MINUS}0.5"),
        (0.001, "0.001"),
        (0.00095, f"9.50{TIMES}10⁻⁴"),
        (9.996, "10"),
        (1234.5, "1230"),
        (54321.4, f"54{THIN}321"),
        (2.5e7, f"2.50{TIMES}10⁷"),
        (1e-12, f"1.00{TIMES}10⁻¹²"),
    ],
)
def test_numbers_show_the_digits_they_carry(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.0, "0 s"),
        (3.2e-8, "32 ns"),
        (4.56e-5, "45.6 µs"),
        (0.00412, "4.12 ms"),
        (1.0, "1 s"),
        (59.94, "59.9 s"),
        (61.4, "1 min 01 s"),
        (3725.0, "1 h 02 min"),
        (None, NONE),
    ],
)
def test_durations_carry_their_unit(value, expected):
    assert seconds(value).replace(THIN, " ") == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (271_312, "271 kB"), (4.8e9, "4.8 GB")],
)
def test_sizes_are_in_decimal_units(value, expected):
    assert size(value).replace(THIN, " ") == expected


def test_counts_are_grouped_from_five_digits_on():
    assert [integer(v) for v in (9999, 10000, 1234567, None)] == [
        "9999",
        f"10{THIN}000",
        f"1{THIN}234{THIN}567",
        NONE,
    ]


def test_a_metric_shows_two_digits_of_its_narrowest_uncertainty():
    form = metric_format([0.97312, 0.951], [0.0043, 0.02])
    assert [form(v) for v in (0.97312, 0.9, None, math.nan)] == ["0.9731", "0.9000", NONE, "NaN"]
    assert metric_format([12.3456], [0.4])(12.3456) == "12.35"
    assert metric_format([345.678], [20.0])(345.678) == "346"


def test_a_metric_without_uncertainty_tells_its_values_apart():
    form = metric_format([0.9731, 0.9733])
    assert form(0.9731) != form(0.9733)
    assert metric_format([0.5])(0.5) == "0.500"
    assert metric_format([])(0.25) == "0.250"
    # An uncertainty of almost nothing does not ask for endless digits.
    assert metric_format([0.5], [1e-15])(0.5) == "0.500000"


def test_tiny_and_huge_metrics_are_powers_of_ten():
    assert metric_format([2.084e-7], [1e-8])(2.084e-7) == f"2.08{TIMES}10⁻⁷"
    assert metric_format([3.04e9], [7e7])(3.04e9) == f"3.040{TIMES}10⁹"
    # One value that a common number of decimals would show as zero is written out.
    assert metric_format([0.5, 3e-5], [0.02])(3e-5) == f"3.0{TIMES}10⁻⁵"
