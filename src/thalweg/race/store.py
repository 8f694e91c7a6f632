"""The store: one SQLite file that holds a whole race, written as results come.

Every run is recorded in one transaction, row and curve together, with a rollback journal and
``synchronous=FULL``: after a crash or ``kill -9`` a run is in the store whole or not at all.

Tables (schema version `SCHEMA_VERSION`):

* ``meta(key, value)``: JSON under the keys ``schema_version``, ``config``, ``workload``,
  ``machine``, ``spaces``, ``widened``, ``target``, ``created``, ``finished``, ``running``,
  ``pid``.
* ``run(run_id, entrant, recipe, phase, trial, seed, ...)``: a row per finished run, the fields of
  `RunRow`; ``hyper`` and ``position`` are JSON.
* ``curve(run_id, step, seconds, train_loss, metric)``: the evaluations of each run.

Numbers that are not finite are stored as text ("nan", "inf"), because SQLite turns NaN into NULL.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from thalweg.core.errors import UsageError
from thalweg.race.rows import CurvePoint, RunRow, best_trial

SCHEMA_VERSION = 2
FILE_NAME = "race.sqlite"

_FIELDS = tuple(field.name for field in dataclasses.fields(RunRow))
_JSON_FIELDS = ("hyper", "position")
_SCHEMA = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE run ({", ".join(_FIELDS)}, PRIMARY KEY (run_id));
CREATE TABLE curve (run_id, step, seconds, train_loss, metric, PRIMARY KEY (run_id, step));
"""


