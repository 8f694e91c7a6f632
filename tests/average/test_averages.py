import copy
import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from thalweg.average import EMA, SWA, PolynomialDecay, recalibrate_batch_norm
from thalweg.core.errors import UsageError
from thalweg.core.registry import get


class Scalar(nn.Module):
    def __init__(self, dtype=torch.float64):
        super().__init__()
        self.w = nn.Parameter(torch.zeros((), dtype=dtype))

    def set(self, value):
        with torch.no_grad():
            self.w.fill_(value)


def averaged(average, model):
    with average.applied(model):
        return model.w.item()


def run(settings, points, dtype=torch.float64):
    """Return the average after each point of a run over them."""
    model = Scalar(dtype)
    average = settings.attach(model)
    seen = []
    for step, point in enumerate(points):
        model.set(point)
        average.update(step, len(points))
        seen.append(averaged(average, model))
    return seen


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))


def snapshot(model):
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: x.detach().clone() for name, x in tensors.items()}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def wander(model, generator):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn(p.shape, generator=generator))
        model[1].running_mean.add_(torch.randn(4, generator=generator))
        model[1].num_batches_tracked.add_(1)


points = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=40)


@given(points)
def test_ema_with_decay_t_over_t_plus_one_is_the_uniform_mean(points):
    seen = run(EMA(decay=1 - 1e-12, power=1.0), points)
    for t, value in enumerate(seen, start=1):
        assert value == pytest.approx(statistics.fmean(points[:t]), rel=1e-12, abs=1e-10)


@given(points)
def test_ema_is_the_recursion_of_its_decays(points):
    settings = EMA(decay=0.7, gamma=2.0)
    expected, v = [], None
    for t, w in enumerate(points, start=1):
        beta = min(0.7, 1 - (1 + (t - 1) / 2) ** (-2 / 3))
        v = w if v is None else beta * v + (1 - beta) * w
        expected.append(v)
    assert run(settings, points) == pytest.approx(expected, rel=1e-12, abs=1e-11)


@given(st.floats(-1e6, 1e6), st.floats(0, 0.9999))
def test_constant_weights_are_their_own_average_at_once(w, decay):
    assert run(EMA(decay), [w, w, w]) == [w, w, w]


def test_without_warm_up_the_initial_weights_keep_a_share_of_beta_to_the_t():
    seen = run(EMA(0.9, warmup=False), [1.0] * 30)
    assert seen == pytest.approx([1 - 0.9**t for t in range(1, 31)], abs=1e-14)


def test_ema_lags_behind_a_straight_line_by_beta_over_one_minus_beta():
    seen = run(EMA(0.9, warmup=False), [float(t) for t in range(1, 401)])
    assert seen[-1] == pytest.approx(400 - 0.9 / 0.1, abs=1e-12)


def test_warm_up_takes_the_published_decays():
    settings = EMA(decay=0.9999)
    assert settings.decay_at(0) == 0
    assert settings.decay_at(7) == pytest.approx(1 - 8 ** (-2 / 3)) == pytest.approx(0.75)
    assert settings.decay_at(10**9) == 0.9999


def test_every_second_point_is_taken_and_the_first_of_them_copied():
    seen = run(EMA(0.5, every=2), [5.0, 3.0, 100.0, 1.0])
    assert seen == [5.0, 3.0, 3.0, 2.0]  # before the first point, the model's own weights


@given(points, st.floats(0, 1), st.integers(1, 7))
def test_swa_is_the_mean_of_the_points_from_its_start_on(points, start, every):
    steps = len(points)
    first = max(1, math.ceil(start * steps - 1e-9))
    seen = run(SWA(start, every), points)
    for t, value in enumerate(seen, start=1):
        collected = points[first - 1 : t : every]
        expected = statistics.fmean(collected) if collected else points[t - 1]
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-10)


def test_swa_collects_from_three_quarters_on_and_always_at_least_once():
    assert [t for t in range(1, 101) if SWA().collects(t - 1, 100)] == list(range(75, 101))
    assert [t for t in range(1, 101) if SWA(0.75, 10).collects(t - 1, 100)] == [75, 85, 95]
    assert [t for t in range(1, 4) if SWA(1.0).collects(t - 1, 3)] == [3]
    assert [t for t in range(1, 4) if SWA(0.0).collects(t - 1, 3)] == [1, 2, 3]


