"""What a verdict holds: standings, pairs, a winner if there is one, and plain sentences."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from thalweg.race.best_of import BestOf

VERSION = 1
METHOD = (
    "Ranked by the mean over seeds of the final metric of each entrant's best trial. Intervals of "
    "means and of probabilities are 95 % percentile bootstraps over seeds; with fewer than about "
    "10 seeds such intervals are too narrow, so they do not decide. Two entrants are separated if "
    "a t-test (the larger of the paired and the unpaired standard error, Welch's degrees of "
    "freedom) finds a difference and the interval of the probability of improvement excludes 0.5. "
    "The winner must beat every other entrant at the 5 % level, so that a false winner is named in "
    "at most 5 % of races; among all pairs that are told apart the false-discovery rate is at most "
    "5 %, by the procedure of Benjamini and Yekutieli, which holds under any dependence. If seeds "
    "were added while pairs were undecided, the 5 % are shared among the planned looks, half of "
    "them for the last one, so that looking often does not add false findings. A run that "
    "diverged or failed is worse than any that finished. An entrant without a finished trial is "
    "not run again and comes last by rule."
)


@dataclass(frozen=True)
class Power:
    """What the seeds of a race can tell apart (`thalweg.race.power`), for two entrants.

    Attributes:
        seeds: final runs of each.
        deviation: standard deviation of a final run, of all entrants together.
        gap: the smallest true difference of means that is found with probability 0.8.
        tenth: how probably a difference of a tenth of the best mean is found; None if that is 0.
        needed: seeds that would find the difference seen between the first two of the ranking with
            probability 0.8, if it is the true one; None beyond 1,000.
    """

    seeds: int
    deviation: float
    gap: float
    tenth: float | None
    needed: int | None


@dataclass(frozen=True)
class Standing:
    """How one entrant did.

    Attributes:
        entrant: its name.
        recipe: its recipe as entered.
        rank: 1 + the number of entrants that are separated from it and better; entrants of whose
            final runs none finished come after all others.
        tied_with: the entrants that it is not separated from.
        mean: mean final metric of the final runs that finished; None if none did.
        low: lower end of the 95 % percentile bootstrap interval over seeds; None under 2 runs.
        high: upper end.
        runs: final runs.
        finished: final runs that finished.
        diverged: final runs that diverged, or were not started because every trial had diverged.
        failed: final runs that failed.
        best_trial: the trial that the final runs repeat; None if no trial finished.
        hyper: its tuned values.
        edge: ``lower`` or ``upper`` if its learning rate lies in the outer tenth of the range.
        trials: tuning trials.
        trials_diverged: trials that diverged.
        trials_failed: trials that failed.
        trials_at_target: trials that met the target.
        median_trial: median final metric of the trials that finished, or None.
        steps_to_target: median over final runs, a miss counting as infinite; None if it is.
        seconds_to_target: likewise.
        at_target: final runs that met the target.
        seconds_per_step: median over final runs.
        peak_bytes: median over final runs.
        state_bytes: median over final runs.
        error: the first error message among its runs, or None.
        best_of: its expected result with fewer trials (`thalweg.race.best_of`); empty under 2,
            and where trials depend on each other or are given up.
    """

    entrant: str
    recipe: str
    rank: int
    tied_with: tuple[str, ...]
    mean: float | None
    low: float | None
    high: float | None
    runs: int
    finished: int
    diverged: int
    failed: int
    best_trial: int | None
    hyper: dict[str, Any]
    edge: str | None
    trials: int
    trials_diverged: int
    trials_failed: int
    trials_at_target: int
    median_trial: float | None
    steps_to_target: float | None
    seconds_to_target: float | None
    at_target: int
    seconds_per_step: float | None
    peak_bytes: float | None
    state_bytes: float | None
    error: str | None
    best_of: tuple[BestOf, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two entrants compared, ``a`` the one that stands before ``b`` in the ranking.

    Attributes:
        a: an entrant.
        b: another one.
        difference: mean of ``a`` minus mean of ``b`` over finished final runs, or None.
        difference_low: lower end of its 95 % interval (of the t-test, not corrected for many
            pairs); None if a run diverged or there are fewer than 3 seeds.
        difference_high: upper end.
        probability: how probably a run of ``a`` is better than one of ``b``.
        low: lower end of its 95 % bootstrap interval.
        high: upper end.
        p_value: of the test in `thalweg.race.score.compare`; if seeds were added, corrected for
            the looks (`thalweg.race.sequential`).
        p_adjusted: the false-discovery rate at which the pair would be told apart
            (`thalweg.race.decisions.separate`); None where a rule and no test decides, because one
            of the two finished no trial.
        p_sign_flip: of the exact sign-flip test, for information.
        separated: whether the data tell the two apart.
    """

    a: str
    b: str
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    probability: float
    low: float
    high: float
    p_value: float
    p_adjusted: float | None
    p_sign_flip: float
    separated: bool


@dataclass(frozen=True)
class Verdict:
    """The outcome of a race; `to_dict` is what `verdict.json` holds.

    Attributes:
        workload: its name.
        metric_name: the metric that ranks.
        higher_is_better: its direction.
        steps: steps of every run.
        seeds: final runs of every entrant; if seeds were added, of the one that has most.
        target: the value that counts as reached, or None.
        target_source: ``user``, ``workload``, ``baseline`` or ``none``.
        target_text: one sentence on how it was set.
        ranking: standings by rank, then mean.
        pairs: every pair once.
        winner: the entrant that beats every other one, or None.
        contention: why times cannot be compared, or None.
        ruleset: by which it was run (`thalweg.race.ruleset`).
        widened: the entrants for whose best learning rates all ranges were widened.
        power: what the seeds can tell apart, or None if there is nothing to compare.
        sentences: all of this in words.
    """

    workload: str
    metric_name: str
    higher_is_better: bool
    steps: int
    seeds: int
    target: float | None
    target_source: str
    target_text: str
    ranking: tuple[Standing, ...]
    pairs: tuple[Pair, ...]
    winner: str | None
    contention: str | None
    ruleset: str = "budget"
    widened: tuple[str, ...] = ()
    power: Power | None = None
    sentences: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready data."""
        content = dataclasses.asdict(self)
        metric = {
            "name": content.pop("metric_name"),
            "higher_is_better": content.pop("higher_is_better"),
            "measured": "after the last step, on the validation set",
        }
        return {"version": VERSION, "metric": metric, **content, "method": METHOD}
