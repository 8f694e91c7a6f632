"""The race: checks, trials, target, final runs, verdict."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder, locked, make_folder
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.race import events, machine
from thalweg.race.config import RaceConfig, differences
from thalweg.race.entrants import Entrant
from thalweg.race.live import forget
from thalweg.race.plan import Planned, plan_trials, space_of
from thalweg.race.pool import Pool, Scale
from thalweg.race.results import write_results, write_verdict
from thalweg.race.rows import RunRow, Status
from thalweg.race.runner import Recorder, Runner, Tell
from thalweg.race.search import QUASI_RANDOM, check_searcher, described
from thalweg.race.stages import (
    final_batches,
    foreseen,
    hidden_of,
    repeated,
    target_baseline,
    tuning_batches,
)
from thalweg.race.standings import Verdict
from thalweg.race.store import Store
from thalweg.race.target import baseline_of, given_target, reached_by_baseline
from thalweg.race.training import Fit
from thalweg.race.verdict import judge
from thalweg.recipe import Recipe
from thalweg.train.result import first_reached
from thalweg.workload import Workload, check, load


def run_race(
    config: RaceConfig,
    on_event: Tell | None = None,
    fit: Fit = train.fit,
    scale: Scale | None = None,
) -> Verdict:
    """Run a race, or continue one, to its end.

    Every entrant gets the same number of trials at quasi-random points of its own search space, or
    where another searcher looks after the entrant's own trials. All have one seed: the same
    initial weights, the same batches, the same steps. Its best trial (best *final* metric; a trial
    that diverged, failed or was given up never wins) is run again under fresh seeds, the same ones
    for all entrants. So it is in the ruleset ``budget``; `thalweg.race.ruleset` has the others,
    `thalweg.race.stages` the order of the runs.

    Runs are recorded one by one in ``race.sqlite``, so the same call continues after any
    interruption and ends with the same numbers; a run that takes longer than a minute also leaves
    checkpoints. ``results.csv`` follows every run, ``verdict.json`` is written at the end, weights
    of final runs lie in ``weights``.

    A run that diverges or fails is a result and stops nothing. An entrant of whose trials none
    finished is not run again: its final runs are recorded as what its trials were.

    Args:
        config: what to race.
        on_event: is told how it goes.
        fit: trains one run; as `thalweg.train.fit`. Workers have their own.
        scale: how many workers do the runs; by default this process does them all. The numbers
            are the same, times aside, and a race may go on with another number of workers.

    Raises:
        UsageError: before any work, with nothing written: a storage or cluster that does not
            answer, a setting, workload, entrant or folder
            that cannot be used, a folder that holds another race or another version's, or that
            another process is racing in.
    """
    scale = scale or Scale()
    scale.check(Path(config.out))
    workload, entrants = prepare(config)
    resolved = config.resolved(workload)
    folder = Path(config.out)
    _existing(folder, resolved, config.threads)
    make_folder(folder)
    busy = f"another process is racing in {folder}; wait for it, stop it, or use another folder"
    with locked(folder / "race.lock", busy):
        if _existing(folder, resolved, config.threads):
            store = Store.open(folder, readonly=False)
        else:
            spaces = {one.name: described(space_of(one)) for one in entrants}
            store = Store.create(folder, resolved, _facts(workload), spaces)
        with store:
            tell = on_event or (lambda _: None)
            return _race(config, workload, entrants, store, tell, fit, scale)


def prepare(config: RaceConfig) -> tuple[Workload, tuple[Entrant, ...]]:
    """Return the workload and the entrants of a race, after every check that needs no training.

    The workload's first step is tried, and each recipe is built on a model that is then thrown
    away, so that a rule that cannot take the model's parameters is found now.

    Raises:
        UsageError: something cannot be used.
    """
    config.check()
    check_folder(Path(config.out))
    workload = load(config.workload)
    settings = config.settings(workload)
    check(workload, settings.device)
    entrants = tuple(Entrant(one.name, str(Recipe.parse(one.recipe))) for one in config.entrants)
    baseline, extra = baseline_of(entrants)
    hidden = [baseline] if extra and given_target(config.target, workload) is None else []
    if config.searcher != QUASI_RANDOM:
        trials = config.resolved(workload)["trials"]
        for one in (*entrants, *hidden):
            check_searcher(config.searcher, space_of(one), trials, config.seed)
    for entrant in entrants:
        first = next(run for run in plan_trials([entrant], None, 1, config.seed))
        with GlobalStream(derive_seed(0, "check"), settings.device):
            model = workload.model().to(settings.device)
            try:
                Recipe.parse(first.recipe).build(model, settings.steps)
            except UsageError as error:
                raise UsageError(f"{entrant.name} cannot train {workload.name}: {error}") from error
    return workload, entrants


def _race(
    config: RaceConfig,
    workload: Workload,
    entrants: tuple[Entrant, ...],
    store: Store,
    tell: Tell,
    fit: Fit,
    scale: Scale,
) -> Verdict:
    resolved = store.config()
    store.set_facts(pid=os.getpid())
    if not store.machine():
        store.set_facts(machine=machine.facts(resolved["device"], resolved["threads"]))
    if (given := given_target(config.target, workload)) is not None and store.target() is None:
        store.set_target(given, {})
    hidden = hidden_of(store, entrants)
    names = tuple(one.name for one in entrants)
    recorded = store.runs()
    known = {row.run_id for row in recorded}
    expected = foreseen(store, entrants, hidden)
    left = [run for run in expected if run.run_id not in known]
    clock = events.Clock(Counter(run.entrant for run in left))
    for row in recorded:
        clock.measured(row)
    recorder = Recorder(workload, store, clock, len(known) + len(left), len(known), tell)
    tell(
        events.RaceStarted(
            runs=len(known) + len(left),
            done=len(known),
            steps=resolved["steps"],
            entrants=names,
            target=(store.target() or {}).get("value"),
            seconds_left=clock.seconds_left(),
        )
    )
    foreknown = known | {run.run_id for run in left}

    def missing(batch: list[Planned]) -> list[Planned]:
        runs = [run for run in batch if run.run_id not in known]
        recorder.expect([run for run in runs if run.run_id not in foreknown])
        return runs

    with (
        Pool(recorder, scale, config.loggers)
        if not scale.alone
        else Runner(recorder, fit, config.loggers) as runner
    ):
        for batch in tuning_batches(store, entrants, hidden):
            runner.train_all(missing(batch))
        if store.target() is None:
            target = reached_by_baseline(store, *target_baseline(store, entrants))
            reached = {
                row.run_id: first_reached(store.curve(row.run_id), workload, target["value"])
                for row in store.runs()
            }
            store.set_target(target, reached)
        target = store.target() or {}
        tell(events.TargetSet(target["value"], target["text"]))
        tuned = resolved.get("ruleset") != "self"
        for batch in final_batches(store, entrants):
            best = repeated(store)
            runs = missing(batch)
            lost = [run for run in runs if tuned and best(run.entrant, run.number) is None]
            for run in lost:
                recorder.skip(run, *_fate(store.runs("tune", run.entrant)))
            runner.train_all([run for run in runs if run not in lost])
    verdict = judge(store)
    write_results(store)
    write_verdict(store, verdict)
    store.set_facts(finished=True)
    shutil.rmtree(store.folder / "checkpoints", ignore_errors=True)
    forget(store.folder)
    tell(events.RaceFinished(verdict))
    return verdict


def _fate(trials: list[RunRow]) -> tuple[Status, str]:
    status = "failed" if all(row.status == "failed" for row in trials) else "diverged"
    first = next((row.error for row in trials if row.error), "")
    return status, f"not run, because no trial finished; the first: {first}"


def _existing(folder: Path, resolved: dict[str, Any], threads: int | None) -> bool:
    """Return whether the folder holds this race, begun earlier."""
    if not Store.exists(folder):
        return False
    with Store.open(folder) as store:
        begun = store.config()
    if threads is None:
        resolved = {**resolved, "threads": begun["threads"]}
    differing = differences(begun, resolved)
    if differing:
        raise UsageError(
            f"{folder} holds another race: {'; '.join(differing)}. Repeat the settings that it "
            "was begun with to continue it, or use another folder"
        )
    return True


def _facts(workload: Workload) -> dict[str, Any]:
    return {
        "name": workload.name,
        "title": workload.title,
        "description": workload.description,
        "architecture": workload.architecture,
        "loss_name": workload.loss_name,
        "metric_name": workload.metric_name,
        "higher_is_better": workload.higher_is_better,
        "batch_size": workload.batch_size,
        "data_source": workload.data_source,
        "licence": workload.licence,
    }
