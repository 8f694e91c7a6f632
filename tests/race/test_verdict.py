"""What the verdict says about results that are made up."""

import json

import numpy as np
import pytest

from thalweg.core.errors import UsageError
from thalweg.race.machine import contention
from thalweg.race.rows import RunRow
from thalweg.race.store import Store
from thalweg.race.verdict import judge

BUSY = {"cores": 2, "device": "cpu"}


def row(kind, entrant, index, number, metric, **fields):
    status = "diverged" if metric is None else "ok"
    defaults = {
        "recipe": f"{entrant}(lr=0.1)",
        "trial": number if kind == "tune" else 0,
        "seed": number,
        "status": status,
        "steps": 100,
        "final_metric": metric,
        "best_metric": metric,
        "hyper": {"adamw.lr": 0.01},
        "position": {"adamw.lr": 0.5},
        "seconds_per_step": 0.01,
        "wall_seconds": 2.0,
        "cpu_seconds": 2.0,
        "load": 1.0,
        "error": "the training loss was nan at step 3" if metric is None else None,
    }
    return RunRow(
        run_id=f"{kind}-{index:02d}-{number:03d}",
        entrant=entrant,
        phase=kind,
        **{**defaults, **fields},
    )


@pytest.fixture
def verdict(tmp_path):
    """Return the verdict on final metrics by entrant; None is a divergence."""

    def of(finals, trials=None, higher=True, target=None, final_fields=None, planned=None):
        seeds = len(next(iter(finals.values())))
        trials = trials or {name: [0.5, 0.4] for name in finals}
        config = {
            "entrants": [{"name": name, "recipe": name} for name in finals],
            "seeds": seeds,
            "trials": planned or max(map(len, trials.values())),
            "steps": 100,
            "seed": 3,
        }
        facts = {"name": "digits", "metric_name": "accuracy", "higher_is_better": higher}
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with Store.create(folder, config, facts, {}) as store:
            store.set_facts(machine=BUSY)
            if target is not None:
                facts = {"value": target, "source": "user", "text": "The target was given."}
                store.set_target(facts, {})
            for index, name in enumerate(finals):
                for number, metric in enumerate(trials[name]):
                    store.record(row("tune", name, index, number, metric), [])
                for number, metric in enumerate(finals[name]):
                    fields = (final_fields or {}).get((name, number), {})
                    store.record(row("final", name, index, number, metric, **fields), [])
            return judge(store)

    return of


def noisy(mean, seeds=5, seed=0, scale=0.002):
    return list(mean + scale * np.random.default_rng(seed).normal(size=seeds))


def text(verdict):
    return " ".join(verdict.sentences)


def test_an_obvious_winner(verdict):
    found = verdict({"a": noisy(0.90), "b": noisy(0.95, seed=1), "c": noisy(0.90, seed=2)})
    assert found.winner == "b"
    assert found.ranking[0].entrant == "b"
    assert [one.rank for one in found.ranking] == [1, 2, 2]
    assert found.ranking[0].tied_with == ()
    assert found.ranking[0].low <= found.ranking[0].mean <= found.ranking[0].high
    assert {(p.a, p.b): p.separated for p in found.pairs}["b", found.ranking[1].entrant]
    assert found.sentences[0].startswith("b wins on digits: accuracy 0.95")
    assert "0.0504 ± 0.0025 better than a, the next best" in found.sentences[0]


def test_lower_may_be_better(verdict):
    finals = {"a": noisy(0.90), "b": noisy(0.95, seed=1)}
    found = verdict(finals, higher=False)
    assert found.winner == "a"
    pair = found.pairs[0]
    assert (pair.a, pair.b) == ("a", "b")
    assert pair.difference == pytest.approx(np.mean(finals["a"]) - np.mean(finals["b"]))
    assert pair.difference_low < pair.difference < pair.difference_high < 0
    assert pair.probability == 1.0
    assert "lower is better" in text(found)


def test_pairs_are_told_from_the_better_ones_side(verdict):
    finals = {"worse": [0.1, 0.3, 0.2, 0.4], "better": [0.25, 0.35, 0.45, 0.55]}
    (pair,) = verdict(finals).pairs
    assert (pair.a, pair.b) == ("better", "worse")
    assert pair.probability == 13 / 16
    assert pair.low < 13 / 16 < pair.high
    assert not pair.separated


def test_six_runs_of_the_same_numbers_are_one_tie(verdict):
    found = verdict({name: [0.9, 0.91, 0.92] for name in "abcdef"})
    assert found.winner is None
    assert {one.rank for one in found.ranking} == {1}
    assert [one.entrant for one in found.ranking] == list("abcdef")
    assert not any(pair.separated for pair in found.pairs)
    assert "a, b, c, d, e and f are tied" in found.sentences[0]


def test_one_seed_separates_nothing_and_says_so(verdict):
    found = verdict({"a": [0.1], "b": [0.9]})
    assert found.winner is None
    assert [one.rank for one in found.ranking] == [1, 1]
    assert found.ranking[0].low is None
    assert "1 seed cannot separate" in found.sentences[0]
    assert "at least 3" in found.sentences[0]