@given(points, st.integers(0, 9))
def test_polynomial_decay_weighs_points_by_a_power_of_time(points, gamma):
    # Exactly, for whole gamma: the t-th of T points weighs C(t - 1 + gamma, gamma), of
    # C(T + gamma, gamma + 1) together.
    seen = run(PolynomialDecay(gamma), points)
    for t, value in enumerate(seen, start=1):
        weights = [math.comb(i + gamma, gamma) for i in range(t)]
        assert sum(weights) == math.comb(t + gamma, gamma + 1)
        expected = sum(w * x for w, x in zip(weights, points, strict=False)) / sum(weights)
        assert value == pytest.approx(expected, rel=1e-11, abs=1e-9)


def test_polynomial_decay_starts_at_the_first_point_and_takes_every_second():
    seen = run(PolynomialDecay(every=2), [5.0, 3.0, 100.0, 1.0])
    assert seen == [5.0, 3.0, 3.0, pytest.approx(3.0 + 0.9 * (1.0 - 3.0))]


@given(points)
def test_polynomial_decay_with_gamma_0_is_the_uniform_mean(points):
    seen = run(PolynomialDecay(gamma=0), points)
    assert seen == pytest.approx(run(SWA(start=0.0), points), rel=1e-12, abs=1e-10)


def test_polyak_averaging_of_a_noisy_quadratic_reaches_the_optimal_variance():
    # f = a x^2 / 2 with gradient noise of variance s^2: the average of T iterates tends to
    # s^2 / (a^2 T) whatever the rate, the last iterate keeps lr s^2 / (a (2 - lr a)).
    a, lr, steps, chains = 2.0, 0.3, 1500, 4000
    generator = torch.Generator().manual_seed(5)
    model = Scalar()
    model.w = nn.Parameter(torch.zeros(chains, dtype=torch.float64))
    average = SWA(start=0.0).attach(model)
    for step in range(steps):
        noise = torch.randn(chains, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            model.w.sub_(lr * (a * model.w + noise))
        average.update(step, steps)
    assert model.w.var().item() == pytest.approx(lr / (a * (2 - lr * a)), rel=0.08)
    with average.applied(model):
        assert model.w.var().item() == pytest.approx(1 / (a * a * steps), rel=0.08)


def test_with_a_model_linear_in_its_weights_swa_predicts_the_ensemble_mean():
    generator = torch.Generator().manual_seed(1)
    model = nn.Linear(5, 3, dtype=torch.float64)
    x = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    average = SWA(0.0).attach(model)
    predictions = []
    for step in range(6):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=generator, dtype=torch.float64))
        predictions.append(model(x).detach())
        average.update(step, 6)
    with average.applied(model):
        torch.testing.assert_close(model(x), sum(predictions) / 6, rtol=0, atol=1e-14)


def test_polynomial_decay_averages_buffers_too():
    generator = torch.Generator().manual_seed(2)
    model = net()
    average = PolynomialDecay(gamma=1).attach(model)
    seen = []
    for step in range(2):
        wander(model, generator)
        seen.append(model[1].running_mean.clone())
        average.update(step, 2)
    with average.applied(model):
        torch.testing.assert_close(model[1].running_mean, (seen[0] + 2 * seen[1]) / 3)
        assert model[1].num_batches_tracked.item() == 2
    assert not average.needs_recalibration


def test_ema_averages_float_buffers_and_copies_integer_ones():
    generator = torch.Generator().manual_seed(2)
    model = net()
    average = EMA(0.5, warmup=False).attach(model)
    before = model[1].running_mean.clone()
    wander(model, generator)
    average.update(0, 2)
    now = model[1].running_mean.clone()
    with average.applied(model):
        torch.testing.assert_close(model[1].running_mean, (before + now) / 2)
        assert model[1].num_batches_tracked.item() == 1
    assert not average.needs_recalibration


