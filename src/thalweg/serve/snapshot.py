"""What the live page says: the state of a race at one moment, ready for its templates."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from thalweg.race.events import Clock
from thalweg.race.live import LiveRun, read_live
from thalweg.race.rows import RunRow, best_trial
from thalweg.race.stages import open_ended, places
from thalweg.race.store import Store
from thalweg.report import look
from thalweg.report.labels import short_labels
from thalweg.report.numbers import NONE, Format, integer, metric_format, number, seconds
from thalweg.serve.curves import Line, figures

QUIET = 60.0
"""Seconds without news after which a run is called silent."""

KINDS = {"target": "for the target, trial", "tune": "trial", "final": "seed"}


@dataclass(frozen=True)
class Snapshot:
    """A race at one moment.

    Attributes:
        finished: whether every run is done.
        facts: what the templates say.
        figures: id -> specification of each figure.
    """

    finished: bool
    facts: dict[str, Any]
    figures: dict[str, Any]


def snapshot(folder: Path) -> Snapshot:
    """Return the state of the race in a folder.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    with Store.open(folder) as store:
        live = read_live(folder)
        rows = store.runs()
        done = {row.run_id for row in rows}
        running = [run for run in live if run.run_id not in done]
        state = _State(store, rows, running)
        return Snapshot(store.finished(), state.facts(), state.figures())


