"""Hyperband's brackets are the paper's, promotions those of a hand calculation."""

import pytest
from tune_problems import SQUARE, study, trial

from thalweg.core.errors import UsageError
from thalweg.tune import minimise, named
from thalweg.tune.brackets import bracket, fitting, hyperband, largest, promoted


def test_the_brackets_of_81_and_3_are_those_of_the_papers_formula():
    found = hyperband(1, 81, 3)
    assert [(one.sizes[0], one.budgets[0]) for one in found] == [
        (81, 1),
        (34, 3),
        (15, 9),
        (8, 27),
        (5, 81),
    ]
    assert found[0].sizes == (81, 27, 9, 3, 1)
    assert found[0].budgets == (1, 3, 9, 27, 81)
    assert found[1].sizes == (34, 11, 3, 1)
    assert found[1].budgets == (3, 9, 27, 81)
    assert found[3].sizes == (8, 2)
    assert found[0].cost(resumes=False) == 5 * 81
    assert found[0].cost(resumes=True) == 81 + 27 * 2 + 9 * 6 + 3 * 18 + 54


@pytest.mark.parametrize("power", range(12))
def test_powers_are_cut_exactly(power):
    # log(243) / log(3) is 4.999...
    assert largest(1, 3**power, 3) == power
    assert largest(0.1, 0.1 * 10**power, 10) == power
    if power:
        assert largest(1, 3**power - 1, 3) == power - 1


def test_brackets_follow_while_they_fit():
    big, small = bracket(9, 2, 9, 3), bracket(3, 0, 9, 3)  # 27 and 27
    assert [one.sizes[0] for one in fitting([big, small], 81, False)] == [9, 3, 9]
    cheap = bracket(1, 0, 9, 3)
    assert [one.sizes[0] for one in fitting([big, cheap], 54, False)] == [9, 1, 1, 1]
    assert list(fitting([big], 26, False)) == []


def test_promotions_are_those_of_a_hand_calculation():
    losses = [0.9, 0.1, None, 0.5, 0.1, 0.3, 0.8]
    rung = [trial(i, loss) for i, loss in enumerate(losses)]
    assert [t.number for t in promoted(rung, 3)] == [1, 4, 5]
    assert [t.number for t in promoted(rung, 1)] == [1]  # the earlier of two equal ones
    assert [t.number for t in promoted(rung, 9)] == [0, 1, 3, 4, 5, 6]


def test_a_bracket_runs_as_a_hand_calculation_says():
    # 9 trials of budget 1; the three best go to 3, the best of these to 9.
    first = dict(enumerate([5, 2, 8, 1, 9, 3, 7, 6, 4]))
    second = {3: 1.0, 1: 0.5, 5: 2.0}
    calls = []

    def function(values, budget):
        key = len(calls) if budget == 1 else next(i for i, v in enumerate(seen) if v == values)
        calls.append((key, budget))
        if budget == 1:
            seen.append(dict(values))
            return first[key]
        return second[key] if budget == 3 else 0.0

    seen = []
    found = minimise(function, SQUARE, searcher="successive-halving", trials=3, budgets=(1, 9))
    assert calls == [*((i, 1) for i in range(9)), (1, 3), (3, 3), (5, 3), (1, 9)]
    assert [t.parent for t in found.trials[9:]] == [1, 3, 5, 9]
    assert found.best.number == 12


def test_a_broken_trial_is_not_promoted_even_where_places_are_free():
    calls = []

    def function(values, budget):
        calls.append(budget)
        return float("nan") if budget == 1 and len(calls) != 4 else 1.0

    found = minimise(function, SQUARE, searcher="successive-halving", trials=3, budgets=(1, 9))
    assert [t.budget for t in found.trials] == [1] * 9 + [3, 9]
    assert [t.parent for t in found.trials[9:]] == [3, 9]


@pytest.mark.parametrize("slug", ["successive-halving", "hyperband", "bohb"])
def test_less_than_one_bracket_is_refused_with_what_would_do(slug):
    with pytest.raises(UsageError, match=r"smaller than one bracket.*allow \d+ trials"):
        minimise(lambda v, b: 0.0, SQUARE, searcher=slug, trials=1, budgets=(1, 81))


def test_lengths_are_needed():
    with pytest.raises(UsageError, match="different lengths"):
        minimise(lambda v: 0.0, SQUARE, searcher="hyperband", trials=9)
    for budgets in ((0, 1), (2, 1), (1, float("inf")), 3, (1, 2, 3)):
        with pytest.raises(UsageError, match="budgets"):
            minimise(lambda v, b: 0.0, SQUARE, searcher="hyperband", budgets=budgets)


def test_bohb_as_in_its_paper_uses_the_largest_budget_that_says_enough():
    bohb = named('bohb(model="largest")')
    short = [trial(i, float(i), 1.0) for i in range(9)]
    assert bohb._known(study(short[:4], least=1, most=9)) is None
    assert bohb._known(study(short, least=1, most=9)) == short
    long = [trial(9 + i, float(i), 3.0, parent=i) for i in range(4)]
    assert bohb._known(study([*short, *long], least=1, most=9)) == short
    long = [trial(9 + i, float(i), 3.0, parent=i) for i in range(5)]
    assert bohb._known(study([*short, *long], least=1, most=9)) == long


def test_bohb_ranks_who_got_further_first():
    bohb = named("bohb")
    losses = [0.5, 0.1, None, 0.3, 0.2]
    short = [trial(i, loss, 1.0) for i, loss in enumerate(losses)]
    assert bohb._known(study(short, least=1, most=9)) is None
    long = [trial(5, 0.9, 3.0, parent=4), trial(6, 0.8, 3.0, parent=3), trial(7, 0.0, 1.0)]
    known = bohb._known(study([*short, *long], least=1, most=9))
    assert [(t.number, t.loss) for t in known] == [
        (6, 0.0), (5, 1.0), (7, 2.0), (1, 3.0), (0, 4.0), (2, None),
    ]  # fmt: skip


def test_what_may_be_continued_is_kept():
    searcher = named("successive-halving")
    rung = [trial(i, float(i), 1.0) for i in range(9)]
    known = {"least": 1, "most": 9, "budget": 3}
    assert searcher.keeps(study(rung[:5], **known)) == {0, 1, 2, 3, 4}
    assert searcher.keeps(study(rung, **known)) == {0, 1, 2}
    second = [trial(9 + i, float(i), 3.0, parent=i) for i in range(2)]
    assert searcher.keeps(study([*rung, *second], **known)) == {0, 1, 2, 9, 10}


def test_an_asynchronous_trial_stops_unless_it_is_among_the_best_third():
    # By hand: at budget 1, with eta 3, a trial goes on if it is the best third of those so far.
    losses = iter([5.0, 6.0, 4.0, 7.0, 3.0, 8.0, 2.5, 9.0])
    current = {}

    def function(values, budget):
        if budget == 1:
            current["loss"] = next(losses, 10.0)
        return current["loss"]

    found = minimise(function, SQUARE, searcher="async-halving", trials=6, budgets=(1, 3))
    assert [t.status for t in found.trials[:8]] == [
        "ok", "pruned", "ok", "pruned", "ok", "pruned", "ok", "pruned",
    ]  # fmt: skip
    assert all(t.reached == (1 if t.status == "pruned" else 3) for t in found.trials)
