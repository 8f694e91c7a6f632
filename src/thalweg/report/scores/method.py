"""How it was scored."""

from __future__ import annotations

from typing import Any

from thalweg.report.numbers import number
from thalweg.report.scores.facts import Scores
from thalweg.scoring.profile import CUT_OFF, GRID

_SCORE = (
    f"A submission's ratio on a workload is its time to the target over the least of all. Its "
    f"profile says on which share of the workloads the ratio is at most so much, and its score is "
    f"the area under the profile from 1 to {CUT_OFF:.0f}, divided by {CUT_OFF - 1:.0f}: 1 for who "
    f"is the fastest everywhere, 0 for who never comes within {CUT_OFF:.0f} times the fastest. As "
    f"AlgoPerf does, the area is taken by the trapezoid rule on {GRID} points; scores.csv has the "
    "exact one as well. A time is the median over studies, in which a target that was not reached "
    f"counts as infinite; a time above {CUT_OFF:.0f} times the fastest does not count."
)
_VARIANTS = (
    " Who missed a held-out variant, or took too long on it, misses its base workload; the "
    "variants themselves are not scored."
)
_LUCK = (
    "The studies of every submission on every workload are drawn again, with replacement, 2,000 "
    "times, and all is scored anew: the intervals are where 95 % of those scores and ranks lie, "
    "and the share that is first counts the resamples in which nobody scores higher (shares can "
    "add up to more than 1, because equals are all first). This is the luck of studies on these "
    "workloads, and not that of the choice of workloads. With fewer than about 10 studies such "
    "intervals are too narrow."
)
_PAIRS = (
    "The probability that a run of one entrant beats a run of another is taken on each workload, "
    "by the metric after the last step, and averaged over workloads; its interval draws seeds "
    "again, the wider one workloads as well. Two entrants are told apart by a sign test of runs "
    "of the same seed, in which each workload counts alike and equal runs are left out, if the "
    "interval lies on the same side of 0.5 as well; among all pairs that are told apart the "
    "false-discovery rate is at most 5 %, by the procedure of Benjamini and Yekutieli. It says "
    "that one wins more often on these workloads with the settings that tuning found; by how much, "
    "and on others like them, it does not say. Seeds that a race added while somebody was tied do "
    "not take part in the test."
)
GLOSSARY = (
    ("Study", "A whole tuning effort: its trials, of which the best counts."),
    ("Speed-up", "1 less the geometric mean over workloads of the ratios of times."),
    (
        "Nash rating",
        "How a submission does against the mixture that nobody beats: 0 for those that are part of "
        "it, less for the others. Copies of a submission do not change it. Once with submissions "
        "against each other, once with submissions against workloads, where a workload that "
        "nearly everyone fails can decide alone. For reference; neither is the score.",
    ),
    ("Nash weight", "The share of a submission in that mixture."),
    ("Borda", "How many others a submission beats, summed over workloads; half for equals."),
    ("Mean rank", "Of times, over workloads; equals share the mean of theirs."),
)
_RULESETS = {
    "external": "external: trials in studies, the best trial of each counts",
    "self": "self: no tuning, every run is a study of one",
    "budget": "budget: the best trial of each entrant run again; each of those runs is a study",
}
_TRIALS = {
    "time": "the least time to the target",
    "evaluations": "the fewest evaluations to the target",
}


def build(scores: Scores) -> dict[str, Any]:
    """Return the notes on the method."""
    scoring = scores.scoring
    rules = [("Ruleset", _RULESETS.get(scores.ruleset, scores.ruleset))]
    if scores.ruleset == "external":
        rules.append(("Best trial by", _TRIALS[scoring.trial_rule]))
    rules.append(("Time to target in", scores.unit))
    targets = [
        (name, number(scoring.suite.targets[name], 6))
        for name in scoring.suite.workloads
        if name in scoring.suite.targets
    ]
    return {
        "command": scores.command,
        "rules": rules,
        "targets": targets,
        "score": _SCORE + (_VARIANTS if scoring.suite.variants else ""),
        "luck": _LUCK,
        "pairs": _PAIRS if scores.races and scores.races.improvements else "",
        "glossary": GLOSSARY,
    }