class _State:
    """The pieces of a snapshot, computed from the rows and the runs under way."""

    def __init__(self, store: Store, rows: Sequence[RunRow], running: Sequence[LiveRun]) -> None:
        self._store = store
        self._rows = rows
        self._running = running
        self._now = time.time()
        self._config, self._workload = store.config(), store.workload()
        self._higher = self._workload["higher_is_better"]
        self._names = [entrant["name"] for entrant in self._config["entrants"]]
        recipes = [entrant["recipe"] for entrant in self._config["entrants"]]
        self._labels = dict(zip(self._names, short_labels(self._names, recipes), strict=True))
        self._places = places(store, [run.run_id for run in running])
        self._at_least = "at least " if open_ended(store) else ""
        self._target = (store.target() or {}).get("value")
        self._trials = {name: self._of(name, "tune") for name in self._names}
        self._finals = {name: self._of(name, "final") for name in self._names}
        self._best = {n: best_trial(self._trials[n], self._higher) for n in self._names}
        # Means of final runs are compared once everybody who will have any has one.
        self._by_finals = any(self._finals.values()) and all(
            any(row.finished for row in self._finals[name])
            for name in self._names
            if self._best[name] is not None
        )
        finals = [r.final_metric for r in rows if r.finished]
        self._metric: Format = metric_format([*finals, self._target])

    def _of(self, name: str, phase: str) -> list[RunRow]:
        return [row for row in self._rows if row.entrant == name and row.phase == phase]

    def facts(self) -> dict[str, Any]:
        """Return what the templates say."""
        total = sum(len(some) for phase in self._places.values() for some in phase.values())
        done = len(self._rows)
        board = self._board()
        heard = [run for run in self._running if self._now - run.heard < QUIET]
        return {
            "workload": self._workload["title"],
            "metric": self._workload["metric_name"],
            "higher": self._higher,
            "headline": self._headline(board),
            "lead": self._lead(total),
            "finished": self._store.finished(),
            "done": done,
            "total": total,
            "share": 100 * self._share(total),
            "summary": self._summary(done, total, heard),
            "silent": self._silence(heard),
            "board": board,
            "by_finals": self._by_finals,
            "running": [self._run(run) for run in self._running],
            "grid": [self._row(i, name) for i, name in enumerate(self._names)],
            "baseline": self._baseline(),
            "legend": [
                {"index": i, "name": n, "label": self._labels[n], "swatch": look.swatch(i)}
                for i, n in enumerate(self._names)
            ],
        }

    def figures(self) -> dict[str, Any]:
        """Return the specifications of the figures."""
        lines = []
        for index, name in enumerate(self._names):
            ended = [row for row in self._finals[name] if row.finished]
            best = self._best[name]
            shown = ended or ([best] if best else [])
            what = "mean of final runs" if ended else f"trial {best.trial + 1}" if best else ""
            curves = [self._store.curve(row.run_id) for row in shown]
            if curves:
                lines.append(Line(index, self._labels[name], what, curves, False))
            for run in self._running:
                if run.entrant == name and run.curve:
                    what = f"{KINDS[run.phase]} {run.number + 1}, under way"
                    lines.append(Line(index, self._labels[name], what, [run.curve], True))
        return figures(lines, self._workload["metric_name"], self._higher, self._target)

    def _share(self, total: int) -> float:
        return (len(self._rows) + sum(run.share for run in self._running)) / max(1, total)

    def _left(self) -> float | None:
        """Return the estimate of the seconds to the end, over all runs at once under way."""
        pending = Counter[str]()
        for phase in self._places.values():
            pending.update({name: len(some) for name, some in phase.items()})
        pending.subtract(row.entrant for row in self._rows)
        clock = Clock(pending)
        for row in self._rows:
            clock.measured(row)
        runs = [run for run in self._running if run.share > 0]
        left = clock.seconds_left()
        if left is None and runs:
            run = max(runs, key=lambda one: one.share)
            left = clock.seconds_left(run.entrant, run.share, run.elapsed)
            return None if left is None else left / len(self._running)
        if left is None:
            return None
        spent = sum(run.share * (clock.run_seconds(run.entrant) or 0.0) for run in runs)
        return max(0.0, left - spent) / max(1, len(self._running))

    def _headline(self, board: Sequence[dict[str, Any]]) -> str:
        if self._store.finished():
            return "All runs are done"
        if not board or board[0]["value"] is None:
            tried = any(self._trials.values())
            return "No trial has got to its end yet" if tried else "The first trials are under way"
        return f"{board[0]['label']} leads so far"

    def _lead(self, total: int) -> str:
        if self._store.finished():
            return "The report is being written and takes the place of this page."
        if not self._rows:
            return "No run has finished yet, so there is nothing to compare."
        if self._by_finals:
            by = "Entrants are ordered by the mean of their final runs so far"
        else:
            by = "Entrants are ordered by their best trial so far"
        return (
            f"{by}. Which differences are more than noise, the verdict tells when the last of "
            f"{self._at_least}{integer(total)} runs is done."
        )

    def _summary(self, done: int, total: int, heard: Sequence[LiveRun]) -> list[tuple[str, str]]:
        wall = sum(row.wall_seconds or 0.0 for row in self._rows)
        left = self._left()
        target = "not set yet" if self._store.target() is None else number(self._target, 4)
        return [
            ("Runs done", f"{integer(done)} of {self._at_least}{integer(total)}"),
            ("Under way", integer(len(heard))),
            ("Left, estimated", "not known yet" if left is None else _rough(left)),
            ("Spent on runs", seconds(wall) if wall else "nothing yet"),
            ("Target", target),
        ]

    def _silence(self, heard: Sequence[LiveRun]) -> str | None:
        if heard or self._store.finished():
            return None
        file = self._store.folder / "race.sqlite"
        news = max([file.stat().st_mtime, *(run.heard for run in self._running)])
        if self._now - news < QUIET:
            return None
        return (
            f"Nothing was heard of this race for {_rough(self._now - news)}. If it was "
            "interrupted, the command that began it continues it."
        )

    def _board(self) -> list[dict[str, Any]]:
        rows = []
        for index, name in enumerate(self._names):
            best, trials, finals = self._best[name], self._trials[name], self._finals[name]
            ended = [float(r.final_metric or 0) for r in finals if r.finished]
            times = [r.seconds_per_step for r in [*trials, *finals] if r.seconds_per_step]
            value = None
            if self._by_finals:
                value = fmean(ended) if ended else None
            elif best is not None:
                value = float(best.final_metric or 0)
            rows.append(
                {
                    "index": index,
                    "name": name,
                    "label": self._labels[name],
                    "swatch": look.swatch(index),
                    "colour": look.colour_name(index),
                    "value": value,
                    "best": self._metric(best.final_metric) if best else NONE,
                    "best_note": f"trial {best.trial + 1}" if best else "",
                    "mean": self._metric(fmean(ended)) if ended else NONE,
                    "mean_note": f"{self._metric(min(ended))} to {self._metric(max(ended))}"
                    if len(ended) > 1
                    else "",
                    "trials": f"{len(trials)} of {len(self._places['tune'][name])}",
                    "seeds": f"{len(finals)} of {len(self._places['final'][name])}",
                    "broken": sum(not r.finished for r in [*trials, *finals]),
                    "step": seconds(median(times)) if times else NONE,
                }
            )
        sign = -1 if self._higher else 1
        rows.sort(key=lambda row: math.inf if row["value"] is None else sign * row["value"])
        for place, row in enumerate(rows, 1):
            row["place"] = NONE if row["value"] is None else str(place)
        return rows

    def _run(self, run: LiveRun) -> dict[str, Any]:
        index = self._names.index(run.entrant) if run.entrant in self._names else None
        quiet = self._now - run.heard
        metric = run.curve[-1].metric if run.curve else None
        return {
            "label": self._labels.get(run.entrant, run.entrant),
            "name": run.entrant,
            "swatch": "" if index is None else look.swatch(index),
            "colour": "muted" if index is None else look.colour_name(index),
            "what": f"{KINDS[run.phase]} {run.number + 1}",
            "share": 100 * run.share,
            "steps": f"step {integer(run.step)} of {integer(run.steps)}",
            "loss": number(run.loss),
            "metric": self._metric(metric) if metric is not None else NONE,
            "where": f"{run.host}, process {run.pid}",
            "silent": _rough(quiet) if quiet >= QUIET else None,
        }

    def _row(self, index: int, name: str) -> dict[str, Any]:
        best = self._best[name]
        trials = self._cells("tune", name, self._trials[name])
        if best is not None:
            trials[self._places["tune"][name].index(best.trial)]["best"] = True
        return {
            "label": self._labels[name],
            "name": name,
            "swatch": look.swatch(index),
            "colour": look.colour_name(index),
            "trials": trials,
            "seeds": self._cells("final", name, self._finals[name]),
        }

    def _baseline(self) -> list[dict[str, Any]]:
        rows = [row for row in self._rows if row.phase == "target"]
        name = next(iter(self._places["target"]), None)
        return [] if name is None else self._cells("target", name, rows)

    def _cells(self, phase: str, name: str, rows: Sequence[RunRow]) -> list[dict[str, Any]]:
        by_place = {int(row.run_id.rsplit("-", 1)[1]): row for row in rows}
        under_way = {r.number: r for r in self._running if (r.phase, r.entrant) == (phase, name)}
        cells = []
        for place in self._places[phase][name]:
            row, run = by_place.get(place), under_way.get(place)
            state, text = "queued", "waiting"
            if row is not None and row.finished:
                state, text = "done", self._metric(row.final_metric)
            elif row is not None:
                state, text = row.status, row.status
            elif run is not None:
                state, text = "running", f"{run.share:.0%}"
            title = f"{KINDS[phase]} {place + 1}: {text}"
            share = 100 * run.share if run is not None and row is None else 0.0
            cells.append({"state": state, "title": title, "best": False, "share": share})
        return cells


def _rough(value: float) -> str:
    """Return a duration as an estimate is told: in one unit, or hours and minutes."""
    if value < 59.5:
        return f"{max(1, round(value))} s"
    minutes = round(value / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