def test_swa_leaves_batch_norm_to_a_recalibration_that_is_undone_on_the_way_out():
    generator = torch.Generator().manual_seed(3)
    model = net()
    data = torch.randn(23, 3, generator=generator)
    average = SWA(0.0).attach(model)
    for step in range(3):
        wander(model, generator)
        average.update(step, 3)
    before = snapshot(model)
    assert average.needs_recalibration
    with average.applied(model):
        assert torch.equal(model[1].running_mean, before["1.running_mean"])
        recalibrate_batch_norm(model, data.split(10), lambda model, batch: model(batch))
        torch.testing.assert_close(model[1].running_mean, model[0](data).mean(0))
        assert model.training
    assert equal(snapshot(model), before)


@pytest.mark.parametrize("settings", [EMA(0.5), SWA(0.0), PolynomialDecay()])
def test_the_weights_come_back_bit_for_bit_even_after_an_error(settings):
    generator = torch.Generator().manual_seed(4)
    model = net()
    average = settings.attach(model)
    for step in range(3):
        wander(model, generator)
        average.update(step, 3)
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
        model[0].weight[0, 1] = -0.0
    before = {name: x.numpy().tobytes() for name, x in snapshot(model).items()}
    inside = {}

    def evaluate():
        with average.applied(model) as same:
            assert same is model
            inside.update(snapshot(model))
            raise RuntimeError("evaluation failed")

    with pytest.raises(RuntimeError, match="evaluation failed"):
        evaluate()
    assert {name: x.numpy().tobytes() for name, x in snapshot(model).items()} == before
    assert not inside["0.weight"].isnan().any()


def test_before_the_first_point_the_model_is_evaluated_as_it_is():
    model = Scalar()
    average = SWA(0.75).attach(model)
    model.set(7.0)
    average.update(0, 100)
    assert average.count == 0
    assert averaged(average, model) == 7.0


def test_training_goes_on_as_if_the_average_had_never_been_looked_at():
    def train(look):
        torch.manual_seed(0)
        model = net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        average = EMA(0.9).attach(model)
        for step in range(5):
            optimizer.zero_grad()
            model(torch.randn(6, 3)).square().mean().backward()
            optimizer.step()
            average.update(step, 5)
            if look:
                with average.applied(model):
                    model.eval()
                    model(torch.ones(2, 3))
                    model.train()
        return snapshot(model)

    assert equal(train(look=True), train(look=False))


def test_sixteen_bit_weights_are_averaged_in_float32():
    # In bfloat16, 1 + 0.001 is 1: the average would never move.
    points = [1.0] + [2.0] * 500
    model = Scalar(torch.bfloat16)
    average = EMA(0.999, warmup=False).attach(model)
    for step, w in enumerate(points):
        model.set(w)
        average.update(step, len(points))
    kept = average.state_dict()["average.w"]
    assert kept.dtype == torch.float32
    exact = 0.0
    for w in points:
        exact += (w - exact) * 0.001
    assert kept.item() == pytest.approx(exact, rel=1e-4)
    assert averaged(average, model) == pytest.approx(exact, rel=2**-8)
    assert model.w.dtype == torch.bfloat16


def test_nan_stays_nan():
    assert math.isnan(run(EMA(0.9), [1.0, float("nan"), 1.0])[-1])
    assert math.isnan(run(SWA(0.0), [1.0, float("nan"), 1.0])[-1])
    assert math.isnan(run(PolynomialDecay(), [1.0, float("nan"), 1.0])[-1])


@pytest.mark.parametrize("settings", [EMA(0.8), SWA(0.2, 2), PolynomialDecay(3.0)])
def test_resumes_bit_for_bit_through_a_file(settings, tmp_path):
    def go(average, model, generator, steps):
        for step in steps:
            wander(model, generator)
            average.update(step, 10)

    model, generator = net(), torch.Generator().manual_seed(6)
    average = settings.attach(model)
    go(average, model, generator, range(5))
    torch.save([average.state_dict(), model.state_dict(), generator.get_state()], tmp_path / "run")
    go(average, model, generator, range(5, 10))

    fresh = net()
    resumed = settings.attach(fresh)
    state, weights, randomness = torch.load(tmp_path / "run", weights_only=True)
    fresh.load_state_dict(weights)
    resumed.load_state_dict(state)
    go(resumed, fresh, torch.Generator().set_state(randomness), range(5, 10))
    assert resumed.count == average.count
    assert equal(resumed.state_dict(), average.state_dict())


