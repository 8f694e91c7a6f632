"""What `fit` does: the numbers of a loop written by hand, the same every time."""

import dataclasses
import random
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from train_problems import (
    ALGORITHMS,
    Net,
    accuracy,
    blobs,
    loss,
    parts,
    sgd,
    without_times,
    workload,
)

from thalweg import optim, schedule
from thalweg.core.seeds import derive_seed
from thalweg.recipe import Recipe
from thalweg.train import Callback, fit
from thalweg.workload import Batches
from thalweg.workload import load as load_workload
from thalweg.workload.quadratic import quadratic


def by_hand(problem, steps, rate, seed):
    """Return losses and final model of the plainest loop there is."""
    torch.manual_seed(derive_seed(seed, "model"))
    model = problem.model()
    torch.manual_seed(derive_seed(seed, "run"))
    batches = Batches(problem.train, problem.batch_size, derive_seed(seed, "order"))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        found = problem.loss(model, batches.at(step))
        found.backward()
        optimizer.step()
        losses.append(float(found.detach()))
    return losses, model


class Losses(Callback):
    def __init__(self):
        self.seen = []

    def on_step(self, run, step, loss):
        self.seen.append(loss)


def test_the_numbers_of_a_plain_loop():
    problem, seen = workload(), Losses()
    result = fit(problem, sgd(0.1), seed=5, callbacks=[seen])
    losses, model = by_hand(problem, 12, 0.1, seed=5)
    assert seen.seen == losses
    assert list(result.weights) == list(model.state_dict())
    for name, value in model.state_dict().items():
        assert torch.equal(result.weights[name], value)
    model.eval()
    right = accuracy(model, problem.validation)
    assert result.final_metric == pytest.approx(float(right.mean()), abs=1e-7)
    assert [point.step for point in result.curve] == [3, 6, 9, 12]
    for point, start in zip(result.curve, (0, 3, 6, 9), strict=True):
        assert point.train_loss == pytest.approx(np.mean(losses[start : start + 3]), rel=1e-12)
    assert (result.status, result.steps, result.error) == ("ok", 12, None)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_same_call_gives_the_same_bits(name):
    one, two = (without_times(fit(workload(), ALGORITHMS[name], seed=7)) for _ in range(2))
    assert one == two
    assert one != without_times(fit(workload(), ALGORITHMS[name], seed=8))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_evaluating_leaves_no_trace_in_the_training(name):
    often, seldom = Losses(), Losses()
    fit(workload(), ALGORITHMS[name], evaluate_every=1, callbacks=[often])
    fit(workload(), ALGORITHMS[name], evaluate_every=12, callbacks=[seldom])
    assert often.seen == seldom.seen


def test_all_algorithms_start_alike_and_see_the_same_batches():
    seen = {}

    def watch(name):
        def found(model, batch):
            seen.setdefault(name, []).append(batch[0].clone())
            return loss(model, batch)

        return found

    first = {}
    for name in ("soap", "sam around adamw", "torch's adam"):
        steps = Losses()
        fit(workload(loss=watch(name)), ALGORITHMS[name], seed=2, callbacks=[steps])
        first[name] = steps.seen[0]
    assert len(set(first.values())) == 1
    twice = seen["sam around adamw"]
    for other in (seen["soap"], seen["torch's adam"], twice[1::2]):
        assert all(torch.equal(a, b) for a, b in zip(twice[::2], other, strict=True))


def test_global_generators_and_threads_are_as_before():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    threads = torch.get_num_threads()
    fit(workload(), ALGORITHMS["soap"], threads=2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]
    assert torch.get_num_threads() == threads


def test_a_callback_that_draws_random_numbers_changes_nothing():
    class Draw(Callback):
        def on_start(self, run):
            torch.rand(3), np.random.rand(), random.random()

        on_evaluate = on_checkpoint = lambda self, run, _: torch.rand(3)

    drawing = fit(workload(), ALGORITHMS["soap"], callbacks=[Draw()])
    assert without_times(drawing) == without_times(fit(workload(), ALGORITHMS["soap"]))


def test_events_come_in_order():
    seen = []

    class Listen(Callback):
        def on_start(self, run):
            seen.append(("start", run.step, run.settings.steps))

        def on_step(self, run, step, loss):
            seen.append(("step", step, run.step))

        def on_evaluate(self, run, point):
            assert point is run.curve[-1]
            with run.evaluating() as model:
                assert not model.training
            assert run.model.training
            seen.append(("evaluate", point.step))

        def on_end(self, run, result):
            seen.append(("end", result.status))

    fit(workload(), sgd(0.1), steps=3, evaluate_every=2, callbacks=[Listen()])
    assert seen == [
        ("start", 0, 3),
        ("step", 1, 1),
        ("step", 2, 2),
        ("evaluate", 2),
        ("step", 3, 3),
        ("evaluate", 3),
        ("end", "ok"),
    ]


def test_a_recipe_as_text_as_a_value_and_as_a_function():
    text = "sgd(lr=0.1, momentum=0.9) + warmup(0.25) + linear + ema(0.9)"
    from_text = fit(workload(), text)
    assert without_times(from_text) == without_times(fit(workload(), Recipe.parse(text)))
    by_parts = fit(workload(), lambda model, steps: Recipe.parse(text).build(model, steps))
    assert without_times(from_text) == without_times(by_parts)
    assert from_text.hyper["sgd.lr"] == 0.1
    assert fit(workload(), sgd(0.3), steps=1).hyper["lr"] == 0.3


