"""What the page says of races of every ruleset: on the quadratic."""

import re

import pytest

from thalweg.race import RaceConfig, parse_entrants, run_race
from thalweg.race.store import Store
from thalweg.report.facts import read_race
from thalweg.report.sections import method, tuning, verdict


@pytest.fixture
def facts(tmp_path):
    """Return a function that races on the quadratic and reads the race."""

    def race(**settings):
        entrants = parse_entrants(["adamw", "again=adamw"])
        folder = tmp_path / "race"
        run_race(RaceConfig("quadratic", entrants, folder, steps=10, target=0.5, **settings))
        with Store.open(folder) as store:
            return read_race(store)

    return race


@pytest.mark.parametrize(
    ("settings", "command", "said", "runs"),
    [
        (
            {"ruleset": "self", "seeds": 3},
            "--ruleset self --seeds 3 --steps 10",
            "none: runs are three times as long",
            "3 seeds each",
        ),
        (
            {"ruleset": "external", "seeds": 3, "trials": 2},
            "--ruleset external --trials 2 --seeds 3 --steps 10",
            "2 trials in each study",
            "3 studies each",
        ),
        (
            {"budget": "20steps", "seeds": "3..4"},
            "--trials 2 --seeds 3..4 --steps 10",
            "2 trials each",
            "4 seeds each",
        ),
        (
            {"budget": "0.001s", "seeds": 1},
            "--budget 0.001s --seeds 1 --steps 10",
            "of training each",
            "1 seed each",
        ),
    ],
)
def test_rulesets_are_told(facts, settings, command, said, runs):
    race = facts(**settings)
    assert command in method.build(race)["command"]
    told = dict(verdict.build(race)["facts"])
    assert said in told["Tuning"]
    assert told["Final runs"] == runs
    panels = tuning.build(race)["panels"]
    untuned = settings.get("ruleset") == "self"
    assert all(panel["facts"].startswith("Not tuned") == untuned for panel in panels)
    assert all((panel["figure"] is None) == untuned for panel in panels)


def test_the_share_of_the_trials_is_told(facts):
    race = facts(trials=4, seeds=1)
    panels = tuning.build(race)["panels"]
    assert all(re.search(r"expected with 2 trials [\d.]+", panel["facts"]) for panel in panels)
