"""Tuning a training algorithm on a workload, from a folder that it can be continued in."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thalweg._version import __version__
from thalweg.core.checks import check_whole
from thalweg.core.errors import UsageError
from thalweg.core.files import check_folder, locked, make_folder, write_atomically
from thalweg.core.seeds import derive_seed
from thalweg.core.streams import GlobalStream
from thalweg.recipe import Recipe
from thalweg.train.settings import Settings, resolve
from thalweg.tune.catalogue import named
from thalweg.tune.extra import optuna
from thalweg.tune.objective import Job
from thalweg.tune.search import Found, search
from thalweg.tune.searcher import Study, Trial
from thalweg.tune.space import SearchSpace
from thalweg.tune.training import Training, model_seed, space_of
from thalweg.workload import Workload, check, load

COLUMNS = ("trial", "status", "steps", "parent", "metric", "seconds", "recipe", "error")
"""The first columns of `results.csv`; one for each parameter follows."""

TIME_COLUMNS = ("seconds",)
"""The columns that two runs of the same command need not share."""


@dataclass(frozen=True)
class TuneConfig:
    """A search to run, or to continue.

    Attributes:
        workload: the name of a workload, or the path of a task file.
        recipes: what is tuned: what a recipe leaves open; with several, the recipe as well.
        out: the folder, made if it is not there.
        searcher: as `thalweg.tune.named` takes it.
        trials: how many runs of full length may be spent.
        steps: steps of a full run; the workload's by default.
        seed: of everything random.
        evaluate_every: steps between evaluations; the workload's by default.
        device: as in `thalweg.train.fit`.
        precision: as in `thalweg.train.fit`.
        threads: torch's threads.
        storage: where trials are kept instead of ``tune.journal`` in the folder: a URL that
            `thalweg.tune.ledger.Ledger` takes.
    """

    workload: str
    recipes: tuple[str, ...]
    out: Path
    searcher: str = "gp-ei"
    trials: int = 20
    steps: int | None = None
    seed: int = 0
    evaluate_every: int | None = None
    device: str | None = None
    precision: str = "float32"
    threads: int | None = None
    storage: str | None = None


@dataclass(frozen=True)
class Watcher:
    """Who is told how a search goes; each may be left out.

    Attributes:
        begun: told of a trial that begins.
        stepped: told of the steps of the trial under way and the training loss.
        ended: told of a trial that has ended.
    """

    begun: Callable[[Job], None] = lambda _: None
    stepped: Callable[[int, float], None] = lambda *_: None
    ended: Callable[[Trial], None] = lambda _: None


@dataclass(frozen=True)
class Tuned:
    """What came of tuning.

    Attributes:
        config: what was asked.
        workload: what was trained.
        settings: of a full run; its seed repeats every trial.
        found: the trials.
        best: the best recipe, filled in, or None if no trial has a result.
        metric: its metric, or None.
    """

    config: TuneConfig
    workload: Workload
    settings: Settings
    found: Found
    best: Recipe | None
    metric: float | None

    def metric_of(self, loss: float | None) -> float | None:
        """Return the metric of a loss."""
        return None if loss is None else loss * _sign(self.workload)

    def recipe_of(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe of a trial."""
        recipes = [Recipe.parse(text) for text in self.config.recipes]
        return Training(self.workload, recipes, self.settings, Path()).recipe(values)

    def summary(self) -> dict[str, Any]:
        """Return what `best.json` holds."""
        best = self.found.best
        statuses = [trial.status for trial in self.found.trials]
        return {
            "recipe": None if self.best is None else str(self.best),
            "metric_name": self.workload.metric_name,
            "higher_is_better": self.workload.higher_is_better,
            "metric": self.metric,
            "trial": None if best is None else best.number,
            "steps": None if best is None else round(best.reached),
            "seed": self.settings.seed,
            "values": {} if best is None else best.values,
            "edges": self.found.edges(),
            "importance": self.found.importance(),
            "searcher": self.config.searcher,
            "trials": {status: statuses.count(status) for status in sorted(set(statuses))},
        }


