"""Averages against explicit sums of the iterates that they were given."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from points import Vector, follow, walk
from torch import nn

from thalweg.average import (
    ASWA,
    EMA,
    FGE,
    LAWA,
    NASWA,
    NTASGD,
    SMA,
    SWA,
    SWAD,
    SWAG,
    TWA,
    WAKD,
    Polyak,
    PolynomialDecay,
    PowerEMA,
    SwitchEMA,
)
from thalweg.average.profiles import WIDEST, exponent
from thalweg.core.cycles import Cycles
from thalweg.core.errors import UsageError

close = {"rtol": 1e-11, "atol": 1e-11}


@given(
    st.integers(1, 40), st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.floats(0, 1), st.integers(1, 5)
)
def test_polyak_weighs_by_a_power_of_time_from_its_start_on(steps, power, start, every):
    points = walk(2, steps)
    _, seen = follow(Polyak(start, power, every), points)
    first = max(1, math.ceil(start * steps - 1e-9))
    for t in range(1, steps + 1):
        chosen = points[first - 1 : t : every]
        weights = torch.arange(1, len(chosen) + 1, dtype=torch.float64) ** power
        expected = weights @ chosen / weights.sum() if len(chosen) else points[t - 1]
        torch.testing.assert_close(seen[t - 1], expected, **close)


def test_uniform_averages_are_one_and_the_same():
    points = walk(3, 30)
    _, expected = follow(Polyak(), points)
    for same in (ASWA(), SMA(start=1), WAKD(0.0), PolynomialDecay(0.0), SWA(0.0), LAWA(30, 1)):
        torch.testing.assert_close(follow(same, points)[1], expected, **close)


def test_polyak_is_as_good_as_the_best_and_its_error_falls_like_one_over_k():
    # Robbins-Monro steps k^-0.6: k E |mean - x*|^2 tends to Tr(H^-1 S H^-1).
    curvature = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    noise = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    limit = float((noise**2 / curvature**2).sum())
    chains, steps = 300, 3000
    model = Vector((chains, 3))
    average = Polyak().attach(model)
    generator = torch.Generator().manual_seed(0)
    errors = {}
    for step in range(steps):
        g = torch.randn(chains, 3, generator=generator, dtype=torch.float64) * noise
        with torch.no_grad():
            model.w.sub_((step + 1) ** -0.6 * 0.5 * (curvature * model.w + g))
        average.update(step, steps)
        if step + 1 in (300, 3000):
            errors[step + 1] = float(average.weights()["w"].square().sum(1).mean())
    slope = math.log(errors[3000] / errors[300]) / math.log(10)
    assert -1.1 < slope < -0.9
    assert 3000 * errors[3000] == pytest.approx(limit, rel=0.15)


@given(st.integers(1, 30), st.floats(0, 0.999))
def test_bias_corrected_ema_is_the_explicit_sum(steps, decay):
    points = walk(2, steps)
    _, seen = follow(EMA(decay, warmup=False, bias_correction=True), points)
    for t in range(1, steps + 1):
        weights = torch.tensor([decay ** (t - k) for k in range(1, t + 1)], dtype=torch.float64)
        torch.testing.assert_close(seen[t - 1], weights @ points[:t] / weights.sum(), **close)


def test_bias_correction_needs_the_warm_up_off():
    with pytest.raises(UsageError, match="warmup=False, found warmup=True"):
        EMA(bias_correction=True)


def descend(settings, steps, rate=0.1):
    """Return the weights along gradient descent on |w|^2 / 2 with an average that writes back."""
    model = Vector(3)
    with torch.no_grad():
        model.w.copy_(torch.tensor([1.0, -2.0, 3.0]))
    average = settings.attach(model)
    seen = [model.w.detach().clone()]
    for step in range(steps):
        with torch.no_grad():
            model.w.sub_(rate * model.w)
        average.update(step, steps)
        seen.append(model.w.detach().clone())
    return average, torch.stack(seen)


def test_switching_at_every_step_shrinks_the_learning_rate():
    _, seen = descend(SwitchEMA(0.75, warmup=False, interval=1), 20)
    factors = (1 - 0.1 * 0.25) ** torch.arange(21, dtype=torch.float64)
    torch.testing.assert_close(seen, factors[:, None] * seen[0], **close)


def test_switching_with_decay_0_is_plain_training():
    _, seen = descend(SwitchEMA(0.0, interval=3), 20)
    assert torch.equal(seen, descend(EMA(0.0), 20)[1])


def test_a_switch_leaves_model_and_average_at_one_point_and_the_average_alone():
    for steps in range(1, 12):
        average, seen = descend(SwitchEMA(0.9, interval=5), steps)
        # By hand: the model is replaced after updates 5 and 10.
        w, v = seen[0].clone(), seen[0].clone()
        for t in range(1, steps + 1):
            w = w - 0.1 * w
            beta = min(0.9, 1 - t ** (-2 / 3))
            v = beta * v + (1 - beta) * w
            w = v.clone() if t % 5 == 0 else w
        torch.testing.assert_close(seen[-1], w, **close)
        torch.testing.assert_close(average.weights()["w"], v, **close)
        assert torch.equal(seen[-1], average.weights()["w"]) == (steps in (1, 5, 10))


def test_switches_end_and_come_every_hundredth_of_the_run_by_default():
    assert [t for t in range(1000) if SwitchEMA().switches(t, 1000)] == list(range(9, 1000, 10))
    some = SwitchEMA(interval=10, end=0.5)
    assert [t for t in range(100) if some.switches(t, 100)] == [9, 19, 29, 39, 49]
    assert all(SwitchEMA().switches(t, 20) for t in range(20))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.floats(0, 1))
def test_lawa_is_the_mean_of_the_k_latest_checkpoints(steps, latest, every, start):
    points = walk(2, steps)
    average, seen = follow(LAWA(latest, every, start), points)
    taken = []
    for t in range(1, steps + 1):
        if t % every == 0 and t >= math.ceil(start * steps - 1e-9):
            taken.append(points[t - 1])
        expected = torch.stack(taken[-latest:]).mean(0) if taken else points[t - 1]
        torch.testing.assert_close(seen[t - 1], expected, **close)
    assert len(average.state_dict()) == 1 + min(latest, len(taken))


def test_lawa_with_one_checkpoint_is_the_latest_bit_for_bit():
    points = walk(4, 10)
    assert torch.equal(follow(LAWA(1, 3), points)[1][9], points[8])


def test_naswa_takes_those_that_stray_further_than_what_it_left_out():
    points = walk(3, 200)
    average, seen = follow(NASWA(), points)
    mean, n, passed = torch.zeros(3, dtype=torch.float64), 0, []
    for t, w in enumerate(points):
        d = float((w - mean).norm())
        if d > (sum(passed) / len(passed) if passed else 0):
            mean, n, passed = mean + (w - mean) / (n + 1), n + 1, [d]
        elif d > 0:
            passed.append(d)
        torch.testing.assert_close(seen[t], mean, rtol=1e-5, atol=1e-5)
    assert average.count == n
    assert 1 < n < 200


def test_naswa_takes_only_the_first_of_falling_distances_and_all_of_rising_ones():
    falling = torch.tensor([[10.0], [9.0], [9.5], [9.7]], dtype=torch.float64)
    assert follow(NASWA(), falling)[0].count == 1
    rising = torch.tensor([[1.0], [10.0], [100.0], [1000.0]], dtype=torch.float64)
    average, seen = follow(NASWA(), rising)
    assert average.count == 4
    assert torch.equal(seen, follow(ASWA(), rising)[1])


@pytest.mark.parametrize(
    ("losses", "loss", "fires"),
    [
        ([5, 4, 3, 3, 3, 3], 3.1, False),
        ([3, 4, 4, 4, 4, 4], 3.5, True),
        ([1, 1, 1, 1, 1], 9.0, False),
        ([9, 8, 7, 6, 5, 4, 3], 2.0, False),
    ],
)
def test_nt_asgd_fires_as_specified(losses, loss, fires):
    assert NTASGD(5).triggers(losses, loss) is fires


def test_nt_asgd_averages_every_iterate_after_the_trigger():
    points = walk(2, 40)
    losses = [3, 2, 1, 1.5, 1.5, 1.5, 1.2, 9, 9, 9]
    average, seen = follow(NTASGD(3), points, losses, every=4)
    # The first loss above the least of those more than 3 back is the seventh, after 28 points.
    torch.testing.assert_close(seen[-1], points[28:].mean(0), **close)
    assert torch.equal(seen[27], points[27])
    assert average.count == 12
    assert not average.monitors


def swad_by_hand(points, losses, every, ns, ne, r):
    """The paper's algorithm: both ends of the window as numbers of points, from 1, and the mean."""
    start = end = threshold = None
    for i in range(len(losses)):
        if threshold is None:
            window = losses[i - ns + 1 : i + 1]
            if i + 1 >= ns and window[0] == min(window):
                start, threshold = i - ns + 1, (1 + r) * sum(window) / ns
        elif end is None and i + 1 >= ne and min(losses[i - ne + 1 : i + 1]) > threshold:
            end = i - ne
    if start is None:
        return None, None, points[-1]
    first, last = (start + 1) * every, len(points) if end is None else (end + 1) * every
    return first, None if end is None else last, points[first - 1 : last].mean(0)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([1.0, 1.1, 1.2, 2.0, 3.0]), min_size=1, max_size=20),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 2),
)
def test_swad_averages_exactly_the_window_of_the_paper(losses, every, ns, ne, extra):
    points = walk(2, len(losses) * every + min(extra, every - 1))
    average, seen = follow(SWAD(ns, ne, 0.3), points, losses, every)
    first, last, expected = swad_by_hand(points, losses, every, ns, ne, 0.3)
    assert average.window == (first, last)
    torch.testing.assert_close(seen[-1], expected, **close)
    if first is not None:
        assert average.count == (last or len(points)) - first + 1


