"""Rulesets, seeds that are added, ranges that are widened: on the quadratic."""

import dataclasses
import math

import pytest
import torch

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.core.space import Log
from thalweg.race import events
from thalweg.race.ruleset import parse_budget, trials_within
from thalweg.race.run import run_race
from thalweg.race.search import WIDER, described, edge, trials, widened_trials
from thalweg.race.stages import open_ended, places
from thalweg.race.store import Store
from thalweg.race.verdict import judge

NEAR = "near=adamw(lr=0.1, weight_decay=0)"
AGAIN = "again=adamw(lr=0.1, weight_decay=0)"
FAR = "far=adamw(lr=0.001, weight_decay=0)"


def rows(config, phase):
    with Store.open(config.out) as store:
        return store.runs(phase)


def noisy(better=()):
    """Return a fit whose results are made up: seeds' noise, and some entrants far ahead."""

    def fit(workload, recipe, *, seed, **settings):
        result = train.fit(workload, recipe, seed=seed, **{**settings, "steps": 1})
        noise = generator(seed, recipe)
        value = float(torch.randn((), generator=noise)) - 100 * any(one in recipe for one in better)
        return dataclasses.replace(result, final_metric=value)

    return fit


def test_seeds_are_added_only_while_somebody_is_tied(config):
    asked = config("lion", "sgd", "adamw", trials=1, seeds="3..10", target=0.5)
    told = []
    verdict = run_race(asked, told.append, noisy(better=("lion",)))
    counts = {one.entrant: one.runs for one in verdict.ranking}
    assert counts["lion"] < counts["sgd"] == counts["adamw"] == 10
    assert verdict.winner == "lion"
    assert verdict.seeds == 10
    assert f"{counts['lion']} to 10 seeds" in verdict.sentences[1]
    finals = rows(asked, "final")
    seeds = {name: [row.seed for row in finals if row.entrant == name] for name in counts}
    assert seeds["sgd"] == seeds["adamw"]  # paired
    assert seeds["sgd"][: counts["lion"]] == seeds["lion"]
    ends = [event for event in told if isinstance(event, events.RunFinished)]
    assert (ends[-1].done, ends[-1].runs) == (len(ends), len(ends))
    assert ends[-1].seconds_left == 0


def test_clear_races_end_with_the_least_seeds(config):
    verdict = run_race(config(NEAR, FAR, seeds="auto", target=0.5, steps=60))
    assert verdict.winner == "near"
    assert verdict.seeds == 3


def test_added_seeds_continue_after_an_interruption(config, tmp_path, results):
    whole = config("lion", "sgd", trials=1, seeds="3..6", target=0.5, out=tmp_path / "whole")
    run_race(whole, None, noisy())
    asked = config("lion", "sgd", trials=1, seeds="3..6", target=0.5)
    for last in (3, 4, 5):
        count = 0

        def stop(event, last=last):
            nonlocal count
            if isinstance(event, events.RunFinished):
                count += 1
                if count == last:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_race(asked, stop, noisy())
    # Three seeds of both, and the look after them wants more.
    with Store.open(asked.out) as store:
        assert len(store.runs("final")) >= 6
    run_race(asked, None, noisy())
    assert results(asked.out) == results(whole.out)
    with pytest.raises(UsageError, match="seeds_most was 6 and is not set"):
        run_race(config("lion", "sgd", trials=1, seeds=3, target=0.5))


def test_a_race_between_looks_has_no_verdict(config):
    asked = config(NEAR, AGAIN, seeds="3..6", target=0.5)

    def stop(event):
        if isinstance(event, events.RunStarted) and event.number == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_race(asked, stop)
    with Store.open(asked.out) as store, pytest.raises(UsageError, match="not finished"):
        judge(store)


def test_external_tuning_has_studies(config):
    asked = config("sgd(weight_decay=0)", "adamw", ruleset="external", trials=2, seeds=3)
    verdict = run_race(asked)
    assert verdict.ruleset == "external"
    trials_of = [row for row in rows(asked, "tune") if row.entrant == "adamw"]
    assert [row.trial for row in trials_of] == list(range(6))
    studies = [trials_of[2 * study : 2 * study + 2] for study in range(3)]
    assert all(one.seed == other.seed for one, other in studies)
    assert len({study[0].seed for study in studies}) == 3
    assert len({row.hyper["adamw.lr"] for row in trials_of}) == 6
    other = [row for row in rows(asked, "tune") if row.entrant != "adamw"]
    assert [row.seed for row in other] == [row.seed for row in trials_of]
    finals = [row for row in rows(asked, "final") if row.entrant == "adamw"]
    for study, final in zip(studies, finals, strict=True):
        best = min(study, key=lambda row: row.final_metric if row.finished else math.inf)
        assert (final.recipe, final.trial) == (best.recipe, best.trial)
        assert final.seed not in {row.seed for row in trials_of}
    assert "3 studies" in verdict.sentences[1]
    assert len(rows(asked, "target")) == 2