def test_states_are_plain_tensors_of_their_own():
    model = net()
    state = EMA().attach(model).state_dict()
    storages = {x.data_ptr() for x in state.values()}
    assert len(storages) == len(state)
    assert storages.isdisjoint({p.data_ptr() for p in model.parameters()})


def test_a_state_of_another_model_is_refused_and_nothing_changes():
    average = EMA().attach(nn.Sequential(nn.Linear(2, 2)))
    before = {name: x.clone() for name, x in average.state_dict().items()}
    other = EMA().attach(nn.ModuleDict({"head": nn.Linear(2, 2)})).state_dict()
    with pytest.raises(UsageError, match=r'lacks "0.weight", "0.bias" and it has.*"head.weight"'):
        average.load_state_dict(other)
    wide = EMA().attach(nn.Sequential(nn.Linear(2, 3))).state_dict()
    with pytest.raises(UsageError, match=r'"0.weight" has shape \(3, 2\) where \(2, 2\)'):
        average.load_state_dict(wide)
    with pytest.raises(UsageError, match='no "count"'):
        average.load_state_dict({"w": torch.zeros(1)})
    assert equal(average.state_dict(), before)


def test_a_model_that_does_not_match_is_refused():
    average = SWA().attach(net())
    with (
        pytest.raises(UsageError, match="the model does not match the average"),
        average.applied(nn.Linear(3, 4)),
    ):
        pytest.fail("the context was entered")


def test_names_are_those_of_the_model_and_not_of_its_compiled_wrapper():
    model = net()
    average = EMA().attach(torch.compile(model))
    assert equal(average.state_dict(), EMA().attach(model).state_dict())
    average.update(0, 1)
    with average.applied(model):
        assert equal(average.state_dict(), average.state_dict())


def test_lazy_parameters_are_refused():
    with pytest.raises(UsageError, match='"weight" has no shape yet'):
        EMA().attach(nn.LazyLinear(3))


def test_tied_and_frozen_weights():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    model[0].weight.requires_grad_(False)
    average = SWA(0.0).attach(model)
    average.update(0, 1)
    with torch.no_grad():
        model[0].weight.mul_(3)
    tripled = model[0].weight.clone()
    with average.applied(model):
        assert torch.equal(model[1].weight, tripled / 3)
        assert model[1].weight is model[0].weight
    assert not model[0].weight.requires_grad


@pytest.mark.parametrize(
    "make",
    [
        lambda: EMA(1.0),
        lambda: EMA(-0.1),
        lambda: EMA(warmup="yes"),
        lambda: EMA(power=0),
        lambda: EMA(gamma=0),
        lambda: EMA(every=0),
        lambda: SWA(1.1),
        lambda: SWA(every=1.5),
        lambda: PolynomialDecay(-1.0),
        lambda: PolynomialDecay(every=0),
        lambda: EMA().attach(Scalar()).update(-1, 10),
        lambda: SWA().attach(Scalar()).update(0, 0),
    ],
)
def test_impossible_values_are_refused(make):
    with pytest.raises(UsageError, match="found"):
        make()


def test_averages_are_registered():
    ema, swa = get("ema", "average"), get("swa", "average")
    assert ema.factory() == EMA()
    assert next(iter(ema.parameters)) == "decay"
    assert 0.9 <= ema.space["decay"].at(0.0) < ema.space["decay"].at(0.999) <= 0.999
    storage = {"device": None, "precision": None}
    assert swa.parameters == {"start": 0.75, "every": 1, "cycles": None, **storage}
    assert swa.space == {}
    polynomial = get("polynomial-decay", "average")
    assert polynomial.factory() == PolynomialDecay()
    assert polynomial.parameters == {"gamma": 8.0, "every": 1, **storage}


def test_settings_are_values():
    assert copy.deepcopy(EMA(0.9)) == EMA(0.9)
    assert hash(SWA(0.5)) == hash(SWA(0.5))