def test_swad_with_a_loss_that_falls_throughout_finds_no_start():
    points = walk(2, 20)
    average, seen = follow(SWAD(), points, [10.0 - i for i in range(10)], every=2)
    assert average.window == (None, None)
    assert torch.equal(seen[-1], points[-1])


def test_swad_keeps_few_points():
    losses = [5.0, 4, 3, 2, 1, *[1.1] * 40]
    average, _ = follow(SWAD(3, 6), walk(2, 45), losses)
    kept = [name for name in average.state_dict() if "." in name]
    assert len(kept) <= 6 + 2


def test_sma_is_the_model_before_its_start_and_the_uniform_mean_after():
    points = walk(2, 30)
    _, seen = follow(SMA(start=11), points)
    assert torch.equal(seen[:10], points[:10])
    torch.testing.assert_close(seen[-1], points[10:].mean(0), **close)
    _, seen = follow(WAKD(), points)
    torch.testing.assert_close(seen[-1], points[2:].mean(0), **close)


@given(st.integers(1, 200), st.floats(0, 1), st.integers(1, 9))
def test_cycles_cover_the_rest_of_the_run_evenly(steps, start, cycles):
    first = max(1, math.ceil(start * steps - 1e-9))
    places = [Cycles(start, cycles).place(step, steps) for step in range(steps)]
    assert places[:first] == [None] * min(first, steps)
    rest = places[first:]
    if rest:
        lengths = [length for into, length in rest if into == 0]
        assert sum(lengths) == len(rest)
        assert len(lengths) == min(cycles, len(rest))
        assert max(lengths) - min(lengths) <= 1
        expected = [(i, n) for n in lengths for i in range(n)]
        assert rest == expected


