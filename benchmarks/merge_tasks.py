"""Two fine-tuned tasks merged by each method: accuracy on both, beside their ensemble.

A 784-128-128-10 network learns the digits of the workload of that name, then is fine-tuned twice:
on the pictures turned by a quarter, and on them mirrored. Every merge starts from these two and
the base; Fishers and Gram matrices are taken on training samples of each model's own task;
merges that choose use training samples of both tasks that no model was fine-tuned on. Numbers are
for validation samples, means over seeds and, in brackets, their range::

    python benchmarks/merge_tasks.py [--seeds 3]
"""

import argparse
import time

import torch
from ranges_table import print_ranges
from torch import nn
from torch.nn import functional

from thalweg import workload
from thalweg.landscape import Objective
from thalweg.merge import Ensemble, fisher_diagonal, input_grams, merge, named

METHODS = (
    "model-soups",
    "greedy-soup",
    "learned-soup(epochs=10)",
    "learned-soup(epochs=10, by_tensor=True)",
    "fisher-merge",
    "regmean",
    "gradient-matching-merge",
    "task-arithmetic(scale=0.5)",
    "task-arithmetic",
    "ties",
    "ties(density=0.5)",
    "ties(scope='tensor')",
    "dare(drop=0.5)",
    "dare(then='model-soups')",
    "model-stock",
    "slerp",
    "vanishing-variance",
    "btm(tokens=64)",
)
HELD_OUT = 600
KNOWN = 128  # samples that Fishers and Gram matrices are taken on


def loss(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def network():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def train(weights, images, labels, steps, lr, seed):
    torch.manual_seed(seed)
    model = network()
    if weights is not None:
        model.load_state_dict(weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    random = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        batch = torch.randint(len(images), (64,), generator=random)
        optimizer.zero_grad()
        loss(model, (images[batch], labels[batch])).backward()
        optimizer.step()
    return {name: x.clone() for name, x in model.state_dict().items()}


@torch.no_grad()
def accuracy(model, images, labels):
    return (model(images).argmax(1) == labels).double().mean().item()


def batches(images, labels, size=64):
    return list(zip(images.split(size), labels.split(size), strict=True))


def one_seed(seed):
    """Return accuracies on both tasks by method."""
    digits = workload.load("digits")
    images, labels = (torch.as_tensor(x) for x in digits.train[:2])
    images = images.float().reshape(len(images), 28, 28)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    images, labels = images[order], labels[order].long()
    test, test_labels = (torch.as_tensor(x) for x in digits.validation[:2])
    test, test_labels = test.float().reshape(len(test), 28, 28), test_labels.long()

    tasks = (lambda x: x.rot90(1, (1, 2)), lambda x: x.flip(2))
    base = train(None, images[HELD_OUT:], labels[HELD_OUT:], 400, 1e-3, seed)
    models = [
        train(base, task(images[HELD_OUT:]), labels[HELD_OUT:], 150, 5e-4, 100 + seed + place)
        for place, task in enumerate(tasks)
    ]

    some, their = images[HELD_OUT:][:KNOWN], labels[HELD_OUT:][:KNOWN]
    own = [batches(task(some), their) for task in tasks]
    plain = batches(some, their)
    fishers, grams = [], []
    for weights, data in zip((*models, base), (*own, plain), strict=True):
        model = network()
        model.load_state_dict(weights)
        objective = Objective(model, loss, data)
        fishers.append(fisher_diagonal(objective))
        grams.append(input_grams(objective))
    both = torch.cat([task(images[:HELD_OUT]) for task in tasks])
    both_labels = labels[:HELD_OUT].repeat(2)
    mixed = torch.randperm(len(both), generator=torch.Generator().manual_seed(seed))
    held_out = Objective(network(), loss, batches(both[mixed], both_labels[mixed]))
    runner = network()

    def score(weights):
        runner.load_state_dict(weights)
        return accuracy(runner, both, both_labels)

    def on_both(model):
        return [accuracy(model, task(test), test_labels) for task in tasks]

    def of(weights):
        runner.load_state_dict(weights)
        return on_both(runner)

    found = {"base": of(base), "turned": of(models[0]), "mirrored": of(models[1])}
    for text in METHODS:
        method = named(text)
        known = {"fisher": fishers, "gram": grams}.get(method.needs_statistics, [])
        weights = merge(
            method,
            models,
            base,
            statistics=known[:2] or None,
            base_statistics=known[2] if known else None,
            score=score,
            objective=held_out,
        )
        found[text] = of(weights)
    found["ensemble"] = on_both(Ensemble(network(), models))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    begin = time.perf_counter()
    rows = [one_seed(seed) for seed in range(parser.parse_args().seeds)]
    print_ranges(rows, "", ("turned", "mirrored"), 42)
    print(f"{time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
