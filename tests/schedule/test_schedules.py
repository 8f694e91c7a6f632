import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.cycles import Cycles
from thalweg.core.errors import UsageError
from thalweg.core.registry import get
from thalweg.schedule import (
    Chain,
    Constant,
    Cooldown,
    Cosine,
    Linear,
    SWAConstant,
    SWACyclical,
    Triangular,
    Warmup,
)

unit = st.floats(0, 1)
mains = st.one_of(
    st.just(Constant()),
    st.builds(Linear, unit),
    st.builds(Cosine, unit),
    st.builds(Cooldown, unit, st.sampled_from(["1-sqrt", "linear", "square", "cosine"]), unit),
)
some = st.floats(0.01, 1)
cycles = st.integers(1, 9)
averaged = st.one_of(
    st.builds(SWAConstant, some, unit),
    st.builds(SWACyclical, some, cycles, unit, unit),
    st.builds(Triangular, some, cycles, unit, unit),
)
warmups = st.builds(Warmup, st.floats(0, 1, exclude_max=True), unit)
runs = st.integers(1, 3000).flatmap(
    lambda steps: st.tuples(st.integers(0, steps + 5), st.just(steps))
)


@given(
    st.one_of(mains, averaged, warmups, st.builds(Chain, warmups, st.one_of(mains, averaged))), runs
)
def test_every_factor_is_in_the_unit_interval(schedule, run):
    assert 0 <= schedule.factor(*run) <= 1


@given(mains, runs)
def test_main_schedules_start_at_the_peak_and_never_rise(schedule, run):
    step, steps = run
    assert schedule.factor(0, steps) == 1
    assert schedule.factor(step + 1, steps) <= schedule.factor(step, steps) + 1e-15


@given(warmups, mains, st.integers(2, 3000))
def test_the_chain_is_continuous_at_the_join(warmup, rest, steps):
    length = warmup.length(steps)
    chain = Chain(warmup, rest)
    assert length < steps
    assert chain.factor(length, steps) == rest.factor(0, steps - length) == 1
    if length:
        climb = (1 - warmup.initial) / length
        assert 1 - chain.factor(length - 1, steps) == pytest.approx(climb, abs=1e-12)
        assert chain.factor(0, steps) == warmup.initial
    assert chain.factor(steps, steps) == rest.factor(steps - length, steps - length)


@given(st.floats(0.01, 1), st.sampled_from(["1-sqrt", "linear", "square", "cosine"]), unit)
def test_the_cooldown_is_continuous_where_it_begins_and_ends_at_its_final_factor(f, shape, final):
    schedule = Cooldown(f, shape, final)
    begin = 1000 - int(f * 1000 + 1e-9)
    assert schedule.factor(begin, 1000) == 1
    assert all(schedule.factor(step, 1000) == 1 for step in range(0, begin, 97))
    assert schedule.factor(1000, 1000) == final
    assert schedule.factor(10**9, 1000) == schedule.factor(1000, 1000)


def test_cooldown_at_a_quarter_of_its_length():
    def quarter(shape):
        return Cooldown(0.4, shape).factor(70, 100)

    assert quarter("linear") == 0.75
    assert quarter("1-sqrt") == 0.5
    assert quarter("square") == 0.9375
    assert quarter("cosine") == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_a_cooldown_too_short_for_one_step_is_constant_until_the_end():
    schedule = Cooldown(0.01, final=0.1)
    assert [schedule.factor(step, 50) for step in (0, 49, 50)] == [1, 1, 0.1]


def test_linear_reaches_zero_after_the_last_update_and_not_before():
    assert [Linear().factor(step, 4) for step in range(6)] == [1, 0.75, 0.5, 0.25, 0, 0]
    assert Linear(0.1).factor(10, 10) == pytest.approx(0.1)


def test_the_decay_after_warm_up_is_the_published_one():
    schedule = Chain(Warmup(0.1, initial=0.0), Linear())
    for step in range(101):
        expected = step / 10 if step < 10 else (100 - step) / 90
        assert schedule.factor(step, 100) == pytest.approx(expected, abs=1e-15)


def test_cosine_passes_the_mean_at_half_time():
    assert Cosine(0.2).factor(50, 100) == pytest.approx(0.6)
    assert Cosine(0.2).factor(100, 100) == pytest.approx(0.2)
    assert Cosine().factor(25, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)