class Store:
    """A race on disk.

    Open an existing one with `Store.open`, make or continue one with `Store.create`; use it as a
    context manager or call `close`. What it holds is read by:

    * `config`: what decides the numbers (workload, entrants, trials, seeds, steps, seed, ...);
    * `workload`, `machine`, `spaces`, `target`: facts for a report;
    * `runs` and `curve`: the rows and their curves; `best_trials`: each entrant's chosen trial;
    * `weights`: the file with the evaluation weights of a final run.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self._connection = connection

    @classmethod
    def open(cls, path: str | os.PathLike[str], readonly: bool = True) -> Self:
        """Open the store of a race, finished or under way.

        Args:
            path: the race's folder, or the SQLite file in it.
            readonly: refuse every change (a journal left by a crash is still rolled back).

        Raises:
            UsageError: there is no store, the file is no store, or another version wrote it.
        """
        file = Path(path)
        file = file if file.is_file() else file / FILE_NAME
        if not file.is_file():
            raise UsageError(
                f"no race found: {file} does not exist; pass the folder of a race (its --out)"
            )
        connection = _connect(file)
        try:
            _check_version(connection, file)
            if readonly:
                connection.execute("PRAGMA query_only = ON")
        except BaseException:
            connection.close()
            raise
        return cls(file.parent, connection)

    @classmethod
    def create(
        cls,
        folder: Path,
        config: dict[str, Any],
        workload: dict[str, Any],
        spaces: dict[str, dict[str, Any]],
    ) -> Self:
        """Make the store of a new race in an existing folder, in one transaction."""
        file = folder / FILE_NAME
        connection = _connect(file)
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in _SCHEMA.strip().split(";")[:-1]:
                connection.execute(statement)
            store = cls(folder, connection)
            store._put(
                schema_version=SCHEMA_VERSION,
                config=config,
                workload=workload,
                spaces=spaces,
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise
        return store

    @staticmethod
    def exists(folder: Path) -> bool:
        """Return whether the folder holds a store that was begun.

        A file that SQLite created but never committed to, which a crash in the very first moment
        leaves, does not count.

        Raises:
            UsageError: there is a `race.sqlite` that this version did not write.
        """
        file = folder / FILE_NAME
        if not file.exists():
            return False
        connection = _connect(file)
        try:
            if not _tables(connection):
                return False
            _check_version(connection, file)
            return True
        finally:
            connection.close()

    # Reading

    def config(self) -> dict[str, Any]:
        """Return everything that decides the race's numbers.

        Keys: ``workload`` (name or path), ``workload_sha256`` (of a task file, else None),
        ``entrants`` (list of ``{"name", "recipe"}``, the recipe as given, in canonical text),
        ``trials``, ``seeds`` (the least), ``seeds_most`` (None if there are no more), ``steps``,
        ``ruleset``, ``budget_seconds`` (else None), ``searcher``, ``prune``,
        ``seed``, ``target`` (the user's, else None), ``evaluate_every``, ``device``, ``precision``,
        ``threads``, ``thalweg`` and ``torch`` (versions).
        """
        return self._get("config")

    def workload(self) -> dict[str, Any]:
        """Return facts about the workload.

        Keys: ``name``, ``title``, ``description``, ``metric_name``, ``higher_is_better``,
        ``batch_size``, ``data_source``, ``licence``.
        """
        return self._get("workload")

    def spaces(self) -> dict[str, dict[str, Any]]:
        """Return each entrant's search space: entrant -> ``slug.parameter`` -> described space.

        A described space is what `thalweg.core.space` gives: ``{"type": "log", "low": ...,
        "high": ...}`` and the like. An entrant with nothing to tune has an empty one.
        """
        return self._get("spaces")

    def widened(self) -> dict[str, Any] | None:
        """Return why and when the search spaces were widened, or None if they were not.

        Keys: ``because`` (the entrants whose best learning rate lay at an edge), ``first`` (the
        first trial that looked through the widened ranges, from 0).
        """
        return self._get("widened", None)

    def machine(self) -> dict[str, Any]:
        """Return the facts about the machine that `thalweg.race.machine.facts` collects.

        A race with workers adds ``workers``: the facts of each by name (see
        `thalweg.race.machine.worker_facts`), and ``workers_at_once``: the most that one machine
        was asked to run.
        """
        return self._get("machine", {})

    def target(self) -> dict[str, Any] | None:
        """Return the target, or None while it is not known yet.

        Keys: ``value`` (None if no target could be set), ``source`` (``user``, ``workload``,
        ``baseline`` or ``none``), ``text`` (one sentence that says how it was set).
        """
        return self._get("target", None)

    def finished(self) -> bool:
        """Return whether every run of the race is done."""
        return self._get("finished", False)

    def pid(self) -> int | None:
        """Return the process that last worked on this race."""
        return self._get("pid", None)

    def runs(self, phase: str | None = None, entrant: str | None = None) -> list[RunRow]:
        """Return the rows recorded so far, in the order in which a race without a break runs them.

        That is: trials first, round by round over the entrants, then the final runs, seed by
        seed over the entrants.

        Args:
            phase: only ``tune``, ``final`` or ``target``.
            entrant: only that entrant's.
        """
        query = f"SELECT {', '.join(_FIELDS)} FROM run"
        conditions = {"phase": phase, "entrant": entrant}
        wanted = {key: value for key, value in conditions.items() if value is not None}
        if wanted:
            query += " WHERE " + " AND ".join(f"{key} = ?" for key in wanted)
        rows = [_row(values) for values in self._connection.execute(query, tuple(wanted.values()))]
        return sorted(rows, key=_run_order)

    def curve(self, run_id: str) -> list[CurvePoint]:
        """Return the evaluations of a run, by step; empty for a run that never started."""
        query = "SELECT step, seconds, train_loss, metric FROM curve WHERE run_id = ? ORDER BY step"
        points = self._connection.execute(query, (run_id,))
        return [CurvePoint(*(_unpack(value) for value in point)) for point in points]

    def best_trials(self) -> dict[str, RunRow | None]:
        """Return each entrant's best trial so far (see `thalweg.race.rows.best_trial`).

        None for an entrant of whose trials none finished.
        """
        higher = self.workload()["higher_is_better"]
        names = [entrant["name"] for entrant in self.config()["entrants"]]
        return {name: best_trial(self.runs("tune", name), higher) for name in names}

    def weights(self, run_id: str) -> Path:
        """Return where the evaluation weights of a final run are (safetensors); it may not exist.

        A run that diverged or failed leaves none.
        """
        return self.folder / "weights" / f"{run_id}.safetensors"

    # Writing

    def record(self, row: RunRow, curve: Iterable[CurvePoint]) -> None:
        """Add a finished run and its curve, in one transaction."""
        values = dataclasses.asdict(row)
        for name in _JSON_FIELDS:
            values[name] = json.dumps(values[name], sort_keys=True)
        packed = [_pack(values[name]) for name in _FIELDS]
        points = [(row.run_id, *map(_pack, dataclasses.astuple(point))) for point in curve]
        with self._transaction():
            marks = ", ".join("?" * len(_FIELDS))
            self._connection.execute(f"INSERT INTO run VALUES ({marks})", packed)
            self._connection.executemany("INSERT INTO curve VALUES (?, ?, ?, ?, ?)", points)

    def set_target(
        self,
        target: dict[str, Any],
        reached: dict[str, tuple[int | None, float | None]],
    ) -> None:
        """Set the target and when each run so far met it (step and seconds), in one transaction."""
        hits = [(*hit, run_id) for run_id, hit in reached.items()]
        with self._transaction():
            self._put(target=target)
            self._connection.executemany(
                "UPDATE run SET steps_to_target = ?, seconds_to_target = ? WHERE run_id = ?", hits
            )

    def set_facts(self, **facts: Any) -> None:
        """Set ``machine``, ``spaces``, ``widened``, ``created``, or how far the race is."""
        with self._transaction():
            self._put(**facts)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _transaction(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection  # as a context manager it commits, or rolls back on an exception

    def _put(self, **facts: Any) -> None:
        rows = [(key, json.dumps(value, sort_keys=True)) for key, value in facts.items()]
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)

    def _get(self, key: str, *default: Any) -> Any:
        query = "SELECT value FROM meta WHERE key = ?"
        found = self._connection.execute(query, (key,)).fetchone()
        if found is None and default:
            return default[0]
        if found is None:
            raise UsageError(f"the race in {self.folder} lacks its {key}; race into a new folder")
        return json.loads(found[0])


def _connect(file: Path) -> sqlite3.Connection:
    # Not SQLite's own read-only mode: after a crash the journal has to be rolled back first.
    connection = None
    try:
        connection = sqlite3.connect(file, timeout=30, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if connection is not None:
            connection.close()
        raise UsageError(
            f"{file} cannot be read as a race ({error}); choose another folder or move it away"
        ) from error
    return connection


def _tables(connection: sqlite3.Connection) -> set[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table'"
    return {name for (name,) in connection.execute(query)}


def _check_version(connection: sqlite3.Connection, file: Path) -> None:
    version = None
    if {"meta", "run", "curve"} <= _tables(connection):
        query = "SELECT value FROM meta WHERE key = 'schema_version'"
        found = connection.execute(query).fetchone()
        version = found and found[0]
    if version is None:
        raise UsageError(
            f"{file} is not the store of a race; choose another folder or move the file away"
        )
    if version != str(SCHEMA_VERSION):
        raise UsageError(
            f"{file} has store version {version}, but this version of Thalweg reads and writes "
            f"version {SCHEMA_VERSION}; use the Thalweg that wrote it, or race into a new folder"
        )


def _run_order(row: RunRow) -> tuple[Any, ...]:
    # run_id is phase-entrant-number; the hidden baseline goes first in each round of trials.
    phase, entrant, number = row.run_id.split("-")
    return (phase == "final", int(number), phase != "target", int(entrant))


def _pack(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _unpack(value: Any) -> Any:
    return float(value) if value in ("nan", "inf", "-inf") else value


def _row(values: tuple[Any, ...]) -> RunRow:
    found = {name: _unpack(value) for name, value in zip(_FIELDS, values, strict=True)}
    for name in _JSON_FIELDS:
        found[name] = json.loads(found[name])
    return RunRow(**found)
