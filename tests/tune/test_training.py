"""Training runs as trials: paused, continued and handed over without a trace."""

import csv
import json
import math

import pytest
import torch
from torch import nn

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.recipe import Recipe
from thalweg.train.settings import resolve
from thalweg.tune import TuneConfig, Watcher, minimise, named, run_tune
from thalweg.tune.hand_over import hand_over
from thalweg.tune.run import TIME_COLUMNS
from thalweg.tune.search import search
from thalweg.tune.training import RECIPE, Training, space_of
from thalweg.workload import Workload

from tune_problems import SQUARE, study, trial  # isort: skip


class Stop(BaseException):
    """Stands for an interruption."""


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2))
        self.append(nn.Linear(8, 3))


def blobs(count, seed):
    labels = torch.arange(count) % 3
    noise = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return noise + labels[:, None], labels


def workload(**changes):
    settings = {
        "name": "blobs",
        "title": "Blobs",
        "model": Net,
        "train": blobs(60, 0),
        "validation": blobs(31, 1),
        "loss": lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
        "metric": lambda model, batch: nn.functional.cross_entropy(
            model(batch[0]), batch[1], reduction="none"
        ),
        "metric_name": "cross-entropy",
        "higher_is_better": False,
        "batch_size": 12,
        "steps": 18,
        "evaluate_every": 2,
    }
    return Workload(**{**settings, **changes})


def settings_of(task, **changes):
    asked = dict.fromkeys(
        ("steps", "device", "evaluate_every", "checkpoint_every", "target", "threads")
    )
    asked |= {"precision": "float32", "compile": False, "accumulate": 1, "seed": 7}
    return resolve(task, **{**asked, **changes})


def searched(searcher, folder, recipes=("adamw + warmup(0.1) + linear",), **changes):
    task = changes.pop("task", None) or workload()
    parsed = [Recipe.parse(text) for text in recipes]
    training = Training(task, parsed, settings_of(task), folder)
    return training, search(
        training,
        space_of(parsed),
        named(searcher),
        **{"trials": 4, "seed": 0, "least": 2, "most": 18, **changes},
    )


def test_a_continued_trial_is_the_trial_of_full_length(tmp_path):
    training, found = searched("successive-halving", tmp_path / "c")
    last = found.best
    assert last.reached == 18
    assert [t.reached for t in found.trials] == [2] * 9 + [6] * 3 + [18]
    recipe = training.recipe(last.values)
    whole = train.fit(workload(), recipe, steps=18, seed=7)
    assert last.loss == whole.final_metric
    assert list(last.curve) == [(p.step, p.metric) for p in whole.curve]
    for one in found.trials:
        assert dict(last.curve if one.position == last.position else one.curve)[one.reached] == (
            one.loss
        )


def test_a_trial_costs_only_its_new_steps(tmp_path):
    _, found = searched("successive-halving", tmp_path / "c")
    seen = study(found.trials, most=18.0, resumes=True)
    assert seen.spent() == 9 * 2 + 3 * 4 + 12