def test_self_tuning_runs_three_times_as_long_without_trials(config):
    asked = config("prodigy", "adamw", ruleset="self", trials=None, seeds=3, steps=20)
    verdict = run_race(asked)
    assert rows(asked, "tune") == []
    assert {row.recipe for row in rows(asked, "final")} == {"prodigy", "adamw"}
    assert {row.steps for row in rows(asked, "final")} == {60}
    assert len(rows(asked, "target")) == 8
    assert verdict.winner is not None
    assert not any("no trial finished" in sentence for sentence in verdict.sentences)
    assert "runs are 3 times longer" in verdict.sentences[1]


def test_a_budget_of_steps_or_seconds(config, tmp_path):
    asked = config("sgd", NEAR, trials=None, budget="70steps", seeds=1, target=0.5)
    run_race(asked)
    assert [row.trial for row in rows(asked, "tune") if row.entrant == "sgd"] == [0, 1, 2]

    def fit(*arguments, **settings):
        result = train.fit(*arguments, **settings)
        return dataclasses.replace(result, seconds=1.0 if "sgd" in arguments[1] else 2.5)

    timed = config("sgd", "lion", trials=None, budget="4 s", seeds=1, out=tmp_path / "timed")
    told = []
    run_race(timed, told.append, fit)
    counts = [row.entrant for row in rows(timed, "tune")]
    assert (counts.count("sgd"), counts.count("lion")) == (4, 2)
    assert len(rows(timed, "target")) == 2
    ends = [event for event in told if isinstance(event, events.RunFinished)]
    assert ends[-1].done == ends[-1].runs == 10


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("20trials", ("trials", 20)),
        ("1 trial", ("trials", 1)),
        ("3000 steps", ("steps", 3000)),
        ("90s", ("seconds", 90)),
        ("1.5 seconds", ("seconds", 1.5)),
    ],
)
def test_budgets_in_words(text, found):
    assert parse_budget(text) == found


@pytest.mark.parametrize("text", ["", "20", "-3s", "0s", "1.5 trials", "4 hours"])
def test_budgets_that_make_no_sense(text):
    with pytest.raises(UsageError, match="found"):
        parse_budget(text)


def test_a_budget_below_one_trial():
    assert trials_within("steps", 99, 33) == 3
    with pytest.raises(UsageError, match="does not allow one trial of 100 steps"):
        trials_within("steps", 99, 100)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ruleset": "externl"}, 'Did you mean "external"'),
        ({"ruleset": "self", "trials": 3}, "has no trials"),
        ({"ruleset": "external", "seeds": "3..9"}, "fixed number of studies"),
        ({"ruleset": "external", "trials": None, "budget": "9s"}, "a budget of its own"),
        ({"budget": "9s"}, "not both"),
        ({"seeds": "2..4"}, "begins with at least 3"),
    ],
)
def test_rules_that_clash(config, settings, message):
    asked = config(NEAR, **settings)
    with pytest.raises(UsageError, match=message):
        run_race(asked)
    assert not asked.out.exists()


LR = Log(1e-4, 1e-1)


def test_a_widened_round_looks_around_the_best(config):
    space = {"adamw.lr": LR, "adamw.weight_decay": Log(1e-3, 1.0)}
    found, plain = widened_trials(space, 16, 3, 0.95), trials(space, 16, 3)
    positions = [one.position["adamw.lr"] for one in found]
    assert 0.7 <= min(positions) < 0.75
    assert 1.15 < max(positions) <= 1.2
    assert [one.position["adamw.weight_decay"] for one in found] == [
        one.position["adamw.weight_decay"] for one in plain
    ]
    for one in found:
        u = one.position["adamw.lr"]
        assert one.hyper["adamw.lr"] == pytest.approx(1e-4 * 1000**u)


