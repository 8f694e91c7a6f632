"""Small workloads and training algorithms for the tests of the loop."""

from types import SimpleNamespace

import torch
from torch import nn

from thalweg import around, average, optim, schedule
from thalweg.train import Callback
from thalweg.workload import Workload


def blobs(count, seed, generator=None):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, 4, generator=generator) + labels[:, None], labels


class Net(nn.Sequential):
    """With batch norm and dropout, so that buffers and random numbers matter."""

    def __init__(self, dropout=0.3):
        super().__init__(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3)
        )


def loss(model, batch):
    x, y = batch
    return nn.functional.cross_entropy(model(x), y)


def accuracy(model, batch):
    x, y = batch
    return (model(x).argmax(1) == y).float()


def workload(**changes):
    settings = {
        "name": "blobs",
        "title": "Blobs",
        "model": Net,
        "train": blobs(60, 0),
        "validation": blobs(31, 1),
        "loss": loss,
        "metric": accuracy,
        "metric_name": "accuracy",
        "higher_is_better": True,
        "batch_size": 12,
        "steps": 12,
        "evaluate_every": 3,
    }
    return Workload(**{**settings, **changes})


def parts(make, *, follow=None, mean=None):
    """Return a function for `fit` from an optimiser's maker, a schedule and an average."""

    def build(model, steps):
        optimizer = make(model)
        return SimpleNamespace(
            optimizer=optimizer,
            learning_rate=follow and schedule.LearningRate(optimizer, follow, steps),
            average=mean and mean.attach(model),
        )

    return build


ALGORITHMS = {
    "adamw, linear, ema": parts(
        lambda m: optim.AdamW(m, lr=0.01), follow=schedule.Linear(), mean=average.EMA(0.9)
    ),
    "sgd, swa": parts(lambda m: optim.SGD(m, lr=0.1, momentum=0.9), mean=average.SWA(start=0.5)),
    "sam around adamw": parts(
        lambda m: around.SAM(optim.AdamW(m, lr=0.01), model=m), follow=schedule.Cosine()
    ),
    "lookahead around sgd": parts(lambda m: around.Lookahead(optim.SGD(m, lr=0.1))),
    "schedule-free": parts(lambda m: optim.ScheduleFreeAdamW(m, lr=0.01)),
    "prodigy": parts(lambda m: optim.Prodigy(m)),
    "muon": parts(lambda m: optim.Muon(m, lr=0.01)),
    "soap": parts(lambda m: optim.SOAP(m, lr=0.01)),
    "torch's adam": lambda m, steps: torch.optim.Adam(m.parameters(), lr=0.01, amsgrad=True),
    "torch's one-cycle": lambda m, steps: one_cycle(m, steps),
}


def sgd(rate):
    return lambda model, steps: torch.optim.SGD(model.parameters(), lr=rate)


def one_cycle(model, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    follow = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps)
    return SimpleNamespace(optimizer=optimizer, learning_rate=follow, average=None)


class PowerCutError(Exception):
    """The power went off."""


class Interrupt(Callback):
    """Ends the run after a step."""

    def __init__(self, step):
        self.last = step

    def on_step(self, run, step, loss):
        if step == self.last:
            raise PowerCutError


def without_times(result):
    """Return all of a result that is to be the same every time, as comparable data."""
    assert result.status == "ok", result.error
    return (
        [(p.step, p.train_loss, p.metric) for p in result.curve],
        result.steps,
        result.final_metric,
        result.best_metric,
        result.state_bytes,
        {name: value.numpy().tobytes() for name, value in result.weights.items()},
    )