def test_partly_separated_entrants_share_ranks(verdict):
    finals = {"a": noisy(0.95), "b": noisy(0.951, seed=1), "c": noisy(0.80, seed=2)}
    found = verdict(finals)
    assert found.winner is None
    assert [one.rank for one in found.ranking] == [1, 1, 3]
    assert found.ranking[2].tied_with == ()
    assert set(found.ranking[0].tied_with) == {found.ranking[1].entrant}
    assert "c, 0.7994 (0.79" in text(found)
    assert "is behind all others." in text(found)


def test_diverged_runs_are_counted_and_never_dropped(verdict):
    finals = {"a": noisy(0.95), "b": [0.96, 0.961, 0.959, None, None]}
    found = verdict(finals)
    standing = {one.entrant: one for one in found.ranking}["b"]
    assert (standing.runs, standing.finished, standing.diverged) == (5, 3, 2)
    assert standing.mean == pytest.approx(0.96)
    assert found.winner is None
    (pair,) = found.pairs
    assert {pair.a: pair.probability, pair.b: 1 - pair.probability}["a"] == pytest.approx(0.4)
    assert pair.difference_low is None
    assert "b: 2 diverged of 5 final runs (the training loss was nan at step 3)" in text(found)


def test_an_entrant_whose_trials_all_diverged_is_last_even_with_one_seed(verdict):
    found = verdict(
        {"nan": [None], "good": [0.9]}, trials={"nan": [None, None], "good": [0.8, None]}
    )
    assert found.winner == "good"
    assert [(one.entrant, one.rank) for one in found.ranking] == [("good", 1), ("nan", 2)]
    assert found.pairs[0].separated
    assert found.pairs[0].p_adjusted is None
    assert found.ranking[1].mean is None
    assert found.ranking[1].best_trial is None
    assert "nan: no trial finished: 2 diverged of 2" in text(found)
    assert "good: 1 diverged of 2 trials" in text(found)


def test_who_never_finished_a_final_run_comes_after_who_did(verdict):
    found = verdict({"gone": [None] * 3, "a": [0.1, 0.5, 0.9], "b": [0.2, 0.5, 0.8]})
    assert found.ranking[-1].entrant == "gone"
    assert found.ranking[-1].rank == 3
    assert found.winner is None


def test_nobody_finished(verdict):
    found = verdict({"a": [None], "b": [None]}, trials={"a": [None], "b": [None]})
    assert found.winner is None
    assert {one.rank for one in found.ranking} == {1}
    assert "no entrant finished" in found.sentences[0]
    json.dumps(found.to_dict(), allow_nan=False)


def test_alone(verdict):
    found = verdict({"a": noisy(0.9)})
    assert found.winner is None
    assert found.pairs == ()
    assert found.sentences[0].startswith("a ran alone on digits and got accuracy 0.9")


def test_time_to_the_target_is_a_median_with_misses_at_infinity(verdict):
    hits = {
        ("a", i): {"steps_to_target": s, "seconds_to_target": s / 10}
        for i, s in enumerate([30, 10, 20])
    }
    hits |= {("b", 0): {"steps_to_target": 5, "seconds_to_target": 0.5}}
    found = verdict({"a": noisy(0.9, 3), "b": noisy(0.9, 3, 1)}, target=0.8, final_fields=hits)
    standing = {one.entrant: one for one in found.ranking}
    assert (standing["a"].steps_to_target, standing["a"].seconds_to_target) == (20, 2.0)
    assert (standing["b"].steps_to_target, standing["b"].at_target) == (None, 1)
    assert "a 20 (3 of 3 runs); not in the median run: b" in text(found)
    assert "Seconds of training to the target, median over runs: a 2." in text(found)
    assert found.target == 0.8


def test_an_even_number_of_runs_with_a_miss_in_the_middle_misses(verdict):
    hits = {("a", i): {"steps_to_target": 10} for i in range(2)}
    found = verdict({"a": noisy(0.9, 4)}, target=0.8, final_fields=hits)
    assert found.ranking[0].steps_to_target is None
    assert "a in 2 of 4" in text(found)


def test_nobody_reached_the_target(verdict):
    assert "No final run reached the target." in verdict({"a": [0.9]}, target=0.95).sentences


def test_times_are_refused_on_a_busy_machine(verdict):
    slow = {("a", i): {"wall_seconds": 90.0} for i in range(3)}
    found = verdict({"a": noisy(0.9, 3), "b": noisy(0.9, 3)}, target=0.5, final_fields=slow)
    assert "wall time per second of processor time" in found.contention
    assert "Times are not compared" in text(found)
    assert "Seconds of training" not in text(found)