def test_edges_of_a_widened_range():
    assert edge({"a.lr": 0.95}) == "upper"
    assert edge({"a.lr": 0.95}, widened=0.25) is None
    assert edge({"a.lr": 1.15}, widened=0.25) == "upper"
    assert edge({"a.lr": -0.2}, widened=0.25) == "lower"
    wide = described({"a.lr": LR, "a.eps": LR}, wider=True)
    assert wide["a.lr"]["low"] == pytest.approx(1e-4 / 1000**WIDER)
    assert wide["a.lr"]["high"] == pytest.approx(1e-1 * 1000**WIDER)
    assert wide["a.eps"] == LR.describe()


def edgy(at):
    """Return a fit whose best learning rates are the highest or lowest."""

    def fit(workload, recipe, *, seed, **settings):
        result = train.fit(workload, recipe, seed=seed, **{**settings, "steps": 1})
        rate = math.log(float(recipe.split("lr=")[1].split(",")[0].split(")")[0]))
        value = {"top": -rate, "middle": (rate + 5) ** 2}[at]
        return dataclasses.replace(result, final_metric=value)

    return fit


def test_ranges_are_widened_for_everyone_within_the_same_budget(config):
    asked = config("adamw", "lion", trials=8, seeds=1, seed=5, target=0.5)
    verdict = run_race(asked, None, edgy("top"))
    with Store.open(asked.out) as store:
        assert store.widened()["first"] == 6
        spaces = store.spaces()
        tuned = {name: store.runs("tune", name) for name in ("adamw", "lion")}
    assert set(verdict.widened) <= {"adamw", "lion"}
    for name, found in tuned.items():
        assert len(found) == 8
        key = f"{name}.lr"
        best = max(row.position[key] for row in found[:6])
        for row in found[6:]:
            assert abs(row.position[key] - best) <= WIDER
        assert spaces[name][key]["widened"] == WIDER
    assert any("all ranges were widened alike" in sentence for sentence in verdict.sentences)


def test_without_an_edge_nothing_is_widened(config):
    asked = config("adamw", trials=8, seeds=1, target=0.5)
    verdict = run_race(asked, None, edgy("middle"))
    assert verdict.widened == ()
    with Store.open(asked.out) as store:
        points = [row.position for row in store.runs("tune")]
        assert store.widened() is None
    space = {"adamw.lr": LR, "adamw.weight_decay": Log(1e-3, 1.0)}
    assert points == [one.position for one in trials(space, 8, asked.seed)]


RULES = {
    "budget": {},
    "a given target": {"target": 0.5},
    "the baseline is an entrant": {"entrants": ("adamw + warmup(0.05) + cosine", "sgd", NEAR)},
    "external": {"ruleset": "external"},
    "self": {"ruleset": "self", "trials": None},
    "speedrun": {"ruleset": "speedrun"},
    "steps": {"trials": None, "budget": "70steps"},
    "seconds": {"trials": None, "budget": "4s"},
    "sequential": {"seeds": "3..6"},
}


@pytest.mark.parametrize("rules", RULES)
def test_runs_are_told_by_phase_and_entrant(config, rules):
    """From the start, the runs told are those that come, or the least of them."""
    settings = dict(RULES[rules])
    asked = config(*settings.pop("entrants", ("lion", "sgd", NEAR)), **settings)
    told = []

    def found(store, *begun):
        return {
            f"{phase}-{whose[phase].index(name):02d}-{number:03d}"
            for phase, some in places(store, begun).items()
            for name, numbers in some.items()
            for number in numbers
        }

    names = [one.name for one in asked.entrants]
    whose = {"target": ["(baseline)"], "tune": names, "final": names}

    def tell(event):
        if isinstance(event, events.RunStarted):
            with Store.open(asked.out) as store:
                told.append((found(store), found(store, event.run_id), open_ended(store)))

    def fit(*arguments, **settings):
        result = noisy()(*arguments, **settings)
        return dataclasses.replace(result, seconds=1.0 if "lion" in arguments[1] else 2.5)

    run_race(asked, tell, fit)
    with Store.open(asked.out) as store:
        end = {row.run_id for row in store.runs()}
        assert found(store) == end
        assert not open_ended(store)
    grows = rules in ("seconds", "sequential")
    assert {is_open for _, _, is_open in told} == {grows}
    assert all(count <= with_begun <= end for count, with_begun, _ in told)
    assert all(count == end for count, _, _ in told) == (not grows)
    assert told[-1][1] == end
