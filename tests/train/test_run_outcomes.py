"""How a run can end, and the settings that change how it computes."""

import functools
import math
import time

import pytest
import torch
from torch import nn
from train_problems import ALGORITHMS, Net, accuracy, loss, sgd, without_times, workload

from thalweg.core.errors import UsageError
from thalweg.core.seeds import derive_seed
from thalweg.train import Callback, fit
from thalweg.train.result import median_step
from thalweg.workload.quadratic import quadratic


def test_divergence_of_the_loss_stops_at_once():
    def poisoned(model, batch):
        calls.append(1)
        return loss(model, batch) * (float("nan") if len(calls) == 5 else 1)

    calls = []
    result = fit(workload(loss=poisoned), sgd(0.1))
    assert len(calls) == 5
    assert (result.status, result.steps) == ("diverged", 5)
    assert result.error == "the training loss was nan at step 5"
    assert [point.step for point in result.curve] == [3, 5]
    assert math.isnan(result.curve[-1].train_loss)
    assert math.isnan(result.curve[-1].metric)
    assert result.best_metric == result.curve[0].metric
    assert result.final_metric is None
    assert result.weights == {}


def test_divergence_to_infinity():
    result = fit(quadratic(dtype=torch.float32), sgd(1e6), steps=50)
    assert result.status == "diverged"
    assert result.steps < 50
    assert "inf" in result.error or "nan" in result.error


def test_divergence_of_the_metric():
    def odd(model, batch):
        value = accuracy(model, batch)
        calls.append(1)
        return value * float("inf") if len(calls) > 3 else value

    calls = []
    result = fit(workload(metric=odd, metric_name="oddness", evaluate_every=1), sgd(0.1))
    assert (result.status, result.steps) == ("diverged", 2)
    assert "the oddness was" in result.error
    assert "at step 2" in result.error


def test_a_failure_is_raised_or_caught():
    def metric(model, batch):
        raise RuntimeError("no evaluation today")

    problem = workload(metric=metric)
    with pytest.raises(RuntimeError, match="no evaluation today"):
        fit(problem, sgd(0.1))
    ended = []

    class End(Callback):
        def on_end(self, run, result):
            ended.append(result.status)

    result = fit(problem, sgd(0.1), catch=True, callbacks=[End()])
    assert (result.status, result.steps, ended) == ("failed", 3, ["failed"])
    assert result.error.startswith("test_run_outcomes.py, line ")
    assert result.error.endswith("RuntimeError: no evaluation today")
    assert result.weights == {}


def test_interrupting_from_the_keyboard_is_never_caught():
    class Stop(Callback):
        def on_step(self, run, step, loss):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(workload(), sgd(0.1), catch=True, callbacks=[Stop()])


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_runs_the_model_in_low_precision_and_keeps_float32_weights(precision):
    seen = set()

    class Watched(nn.Linear):
        def forward(self, x):
            out = super().forward(x)
            seen.add((self.training, out.dtype))
            return out

    problem = workload(model=lambda: Watched(4, 3))
    exact = fit(problem, sgd(0.1), precision="float32")
    assert seen == {(True, torch.float32), (False, torch.float32)}
    seen.clear()
    low = fit(problem, sgd(0.1), precision=precision)
    dtype = getattr(torch, precision)
    assert seen == {(True, dtype), (False, dtype)}
    for name, value in low.weights.items():
        assert value.dtype == torch.float32
        assert torch.allclose(value, exact.weights[name], atol=0.02)
        assert not torch.equal(value, exact.weights[name])


def test_float16_leaves_out_an_update_that_overflows():
    def steep(model, batch):
        return loss(model, batch) * (1e5 if len(calls) == 0 and not calls.append(1) else 1)

    calls = []
    weights = []

    class Watch(Callback):
        def on_step(self, run, step, loss):
            weights.append(run.model.weight.detach().clone())

    problem = workload(model=lambda: nn.Linear(4, 3).half().float(), loss=steep)
    result = fit(problem, sgd(0.1), precision="float16", steps=3, callbacks=[Watch()])
    assert result.status == "ok"
    torch.manual_seed(derive_seed(0, "model"))
    start = problem.model().weight
    assert torch.equal(weights[0], start)
    assert not torch.equal(weights[1], start)


