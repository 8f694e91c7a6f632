"""What surfaces cost: CPU time as ratios in one run, and memory.

The nets are a convolutional one of about 100,000 parameters and a tiny perceptron, on digits. A
plain forward loop over the same batches, in evaluation mode without gradients, is the unit; rounds
of it and of what is measured take turns. Memory is the peak of a process of its own for each grid,
beyond what it is before. With --peers the package loss-landscapes draws the same grid of the
convolutional net (pip install loss-landscapes, in an environment of its own if you like). Run it
on an idle machine::

    python benchmarks/surfaces.py [--samples 512] [--batch 64] [--steps 20] [--peers]
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

from thalweg import workload
from thalweg.landscape import Objective, surface

GRIDS = (10, 20, 40)


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def seconds(work):
    begin = time.process_time()
    work()
    return time.process_time() - begin


def data(samples):
    images, labels = workload.load("digits").train
    chosen = torch.arange(samples) * len(images) // samples
    return images[chosen].reshape(-1, 1, 28, 28), labels[chosen]


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1568, 56), nn.ReLU(), nn.Linear(56, 10)),
    ).eval()


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.Tanh(), nn.Linear(16, 10)).eval()


def compare(name, model, batches, steps, rounds):
    """Print the time of a point of a surface over that of a forward loop; return the surface's."""
    objective = Objective(model, cross_entropy, batches)
    points = (steps + 1) ** 2
    loops = max(1, points // 8)

    def forward():
        with torch.no_grad():
            for _ in range(loops):
                sum(cross_entropy(model, batch).item() * len(batch[1]) for batch in batches)

    def drawn():
        surface(objective, steps=steps)

    forward()
    plain, ours = [], []
    for _ in range(rounds):
        plain.append(seconds(forward) / loops)
        ours.append(seconds(drawn) / points)
    one, unit = statistics.median(ours), statistics.median(plain)
    print(
        f"{name}: {unit * 1e3:.3f} ms a forward loop; a point of a surface {one / unit:.2f} of it"
    )
    return one * points


def peer(model, images, labels, steps, rounds):
    """Return the CPU time of the same grid by loss-landscapes."""
    import loss_landscapes
    from loss_landscapes.metrics import Loss

    metric = Loss(nn.functional.cross_entropy, images, labels)

    def drawn():
        loss_landscapes.random_plane(
            model, metric, steps=steps + 1, normalization="filter", deepcopy_model=True
        )

    return statistics.median(seconds(drawn) for _ in range(rounds))


def peak(samples, batch, steps):
    """Print what a surface adds to the peak of this process, in KiB."""
    images, labels = data(samples)
    batches = list(zip(images.split(batch), labels.split(batch), strict=True))
    objective = Objective(convolutional(), cross_entropy, batches)
    surface(objective, steps=2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    surface(objective, steps=steps)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peers", action="store_true", help="compare with loss-landscapes")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak is not None:
        peak(arguments.samples, arguments.batch, arguments.peak)
        return
    images, labels = data(arguments.samples)
    model = convolutional()
    print(f"the convolutional net has {sum(p.numel() for p in model.parameters())} parameters")
    for batch in (arguments.batch, arguments.samples):
        batches = list(zip(images.split(batch), labels.split(batch), strict=True))
        name = f"{arguments.samples} images in batches of {batch}"
        spent = compare(f"convolutional, {name}", model, batches, arguments.steps, arguments.rounds)
        compare(f"perceptron, {name}", tiny(), batches, arguments.steps, arguments.rounds)
    if arguments.peers:
        theirs = peer(model, images, labels, arguments.steps, arguments.rounds)
        print(f"loss-landscapes takes {theirs / spent:.2f} times as long for the same grid")
    for steps in GRIDS:
        words = ["--samples", arguments.samples, "--batch", arguments.batch, "--peak", steps]
        command = [sys.executable, __file__, *map(str, words)]
        more = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print(f"{steps + 1} x {steps + 1} points: {int(more) / 1024:.2f} MiB beyond 3 x 3")


if __name__ == "__main__":
    main()