@pytest.mark.parametrize(
    "recipe",
    [
        "sgd(momentum=0.9, lr={}) + linear",
        "adamw(lr={}) + cosine + ema(0.9)",
        "adamw(lr={}) + sam(rho=0.05) + warmup(0.2)",
        "muon(lr={}) + linear",
        "prodigy(lr={})",
        "schedule-free-adamw(lr={})",
    ],
)
def test_weights_are_handed_over_exactly(recipe, tmp_path):
    task = workload()
    settings = settings_of(task)
    old, new = (Recipe.parse(recipe.format(lr)) for lr in (0.05, 0.001))

    class Pause(train.Callback):
        def on_checkpoint(self, run, path):
            if run.step == 6:
                raise Stop

    with pytest.raises(Stop):
        train.fit(
            task, old, seed=7, checkpoint=tmp_path / "old", callbacks=[Pause()], checkpoint_every=2
        )
    hand_over(tmp_path / "old", tmp_path / "new", task, (old, new), settings)
    states = {}

    class Look(train.Callback):
        def __init__(self, name):
            self.name = name

        def on_start(self, run):
            states[self.name] = run.state_dict(), run.optimizer.param_groups
            raise Stop

    for name, one in (("old", old), ("new", new)):
        with pytest.raises(Stop):
            train.fit(task, one, seed=7, checkpoint=tmp_path / name, callbacks=[Look(name)])
    before, after = states["old"][0], states["new"][0]
    for kind in ("parameters", "buffers"):
        for key, tensor in before[kind].items():
            assert torch.equal(tensor, after[kind][key])
    assert before["step"] == after["step"] == 6
    assert [*before["curve"]] == [*after["curve"]]
    same(before["average"], after["average"])
    same(before["optimizer"]["state"], after["optimizer"]["state"])
    for group, other in zip(states["old"][1], states["new"][1], strict=True):
        if group["initial_lr"] != 0.05:  # what a routed rule keeps for itself
            continue
        assert other["initial_lr"] == 0.001
        assert other["lr"] == pytest.approx(group["lr"] * 0.001 / 0.05)


def same(one, other):
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        assert one == other


def test_settings_of_wrappers_are_the_new_ones(tmp_path):
    task = workload()
    old, new = (Recipe.parse(f"sgd(lr=0.1) + sam(rho={rho})") for rho in (0.01, 0.2))
    train.fit(task, old, steps=18, seed=7, checkpoint=tmp_path / "old")
    hand_over(tmp_path / "old", tmp_path / "new", task, (old, new), settings_of(task))
    seen = []

    class Look(train.Callback):
        def on_start(self, run):
            seen.append(run.optimizer.state_dict())
            raise Stop

    with pytest.raises(Stop):
        train.fit(task, new, steps=18, seed=7, checkpoint=tmp_path / "new", callbacks=[Look()])
    assert "0.01," not in str(seen)


def test_a_population_goes_on_from_its_best(tmp_path):
    _, found = searched("population", tmp_path / "c", trials=5)
    assert [t.reached for t in found.trials[::5]] == [4, 8, 10, 14, 18]
    for generation in range(1, 5):
        before = found.trials[5 * (generation - 1) : 5 * generation]
        best, worst = (pick(before, key=lambda t: t.loss).number for pick in (min, max))
        now = found.trials[5 * generation : 5 * generation + 5]
        parents = [t.parent for t in now]
        expected = [t.number for t in before]
        expected[worst % 5] = best
        assert parents == expected
        for one in now:
            moved = one.number % 5 == worst % 5
            assert (one.position == found.trials[one.parent].position) != moved
    # Whoever took over goes on from the donor's point, not from its own.
    for one in found.trials[5:]:
        parent = found.trials[one.parent]
        assert one.curve[: len(parent.curve)] == parent.curve


def test_a_population_replaces_who_diverged_and_explores_by_factors():
    searcher = named("population(resample=0.0)")
    known = {"least": 1.0, "most": 5.0, "budget": 5}
    losses = [0.3, None, 0.1, 0.5, 0.2]
    first = [trial(i, loss, position={"x": 0.8, "y": 0.8}) for i, loss in enumerate(losses)]
    proposals = []
    trials = list(first)
    for i in range(5):
        proposals.append(searcher.propose(study(trials, **known)))
        trials.append(trial(5 + i, 0.1, 2.0, parent=proposals[-1].parent))
    assert [p.parent for p in proposals] == [0, 2, 2, 3, 4]
    moved = proposals[1].position
    for u in moved.values():  # 0.6 in [-1, 1] times 0.8 or 1.2
        assert min(abs(u - 0.74), abs(u - 0.86)) < 1e-12
    with pytest.raises(UsageError, match="at least 4 members"):
        minimise(lambda v, b: 0.0, SQUARE, searcher="population", trials=3, budgets=(1, 9))
    with pytest.raises(UsageError, match="5 generations need"):
        minimise(lambda v, b: 0.0, SQUARE, searcher="population", trials=9, budgets=(1, 4))


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in TIME_COLUMNS}
            for row in csv.DictReader(file)
        ]