def test_signs_of_contention():
    def rows(**fields):
        return [row("final", "a", 0, number, 0.9, **fields) for number in range(3)]

    assert contention(rows(), BUSY) is None
    assert "of wall time" in contention(rows(wall_seconds=4.0), BUSY)
    assert contention(rows(wall_seconds=4.0), {**BUSY, "device": "cuda:0"}) is None
    uneven = [*rows(), row("final", "a", 0, 3, 0.9, seconds_per_step=0.02)]
    assert "step time of a varied by a factor of 2.0" in contention(uneven, BUSY)
    assert "load average was 5.0 on 2 cores" in contention(rows(load=5.0), BUSY)


def test_tuning_and_edges_are_told(tmp_path, verdict):
    edge = {"position": {"adamw.lr": 0.97}, "hyper": {"adamw.lr": 0.09}}
    config = {
        "entrants": [{"name": "a", "recipe": "a"}, {"name": "b", "recipe": "b"}],
        "seeds": 1,
        "trials": 3,
        "steps": 100,
        "seed": 0,
    }
    facts = {"name": "digits", "metric_name": "accuracy", "higher_is_better": True}
    with Store.create(tmp_path, config, facts, {}) as store:
        store.set_target({"value": 0.5, "source": "workload", "text": "It is the workload's."}, {})
        for number, metric in enumerate([0.4, 0.6, 0.7]):
            hit = {"steps_to_target": 9} if metric > 0.5 else {}
            store.record(row("tune", "a", 0, number, metric, **edge, **hit), [])
        store.record(row("tune", "b", 1, 0, 0.6, hyper={}, position={}), [])
        for index, name in enumerate("ab"):
            store.record(row("final", name, index, 0, 0.6), [])
        found = judge(store)
    standing = {one.entrant: one for one in found.ranking}
    assert (standing["a"].edge, standing["a"].best_trial) == ("upper", 2)
    assert (standing["a"].trials_at_target, standing["a"].median_trial) == (2, 0.6)
    assert standing["b"].edge is None
    said = text(found)
    assert "a: the best learning rate, 0.09, lies at the upper edge of its range" in said
    assert "a 2 of 3" in said
    assert "Nothing to tune, so one trial instead of 3: b." in said


def test_power_is_told(verdict):
    found = verdict({"a": noisy(0.90), "b": noisy(0.9005, seed=1)})
    assert 0.001 < found.power.deviation < 0.004
    assert found.power.gap == pytest.approx(2.25 * found.power.deviation, rel=0.05)
    assert found.power.tenth > 0.99
    assert "5 seeds can separate two entrants that differ by 0.00" in text(found)
    assert "a gap of 10 % with probability above 0.99" in text(found)
    assert f"it takes about {found.power.needed} seeds to find it" in text(found)
    assert verdict({"a": [0.5], "b": [0.6]}).power is None
    assert verdict({"a": noisy(0.9)}).power is None


def test_sensitivity_to_the_tuning_budget_is_told(verdict):
    found = verdict(
        {"a": noisy(0.9), "b": noisy(0.9, seed=1)},
        trials={"a": [0.5, 0.7, 0.9, None], "b": [0.8] * 4},
    )
    standing = {one.entrant: one for one in found.ranking}
    assert [(one.trials, one.value) for one in standing["a"].best_of] == [
        (1, pytest.approx((0.5 + 0.7 + 0.9 + 0.5) / 4)),  # the worst of anybody's for a divergence
        (2, pytest.approx((0.9 * 3 + 0.7 * 2 + 0.5) / 6)),
        (4, pytest.approx(0.9)),
    ]
    assert "with 2 trials, 0.9 with all 4" in text(found)


def test_failures_are_told_with_their_message(verdict):
    crash = {("a", 0): {"status": "failed", "error": "ValueError: shapes\nsecond line"}}
    found = verdict({"a": [0.9, 0.9, 0.9]}, final_fields=crash)
    assert (found.ranking[0].failed, found.ranking[0].finished) == (1, 2)
    assert "a: 1 failed of 3 final runs (ValueError: shapes), each" in text(found)


def test_an_unfinished_race_has_no_verdict(tmp_path):
    config = {"entrants": [{"name": "a", "recipe": "a"}], "seeds": 2, "trials": 1, "steps": 1}
    facts = {"name": "digits", "metric_name": "accuracy", "higher_is_better": True}
    with Store.create(tmp_path, config, facts, {}) as store:
        store.record(row("final", "a", 0, 0, 0.5), [])
        with pytest.raises(UsageError, match="not finished"):
            judge(store)


def test_the_file_holds_the_agreed_keys_and_the_same_numbers_every_time(verdict):
    finals = {"a": noisy(0.9), "b": noisy(0.9, seed=1)}
    content = verdict(finals).to_dict()
    assert content == verdict(finals).to_dict()
    assert json.loads(json.dumps(content, allow_nan=False))["metric"]["name"] == "accuracy"
    assert {
        "version",
        "workload",
        "metric",
        "target",
        "ranking",
        "pairs",
        "sentences",
        "winner",
    } <= set(content)
    assert {"entrant", "rank", "tied_with", "mean", "low", "high"} <= set(content["ranking"][0])
    assert {"a", "b", "probability", "low", "high", "separated"} <= set(content["pairs"][0])