def test_swa_by_cycles_takes_the_start_and_the_end_of_each():
    taken = [t for t in range(1, 101) if SWA(0.8, cycles=4).collects(t - 1, 100)]
    assert taken == [80, 85, 90, 95, 100]
    with pytest.raises(UsageError, match="not by both; found cycles = 4 and every = 2"):
        SWA(every=2, cycles=4)


# Power-function averages


def power_shares(steps, gamma):
    edges = np.arange(steps + 1) / steps
    return torch.from_numpy(np.diff(edges ** (gamma + 1)))


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.2, WIDEST])
def test_a_width_is_the_standard_deviation_of_its_profile(width):
    gamma = exponent(width)
    t = np.linspace(0, 1, 400001)
    density = (gamma + 1) * t**gamma
    mean = np.trapezoid(density * t, t)
    assert math.sqrt(np.trapezoid(density * (t - mean) ** 2, t)) == pytest.approx(width, rel=1e-4)


def test_published_exponents():
    # Karras et al.: 6.94 and 16.97 belong to 10 % and 5 %.
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)


def test_power_ema_is_the_explicit_sum():
    points = walk(2, 50)
    average, seen = follow(PowerEMA((0.05, 0.2)), points)
    torch.testing.assert_close(seen[-1], power_shares(50, exponent(0.05)) @ points, **close)
    kept = average.state_dict()["average1.w"]
    torch.testing.assert_close(kept, power_shares(50, exponent(0.2)) @ points, **close)