def config(folder, searcher="random", recipes=("adamw + linear",), **changes):
    defaults = {"trials": 4, "steps": 18, "evaluate_every": 2, "seed": 1, "threads": 1}
    return TuneConfig("quadratic", recipes, folder, searcher, **{**defaults, **changes})


@pytest.mark.parametrize("searcher", ["random", "hyperband", "population", "async-halving"])
def test_an_interrupted_run_ends_with_the_same_numbers(searcher, tmp_path):
    whole = run_tune(config(tmp_path / "whole", searcher))
    for stop in (7, 25):
        steps = 0

        def stepped(step, loss, stop=stop):
            nonlocal steps
            steps += 1
            if steps > stop:
                raise Stop

        with pytest.raises(Stop):
            run_tune(config(tmp_path / "broken", searcher), Watcher(stepped=stepped))
    resumed = run_tune(config(tmp_path / "broken", searcher))
    assert rows(tmp_path / "broken") == rows(tmp_path / "whole")
    assert resumed.summary() == whole.summary()
    assert json.loads((tmp_path / "whole" / "best.json").read_text()) == whole.summary()
    assert not (tmp_path / "whole" / "checkpoints").exists()


def test_the_best_recipe_repeats_its_trial(tmp_path):
    tuned = run_tune(config(tmp_path / "t"))
    again = train.fit(
        "quadratic", tuned.best, steps=18, evaluate_every=2, seed=tuned.settings.seed, threads=1
    )
    assert again.final_metric == tuned.metric
    assert tuned.summary()["recipe"] == str(tuned.best)


def test_several_recipes_are_a_choice_with_conditions(tmp_path):
    recipes = ("adamw + linear", "sgd(momentum=0.9) + cosine", "adamw(lr=0.01)")
    space = space_of([Recipe.parse(text) for text in recipes])
    assert space.names[0] == RECIPE
    tuned = run_tune(config(tmp_path / "t", "quasi-random", recipes, trials=8))
    for one in tuned.found.trials:
        expected = list(Recipe.parse(one.values[RECIPE]).space())
        assert sorted(one.values) == sorted([RECIPE, *expected])
        assert str(tuned.recipe_of(one.values)) == str(
            Recipe.parse(one.values[RECIPE]).filled({k: one.values[k] for k in expected})
        )
    assert len({one.values[RECIPE] for one in tuned.found.trials}) == 3


def test_divergence_is_a_result(tmp_path):
    tuned = run_tune(config(tmp_path / "t", "random", ("sgd(momentum=0.999)",), trials=6))
    assert all(t.loss is None or math.isfinite(t.loss) for t in tuned.found.trials)
    broken = workload(
        loss=lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]) * math.nan
    )
    _, found = searched("random", tmp_path / "c", task=broken)
    assert [t.status for t in found.trials] == ["diverged"] * 4
    assert found.best is None
    assert "the training loss was nan at step 1" in found.trials[0].error


def test_bad_input_is_told_before_any_work(tmp_path):
    def refused(message, *arguments, **changes):
        with pytest.raises(UsageError, match=message):
            run_tune(config(tmp_path / "t", *arguments, **changes))
        assert not (tmp_path / "t").exists()

    refused("nothing to tune", "random", ("adamw(lr=0.1, weight_decay=0.0)",))
    refused('Did you mean "hyperband"', "hyperbnd")
    refused("smaller than one bracket", "hyperband", trials=1)
    refused("is there twice", "random", ("adamw", "adamw"))
    refused("trials", "random", trials=0)
    refused("name a recipe", "random", ())
    refused("unknown part", "random", ("tpe",))
    refused("different lengths", "hyperband", evaluate_every=18)


def test_another_search_in_the_folder_is_refused(tmp_path):
    run_tune(config(tmp_path / "t", trials=1))
    with pytest.raises(UsageError, match="steps was 18 and is 20"):
        run_tune(config(tmp_path / "t", trials=1, steps=20))