def test_two_gradients_a_step_work_in_bfloat16_and_are_refused_in_float16():
    sam = ALGORITHMS["sam around adamw"]
    assert fit(workload(), sam, precision="bfloat16").status == "ok"
    with pytest.raises(UsageError, match='use precision="bfloat16"'):
        fit(workload(), sam, precision="float16")
    with pytest.raises(UsageError, match="LBFGS computes the gradient more than once"):
        fit(workload(), lambda m, s: torch.optim.LBFGS(m.parameters()), precision="float16")


def test_an_optimiser_that_looks_as_often_as_it_likes():
    problem = quadratic(dimension=3, noise=0, dtype=torch.float64)
    result = fit(problem, lambda m, s: torch.optim.LBFGS(m.parameters()), steps=5)
    assert result.final_metric < 1e-9


def test_compiled_models_train_alike(monkeypatch):
    # The code generator is torch's affair; its tracer, under another backend, is quick.
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    algorithm = ALGORITHMS["sgd, swa"]
    plain = fit(workload(), algorithm)
    assert graphs == []
    compiled = fit(workload(), algorithm, compile=True)
    assert graphs
    assert without_times(compiled) == without_times(plain)


def test_a_model_in_evaluation_mode_is_trained_in_training_mode():
    modes = []

    def watch(model, batch):
        modes.append((model.training, model[1].training))
        return loss(model, batch)

    def frozen_norm():
        model = Net()
        model[1].eval()
        return model

    fit(workload(model=lambda: Net().eval(), loss=watch), sgd(0.1), steps=2)
    assert modes == [(True, True)] * 2
    modes.clear()
    fit(workload(model=frozen_norm, loss=watch), sgd(0.1), steps=4)
    assert modes == [(True, False)] * 4


def test_the_median_step_leaves_the_first_five_out_of_more_than_ten():
    assert median_step([]) is None
    assert median_step([9.0] * 5 + [1.0] * 5) == 5.0
    assert median_step([9.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]) == 3.5


def test_seconds_are_those_of_training_alone():
    def slow(model, batch):
        time.sleep(0.05)
        return accuracy(model, batch)

    result = fit(workload(metric=slow), sgd(0.1), evaluate_every=1)
    assert 0 < result.seconds < 1.5  # 12 evaluations of 3 batches sleep for 1.8 s
    assert result.seconds == result.curve[-1].seconds
    assert 0 < result.seconds_per_step < result.seconds
    assert 0 < result.cpu_seconds < 1.5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, found 0"),
        ({"steps": 2.5}, "steps must be a whole number"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"precision": "bf16"}, "precision must be one of"),
        ({"accumulate": 0}, "accumulate must be"),
        ({"accumulate": 5}, "choose a divisor of the batch size"),
        ({"evaluate_every": 0}, "evaluate_every must be"),
        ({"checkpoint_every": 0}, "checkpoint_every must be"),
        ({"target": float("nan")}, "target must be a number"),
        ({"threads": 0}, "threads must be"),
        ({"compile": "yes"}, "compile must be True or False"),
        ({"device": "cpux"}, 'device "cpux" cannot be used'),
        ({"device": "cuda:77"}, 'device "cuda:77" cannot be used'),
        ({"callbacks": [print]}, "thalweg.train.Callback objects"),
    ],
)
def test_impossible_settings_are_refused_before_any_work(wrong, message):
    built = []
    with pytest.raises(UsageError, match=message):
        fit(workload(model=lambda: built.append(1) or Net()), sgd(0.1), **wrong)
    assert built == []


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("adamv(lr=1)", "adamw"),
        (3, "expected a recipe such as"),
        (lambda model, steps: model, "must return a torch optimiser, found Net"),
    ],
)
def test_what_is_no_recipe(recipe, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        fit(workload(), recipe, checkpoint=tmp_path / "new")
    assert not (tmp_path / "new").exists()


class Deaf(torch.optim.SGD):
    def step(self, closure=None):
        return None


@pytest.mark.parametrize(
    ("problem", "algorithm", "message"),
    [
        (print, sgd(0.1), "expected a workload, found builtin_function"),
        (workload(loss=lambda model, batch: model(batch[0])), sgd(0.1), "must return a scalar"),
        (workload(), lambda m, s: Deaf(m.parameters(), lr=0.1), "did not call the closure"),
    ],
)
def test_what_cannot_be_trained(problem, algorithm, message):
    with pytest.raises(UsageError, match=message):
        fit(problem, algorithm)
