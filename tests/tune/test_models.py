"""CMA-ES, the Gaussian process, its acquisition functions, and importance."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm
from tune_problems import MIXED, SQUARE, bowl, mixed, study, trial

from thalweg.core.errors import UsageError
from thalweg.core.space import Choice, Linear, Log
from thalweg.tune import SearchSpace, When, acquisition, minimise, named, slices
from thalweg.tune.bayesian import tamed
from thalweg.tune.cma_es import CMA
from thalweg.tune.gaussian_process import GaussianProcess
from thalweg.tune.searcher import penalised


def descend(function, mean, draws, sigma=0.5, generations=60):
    strategy = CMA(mean, sigma)
    values = []
    for generation in range(generations):
        points = strategy.at(draws(generation, strategy.size))
        losses = np.array([function(point) for point in points])
        strategy.tell(points, losses)
        values.append(losses)
    return np.array(values)


def test_cma_es_does_the_same_in_a_rotated_world():
    n = 5
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    scales = 10.0 ** np.arange(n)

    def ellipsoid(x):
        return float(np.sum(scales * x * x))

    def draws(generation, size):
        return np.random.default_rng(generation).standard_normal((size, n))

    plain = descend(ellipsoid, np.ones(n), draws, generations=25)
    turned = descend(
        lambda x: ellipsoid(rotation @ x),
        rotation.T @ np.ones(n),
        lambda g, size: draws(g, size) @ rotation,
        generations=25,
    )
    np.testing.assert_allclose(turned, plain, rtol=1e-6)


def test_cma_es_solves_the_sphere_as_fast_as_its_tutorial_says():
    n = 10
    rng = np.random.default_rng(1)
    values = descend(
        lambda x: float(x @ x), np.ones(n), lambda _, size: rng.standard_normal((size, n)),
        generations=300,
    )  # fmt: skip
    reached = np.flatnonzero(np.minimum.accumulate(values.ravel()) < 1e-10)[0]
    assert 1000 < reached < 3000


def test_cma_es_constants_are_the_tutorials():
    strategy = CMA(np.zeros(10), 1.0)
    assert strategy.size == 10
    assert strategy.weights.sum() == pytest.approx(1)
    mu = 1 / (strategy.weights**2).sum()
    assert strategy.c_s == pytest.approx((mu + 2) / (10 + mu + 5))
    assert strategy.c_1 == pytest.approx(2 / (11.3**2 + mu))
    assert strategy.expected == pytest.approx(
        math.sqrt(2) * math.gamma(5.5) / math.gamma(5), rel=2e-4
    )


def test_cma_es_starts_again_when_it_has_converged():
    found = minimise(bowl, SQUARE, searcher="cma-es(size=4)", trials=400, seed=1)
    assert found.best.loss < 1e-10
    x = np.array([t.position["x"] for t in found.trials]).reshape(-1, 4)
    converged = np.flatnonzero(np.ptp(x, axis=1) < 1e-6)[0]
    assert np.ptp(x[converged:]) > 0.1


MEANS = [(0.3, 0.5), (-1.0, 2.0), (4.0, 0.7), (1.0, 1e-3)]


@pytest.mark.parametrize(("mean", "deviation"), MEANS)
@pytest.mark.parametrize("xi", [0.0, 0.2])
def test_acquisitions_are_what_numerical_integration_gives(mean, deviation, xi):
    best = 0.5
    density = norm(mean, deviation).pdf
    ends = (mean - 12 * deviation, best - xi)
    gain = probability = 0.0
    if ends[0] < ends[1]:
        points = {"limit": 200, "epsabs": 0, "points": None}
        top = min(ends[1], mean + 12 * deviation)
        gain = quad(lambda f: (best - xi - f) * density(f), ends[0], top, **points)[0]
        probability = quad(density, ends[0], top, **points)[0]
    arrays = np.array([mean]), np.array([deviation])
    found = acquisition.expected_improvement(*arrays, best, xi)[0]
    assert found == pytest.approx(gain, rel=1e-6, abs=1e-15)
    found = acquisition.probability_of_improvement(*arrays, best, xi)[0]
    assert found == pytest.approx(probability, rel=1e-6, abs=1e-15)
    # The bound is the level below which the function lies with probability Phi(-kappa).
    bound = -acquisition.upper_confidence_bound(*arrays, kappa=1.5)[0]
    below = quad(density, mean - 12 * deviation, bound, epsabs=0, limit=200)[0]
    assert below == pytest.approx(norm.cdf(-1.5), rel=1e-6)


def test_expected_improvement_at_its_ends():
    one = np.ones(1)
    assert acquisition.expected_improvement(0 * one, one, 0.0)[0] == pytest.approx(0.3989422804)
    sure = acquisition.expected_improvement(np.array([1.0, 3.0]), np.zeros(2), 2.0)
    np.testing.assert_array_equal(sure, [1.0, 0.0])
    sure = acquisition.probability_of_improvement(np.array([1.0, 3.0]), np.zeros(2), 2.0)
    np.testing.assert_array_equal(sure, [1.0, 0.0])
    deviations = np.linspace(0.01, 5, 100)
    rising = acquisition.expected_improvement(np.full(100, 1.0), deviations, 0.5)
    assert np.all(np.diff(rising) > 0)


def test_logarithms_agree_where_both_exist_and_go_on_where_the_numbers_end():
    mean, deviation = np.linspace(-3, 20, 200), np.full(200, 0.7)
    plain = acquisition.expected_improvement(mean, deviation, 0.0)
    logs = acquisition.log_expected_improvement(mean, deviation, 0.0)
    seen = plain > 1e-250
    np.testing.assert_allclose(logs[seen & (mean < 4)], np.log(plain[seen & (mean < 4)]), rtol=1e-6)
    assert np.all(np.isfinite(logs))
    assert np.all(np.diff(logs) < 0)
    chances = acquisition.log_probability_of_improvement(mean[:50], deviation[:50], 0.0)
    expected = acquisition.probability_of_improvement(mean[:50], deviation[:50], 0.0)
    np.testing.assert_allclose(np.exp(chances), expected, rtol=1e-10)


def test_the_gradient_of_the_gaussian_process_is_that_of_its_value():
    rng = np.random.default_rng(0)
    x, y = rng.random((12, 3)), rng.standard_normal(12)
    model = GaussianProcess(x, y)
    theta = rng.standard_normal(5) * 0.5 - 0.5
    _, gradient = model._negative_log_posterior(theta)
    for i in range(5):
        step = np.zeros(5)
        step[i] = 1e-5
        up, down = (model._negative_log_posterior(theta + s)[0] for s in (step, -step))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-7)


def test_the_gaussian_process_is_the_textbooks():
    rng = np.random.default_rng(1)
    x = rng.random((15, 2))
    y = np.sin(4 * x[:, 0]) + x[:, 1]
    model = GaussianProcess(x, y)
    new = rng.random((5, 2))

    def kernel(a, b):
        r = np.sqrt(5 * sum(((a[i] - b[i]) / model.scales[i]) ** 2 for i in range(2)))
        return model.signal * (1 + r + r * r / 3) * math.exp(-r)

    def gram(a, b):
        return np.array([[kernel(p, q) for q in b] for p in a])

    inverse = np.linalg.inv(gram(x, x) + (model.noise + 1e-9) * np.eye(15))
    mean = gram(new, x) @ inverse @ ((y - y.mean()) / y.std())
    cross = gram(new, x)
    variance = model.signal - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    found, deviation = model.predict(new)
    np.testing.assert_allclose(found, y.mean() + y.std() * mean, rtol=1e-6)
    np.testing.assert_allclose(deviation, y.std() * np.sqrt(variance), rtol=1e-3)
    np.testing.assert_allclose(found, np.sin(4 * new[:, 0]) + new[:, 1], atol=0.1)


@pytest.mark.parametrize("slug", ["gp-ei", "gp-pi", "gp-ucb", "tpe", "evolution", "cma-es"])
def test_what_learns_beats_what_does_not(slug):
    def best(searcher, seeds):
        found = [minimise(bowl, SQUARE, searcher=searcher, trials=30, seed=s) for s in seeds]
        return np.median([one.best.loss for one in found])

    assert best(slug, range(2)) < 0.5 * best("random", range(20))


@pytest.mark.parametrize("slug", ["gp-ei", "tpe"])
def test_choices_and_conditions_are_learnt(slug):
    trials = minimise(mixed, MIXED, searcher=slug, trials=30, seed=2).trials
    assert sum(t.values["kind"] == "adam" for t in trials[-10:]) >= 5


def test_bohb_looks_at_random_first_and_then_where_it_is_good():
    def late(searcher):
        found = minimise(
            lambda v, b: bowl(v) + 0.05 / b, SQUARE, searcher=searcher, trials=27, budgets=(1, 9)
        )
        return [t for t in found.trials if t.parent is None]

    bohb, hyperband = late("bohb"), late("hyperband")
    assert [t.position for t in bohb[:5]] == [t.position for t in hyperband[:5]]
    best = [min(bowl(t.values) for t in one) for one in (bohb, hyperband)]
    assert best[0] < best[1]


def test_trials_without_a_loss_count_as_worse_than_the_worst():
    trials = [trial(0, 1.0), trial(1, None), trial(2, 4.0)]
    np.testing.assert_array_equal(penalised(trials), [1.0, 7.0, 4.0])
    np.testing.assert_array_equal(penalised([trial(0, 2.0), trial(1, None)]), [2.0, 3.0])
    assert penalised([trial(0, None)]) is None


def test_outliers_are_tamed():
    losses = np.array([1.0, 2.0, 3.0, 4.0, 1e9])
    np.testing.assert_array_equal(tamed(losses), [1.0, 2.0, 3.0, 4.0, 7.0])
    np.testing.assert_array_equal(tamed(np.ones(4)), np.ones(4))


def test_importance_is_that_of_an_additive_function():
    # Var(a U) = a^2 / 12: shares 4/5 and 1/5, and nothing for z.
    space = {name: Linear(0, 1) for name in "xyz"}
    found = minimise(lambda v: 2 * v["x"] + v["y"], space, searcher="quasi-random", trials=40)
    shares = found.importance()
    assert list(shares) == ["x", "y", "z"]
    assert shares["x"] == pytest.approx(0.8, abs=0.02)
    assert shares["y"] == pytest.approx(0.2, abs=0.02)
    assert shares["z"] < 0.01
    one = slices(found.space, found.trials)[0]
    assert one.name == "x"
    assert one.losses[-1] - one.losses[0] == pytest.approx(2 * (32 / 33), abs=0.05)


def test_importance_finds_interactions_in_no_parameter_alone():
    space = {name: Linear(-1, 1) for name in "xy"}
    found = minimise(lambda v: v["x"] * v["y"], space, searcher="quasi-random", trials=60)
    assert all(share < 0.05 for share in found.importance().values())


def test_a_conditional_parameter_matters_where_it_is():
    found = minimise(mixed, MIXED, searcher="quasi-random", trials=80)
    shares = found.importance()
    assert set(shares) == set(MIXED)
    assert shares["lr"] > shares["kind"] > 0
    few = minimise(mixed, MIXED, searcher="quasi-random", trials=4)
    assert few.importance() == {}


def test_edges_of_the_best():
    found = minimise(lambda v: v["x"] - v["y"], SQUARE, searcher="grid(points=3)", trials=9)
    assert found.edges() == {"x": "lower", "y": "upper"}


def test_spaces_that_cannot_be_searched():
    x = Linear(0, 1)
    for space, message in (
        ({}, "nothing to search"),
        ({"x": 3}, "must be Linear"),
        ({"x": When("y", (1,), x)}, "no choice that stands before"),
        ({"x": When("y", (1,), x), "y": Choice((1, 2))}, "no choice that stands before"),
        ({"y": Choice((1, 2)), "x": When("y", (3,), x)}, "not among its values"),
        ({"y": Log(1, 2), "x": When("y", (3,), x)}, "no choice"),
    ):
        with pytest.raises(UsageError, match=message):
            SearchSpace(space)


def test_conditions_nest():
    space = {
        "a": Choice(("p", "q")),
        "b": When("a", ("p",), Choice(("r", "s"))),
        "c": When("b", ("r",), Linear(0, 1)),
    }
    names = {tuple(t.values) for t in minimise(lambda v: 0.0, space, trials=30).trials}
    assert names == {("a",), ("a", "b"), ("a", "b", "c")}
    assert len(list(SearchSpace(space).grid({"c": 2}))) == 4


def test_a_study_counts_what_it_spends():
    trials = [trial(0, 1.0, 3.0), trial(1, 1.0, 9.0, parent=0), trial(2, None, 1.0)]
    assert study(trials, most=9.0).spent() == 13
    assert study(trials, most=9.0, resumes=True).spent() == 10
    assert named("random").propose(study(trials, budget=3)) is None
