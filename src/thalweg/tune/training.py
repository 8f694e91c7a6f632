"""Training runs as trials of a search."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.core.space import Choice, Space
from thalweg.recipe import Recipe
from thalweg.train.settings import Settings
from thalweg.tune.hand_over import hand_over
from thalweg.tune.objective import Job, Objective, Outcome
from thalweg.tune.space import SearchSpace, When
from thalweg.workload import Workload
from thalweg.workload.trace import describe_error

RECIPE = "recipe"
"""The name of the choice between several recipes."""

Step = Callable[[int, float], None]


def space_of(recipes: Sequence[Recipe]) -> SearchSpace:
    """Return the space of what recipes leave open.

    With several of them the recipe is a choice, and what only some of them have is there only
    with these.

    Raises:
        UsageError: a recipe is there twice, or there is nothing to tune.
    """
    texts = tuple(map(str, recipes))
    for text in texts:
        if texts.count(text) > 1:
            raise UsageError(f'the recipe "{text}" is there twice; name it once')
    if len(recipes) == 1:
        spaces = recipes[0].space()
        if not spaces:
            raise UsageError(
                f'there is nothing to tune in "{texts[0]}": it fixes every value, or its parts '
                "have no search space; leave a value out, such as the learning rate, or train it "
                "with: thalweg train"
            )
        return SearchSpace(spaces)
    choice: dict[str, Space | When] = {RECIPE: Choice(texts)}
    for recipe in recipes:
        for key, space in recipe.space().items():
            having = tuple(str(one) for one in recipes if key in one.space())
            choice[key] = space if len(having) == len(texts) else When(RECIPE, having, space)
    return SearchSpace(choice)


class Training(Objective):
    """A workload trained with recipes.

    The loss is the metric after the last step of a trial, its sign changed where higher is
    better. A trial with less than the full budget is the beginning of a full run: the schedule is
    that of all steps, the run stops after the evaluation nearest to its budget, and whoever
    continues it starts from its checkpoint.

    Args:
        workload: what is trained.
        recipes: one, or those to choose from.
        settings: steps, seed and so on.
        folder: where checkpoints are kept while they are needed.
        on_step: is told of steps and training losses.
    """

    resumes = True

    def __init__(
        self,
        workload: Workload,
        recipes: Sequence[Recipe],
        settings: Settings,
        folder: Path,
        on_step: Step | None = None,
    ) -> None:
        self._workload = workload
        self._recipes = {str(recipe): recipe for recipe in recipes}
        self._settings = settings
        self._folder = folder
        self._on_step = on_step

    @property
    def least(self) -> float:
        """Return the least budget: the steps up to the first evaluation."""
        return min(self._settings.evaluate_every, self._settings.steps)

    def recipe(self, values: Mapping[str, Any]) -> Recipe:
        """Return the recipe with values filled in."""
        given = dict(values)
        text = given.pop(RECIPE, next(iter(self._recipes)))
        return self._recipes[text].filled(given)

    def keep(self, numbers: set[int], following: int) -> None:
        """Remove the checkpoints of all trials but these and the one that follows."""
        if self._folder.is_dir():
            kept = {f"{number:05d}" for number in (*numbers, following)}
            for path in self._folder.iterdir():
                if path.name not in kept:
                    shutil.rmtree(path, ignore_errors=True)

    def evaluate(self, job: Job) -> Outcome:
        """Train a trial up to its budget."""
        settings, stop = self._settings, self._stop(job.budget)
        recipe = self.recipe(job.values)
        folder = self._folder / f"{job.number:05d}"
        if job.parent is not None and not folder.exists():
            before = self.recipe(job.parent.values)
            source = self._folder / f"{job.parent.number:05d}"
            hand_over(source, folder, self._workload, (before, recipe), settings)
        watch = _Watch(job, stop, -1.0 if self._workload.higher_is_better else 1.0, self._on_step)
        try:
            result = train.fit(
                self._workload,
                recipe,
                steps=settings.steps,
                seed=settings.seed,
                device=settings.device,
                precision=settings.precision,
                evaluate_every=settings.evaluate_every,
                threads=settings.threads,
                callbacks=(watch,),
                checkpoint=folder,
            )
        except _PausedError:
            status = "pruned" if watch.pruned else "ok"
            return Outcome(status, watch.loss, watch.step, tuple(watch.curve))
        except Exception as error:
            watch.check()
            text = describe_error(error, self._workload.source_file)
            return Outcome("failed", None, watch.step, tuple(watch.curve), text)
        if result.status != "ok":
            return Outcome("diverged", None, result.steps, tuple(watch.curve), result.error)
        return Outcome("ok", watch.loss, result.steps, tuple(watch.curve))

    def _stop(self, budget: float) -> int:
        """Return the step of the evaluation nearest to a budget."""
        every, steps = self._settings.evaluate_every, self._settings.steps
        if budget >= steps:
            return steps
        return min(steps, max(1, round(budget / every)) * every)


class _PausedError(Exception):
    """The trial has got as far as it should."""


class _Watch(train.Callback):
    """Notes the curve, and ends the run at its budget or when its searcher says so."""

    def __init__(self, job: Job, stop: int, sign: float, on_step: Step | None) -> None:
        self._job = job
        self._stop = stop
        self._sign = sign
        self._on_step = on_step
        self._error: Exception | None = None
        self.curve: list[tuple[float, float]] = []
        self.loss: float | None = None
        self.step = 0
        self.pruned = False

    def check(self) -> None:
        """Raise what the listener raised: it says nothing about the trial."""
        if self._error is not None:
            raise self._error

    def on_start(self, run: train.Run) -> None:
        for point in run.curve:  # after a checkpoint there are some
            self._note(point)
        if run.step >= self._stop and run.step < run.settings.steps:
            raise _PausedError

    def on_step(self, run: train.Run, step: int, loss: float) -> None:
        self.step = step
        if self._on_step is not None:
            try:
                self._on_step(step, loss)
            except Exception as error:
                self._error = error
                raise

    def on_evaluate(self, run: train.Run, point: train.Point) -> None:
        self._note(point)
        if self.pruned:
            raise _PausedError

    def on_checkpoint(self, run: train.Run, path: Path) -> None:
        if self._stop <= run.step < run.settings.steps:
            raise _PausedError

    def _note(self, point: train.Point) -> None:
        self.step = point.step
        self.loss = self._sign * point.metric
        self.curve.append((float(point.step), self.loss))
        self.pruned = self._job.tell(point.step, self.loss)


def model_seed(seed: int) -> int:
    """Return the seed of all runs of a search, derived from its own and short enough to type."""
    return derive_seed(seed, "tune") >> 32