def test_the_widest_power_ema_is_the_uniform_mean():
    points = walk(2, 50)
    torch.testing.assert_close(
        follow(PowerEMA((WIDEST,)), points)[1], follow(Polyak(), points)[1], **close
    )


def test_what_was_kept_is_reconstructed_exactly():
    points = walk(2, 64)
    average, seen = follow(PowerEMA((0.05, 0.1), snapshots=8), points)
    for at in (8, 40, 64):
        found, error = average.reconstruct(width=0.05, at=at)
        assert error < 1e-9
        torch.testing.assert_close(found["w"], seen[at - 1], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("width", [0.04, 0.07, 0.09, 0.15, 0.2])
def test_other_widths_are_reconstructed_within_the_error_that_is_told(width):
    points = walk(2, 400)
    average, _ = follow(PowerEMA((0.05, 0.1), snapshots=32), points)
    found, error = average.reconstruct(width=width)
    shares = power_shares(400, exponent(width))
    assert error < 0.02
    gap = (found["w"] - shares @ points).norm()
    # Cauchy-Schwarz over the iterates, about their mean since the shares sum to one.
    bound = error * shares.norm() * (points - points.mean(0)).norm()
    assert gap <= bound * (1 + 1e-6)


def test_an_exponential_decay_is_reconstructed():
    points = walk(2, 400)
    average, _ = follow(PowerEMA((0.05, 0.1), snapshots=64), points)
    found, error = average.reconstruct(decay=0.98, at=400)
    _, expected = follow(EMA(0.98, warmup=False, bias_correction=True), points)
    assert error < 0.1
    spread = (points - points.mean(0)).norm()
    weights = torch.tensor([0.98 ** (400 - k) for k in range(1, 401)], dtype=torch.float64)
    bound = error * (weights / weights.sum()).norm() * spread
    assert (found["w"] - expected[-1]).norm() <= bound


@pytest.mark.parametrize(("steps", "every", "count"), [(1000, 10, 16), (100, 1, 16), (50, 10, 5)])
def test_power_ema_takes_its_snapshots_evenly_whatever_the_spacing_of_points(steps, every, count):
    average, _ = follow(PowerEMA((0.05,), every=every), walk(2, steps))
    kept = [int(n.split("-")[1][:-2]) for n in average.state_dict() if n.startswith("snapshot0-")]
    assert len(kept) == count
    assert kept[-1] == steps // every
    gaps = {b - a for a, b in itertools.pairwise([0, *kept])}
    assert max(gaps) - min(gaps) <= 1


def test_reconstruction_refuses_what_cannot_be():
    average, _ = follow(PowerEMA(snapshots=4), walk(2, 40))
    for call, message in (
        ({}, "one of the two"),
        ({"width": 0.1, "decay": 0.5}, "one of the two"),
        ({"width": 0.5}, "found 0.5"),
        ({"decay": 1.0}, "found 1.0"),
        ({"width": 0.1, "at": 9}, "no snapshot of the first 9"),
        ({"width": 0.1, "at": 0}, "found 0"),
    ):
        with pytest.raises(UsageError, match=message):
            average.reconstruct(**call)


# Trainable weight averaging


def test_twa_collects_evenly_and_ends_at_its_start():
    taken = [t for t in range(1, 101) if TWA(0.6, 0.2, points=5).collects(t - 1, 100)]
    assert len(taken) == 5
    assert taken[-1] == 60
    gaps = {b - a for a, b in itertools.pairwise(taken)}
    assert gaps <= {8, 9}
    assert [t for t in range(1, 11) if TWA(0.5, 0.2, 50).collects(t - 1, 10)] == [2, 3, 4, 5]


def train(settings, steps, rate, momentum=0.0, decay=0.0, later=None):
    """Return all weights of SGD on noisy gradients; from the start on with another rate."""
    generator = torch.Generator().manual_seed(1)
    model = Vector(12)
    with torch.no_grad():
        model.w.copy_(torch.randn(12, generator=generator, dtype=torch.float64) + 3)
    optimizer = torch.optim.SGD([model.w], lr=rate, momentum=momentum, weight_decay=decay)
    average = settings.attach(model)
    seen = []
    for step in range(steps):
        model.w.grad = torch.randn(12, generator=generator, dtype=torch.float64) + model.w.detach()
        if later is not None and step + 1 > math.ceil(settings.start * steps):
            optimizer.param_groups[0]["lr"] = later
        optimizer.step()
        average.update(step, steps)
        seen.append(model.w.detach().clone())
    return average, torch.stack(seen)


def test_twa_with_learning_rate_0_stays_at_the_mean_of_its_points():
    settings = TWA(0.6, 0.0, points=6)
    _, seen = train(settings, 40, 0.1, later=0.0)
    plain = train(TWA(1.0, 1.0, points=1), 40, 0.1)[1]
    taken = [t for t in range(40) if settings.collects(t, 40)]
    for row in seen[23:]:
        torch.testing.assert_close(row, plain[taken].mean(0), **close)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twa_is_sgd_on_projected_gradients(decay):
    settings, steps = TWA(0.5, 0.0, points=5), 40
    average, seen = train(settings, steps, 0.1, momentum=0.9, decay=decay)
    taken = [t for t in range(steps) if settings.collects(t, steps)]
    plain = train(TWA(1.0, 1.0, points=1), 20, 0.1, momentum=0.9, decay=decay)[1]
    basis, _ = torch.linalg.qr(plain[taken].T)
    project = basis @ basis.T
    # By hand, from the same noise: g <- P g, then SGD with momentum and weight decay.
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(12, generator=generator, dtype=torch.float64) + 3
    v = torch.zeros(12, dtype=torch.float64)
    for step in range(steps):
        g = torch.randn(12, generator=generator, dtype=torch.float64) + w + decay * w
        v = 0.9 * v + g
        if step + 1 > 20:
            w = w - 0.1 * project @ v
        else:
            w = w - 0.1 * v
        if step + 1 == 20:
            w = plain[taken].mean(0)
        torch.testing.assert_close(seen[step], w, rtol=1e-9, atol=1e-9)
    coordinates = average.coefficients()
    assert len(coordinates) == 5
    assert math.hypot(*coordinates) == pytest.approx(float(seen[-1].norm()), rel=1e-9)


def test_twa_rows_are_orthonormal_and_repeated_points_add_none():
    points = walk(4, 9)
    points[5:] = points[4]
    average, _ = follow(TWA(0.9, 0.0, points=9), points)
    rows = torch.stack([x for name, x in average.state_dict().items() if name.startswith("row")])
    assert len(rows) <= 4
    torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows), dtype=torch.float64), **close)


