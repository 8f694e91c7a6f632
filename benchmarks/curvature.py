"""What eigenpairs, spectral densities and surfaces cost, as ratios in one run.

The net is a 784-200-200-10 tanh network on digits of all ten classes, after some steps of gradient
descent with momentum. Counted are products and CPU time in units of a gradient (the median of
several, in turns with what is measured). Run it on an idle machine::

    python benchmarks/curvature.py [--samples 1000] [--steps 60] [--repeats 3] [--pyhessian]
"""

import argparse
import statistics
import time

import torch
from torch import nn

from thalweg import workload
from thalweg.landscape import Objective, surface
from thalweg.landscape.curvature import Hessian, eigenpairs, spectral_density


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def seconds(work):
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def trained(images, labels, steps):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(images.shape[1], 200),
        nn.Tanh(),
        nn.Linear(200, 200),
        nn.Tanh(),
        nn.Linear(200, 10),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model, (images, labels)).backward()
        optimizer.step()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pyhessian", action="store_true", help="compare with that package")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images, labels = workload.load("digits").train
    # The data are sorted by class: evenly chosen, all ten are there.
    chosen = torch.arange(arguments.samples) * len(images) // arguments.samples
    images, labels = images[chosen].flatten(1), labels[chosen]
    model = trained(images, labels, arguments.steps)
    batch = (images, labels)
    objective = Objective(model, cross_entropy, [batch])
    params = list(model.parameters())

    def gradient():
        return torch.autograd.grad(cross_entropy(model, batch), params)

    def forward():
        with torch.no_grad():
            return cross_entropy(model, batch).item()

    for _ in range(3):
        gradient(), forward()
    units, pairs, whole = [], [], []
    for repeat in range(arguments.repeats):
        units += [seconds(gradient)[0] for _ in range(9)]
        spent, found = seconds(lambda seed=repeat: eigenpairs(Hessian(objective), 5, seed=seed))
        pairs.append(found.products)
        whole.append(spent)
    unit = statistics.median(units)
    total, products = statistics.median(whole) / unit, statistics.median(pairs)
    print(f"top 5 eigenpairs: {pairs} products, {total:.1f} gradients in all,")
    print(f"  {total / products:.2f} a product, {total - 1.56 * products:+.1f} over 1.56 a product")
    spent, _ = seconds(lambda: spectral_density(Hessian(objective), probes=10, steps=50))
    print(f"density 10 x 50: {spent / unit:.0f} gradients")
    if arguments.pyhessian:
        from pyhessian import hessian

        other = hessian(model, nn.CrossEntropyLoss(), data=batch, cuda=False)
        theirs, _ = seconds(lambda: other.density(iter=50, n_v=10))
        print(f"  {spent / theirs:.2f} of PyHessian's CPU time")
    plain, _ = seconds(lambda: [forward() for _ in range(225)])
    spent, found = seconds(lambda: surface(objective, steps=14))
    points = len(found.x) * len(found.y)
    print(f"surface: {spent / points / (plain / 225):.2f} of a forward pass a point")


if __name__ == "__main__":
    main()
