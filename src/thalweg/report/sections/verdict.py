"""Who wins, in plain words, and the leaderboard."""

import itertools
import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from markupsafe import Markup, escape

from thalweg.race.sentences import listing
from thalweg.report import look
from thalweg.report.facts import Entrant, Race
from thalweg.report.numbers import integer, number, seconds, size

AT_ONCE = 1600
"""Characters of sentences, beyond the first one, that are not folded away."""


def build(race: Race) -> dict[str, Any]:
    """Return the headline, the sentences and the rows of the leaderboard."""
    first, *rest = race.verdict.sentences
    scale = _Scale(race)
    labels = {entrant.name: entrant.label for entrant in race.entrants}
    sentences = [shortened(sentence, labels) for sentence in rest]
    shown = _shown(sentences)
    return {
        "headline": _headline(race),
        "lead": shortened(first, labels),
        "sentences": sentences[:shown],
        "more": sentences[shown:],
        "facts": _facts(race),
        "rows": [_row(entrant, race, scale) for entrant in race.ranking],
        "scale": scale.ends(),
        "contention": race.verdict.contention,
        "metric_title": race.metric_name[:1].upper() + race.metric_name[1:],
        "has_target": race.target_value is not None,
    }


def _shown(sentences: Sequence[Markup]) -> int:
    """Return how many sentences to show at once: all but where there are too many to take in."""
    lengths = list(itertools.accumulate(len(sentence.striptags()) for sentence in sentences))
    if not lengths or lengths[-1] <= AT_ONCE:
        return len(lengths)
    return sum(length <= AT_ONCE // 2 for length in lengths)


def shortened(sentence: str, labels: Mapping[str, str]) -> Markup:
    """Return a sentence of the verdict with entrants by their labels, their full names behind."""
    # Names of one or two letters are words as well.
    labels = {name: label for name, label in labels.items() if len(name) > 2}
    if not labels:
        return escape(sentence)
    # The longest name first: one may be a part of another.
    names = "|".join(re.escape(name) for name in sorted(labels, key=len, reverse=True))
    pieces = re.split(rf"(?<![\w-])({names})(?![\w-])", sentence)
    marked = [
        Markup('<b title="{}">{}</b>').format(piece, labels[piece]) if i % 2 else escape(piece)
        for i, piece in enumerate(pieces)
    ]
    return Markup("").join(marked)


def _headline(race: Race) -> str:
    first = race.ranking[0]
    if first.standing.finished == 0:
        return "No entrant finished"
    if len(race.ranking) == 1:
        return f"{first.label} ran alone"
    if race.winner is not None:
        return f"{race.winner.label} wins"
    top = [entrant.label for entrant in race.ranking if entrant.standing.rank == 1]
    if len(top) == 1:
        return f"No clear winner: {top[0]} leads"
    return f"A tie: {listing(top)}" if len(top) <= 3 else f"A tie between {len(top)} entrants"


def _facts(race: Race) -> list[tuple[str, str]]:
    config, verdict = race.config, race.verdict
    rows = [row for e in race.entrants for row in [*e.trials, *e.finals]] + [*race.baseline]
    target = "none" if verdict.target is None else number(verdict.target, 4)
    direction = "higher is better" if race.higher_is_better else "lower is better"
    return [
        ("Metric", f"{race.metric_name}, {direction}"),
        ("Target", target),
        ("Budget", f"{integer(config['steps'])} steps a run"),
        ("Tuning", _tuning(config)),
        ("Final runs", _final_runs(race)),
        ("Trained", f"{seconds(sum(row.seconds or 0 for row in rows))} in {len(rows)} runs"),
    ]


def _tuning(config: Mapping[str, Any]) -> str:
    rules = config.get("ruleset", "budget")
    if rules == "self":
        return "none: runs are three times as long"
    if config.get("budget_seconds"):
        return f"{seconds(config['budget_seconds'])} of training each"
    trials = f"{integer(config['trials'])} {'trial' if config['trials'] == 1 else 'trials'}"
    return f"{trials} in each study" if rules == "external" else f"{trials} each"


def _final_runs(race: Race) -> str:
    counts = [len(entrant.finals) for entrant in race.entrants]
    low, high = min(counts), max(counts)
    unit = ("study", "studies") if race.verdict.ruleset == "external" else ("seed", "seeds")
    if low < high:
        return f"{integer(low)} to {integer(high)} {unit[1]}"
    return f"{integer(low)} {unit[low > 1]} each"


class _Scale:
    """The common scale of the interval bars; what lies far off is pinned to its end."""

    def __init__(self, race: Race) -> None:
        self._race = race
        standings = [e.standing for e in race.ranking if e.standing.mean is not None]
        means = [float(s.mean) for s in standings if s.mean is not None]
        pick = max if race.higher_is_better else min
        best = pick(means, default=0.0)
        gaps = [abs(mean - best) for mean in means if mean != best]
        reach = 4 * median(gaps) if gaps else 0.0
        near = [s for s in standings if s.mean is not None and abs(s.mean - best) <= reach]
        values = [v for s in near for v in (s.low, s.mean, s.high) if v is not None]
        low, high = min(values, default=0.0), max(values, default=1.0)
        room = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
        self.low, self.high = low - room, high + room

    def place(self, value: float) -> float:
        """Return where a value lies, in percent of the bar's width, never outside."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def off(self, value: float) -> str:
        """Return ``low`` or ``high`` for a value that lies outside."""
        return "low" if value < self.low else "high" if value > self.high else ""

    def ends(self) -> dict[str, Any]:
        """Return the labels of the scale, and where on it the target lies."""
        target = self._race.target_value
        inside = target is not None and not self.off(target)
        known = any(e.standing.mean is not None for e in self._race.entrants)
        return {
            "low": self._race.metric(self.low) if known else "",
            "high": self._race.metric(self.high) if known else "",
            "target": self.place(target) if inside and target is not None else None,
        }


def _row(entrant: Entrant, race: Race, scale: _Scale) -> Mapping[str, Any]:
    standing = entrant.standing
    labels = {e.name: e.label for e in race.entrants}
    row: dict[str, Any] = {
        "rank": f"{standing.rank}=" if _shared(entrant, race) else str(standing.rank),
        "label": entrant.label,
        "name": entrant.name,
        "swatch": look.swatch(entrant.index),
        "colour": look.colour_name(entrant.index),
        "winner": entrant is race.winner,
        "tied": _tied([labels[name] for name in standing.tied_with], len(labels) - 1),
        "mean": race.metric(standing.mean),
        "interval": "",
        "bar": None,
        "steps": _reached(standing.steps_to_target, standing.at_target, standing.runs, integer),
        "seconds": _reached(standing.seconds_to_target, standing.at_target, standing.runs, seconds),
        "step_time": seconds(standing.seconds_per_step),
        "peak": size(standing.peak_bytes),
        "state": size(standing.state_bytes),
        "runs": _fates(standing.finished, standing.runs, standing.diverged, standing.failed),
        "broken": standing.finished < standing.runs,
    }
    if standing.mean is None:
        row["mean"] = "no run finished"
        return row
    if standing.low is not None and standing.high is not None:
        row["interval"] = f"{race.metric(standing.low)} to {race.metric(standing.high)}"
    low = standing.mean if standing.low is None else standing.low
    high = standing.mean if standing.high is None else standing.high
    row["bar"] = {
        "left": scale.place(low),
        "width": round(scale.place(high) - scale.place(low), 2),
        "dot": scale.place(standing.mean),
        "off": scale.off(standing.mean),
    }
    return row


def _shared(entrant: Entrant, race: Race) -> bool:
    return sum(e.standing.rank == entrant.standing.rank for e in race.entrants) > 1


def _tied(labels: Sequence[str], others: int) -> str:
    if len(labels) > 2:
        return "tied with all others" if len(labels) == others else f"tied with {len(labels)}"
    return f"tied with {listing(labels)}" if labels else ""


def _reached(value: float | None, hits: int, runs: int, form: Any) -> dict[str, str]:
    """Return a median time to the target, and in how many runs it was met if not in all."""
    if hits == 0:
        return {"value": "not reached", "note": ""}
    note = "" if hits == runs else f"{hits} of {runs} runs"
    if value is None:
        return {"value": "not reached", "note": note}
    whole = form is integer
    return {"value": form(round(value)) if whole else form(value), "note": note}


def _fates(finished: int, runs: int, diverged: int, failed: int) -> str:
    fates = [f"{number(n)} {fate}" for n, fate in ((diverged, "diverged"), (failed, "failed")) if n]
    return ", ".join(fates) if fates else f"all {runs}" if runs > 1 else "finished"
