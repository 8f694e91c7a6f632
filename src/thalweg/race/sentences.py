"""The verdict in words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from thalweg.race.ruleset import LONGER
from thalweg.race.score import MINIMUM_SEEDS
from thalweg.race.standings import Pair, Standing, Verdict


def tell(verdict: Verdict, trials: int) -> Iterator[str]:
    """Yield the sentences of a verdict, the most important first.

    Who wins, by how much and on what; what is a tie; what the seeds can tell apart; the target and
    who reached it; how much tuning mattered; best learning rates at an edge of their range;
    divergence and failures; whether times can be compared.
    """
    yield _headline(verdict)
    yield (
        f"Entrants are ranked by {verdict.metric_name} ({_direction(verdict)}) after the last of "
        f"{verdict.steps} steps: {_what(verdict)}."
    )
    yield from _behind(verdict)
    yield from _power(verdict)
    yield verdict.target_text
    if verdict.target is not None:
        yield from _time_to_target(verdict)
    if verdict.contention:
        yield f"Times are not compared, because the machine was busy: {verdict.contention}."
    yield from _tuning(verdict, trials)
    for standing in verdict.ranking:
        yield from _warnings(standing, trials)


def number(value: float) -> str:
    """Return a number for people: four significant digits."""
    return f"{value:.4g}"


def listing(names: Iterable[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    names = list(names)
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _headline(verdict: Verdict) -> str:
    ranking = verdict.ranking
    first = ranking[0]
    if first.finished == 0:
        return f"No winner on {verdict.workload}: no entrant finished a final run."
    result = f"{verdict.metric_name} {_result(first)}"
    if len(ranking) == 1:
        return f"{first.entrant} ran alone on {verdict.workload} and got {result}."
    if verdict.winner is not None:
        rivals = [one for one in ranking[1:] if one.mean is not None]
        if not rivals:
            return f"{first.entrant} wins on {verdict.workload}: {result}; no other one finished."
        pair = _find(verdict, first.entrant, rivals[0].entrant)
        return (
            f"{first.entrant} wins on {verdict.workload}: {result}, {_margin(pair)} better than "
            f"{rivals[0].entrant}, the next best. A run of {first.entrant} beats one of "
            f"{rivals[0].entrant} with probability {pair.probability:.2f} "
            f"({pair.low:.2f} to {pair.high:.2f})."
        )
    top = [one.entrant for one in ranking if one.rank == 1]
    if verdict.seeds < MINIMUM_SEEDS:
        return (
            f"No winner on {verdict.workload}: {_seeds(verdict)} cannot separate "
            f"entrants; at least {MINIMUM_SEEDS} are needed. {first.entrant} has the best mean: "
            f"{result}."
        )
    if len(top) == 1:
        others = listing(first.tied_with)
        return (
            f"No winner on {verdict.workload}: {first.entrant} has the best mean ({result}), but "
            f"{_seeds(verdict)} cannot tell it from {others}."
        )
    return (
        f"No winner on {verdict.workload}: {listing(top)} are tied; "
        f"{_seeds(verdict)} cannot separate them. {first.entrant} has the best mean: "
        f"{result}."
    )


def _behind(verdict: Verdict) -> Iterator[str]:
    separated = {frozenset((pair.a, pair.b)) for pair in verdict.pairs if pair.separated}
    for place, standing in enumerate(verdict.ranking):
        before = [one.entrant for one in verdict.ranking[:place]]
        beaten = [name for name in before if frozenset((name, standing.entrant)) in separated]
        if not beaten or standing.mean is None:
            continue
        ahead = "all others" if len(beaten) == len(verdict.ranking) - 1 > 1 else listing(beaten)
        tie = f"; tied with {listing(standing.tied_with)}" if standing.tied_with else ""
        yield f"{standing.entrant}, {_result(standing)}, is behind {ahead}{tie}."


def _time_to_target(verdict: Verdict) -> Iterator[str]:
    reached = [one for one in verdict.ranking if one.at_target]
    if not reached:
        yield "No final run reached the target."
        return
    steps = [one for one in reached if one.steps_to_target is not None]
    if not steps:
        counts = (f"{one.entrant} in {one.at_target} of {one.runs}" for one in reached)
        yield f"No entrant reached the target in its median run; some runs did: {listing(counts)}."
        return
    steps.sort(key=lambda one: one.steps_to_target or 0)
    described = (
        f"{one.entrant} {number(one.steps_to_target or 0)} ({one.at_target} of {one.runs} runs)"
        for one in steps
    )
    missed = [one.entrant for one in verdict.ranking if one not in steps]
    misses = f"; not in the median run: {listing(missed)}" if missed else ""
    yield f"Steps to the target, median over runs: {listing(described)}{misses}."
    if verdict.contention is None:
        timed = sorted(
            (one for one in steps if one.seconds_to_target is not None),
            key=lambda one: one.seconds_to_target or 0,
        )
        described = (f"{one.entrant} {one.seconds_to_target:.3g}" for one in timed)
        yield f"Seconds of training to the target, median over runs: {listing(described)}."


def _tuning(verdict: Verdict, trials: int) -> Iterator[str]:
    tuned = [one for one in verdict.ranking if one.trials > 1]
    if tuned and verdict.target is not None:
        tuned.sort(key=lambda one: -one.trials_at_target / one.trials)
        shares = listing(f"{one.entrant} {one.trials_at_target} of {one.trials}" for one in tuned)
        yield f"Trials that reached the target, a sign of how little tuning it takes: {shares}."
    fixed = [one.entrant for one in verdict.ranking if one.trials < trials and one.trials == 1]
    if fixed:
        yield f"Nothing to tune, so one trial instead of {trials}: {listing(fixed)}."
    yield from _sensitivity(verdict)
    if verdict.widened:
        yield (
            f"The best learning rate of {listing(verdict.widened)} lay at an edge of its range "
            "after three quarters of the trials, so all ranges were widened alike, and everyone's "
            "last trials looked around its best so far."
        )


def _sensitivity(verdict: Verdict) -> Iterator[str]:
    """Yield what half of the tuning budget would have given, where it is known."""
    told = []
    for one in verdict.ranking:
        if not one.best_of or one.best_of[-1].trials < 4:
            continue
        whole = one.best_of[-1]
        half = [best for best in one.best_of if best.trials <= whole.trials // 2][-1]
        interval = f" ({number(half.low or 0)} to {number(half.high or 0)})"
        told.append(
            f"{one.entrant} {number(half.value)}{interval} with {half.trials} trials, "
            f"{number(whole.value)} with all {whole.trials}"
        )
    if told:
        yield f"Expected best {verdict.metric_name} of a tuning budget: {'; '.join(told)}."


def _power(verdict: Verdict) -> Iterator[str]:
    found = verdict.power
    if found is None:
        return
    text = (
        f"With this noise, {_number_of(verdict, found.seeds)} can separate two entrants that "
        f"differ by {number(found.gap)} with probability 0.8"
    )
    if found.tenth is not None:
        text += f", and a gap of 10 % with probability {_probability(found.tenth)}"
    yield f"{text}."
    first = verdict.ranking[0]
    undecided = verdict.winner is None and len(verdict.ranking) > 1 and first.tied_with
    if undecided and found.needed is not None and found.needed > found.seeds:
        yield (
            "If the difference between the first two is as large as it looks, it takes about "
            f"{_number_of(verdict, found.needed)} to find it with probability 0.8."
        )


def _probability(value: float) -> str:
    return "above 0.99" if value > 0.99 else "below 0.01" if value < 0.01 else f"{value:.2f}"


def _seeds(verdict: Verdict) -> str:
    counts = [one.runs for one in verdict.ranking]
    if min(counts) < max(counts):
        return f"{min(counts)} to {max(counts)} seeds"
    return _number_of(verdict, verdict.seeds)


def _number_of(verdict: Verdict, seeds: int) -> str:
    return _count(seeds, "study" if verdict.ruleset == "external" else "seed")


def _what(verdict: Verdict) -> str:
    if verdict.ruleset == "external":
        return f"the mean over {_seeds(verdict)} of each study's best trial, run once more"
    if verdict.ruleset == "self":
        return (
            f"the mean over {_seeds(verdict)}; nobody was tuned, and runs are {LONGER} times longer"
        )
    return f"the mean over {_seeds(verdict)} of each entrant's best trial"


def _warnings(standing: Standing, trials: int) -> Iterator[str]:
    name = standing.entrant
    if standing.edge and standing.trials > 1:
        key = next(key for key in standing.hyper if key.endswith(".lr"))
        yield (
            f"{name}: the best learning rate, {number(standing.hyper[key])}, lies at the "
            f"{standing.edge} edge of its range; a wider range may give a better result."
        )
    error = f" ({standing.error.splitlines()[0]})" if standing.error else ""
    if standing.best_trial is None and standing.trials:
        how = _fates(standing.trials_diverged, standing.trials_failed)
        yield f"{name}: no trial finished: {how} of {standing.trials}{error}. It comes last."
        return
    if standing.trials_diverged + standing.trials_failed:
        how = _fates(standing.trials_diverged, standing.trials_failed)
        yield f"{name}: {how} of {_count(standing.trials, 'trial')}{error}."
    if standing.finished < standing.runs:
        how = _fates(standing.diverged, standing.failed)
        rest = "" if standing.mean is None else "; its mean is over those that finished"
        yield (
            f"{name}: {how} of {_count(standing.runs, 'final run')}{error}, each counted as worse "
            f"than any run that finished{rest}."
        )


def _fates(diverged: int, failed: int) -> str:
    fates = [(diverged, "diverged"), (failed, "failed")]
    return listing(f"{count} {fate}" for count, fate in fates if count)


def _result(standing: Standing) -> str:
    text = number(standing.mean or 0)
    if standing.low is not None and standing.high is not None:
        text += f" ({number(standing.low)} to {number(standing.high)})"
    if standing.finished < standing.runs:
        text += f", {standing.finished} of {standing.runs} runs finished"
    return text


def _margin(pair: Pair) -> str:
    size = abs(pair.difference or 0.0)
    if pair.difference is None or pair.difference_high is None:
        return number(size)
    margin = pair.difference_high - pair.difference
    decimals = 1 - math.floor(math.log10(margin)) if margin > 0 else 0
    if not 0 <= decimals <= 6:
        return f"{number(size)} ± {margin:.2g}"
    return f"{size:.{decimals}f} ± {margin:.{decimals}f}"


def _find(verdict: Verdict, a: str, b: str) -> Pair:
    return next(pair for pair in verdict.pairs if (pair.a, pair.b) == (a, b))


def _direction(verdict: Verdict) -> str:
    return "higher is better" if verdict.higher_is_better else "lower is better"


def _count(count: int, noun: str) -> str:
    plural = "studies" if noun == "study" else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
