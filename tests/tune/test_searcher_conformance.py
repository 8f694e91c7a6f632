"""What every registered searcher promises, whatever it does."""

import math

import numpy as np
import pytest
from tune_problems import MIXED, SQUARE, bowl, mixed

import thalweg.tune  # noqa: F401 - fills the registry
from thalweg.core.registry import get, slugs
from thalweg.core.space import Choice
from thalweg.tune import SearchSpace, minimise, named

SEARCHERS = slugs("searcher")
CASES = [(slug, case) for slug in SEARCHERS for case in ("plain", "mixed")]


class Stop(BaseException):
    """Stands for an interruption."""


def settings(slug, case):
    fidelity = named(slug).fidelity
    function, space = (bowl, SQUARE) if case == "plain" else (mixed, MIXED)

    def with_budget(values, budget):
        return function(values) + 1 / budget

    return (
        (with_budget if fidelity else function),
        space,
        {
            "searcher": slug,
            "trials": 24 if slug == "grid" else 12,
            "budgets": (1, 9) if fidelity else None,
        },
    )


def comparable(found):
    return [(t.position, t.budget, t.parent, t.status, t.loss, t.curve) for t in found.trials]


@pytest.mark.parametrize(("slug", "case"), CASES)
def test_bounds_and_conditions_are_respected(slug, case):
    function, space, asked = settings(slug, case)
    found = minimise(function, space, **asked)
    whole = SearchSpace(space)
    assert len(found.trials) >= 4
    for trial in found.trials:
        assert trial.values == whole.values(trial.position)
        active = [name for name in whole.names if whole.is_active(name, trial.values)]
        assert list(trial.values) == active
        for name, value in trial.values.items():
            one = whole.spaces[name]
            if isinstance(one, Choice):
                assert value in one.values
            else:
                assert one.low * (1 - 1e-12) - 1e-12 <= value <= one.high * (1 + 1e-12)


@pytest.mark.parametrize(("slug", "case"), CASES)
def test_a_seed_decides_everything(slug, case):
    function, space, asked = settings(slug, case)
    one, other = (minimise(function, space, seed=3, **asked) for _ in range(2))
    assert comparable(one) == comparable(other)
    if slug != "grid":
        another = minimise(function, space, seed=4, **asked)
        assert comparable(one) != comparable(another)


@pytest.mark.parametrize("slug", SEARCHERS)
@pytest.mark.parametrize("scheme", ["journal", "sqlite"])
def test_an_interrupted_search_goes_on_as_if_nothing_had_been(slug, scheme, tmp_path):
    function, space, asked = settings(slug, "mixed")
    if scheme == "sqlite" and slug != "tpe":
        pytest.skip("the storage is the same for all")
    file = tmp_path / "search.db"
    storage = f"sqlite:///{file}" if scheme == "sqlite" else str(file)
    whole = minimise(function, space, **asked)
    for after in (1, 7):
        calls = 0

        def interrupted(*arguments, after=after):
            nonlocal calls
            calls += 1
            if calls > after:
                raise Stop
            return function(*arguments)

        with pytest.raises(Stop):
            minimise(interrupted, space, storage=storage, **asked)
    assert comparable(minimise(function, space, storage=storage, **asked)) == comparable(whole)
    assert comparable(minimise(pytest.fail, space, storage=storage, **asked)) == comparable(whole)


@pytest.mark.parametrize("slug", SEARCHERS)
def test_failures_and_nan_are_results_and_stop_nothing(slug):
    _, _, asked = settings(slug, "plain")
    answers = [math.nan, math.inf, -math.inf, "boom", 1.0]
    calls = 0

    def function(values, budget=1.0):
        nonlocal calls
        answer = answers[calls % len(answers)]
        calls += 1
        if answer == "boom":
            raise RuntimeError("boom")
        return answer * bowl(values)

    found = minimise(function, SQUARE, **asked)
    broken = [trial for trial in found.trials if trial.loss is None]
    assert {"diverged", "failed"} <= {trial.status for trial in broken}
    assert all("boom" in t.error for t in broken if t.status == "failed")
    assert found.best is not None
    assert np.isfinite(found.best.loss)


@pytest.mark.parametrize("slug", SEARCHERS)
def test_a_search_in_which_everything_fails_ends(slug):
    _, _, asked = settings(slug, "plain")
    found = minimise(lambda *_: math.nan, SQUARE, **asked)
    assert found.best is None
    assert found.edges() == {}
    assert found.importance() == {}


@pytest.mark.parametrize("slug", SEARCHERS)
def test_no_more_is_spent_than_allowed(slug):
    function, space, asked = settings(slug, "plain")
    found = minimise(function, space, **asked)
    full = 9 if asked["budgets"] else 1
    starts = {None: 0.0} | {t.number: t.reached for t in found.trials}
    resumes = slug == "population"  # by its nature
    spent = sum(t.reached - (starts[t.parent] if resumes else 0.0) for t in found.trials)
    assert spent <= asked["trials"] * full * (1 + 1e-9)


@pytest.mark.parametrize("slug", SEARCHERS)
def test_every_searcher_is_catalogued(slug):
    part = get(slug, "searcher")
    assert part.name
    assert part.summary
    assert named(slug) == part.factory()