def test_warm_up_starts_at_a_hundredth_and_stays_at_the_peak():
    schedule = Warmup(0.1)
    assert [schedule.factor(step, 100) for step in (0, 5, 10, 99)] == [0.01, 0.505, 1, 1]
    assert Warmup(0.0).factor(0, 100) == 1
    assert Warmup(0.99).factor(0, 1) == 1, "a run of one step has no room to warm up"


def test_fractions_are_whole_steps_despite_rounding():
    assert Warmup(0.29).length(100) == 29  # 0.29 * 100 is 28.999999999999996


def test_decay_coefficients_of_adamw_add_up():
    # AdamW as an average of updates: sum_i h_i l prod_{j>i} (1 - h_j l) + prod_j (1 - h_j l) = 1,
    # and with a decay to zero the last coefficients fall in a straight line.
    rates = [0.3 * Linear().factor(step, 200) for step in range(200)]
    coefficients = [
        rates[i] * 0.1 * math.prod(1 - h * 0.1 for h in rates[i + 1 :]) for i in range(200)
    ]
    rest = math.prod(1 - h * 0.1 for h in rates)
    assert math.fsum(coefficients) + rest == pytest.approx(1, abs=1e-14)
    assert coefficients[-1] / coefficients[-2] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(-0.1),
        lambda: Cosine(1.5),
        lambda: Cosine("0"),
        lambda: Cooldown(1.1),
        lambda: Cooldown(shape="sqrt"),
        lambda: Cooldown(final=math.nan),
        lambda: Warmup(1.0),
        lambda: Warmup(0.1, initial=2),
        lambda: Chain(Linear(), Linear()),
        lambda: Chain(Warmup(), 0.1),
        lambda: SWAConstant(0.0),
        lambda: SWAConstant(rate=2),
        lambda: SWAConstant(before=-1),
        lambda: SWACyclical(cycles=0),
        lambda: Triangular(high=-1),
        lambda: Linear().factor(-1, 10),
        lambda: Linear().factor(0, 0),
        lambda: Linear().factor(0.5, 10),
    ],
)
def test_impossible_values_are_refused(make):
    with pytest.raises(UsageError, match="found"):
        make()


def test_the_constant_of_averaging_is_the_schedule_of_its_authors():
    schedule = SWAConstant(0.8, 0.25)
    found = [schedule.factor(step, 100) for step in (0, 40, 56, 72, 80, 99)]
    assert found == pytest.approx([1, 1, 1 - 0.75 * 0.5, 0.25, 0.25, 0.25])
    low_first = SWAConstant(0.8, 0.25, before=0.01)
    found = [low_first.factor(step, 100) for step in (0, 40, 56, 72, 79, 80, 99)]
    assert found == pytest.approx([1, 1, 1 - 0.99 * 0.5, 0.01, 0.01, 0.25, 0.25])


def test_cycles_of_averaging_fall_to_their_lowest_at_their_last_update():
    schedule = SWACyclical(0.6, 4, high=0.5, low=0.1)
    # alpha(i) = (1 - i/10) high + (i/10) low
    expected = [0.5 - 0.04 * i for i in range(1, 11)] * 4
    assert [schedule.factor(step, 100) for step in range(60, 100)] == pytest.approx(expected)
    lowest = [step for step in range(100) if schedule.factor(step, 100) == pytest.approx(0.1)]
    assert lowest == [step for step in range(100) if Cycles(0.6, 4).ends(step, 100)]


def test_triangular_cycles_are_lowest_in_their_middle_and_continuous():
    schedule = Triangular(0.6, 4, high=0.5, low=0.1)
    found = [schedule.factor(step, 100) for step in range(60, 101)]
    half = [0.5, 0.42, 0.34, 0.26, 0.18]
    assert found == pytest.approx([*half, 0.1, *half[:0:-1]] * 4 + [0.5])
    lowest = [step for step in range(100) if schedule.factor(step, 100) == pytest.approx(0.1)]
    assert lowest == [step for step in range(100) if Cycles(0.6, 4).is_middle(step, 100)]


def test_schedules_are_values():
    assert Cooldown(0.2) == Cooldown()
    assert len({Linear(), Linear(0.0), Cosine()}) == 2


@pytest.mark.parametrize(
    "slug",
    [
        "constant",
        "warmup",
        "linear",
        "cosine",
        "cooldown",
        "swa-constant",
        "swa-cyclical",
        "triangular",
    ],
)
def test_schedules_are_registered_and_have_nothing_to_tune(slug):
    part = get(slug, "schedule")
    assert part.factory().factor(0, 10) > 0
    assert part.space == {}
    assert part.summary
