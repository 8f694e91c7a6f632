"""The runs of a race in batches, each planned from what the batches before it gave.

Within a batch no run depends on another, so they can be done in any order and anywhere. Asked again
after an interruption, the same batches come, because each is a function of recorded runs alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from thalweg.race.decisions import Decision, decide
from thalweg.race.entrants import Entrant
from thalweg.race.plan import Planned, placed, plan_finals, plan_trials, space_of
from thalweg.race.pruning import bar
from thalweg.race.rows import RunRow, best_trial
from thalweg.race.ruleset import RULESETS
from thalweg.race.score import Scores, as_scores
from thalweg.race.search import QUASI_RANDOM, described, edge, looks_back
from thalweg.race.sequential import looks
from thalweg.race.store import Store
from thalweg.race.target import baseline_of, hidden_baseline

LAST_ROUND = 0.25
"""The share of the trials that look through widened ranges if a best one lies at an edge."""


def tuning_batches(
    store: Store, entrants: Sequence[Entrant], hidden: Entrant | None
) -> Iterator[list[Planned]]:
    """Yield the tuning runs.

    The last quarter of the trials, if there are four or more, is a round of its own: if the best
    learning rate of any entrant so far lies at an edge of its range, the ranges of all are widened
    by the same share at both ends, and everyone looks around its own best learning rate, through
    a window of the same share of its range. Nobody gets a trial more than the others. With a
    searcher other than quasi-random no range is widened; edges are only told of.

    With a searcher that looks back, or where trials are given up, a batch is one round: one trial
    of each entrant, which depends on the rounds before it alone.

    Args:
        store: where the runs are recorded.
        entrants: who takes part.
        hidden: the baseline, if it runs for the target alone.
    """
    config = store.config()
    planned = _all_trials(store, entrants, hidden)
    if config.get("ruleset") in ("external", "self"):
        yield planned
    elif config.get("budget_seconds"):
        yield from _while_it_lasts(store, planned)
    else:
        trials = config["trials"]
        widens = _searcher(store) == QUASI_RANDOM
        first = trials - math.floor(LAST_ROUND * trials) if widens else trials
        yield from _rounds(store, [run for run in planned if run.number < first])
        if first < trials:
            centres = _centres(store, entrants, hidden, first)
            if centres:
                planned = plan_trials(entrants, hidden, trials, config["seed"], centres=centres)
            yield from _rounds(store, [run for run in planned if run.number >= first])


def final_batches(store: Store, entrants: Sequence[Entrant]) -> Iterator[list[Planned]]:
    """Yield the final runs.

    One batch for a fixed number of seeds; else one for each look, of the entrants that are not yet
    told from somebody, until there are none or the seeds are used up.
    """
    config = store.config()
    begun = 0
    for look in planned_looks(store):
        who = {one.name for one in entrants}
        if begun:
            undecided = decision(store, begun).undecided
            who = {entrants[i].name for i in undecided}
        batch = plan_finals(entrants, repeated(store), range(begun, look), config["seed"])
        batch = [run for run in batch if run.entrant in who]
        if not batch:
            return
        yield batch
        begun = look


def foreseen(store: Store, entrants: Sequence[Entrant], hidden: Entrant | None) -> list[Planned]:
    """Return the runs that the race has at least, with values that may turn out otherwise."""
    config = store.config()
    trials = _all_trials(store, entrants, hidden)
    if config.get("budget_seconds"):
        trials = [run for run in trials if run.number == 0]
    return trials + plan_finals(
        entrants, lambda name, number: None, range(config["seeds"]), config["seed"]
    )


def places(store: Store, begun: Iterable[str] = ()) -> dict[str, dict[str, list[int]]]:
    """Return the numbers of each entrant's runs in each phase: phase -> entrant -> numbers.

    Those are the runs that are foreseen, and those beyond that are recorded or begun: a budget in
    seconds and a range of seeds add runs while the race goes on (see `open_ended`). A hidden
    baseline that sets the target is under ``target``. An entrant without runs has an empty list.

    Args:
        store: of the race.
        begun: ids of runs that were begun and are not recorded yet.
    """
    entrants = [Entrant(one["name"], one["recipe"]) for one in store.config()["entrants"]]
    hidden = hidden_of(store, entrants)
    ids = {run.run_id for run in foreseen(store, entrants, hidden)}
    whose = {"target": [hidden] if hidden else [], "tune": entrants, "final": entrants}
    found: dict[str, dict[str, list[int]]] = {
        phase: {one.name: [] for one in some} for phase, some in whose.items()
    }
    for run_id in ids.union((row.run_id for row in store.runs()), begun):
        phase, index, number = run_id.split("-")
        for one in whose[phase][int(index) : int(index) + 1]:
            found[phase][one.name].append(int(number))
    return {
        phase: {name: sorted(numbers) for name, numbers in of.items()}
        for phase, of in found.items()
    }


def open_ended(store: Store) -> bool:
    """Return whether more runs may come than are foreseen."""
    config = store.config()
    more = config.get("budget_seconds") or config.get("seeds_most")
    return bool(more) and not store.finished()


def hidden_of(store: Store, entrants: Sequence[Entrant]) -> Entrant | None:
    """Return the baseline if it runs for the target alone, else None."""
    if (store.target() or {}).get("source") in ("user", "workload"):
        return None
    baseline, hidden = target_baseline(store, entrants)
    return baseline if hidden else None


def target_baseline(store: Store, entrants: Sequence[Entrant]) -> tuple[Entrant, bool]:
    """Return whose trials set the target if none is given, and whether it is no entrant."""
    if store.config().get("ruleset") == "self":  # nobody else is tuned
        return hidden_baseline(), True
    return baseline_of(entrants)


def planned_looks(store: Store) -> list[int]:
    """Return the numbers of seeds after which a race looks at its final runs."""
    config = store.config()
    return looks(config["seeds"], config.get("seeds_most") or config["seeds"])


def repeated(store: Store) -> Callable[[str, int], RunRow | None]:
    """Return which trial an entrant's final run repeats: that of the race, or of its study."""
    config, higher = store.config(), store.workload()["higher_is_better"]
    trials = config["trials"]
    rows = {one["name"]: store.runs("tune", one["name"]) for one in config["entrants"]}
    best = {name: best_trial(found, higher) for name, found in rows.items()}

    def of_study(name: str, study: int) -> RunRow | None:
        own = [row for row in rows[name] if row.trial // trials == study]
        return best_trial(own, higher)

    return of_study if config.get("ruleset") == "external" else lambda name, _: best[name]


def decision(store: Store, seeds: int | None = None) -> Decision:
    """Return what the final runs say, or the first of them.

    Args:
        store: of the race.
        seeds: only so many of each entrant.
    """
    config = store.config()
    names = [one["name"] for one in config["entrants"]]
    scores = [final_scores(store, name)[:seeds] for name in names]
    tuned = config.get("ruleset") != "self"
    competing = [
        not tuned or any(row.finished for row in store.runs("tune", name)) for name in names
    ]
    return decide(scores, competing, planned_looks(store), config["seed"])


def final_scores(store: Store, name: str) -> Scores:
    """Return an entrant's final runs as scores, by seed."""
    rows = store.runs("final", name)
    higher = store.workload()["higher_is_better"]
    scores = as_scores([row.final_metric for row in rows], higher)
    return np.where([row.finished for row in rows], scores, -np.inf)


def _all_trials(store: Store, entrants: Sequence[Entrant], hidden: Entrant | None) -> list[Planned]:
    config = store.config()
    name, trials, seed = config.get("ruleset"), config["trials"], config["seed"]
    if name == "external":
        return [
            run
            for study in range(config["seeds"])
            for run in plan_trials(entrants, None if study else hidden, trials, seed, study)
        ]
    if name == "self":
        return plan_trials([], hidden, RULESETS["budget"].trials, seed)
    return plan_trials(entrants, hidden, trials, seed, searcher=_searcher(store))


def _searcher(store: Store) -> str:
    return store.config().get("searcher", QUASI_RANDOM)  # races of before there were others


def _rounds(store: Store, planned: list[Planned]) -> Iterator[list[Planned]]:
    """Yield runs at once, or a round at a time if it depends on those before it."""
    if not store.config().get("prune") and not looks_back(_searcher(store)):
        yield planned
        return
    for _, group in itertools.groupby(planned, key=lambda run: run.number):
        yield [_ready(store, run) for run in group]


def _ready(store: Store, run: Planned) -> Planned:
    """Return a run of the next round, with its place and its bar."""
    config, higher = store.config(), store.workload()["higher_is_better"]
    rows = [row for row in store.runs(run.phase, run.entrant) if row.trial < run.trial]
    run = placed(run, _searcher(store), config["trials"], config["seed"], rows, higher)
    if config.get("prune") and run.phase == "tune" and best_trial(rows, higher):
        run = replace(run, bar=[[*point] for point in bar(store, run.trial).items()])
    return run


def _centres(
    store: Store, entrants: Sequence[Entrant], hidden: Entrant | None, first: int
) -> dict[str, float] | None:
    """Return where everyone looks in a widened round, or None if nobody is at an edge."""
    higher = store.workload()["higher_is_better"]
    centres, at_edge = {}, []
    phases = [("tune", one) for one in entrants] + ([("target", hidden)] if hidden else [])
    for phase, one in phases:
        rows = [row for row in store.runs(phase, one.name) if row.trial < first]
        best = best_trial(rows, higher)
        if best and phase == "tune" and edge(best.position):
            at_edge.append(one.name)
        # Where every learning rate was too high, the lowest was the nearest.
        rates = [u for key, u in (best.position if best else {}).items() if key.endswith(".lr")]
        centres[one.name] = rates[0] if rates else 0.0
    if not at_edge:
        return None
    spaces = {one.name: described(space_of(one), wider=True) for one in entrants}
    store.set_facts(spaces=spaces, widened={"because": at_edge, "first": first})
    return centres


def _while_it_lasts(store: Store, planned: Sequence[Planned]) -> Iterator[list[Planned]]:
    """Yield a round of trials at a time, of those whose earlier trials left seconds."""
    seconds = store.config()["budget_seconds"]
    for _, group in itertools.groupby(planned, key=lambda run: run.number):
        batch = []
        for run in group:
            rows = store.runs(run.phase, run.entrant)
            spent = math.fsum(row.seconds or 0.0 for row in rows if row.trial < run.trial)
            if spent < seconds:
                batch.append(_ready(store, run))
        if not batch:
            return
        yield batch