def test_twa_in_bfloat16_neither_shrinks_nor_stretches_the_weights():
    points = walk(30, 20)
    model = Vector(30)
    spanned = TWA(0.01, 0.0, points=8, precision="bfloat16").attach(model)
    for step in range(2000):
        if step < 20:
            with torch.no_grad():
                model.w.copy_(points[step])
        spanned.update(step, 2000)
        if step == 20:
            before = model.w.detach().clone()
    torch.testing.assert_close(model.w.detach(), before, rtol=0, atol=1e-5)
    assert float(before.norm()) > 1


def test_twa_does_not_train_what_is_frozen_and_trains_the_rest_in_their_span():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    model[0].requires_grad_(False)
    frozen = [p.clone() for p in model[0].parameters()]
    average = TWA(0.5, 0.0, points=3).attach(model)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for step in range(40):
        with torch.no_grad():
            for p in model[1].parameters():
                p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        if TWA(0.5, 0.0, points=3).collects(step, 40):
            seen.append(torch.cat([p.detach().flatten() for p in model[1].parameters()]).clone())
        average.update(step, 40)
    assert all(torch.equal(p, q) for p, q in zip(model[0].parameters(), frozen, strict=True))
    w = torch.cat([p.detach().flatten() for p in model[1].parameters()])
    basis, _ = torch.linalg.qr(torch.stack(seen).T)
    torch.testing.assert_close(basis @ (basis.T @ w), w, **close)


