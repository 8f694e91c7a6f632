"""Evaluation: at the right weights and statistics, and without a trace in the training."""

import math

import pytest
import torch
from torch import nn
from train_problems import ALGORITHMS, Net, accuracy, parts, sgd, workload

from thalweg import average, optim
from thalweg.core.errors import UsageError
from thalweg.train import Callback, fit
from thalweg.workload import in_order


class Watch(Callback):
    """Collects what a run evaluates, and checks that it is as before afterwards."""

    def __init__(self):
        self.models = []
        self.training = []

    def on_evaluate(self, run, point):
        before = state(run)
        with run.evaluating() as model:
            self.models.append({k: v.clone() for k, v in model.state_dict().items()})
        assert state(run) == before
        self.training.append({k: v.clone() for k, v in run.model.state_dict().items()})


def state(run):
    return (
        {k: v.numpy().tobytes() for k, v in run.model.state_dict().items()},
        [module.training for module in run.model.modules()],
        torch.get_rng_state().tolist(),
        repr(run.optimizer.state_dict()),
    )


def first_layer_statistics(problem, weights):
    """Return mean and variance of the first layer's outputs over the whole training data."""
    x = problem.train[0].double()
    out = x @ weights["0.weight"].double().T + weights["0.bias"].double()
    return out.mean(0), out.var(0)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_everything_is_as_before(name):
    watch = Watch()
    result = fit(workload(), ALGORITHMS[name], callbacks=[watch])
    assert len(watch.models) == 4
    last = watch.models[-1]
    assert all(torch.equal(result.weights[key], value) for key, value in last.items())


@pytest.mark.parametrize("name", ["schedule-free", "sgd, swa"])
def test_statistics_are_recomputed_for_weights_that_were_not_trained(name):
    # One batch of the whole data, and 1,024 samples make 18 passes: the exact statistics.
    problem = workload(batch_size=60)
    watch = Watch()
    fit(problem, ALGORITHMS[name], callbacks=[watch])
    mean, variance = first_layer_statistics(problem, watch.models[-1])
    assert torch.allclose(watch.models[-1]["1.running_mean"].double(), mean, atol=1e-5)
    assert torch.allclose(watch.models[-1]["1.running_var"].double(), variance, rtol=1e-4)
    trained = watch.training[-1]
    assert not torch.equal(trained["1.running_mean"], watch.models[-1]["1.running_mean"])
    assert not torch.equal(trained["0.weight"], watch.models[-1]["0.weight"])


@pytest.mark.parametrize(
    "make",
    [
        sgd(0.1),
        parts(lambda m: optim.SGD(m, lr=0.1), mean=average.SWA(start=1.0)),
        ALGORITHMS["adamw, linear, ema"],
    ],
    ids=["no average", "an average that has not begun", "an average of the statistics too"],
)
def test_statistics_that_belong_to_the_weights_are_kept(make):
    class Compare(Callback):
        def on_evaluate(self, run, point):
            if point.step == 3:
                with run.evaluating() as model:
                    seen.append(model[1].num_batches_tracked.clone())

    seen = []
    fit(workload(batch_size=20), make, callbacks=[Compare()])
    assert [int(count) for count in seen] == [3]


def test_recalibration_does_not_depend_on_earlier_evaluations():
    watches = [Watch(), Watch()]
    for watch, every in zip(watches, (1, 6), strict=True):
        fit(workload(), ALGORITHMS["schedule-free"], evaluate_every=every, callbacks=[watch])
    one, two = watches[0].models[-1], watches[1].models[-1]
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_average_is_what_is_evaluated():
    kept = []

    class Keep(Callback):
        def on_step(self, run, step, loss):
            kept.append(run.model[0].weight.detach().double().clone())

    algorithm = parts(lambda m: optim.SGD(m, lr=0.1), mean=average.SWA(start=0.5))
    result = fit(workload(), algorithm, callbacks=[Keep()])
    mean = torch.stack(kept[5:]).mean(0)
    assert torch.allclose(result.weights["0.weight"].double(), mean, atol=1e-6)


class Inexact(torch.optim.SGD):
    """Goes to its evaluation weights and back with rounding errors, as some packages do."""

    def eval(self):
        self.scale(1 / 3)

    def train(self):
        self.scale(3.0)

    def scale(self, factor):
        for group in self.param_groups:
            for p in group["params"]:
                p.data.mul_(factor).add_(1).sub_(1)


def test_an_optimiser_that_does_not_come_back_exactly_is_put_back():
    seen = {}
    for every in (1, 12):

        class Losses(Callback):
            def on_step(self, run, step, loss, every=every):
                seen.setdefault(every, []).append(loss)

        fit(
            workload(),
            lambda m, s: Inexact(m.parameters(), lr=0.1),
            evaluate_every=every,
            callbacks=[Losses()],
        )
    assert seen[1] == seen[12]


def test_all_is_as_before_after_an_error_at_the_evaluation_weights():
    class Fail(Callback):
        def on_evaluate(self, run, point):
            before = state(run)
            with pytest.raises(ZeroDivisionError), run.evaluating() as model:
                _ = model[0].weight.data.zero_(), 1 / 0
            assert state(run) == before

    assert fit(workload(), ALGORITHMS["schedule-free"], callbacks=[Fail()]).status == "ok"


def test_random_metrics_are_the_same_every_time_and_leave_training_alone():
    def noisy(model, batch):
        return accuracy(model, batch) + torch.rand(len(batch[0]))

    one, two = (fit(workload(metric=noisy), ALGORITHMS["soap"]).curve for _ in range(2))
    plain = fit(workload(), ALGORITHMS["soap"]).curve
    assert [p.metric for p in one] == [p.metric for p in two]
    assert [p.train_loss for p in one] == [p.train_loss for p in plain]
    assert all(noised.metric > quiet.metric for noised, quiet in zip(one, plain, strict=True))


def test_gradients_are_not_recorded_and_dropout_is_off():
    seen = []

    def metric(model, batch):
        first, second = model(batch[0]), model(batch[0])
        seen.append((torch.is_grad_enabled(), model.training, torch.equal(first, second)))
        return accuracy(model, batch)

    fit(workload(metric=metric, model=lambda: Net(dropout=0.9)), sgd(0.1), steps=1)
    assert seen == [(False, False, True)] * 3


def test_a_metric_of_the_wrong_shape():
    problem = workload(metric=lambda model, batch: model(batch[0]))
    with pytest.raises(UsageError, match=r"of shape \(12, 3\)"):
        fit(problem, sgd(0.1))


def test_the_metric_is_summed_in_float64_over_all_samples():
    many = torch.full((5001, 4), 0.1), torch.zeros(5001, dtype=torch.int64)
    problem = workload(
        model=lambda: nn.Linear(4, 3), validation=many, metric=lambda model, batch: batch[0][:, 0]
    )
    found = fit(problem, sgd(0.1), steps=1).final_metric
    assert math.isclose(found, float(torch.tensor(0.1)), rel_tol=1e-12)
    assert sum(len(x) for x, _ in in_order(many, 12)) == 5001