def test_the_learning_rate_follows_its_schedule():
    rates = []

    class Rates(Callback):
        def on_step(self, run, step, loss):
            rates.append(run.optimizer.param_groups[0]["lr"])

    fit(
        workload(),
        parts(lambda m: optim.SGD(m, lr=1.0), follow=schedule.Linear()),
        steps=4,
        callbacks=[Rates()],
    )
    assert rates == pytest.approx([schedule.Linear().factor(step, 4) for step in (1, 2, 3, 4)])


def test_quadratic_descent_is_the_closed_form():
    problem = quadratic(dimension=4, noise=0, dtype=torch.float64)
    result = fit(problem, sgd(0.5), steps=30, evaluate_every=10, target=0.05)
    torch.manual_seed(derive_seed(0, "model"))
    bowl = problem.model()
    start, matrix = bowl.x.detach(), bowl.matrix
    for point in result.curve:
        x = (1 - 0.5 * matrix) ** point.step * start
        assert point.metric == pytest.approx(float(0.5 * (matrix * x * x).sum()), rel=1e-12)
    hits = [point for point in result.curve if point.metric <= 0.05]
    assert hits
    assert (result.steps_to_target, result.seconds_to_target) == (hits[0].step, hits[0].seconds)
    assert result.best_metric == min(point.metric for point in result.curve)
    never = fit(problem, sgd(0.5), steps=3, target=1e-9)
    assert (never.steps_to_target, never.seconds_to_target) == (None, None)


def test_the_metric_is_weighted_by_samples():
    per_sample = fit(workload(), sgd(0.1), steps=2)
    mean = workload(metric=lambda model, batch: float(accuracy(model, batch).mean()))
    assert fit(mean, sgd(0.1), steps=2).final_metric == pytest.approx(
        per_sample.final_metric, abs=1e-7
    )
    assert per_sample.final_metric * 31 == pytest.approx(
        round(per_sample.final_metric * 31), abs=1e-9
    )


@pytest.mark.parametrize("accumulate", [2, 3, 12])
def test_accumulation_is_the_full_batch_up_to_rounding(accumulate):
    problem = workload(
        model=lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double(),
        train=(blobs(60, 0)[0].double(), blobs(60, 0)[1]),
        validation=(blobs(31, 0)[0].double(), blobs(31, 0)[1]),
    )
    whole = fit(problem, ALGORITHMS["sgd, swa"])
    cut = fit(problem, ALGORITHMS["sgd, swa"], accumulate=accumulate)
    for name, value in whole.weights.items():
        assert torch.allclose(cut.weights[name], value, rtol=1e-12, atol=1e-14)
    for one, two in zip(whole.curve, cut.curve, strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, rel=1e-12)


def test_accumulation_weights_uneven_parts_by_samples():
    x, y = blobs(10, 0)
    data = DataLoader(TensorDataset(x.double(), y), batch_size=10)
    problem = workload(model=lambda: nn.Linear(4, 3).double(), train=data)
    problem = dataclasses.replace(problem, validation=(x.double(), y))
    whole, cut = (fit(problem, sgd(0.1), steps=3, accumulate=k).weights for k in (1, 3))
    for name, value in whole.items():
        assert torch.allclose(cut[name], value, rtol=1e-12, atol=1e-14)


class Encoding(UserDict):
    def to(self, device):
        return Encoding({key: value.to(device) for key, value in self.items()})


class Labelled(Net):
    def forward(self, x, y):
        logits = super().forward(x)
        return SimpleNamespace(loss=nn.functional.cross_entropy(logits, y), logits=logits)


def test_tuple_dict_and_encoded_batches_train_alike():
    def as_dicts(data):
        return dict(zip("xy", data, strict=True))

    def rows(data):
        return [{"x": x, "y": y} for x, y in zip(*data, strict=True)]

    def collate(samples):
        return Encoding(torch.utils.data.default_collate(samples))

    plain = workload()

    def metric(model, batch):
        return (model(**batch).logits.argmax(1) == batch["y"]).float()

    fields = {
        key: getattr(plain, key)
        for key in plain.__dataclass_fields__
        if key not in ("loss", "collate")
    }
    fields.update(model=Labelled, metric=metric)
    dicts = {**fields, "train": as_dicts(plain.train), "validation": as_dicts(plain.validation)}
    coded = {**fields, "train": rows(plain.train), "validation": rows(plain.validation)}
    results = [
        fit(problem, ALGORITHMS["adamw, linear, ema"])
        for problem in (plain, type(plain)(**dicts), type(plain)(**coded, collate=collate))
    ]
    first = [(p.train_loss, p.metric) for p in results[0].curve]
    for result in results[1:]:
        assert [(p.train_loss, p.metric) for p in result.curve] == first


def test_digits_by_name():
    result = fit("digits", "adamw(lr=1e-2) + linear", steps=30, threads=1)
    assert result.final_metric > 0.75
    assert load_workload("digits").reached(result.final_metric, 0.75)


def test_the_default_grid_is_a_twentieth():
    result = fit(workload(evaluate_every=None), sgd(0.01), steps=47)
    assert [point.step for point in result.curve] == [*range(2, 47, 2), 47]
