"""Everything the page says about a race, read once from its store and its verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from thalweg.race.rows import CurvePoint, RunRow
from thalweg.race.store import Store
from thalweg.race.verdict import Standing, Verdict, judge
from thalweg.report.labels import short_labels
from thalweg.report.numbers import Format, metric_format


@dataclass(frozen=True)
class Entrant:
    """One entrant and all of its runs.

    Attributes:
        index: its place in the race's list of entrants, which decides its colour.
        name: its name in results.
        label: the name, shortened where it is a whole recipe.
        recipe: the recipe as written.
        space: ``slug.parameter`` -> described search space.
        trials: its tuning runs.
        best: its best trial, or None if none finished.
        finals: its final runs, by seed.
        curves: ``run_id`` -> evaluations of each final run.
        standing: how the verdict ranks it.
    """

    index: int
    name: str
    label: str
    recipe: str
    space: Mapping[str, Mapping[str, Any]]
    trials: Sequence[RunRow]
    best: RunRow | None
    finals: Sequence[RunRow]
    curves: Mapping[str, Sequence[CurvePoint]]
    standing: Standing

    @property
    def finished(self) -> list[RunRow]:
        """Return the final runs that got to their end."""
        return [row for row in self.finals if row.finished]


@dataclass(frozen=True)
class Race:
    """A race as its page tells it.

    Attributes:
        config: what decides its numbers.
        workload: facts about the workload.
        machine: facts about the machine.
        target: the target's value, source and text, or None.
        verdict: the verdict.
        entrants: in the race's order.
        baseline: trials of the hidden baseline that sets the target.
    """

    config: Mapping[str, Any]
    workload: Mapping[str, Any]
    machine: Mapping[str, Any]
    target: Mapping[str, Any] | None
    verdict: Verdict
    entrants: Sequence[Entrant]
    baseline: Sequence[RunRow]

    @property
    def higher_is_better(self) -> bool:
        """Return the metric's direction."""
        return self.workload["higher_is_better"]

    @property
    def metric_name(self) -> str:
        """Return what the metric is called."""
        return self.workload["metric_name"]

    @property
    def target_value(self) -> float | None:
        """Return the metric's value that counts as reached, or None."""
        return self.verdict.target

    @cached_property
    def ranking(self) -> list[Entrant]:
        """Return the entrants by rank."""
        by_name = {entrant.name: entrant for entrant in self.entrants}
        return [by_name[standing.entrant] for standing in self.verdict.ranking]

    @cached_property
    def winner(self) -> Entrant | None:
        """Return the entrant that the verdict declares the winner."""
        return next((e for e in self.entrants if e.name == self.verdict.winner), None)

    @cached_property
    def metric(self) -> Format:
        """Return how the page writes values of the metric."""
        standings = self.verdict.ranking
        widths = [
            (one.high - one.low) / 2
            for one in standings
            if one.low is not None and one.high is not None
        ]
        return metric_format([*(one.mean for one in standings), self.target_value], widths)

    def better(self, one: float, other: float) -> bool:
        """Return whether a value of the metric is better than another."""
        return one > other if self.higher_is_better else one < other


def read_race(store: Store) -> Race:
    """Return the race in a store, with its verdict.

    Raises:
        UsageError: the race is not finished.
    """
    verdict = judge(store)
    config, spaces, best = store.config(), store.spaces(), store.best_trials()
    standings = {standing.entrant: standing for standing in verdict.ranking}
    names = [entrant["name"] for entrant in config["entrants"]]
    recipes = [entrant["recipe"] for entrant in config["entrants"]]
    entrants = []
    for index, label in enumerate(short_labels(names, recipes)):
        name = names[index]
        trials, finals = store.runs("tune", name), store.runs("final", name)
        chosen = best[name]
        entrants.append(
            Entrant(
                index=index,
                name=name,
                label=label,
                recipe=recipes[index],
                space=spaces.get(name, {}),
                trials=trials,
                best=chosen and next(row for row in trials if row.run_id == chosen.run_id),
                finals=finals,
                curves={row.run_id: store.curve(row.run_id) for row in finals},
                standing=standings[name],
            )
        )
    return Race(
        config=config,
        workload=store.workload(),
        machine=store.machine(),
        target=store.target(),
        verdict=verdict,
        entrants=entrants,
        baseline=store.runs("target"),
    )
