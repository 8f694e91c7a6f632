"""Barriers between networks of two seeds on real digits, before and after their units are matched.

Two networks are trained on the workload `digits` from different seeds and in different orders.
Printed are the barriers of training and test loss on the straight line between them,

    max_t [L((1 - t) A + t B) - (1 - t) L(A) - t L(B)],

for B as it was trained and for B permuted, by weight matching, by activation matching or by
straight-through matching, with how long that took. Networks with batch norm have their statistics
mixed, like weights; recomputed on the training data; or are repaired (REPAIR)::

    python benchmarks/rebasin.py [--net mlp cnn resnet] [--recipe "adam(lr=1e-3)"]
        [--by weights activations straight-through]

"mlp" is 784-256-256-256-10 with ReLU. "cnn" is the workload's own network with batch norm, with
channels times ``--width``. "resnet" has a stem and two residual blocks with batch norm, of 16 and
32 channels times ``--width``. All permutations are checked: outputs of B and of B permuted are
compared in float64.
"""

import argparse
import copy
import dataclasses
import itertools
import time

import torch
from torch import nn

from thalweg import landscape, train, workload
from thalweg.landscape import Objective
from thalweg.merge import merge, named
from thalweg.merge.permutations import align, distance, moved_share, preactivations, repair
from thalweg.workload.resnet import ResNet


def perceptron():
    sizes = (784, 256, 256, 256, 10)
    layers = [nn.Flatten()]
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional(width):
    layers, channels = [], 1
    for out, kernel, stride in ((12, 5, 2), (24, 5, 2), (48, 3, 1)):
        made = nn.Conv2d(channels, out * width, kernel, stride, kernel // 2, bias=False)
        layers += [made, nn.BatchNorm2d(out * width), nn.ReLU()]
        channels = out * width
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(channels * 9, 10))


def residual(width):
    return ResNet(1, 10, (16 * width, 32 * width), (1, 1))


def cut(data, samples, size=500):
    images, labels = (x[:: max(len(x) // samples, 1)][:samples] for x in data)
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


def say(name, train_barrier, test_barrier):
    print(f"  {name:44}{train_barrier:8.4f}{test_barrier:8.4f}", flush=True)


def plain(objective, test, ends, policy, points):
    (line,) = landscape.lines(
        objective, ends, steps=points - 1, batch_norm=policy, also={"test": test}
    )
    return line.barrier, line.rise("test")


def repaired(objective, test, ends, points):
    """Return the barriers with every mix repaired."""
    moments = [preactivations(objective, weights) for weights in ends.values()]
    losses = []
    for place in range(points):
        t = place / (points - 1)
        if t in (0, 1):
            weights = list(ends.values())[round(t)]
        else:
            share = (1 - t, t)
            mixed = merge(named(f"model-soups(weights={share})"), ends)
            weights = repair(objective, mixed, moments, share)
        objective.module.load_state_dict(weights)
        losses.append((objective.value(), test.value()))

    def barrier(values):
        first, last, steps = values[0], values[-1], points - 1
        over = [x - first - (last - first) * i / steps for i, x in enumerate(values)]
        return max(0.0, *over)

    return tuple(barrier(values) for values in zip(*losses, strict=True))


def largest_change(model, structure, one, permutations, images):
    model = copy.deepcopy(model).double().eval()
    outputs = []
    for weights in (one, structure.apply(one, permutations)):
        model.load_state_dict(weights)
        with torch.no_grad():
            outputs.append(model(images.double()))
    return float((outputs[0] - outputs[1]).abs().max())


def study(name, arguments):
    base = workload.load("digits")
    nets = {
        "mlp": perceptron,
        "cnn": lambda: convolutional(arguments.width),
        "resnet": lambda: residual(arguments.width),
    }
    task = dataclasses.replace(base, name=f"digits-{name}", model=nets[name])
    steps = arguments.steps
    begin = time.perf_counter()
    ends = []
    for seed in arguments.seeds:
        result = train.fit(task, arguments.recipe, steps=steps, seed=seed, evaluate_every=steps)
        ends.append(result.weights)
        print(f"{name}, seed {seed}: test {task.metric_name} {result.final_metric:.3f}", flush=True)
    print(f"  trained in {time.perf_counter() - begin:.0f} s; {arguments.recipe}, {steps} steps")
    model = task.model()
    training = cut(task.train, arguments.samples)
    objective = Objective(model, task.loss, training)
    test = Objective(
        model, task.loss, cut(task.validation, len(task.validation[1])), calibration=training
    )
    has_norm = any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    print(f"  {'barrier':44}{'train':>8}{'test':>8}")
    first, second = ends
    others = {"as trained": second}
    for by in arguments.by:
        begin = time.perf_counter()
        structure, found = align(objective, first, second, by)
        seconds = time.perf_counter() - begin
        others[f"matched by {by}"] = structure.apply(second, found.permutations)
        change = largest_change(model, structure, second, found.permutations, training[0][0][:64])
        print(
            f"  {by}: {seconds:.1f} s, {len(structure.groups)} groups, {structure.unit_count} "
            f"units, {moved_share(structure, found.permutations):.1%} moved, distance "
            f"{distance(first, second):.2f} -> {distance(first, others[f'matched by {by}']):.2f}, "
            f"outputs change by {change:.1e}",
            flush=True,
        )
    for what, other in others.items():
        pair = {"A": first, "B": other}
        if not has_norm:
            say(what, *plain(objective, test, pair, "recalibrate", arguments.points))
            continue
        say(
            f"{what}, statistics mixed",
            *plain(objective, test, pair, "interpolate", arguments.points),
        )
        say(
            f"{what}, statistics recomputed",
            *plain(objective, test, pair, "recalibrate", arguments.points),
        )
        say(f"{what}, repaired", *repaired(objective, test, pair, arguments.points))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--net", nargs="+", choices=("mlp", "cnn", "resnet"), default=["mlp"])
    ways = ("weights", "activations", "straight-through")
    parser.add_argument("--by", nargs="+", choices=ways, default=ways[:2])
    parser.add_argument("--recipe", default="adam(lr=1e-3)")
    parser.add_argument("--steps", type=int, default=1000, help="of each network")
    parser.add_argument("--seeds", type=int, nargs=2, default=[0, 1])
    parser.add_argument("--width", type=int, default=4)
    parser.add_argument("--samples", type=int, default=4000, help="training samples of losses")
    parser.add_argument("--points", type=int, default=25, help="along each line")
    arguments = parser.parse_args()
    for name in arguments.net:
        study(name, arguments)


if __name__ == "__main__":
    main()
