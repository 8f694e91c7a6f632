"""One of the processes of a parallel run; see test_parallel.py.

Run as ``python parallel_worker.py FILE CASE...`` with the environment that torchrun sets; the
first process writes what came out.
"""

import json
import os
import sys

import torch
from torch import nn

from thalweg import train
from thalweg.core.errors import UsageError
from thalweg.workload import Workload

CASES = {
    "ddp": ("adamw(lr=0.01) + warmup(0.1) + linear + ema(0.9)", {"parallel": "ddp"}),
    "sam": ("sgd(lr=0.05, momentum=0.9) + sam + clip-norm(1.0)", {"parallel": "ddp"}),
    "accumulate": ("adamw(lr=0.01)", {"parallel": "ddp", "accumulate": 2}),
    "fsdp": ("adamw(lr=0.01) + warmup(0.1) + linear", {"parallel": "fsdp"}),
    "muon": ("muon(lr=0.01)", {"parallel": "fsdp"}),
    "closure": ("gauss-newton", {"parallel": "ddp"}),
}
STEPS = 12


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(6, 6) for _ in range(2)])
        self.head = nn.Linear(6, 3)
        self.temperature = 0.5  # read by the loss: a wrapper must not hide it

    def forward(self, x):
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def workload():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=generator)
    y = x[:, :3].argmax(1)

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0]) / model.temperature, batch[1])

    return Workload(
        name="net",
        title="Net",
        model=Net,
        train=(x, y),
        validation=(x, y),
        loss=loss,
        metric=loss,
        metric_name="loss",
        higher_is_better=False,
        batch_size=10,
        steps=STEPS,
    )


def case(name, **changes):
    recipe, settings = CASES[name]
    settings = {**settings, **changes}
    return train.fit(workload(), recipe, seed=3, evaluate_every=4, threads=1, **settings)


def described(result):
    return {
        "metrics": [point.metric for point in result.curve],
        "losses": [point.train_loss for point in result.curve],
        "weights": {name: value.tolist() for name, value in result.weights.items()},
    }


if __name__ == "__main__":
    file, *names = sys.argv[1:]
    torch.distributed.init_process_group("gloo")
    found = {}
    for name in names:
        try:
            found[name] = described(case(name))
        except UsageError as error:
            found[name] = str(error)
    if os.environ["RANK"] == "0":
        with open(file, "w") as out:
            json.dump(found, out)
    torch.distributed.destroy_process_group()
