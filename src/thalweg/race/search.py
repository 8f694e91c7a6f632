"""Where each trial looks: quasi-random points of a search space, or what a searcher proposes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thalweg.core.errors import UsageError
from thalweg.core.space import Log, Space
from thalweg.race.rows import RunRow
from thalweg.tune import Searcher, SearchSpace, Study, named
from thalweg.tune import Trial as Told
from thalweg.tune.plain import halton

QUASI_RANDOM = "quasi-random"
"""The searcher of a race that names no other."""

EDGE = 0.1
"""A best learning rate in the outer tenth of its range, at either end, lies at an edge."""

WINDOW = 0.5
"""Width of what a widened round looks through, as a share of the range of learning rates."""

WIDER = WINDOW / 2
"""By which share of its width a range is widened at both ends."""


@dataclass(frozen=True)
class Trial:
    """One point of a search space.

    Attributes:
        position: ``slug.parameter`` -> ``u`` of [0, 1).
        hyper: ``slug.parameter`` -> the value there.
    """

    position: dict[str, float]
    hyper: dict[str, Any]


def trials(space: Mapping[str, Space], number: int, seed: int) -> list[Trial]:
    """Return the first trials of a space, from a scrambled Halton sequence.

    Trial ``k`` depends only on the seed, ``k`` and the space: not on how many trials there are,
    nor on who else takes part. Dimension ``d`` of the sequence is the same in every space, so
    equal spaces see equal points, and because a recipe names its learning rate first, all
    entrants see the same positions within their ranges of learning rates.

    Args:
        space: ``slug.parameter`` -> space, the learning rate first.
        number: how many trials; an empty space has only one point and gets one trial.
        seed: the seed of the race.
    """
    if not space:
        return [Trial({}, {})]
    points = halton(len(space), number, seed)
    positions = [dict(zip(space, map(float, point), strict=True)) for point in points]
    return [
        Trial(position, {key: space[key].at(u) for key, u in position.items()})
        for position in positions
    ]


def widened_trials(
    space: Mapping[str, Space], number: int, seed: int, centre: float
) -> list[Trial]:
    """Return the trials of `trials` with the learning rate looked for around a best one.

    A learning rate on a logarithmic range moves from position ``u`` to
    ``centre + WINDOW (u - 1/2)``, which may lie up to `WIDER` beyond an end of the range; all other
    values, and learning rates on other ranges, stay where they are.

    Args:
        space: as in `trials`.
        number: as in `trials`.
        seed: as in `trials`.
        centre: position of the best learning rate so far.
    """
    found = []
    for trial in trials(space, number, seed):
        position = dict(trial.position)
        for key, u in position.items():
            if _widens(key, space[key]):
                position[key] = centre + WINDOW * (u - 0.5)
        found.append(Trial(position, {key: space[key].at(u) for key, u in position.items()}))
    return found


def searcher_of(name: str) -> Searcher:
    """Return a searcher that can propose the trials of a race.

    Args:
        name: as `thalweg.tune.named` takes it.

    Raises:
        UsageError: there is none of that name, or its trials have different lengths.
    """
    chosen = named(name)
    if chosen.fidelity:
        raise UsageError(
            f'the searcher "{name}" gives trials different lengths, and all runs of a race are '
            "equally long; race with another one, such as gp-ei or tpe, or tune each recipe with "
            f'it: thalweg tune TASK RECIPE --searcher "{name}"'
        )
    return chosen


def check_searcher(name: str, space: Mapping[str, Space], number: int, seed: int) -> None:
    """Check that a searcher can propose the trials of an entrant.

    Raises:
        UsageError: as `searcher_of`, or it cannot search that space in so many trials.
    """
    chosen = searcher_of(name)
    if space:
        chosen.check(Study(SearchSpace(space), (), seed, number))


def looks_back(name: str) -> bool:
    """Return whether the trials of a searcher wait for the results of those before them."""
    return name != QUASI_RANDOM and named(name).looks_back


def next_trial(
    name: str,
    space: Mapping[str, Space],
    number: int,
    seed: int,
    rows: Sequence[RunRow],
    higher_is_better: bool,
) -> Trial | None:
    """Return the trial that a searcher proposes after an entrant's first trials, if any.

    It depends on the seed, the space and the entrant's own rows alone. A trial that diverged,
    failed or was given up has no result, which searchers take for worse than the worst.

    Args:
        name: of the searcher, as `thalweg.tune.named` takes it.
        space: ``slug.parameter`` -> space, not empty.
        number: how many trials there will be in all.
        seed: the seed of the race.
        rows: the rows of the trials before this one, in order.
        higher_is_better: the metric's direction.
    """
    sign = -1.0 if higher_is_better else 1.0
    told = [
        Told(
            number=i,
            position=row.position,
            values=row.hyper,
            budget=1.0,
            parent=None,
            status="ok" if row.finished else "diverged",
            loss=sign * row.final_metric if row.finished and row.final_metric is not None else None,
            reached=1.0,
        )
        for i, row in enumerate(rows)
    ]
    whole = SearchSpace(space)
    proposal = named(name).propose(Study(whole, tuple(told), seed, number))
    if proposal is None:
        return None
    return Trial(proposal.position, whole.values(proposal.position))


def described(space: Mapping[str, Space], wider: bool = False) -> dict[str, Any]:
    """Return a search space as JSON-ready data, with the ranges of learning rates widened or not.

    A widened range says by which share of its width, under the key ``widened``.
    """
    found: dict[str, Any] = {}
    for key, one in space.items():
        if wider and isinstance(one, Log) and _widens(key, one):
            found[key] = {**one.widened(WIDER).describe(), "widened": WIDER}
        else:
            found[key] = one.describe()
    return found


def edge(position: Mapping[str, float], widened: float = 0.0) -> Literal["lower", "upper"] | None:
    """Return the edge of its range at which a trial's learning rate lies, if at any.

    Args:
        position: of the trial, in the range as it was at first.
        widened: by which share of its width the range was widened at both ends.
    """
    for key, u in position.items():
        if key.endswith(".lr"):
            share = (u + widened) / (1 + 2 * widened)
            return "lower" if share < EDGE else "upper" if share > 1 - EDGE else None
    return None


def _widens(key: str, space: Space) -> bool:
    return key.endswith(".lr") and isinstance(space, Log)