def run_tune(config: TuneConfig, watcher: Watcher | None = None) -> Tuned:
    """Run a search, or continue one, to its end.

    All trials train from the same weights on the same batches. The folder gets ``tune.journal``
    (an Optuna journal with a record for every trial), ``results.csv`` and, at the end,
    ``best.json``. A trial that diverges or fails is a result and stops nothing.

    Args:
        config: what to search.
        watcher: is told how it goes.

    Raises:
        UsageError: before any training: a setting, workload, recipe, searcher, storage or folder
            that cannot be used, nothing to tune, a budget smaller than one bracket, or a folder
            that holds another search or is being searched in.
    """
    watcher = watcher or Watcher()
    workload, settings, recipes, space = _prepare(config)
    folder = Path(config.out)
    training = Training(workload, recipes, settings, folder / "checkpoints", watcher.stepped)
    searcher = named(config.searcher)
    most = float(settings.steps)
    check_whole("trials", config.trials, least=1)
    searcher.check(Study(space, (), config.seed, config.trials, training.least, most, True))
    make_folder(folder)
    busy = f"another process is searching in {folder}; wait for it, stop it, or use another folder"
    with locked(folder / "tune.lock", busy):
        found = search(
            training,
            space,
            searcher,
            trials=config.trials,
            seed=config.seed,
            least=training.least,
            most=most,
            storage=config.storage or str(folder / "tune.journal"),
            name="tune",
            identity=_identity(config, workload, settings, recipes),
            on_begin=watcher.begun,
            on_trial=watcher.ended,
        )
        best = found.best
        tuned = Tuned(
            config=config,
            workload=workload,
            settings=settings,
            found=found,
            best=None if best is None else training.recipe(best.values),
            metric=None if best is None or best.loss is None else best.loss * _sign(workload),
        )
        _write(tuned, folder)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return tuned


def _prepare(config: TuneConfig) -> tuple[Workload, Settings, list[Recipe], SearchSpace]:
    if not config.recipes:
        raise UsageError("name a recipe to tune, such as adamw")
    check_whole("seed", config.seed, least=0)
    check_folder(Path(config.out))
    optuna("thalweg tune")
    named(config.searcher)
    recipes = [Recipe.parse(text) for text in config.recipes]
    space = space_of(recipes)
    workload = load(config.workload)
    settings = resolve(
        workload,
        steps=config.steps,
        seed=model_seed(config.seed),
        device=config.device,
        precision=config.precision,
        compile=False,
        accumulate=1,
        evaluate_every=config.evaluate_every,
        checkpoint_every=None,
        target=None,
        threads=config.threads,
    )
    check(workload, settings.device)
    for recipe in recipes:
        middle = {key: one.at(0.5) for key, one in recipe.space().items()}
        with GlobalStream(derive_seed(0, "check"), settings.device):
            model = workload.model().to(settings.device)
            try:
                recipe.filled(middle).build(model, settings.steps)
            except UsageError as error:
                raise UsageError(f"{recipe} cannot train {workload.name}: {error}") from error
    return workload, settings, recipes, space


def _identity(
    config: TuneConfig, workload: Workload, settings: Settings, recipes: list[Recipe]
) -> dict[str, Any]:
    file = workload.source_file
    return {
        "workload": file or workload.name,
        "task file": hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else None,
        "recipes": [str(recipe) for recipe in recipes],
        "steps": settings.steps,
        "evaluate_every": settings.evaluate_every,
        "device": str(settings.device),
        "precision": config.precision,
        "threads": config.threads or torch.get_num_threads(),
        "Thalweg's version": __version__,
        "torch's version": torch.__version__,
    }


def _write(tuned: Tuned, folder: Path) -> None:
    names = tuned.found.space.names
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *names])
    for trial in tuned.found.trials:
        row = (
            trial.number,
            trial.status,
            round(trial.reached),
            trial.parent,
            tuned.metric_of(trial.loss),
            trial.seconds,
            str(tuned.recipe_of(trial.values)),
            trial.error,
            *(trial.values.get(name) for name in names),
        )
        writer.writerow(["" if value is None else value for value in row])
    write_atomically(folder / "results.csv", text.getvalue())
    best = json.dumps(tuned.summary(), indent=2, allow_nan=False, ensure_ascii=False)
    write_atomically(folder / "best.json", best + "\n")


def _sign(workload: Workload) -> float:
    return -1.0 if workload.higher_is_better else 1.0
