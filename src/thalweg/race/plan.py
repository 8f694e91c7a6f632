"""Which runs a race consists of, in which order, with which seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from thalweg.core.seeds import derive_seed
from thalweg.core.space import Space
from thalweg.race.entrants import Entrant
from thalweg.race.rows import Phase, RunRow
from thalweg.race.search import QUASI_RANDOM, Trial, looks_back, next_trial, widened_trials
from thalweg.race.search import trials as search_trials
from thalweg.recipe import Recipe


@dataclass(frozen=True)
class Planned:
    """A run to be done.

    Attributes:
        run_id: as in `thalweg.race.rows.RunRow`, like all that follow.
        entrant: whose it is.
        phase: ``target``, ``tune`` or ``final``.
        number: the trial, or the place of the seed, from 0.
        trial: the trial that it is or repeats.
        seed: the run's seed.
        recipe: the recipe to run, filled in.
        hyper: the tuned values.
        position: where they lie in their spaces.
        bar: pairs of a step and the metric that the run must not fall behind there, or it is given
            up (`thalweg.race.pruning`).
    """

    run_id: str
    entrant: str
    phase: Phase
    number: int
    trial: int
    seed: int
    recipe: str
    hyper: dict[str, Any]
    position: dict[str, float]
    bar: list[list[float]] = field(default_factory=list)


def run_seed(seed: int, *stream: str | int) -> int:
    """Return a seed for a run: derived from the race's, short enough to be typed."""
    return derive_seed(seed, *stream) >> 32


def space_of(entrant: Entrant) -> Mapping[str, Space]:
    """Return the search space of an entrant: what its recipe leaves open."""
    return Recipe.parse(entrant.recipe).space()


def plan_trials(
    entrants: Sequence[Entrant],
    baseline: Entrant | None,
    trials: int,
    seed: int,
    study: int | None = None,
    centres: Mapping[str, float] | None = None,
    searcher: str = QUASI_RANDOM,
) -> list[Planned]:
    """Return the tuning runs, round by round over the entrants, a hidden baseline first.

    All share one run seed, so that every trial of every entrant starts from the same weights and
    sees the same batches. With a searcher that looks back, where a trial looks is not known yet:
    its recipe is the entrant's, and `placed` fills it in when the trials before it are done.

    Args:
        entrants: who tunes.
        baseline: the hidden entrant that sets the target, if there is one.
        trials: how many each, or of each study.
        seed: of the race.
        study: which of several studies, each with other points and another run seed; its trials
            are numbered after those of the studies before it.
        centres: around which position each entrant looks for its learning rate, by name, in a
            widened round (`thalweg.race.search.widened_trials`).
        searcher: what proposes the trials, without studies and centres.
    """
    if study is None:
        shared, points, before = run_seed(seed, "tune"), seed, 0
    else:
        shared, before = run_seed(seed, "tune", study), study * trials
        points = derive_seed(seed, "study", study)
    planned: list[tuple[int, Planned]] = []
    studies: list[tuple[Phase, int, Entrant]] = [("tune", i, one) for i, one in enumerate(entrants)]
    if baseline is not None:
        studies.insert(0, ("target", 0, baseline))
    for phase, index, entrant in studies:
        recipe = Recipe.parse(entrant.recipe)
        centre = (centres or {}).get(entrant.name)
        if centre is None:
            found = _points(recipe.space(), trials, points, searcher)
        else:
            found = widened_trials(recipe.space(), trials, points, centre)
        for trial, point in enumerate(found):
            run = Planned(
                run_id=f"{phase}-{index:02d}-{before + trial:03d}",
                entrant=entrant.name,
                phase=phase,
                number=before + trial,
                trial=before + trial,
                seed=shared,
                recipe=str(recipe.filled(point.hyper)),
                hyper=point.hyper,
                position=point.position,
            )
            planned.append((trial, run))
    return [run for _, run in sorted(planned, key=lambda pair: pair[0])]


def placed(
    run: Planned,
    searcher: str,
    trials: int,
    seed: int,
    rows: Sequence[RunRow],
    higher_is_better: bool,
) -> Planned:
    """Return a tuning run that knows where to look.

    Args:
        run: as `plan_trials` has it.
        searcher: the race's.
        trials: of each entrant.
        seed: the race's.
        rows: of the trials of the same entrant and phase before this one, in order.
        higher_is_better: the metric's direction.
    """
    recipe = Recipe.parse(run.recipe)
    space = recipe.space()
    if not space or not looks_back(searcher):
        return run
    point = next_trial(searcher, space, trials, seed, rows, higher_is_better)
    if point is None:  # it gives up early, but everyone has the same number of trials
        point = search_trials(space, trials, seed)[run.trial]
    filled = str(recipe.filled(point.hyper))
    return replace(run, recipe=filled, hyper=point.hyper, position=point.position)


def _points(space: Mapping[str, Space], number: int, seed: int, searcher: str) -> list[Trial]:
    """Return where trials look, as far as that is known before any result."""
    if searcher == QUASI_RANDOM or not space:
        return search_trials(space, number, seed)
    if looks_back(searcher):
        return [Trial({}, {})] * number
    found: list[Trial] = []
    while len(found) < number:
        rows = [
            RunRow("", "", "", "tune", i, 0, "diverged", 0, hyper=one.hyper, position=one.position)
            for i, one in enumerate(found)
        ]
        point = next_trial(searcher, space, number, seed, rows, higher_is_better=False)
        if point is None:  # a grid may be smaller
            break
        found.append(point)
    return found


def plan_finals(
    entrants: Sequence[Entrant],
    best: Callable[[str, int], RunRow | None],
    seeds: Iterable[int],
    seed: int,
) -> list[Planned]:
    """Return the final runs, seed by seed over the entrants.

    Each repeats its entrant's best trial under a fresh seed, the same seed for all entrants. An
    entrant without one is planned with its own recipe: for the record, or to tune itself.

    Args:
        entrants: all who take part.
        best: the trial that an entrant repeats under which seed's place.
        seeds: places of the seeds.
        seed: of the race.
    """
    planned = []
    for number in seeds:
        for index, entrant in enumerate(entrants):
            chosen = best(entrant.name, number)
            run = Planned(
                run_id=f"final-{index:02d}-{number:03d}",
                entrant=entrant.name,
                phase="final",
                number=number,
                trial=chosen.trial if chosen else 0,
                seed=run_seed(seed, "final", number),
                recipe=chosen.recipe if chosen else entrant.recipe,
                hyper=chosen.hyper if chosen else {},
                position=chosen.position if chosen else {},
            )
            planned.append(run)
    return planned