def test_twa_has_no_coefficients_before_it_begins():
    with pytest.raises(UsageError, match="has not begun"):
        TWA().attach(Vector(2)).coefficients()


@pytest.mark.parametrize(
    ("settings", "other", "message"),
    [
        (SWA(0.0), SWAG(0.0, 1), 'has "variance" besides'),
        (LAWA(2, 1), FGE(0.0, 2), 'has "member-0" besides'),
        (ASWA(), NASWA(), 'has "passed" besides'),
        (NASWA(), ASWA(), 'has no "passed"'),
        (Polyak(), LAWA(2, 1), "does not match"),
    ],
)
def test_the_state_of_another_average_is_refused(settings, other, message):
    average, seen = follow(settings, walk(2, 9))
    with pytest.raises(UsageError, match=message):
        average.load_state_dict(follow(other, walk(2, 9))[0].state_dict())
    assert torch.equal(average.weights()["w"], seen[-1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Polyak(power=-1),
        lambda: Polyak(start=2),
        lambda: SwitchEMA(interval=0),
        lambda: SwitchEMA(end=2),
        lambda: LAWA(0),
        lambda: LAWA(every=0),
        lambda: ASWA(0),
        lambda: NASWA(0.5),
        lambda: NTASGD(0),
        lambda: SWAD(0),
        lambda: SWAD(tolerance=-1),
        lambda: SMA(0),
        lambda: WAKD(-1),
        lambda: TWA(0.5, 0.6),
        lambda: TWA(points=0),
        lambda: PowerEMA(()),
        lambda: PowerEMA((0.3,)),
        lambda: PowerEMA(snapshots=-1),
        lambda: SWA(cycles=0),
        lambda: EMA(bias_correction=1, warmup=False),
    ],
)
def test_impossible_values_are_refused(make):
    with pytest.raises(UsageError, match="found"):
        make()
