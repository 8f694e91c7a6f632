"""What eigenpairs and spectral densities cost, as ratios in one run.

The net is a 784-200-200-10 tanh network on digits of all ten classes, after some steps of gradient
descent with momentum. Counted are products and CPU time in units of a gradient (the median of
several, in turns with what is measured); the start of the eigenpairs is among their gradients and
not among their products. With --peers the package PyHessian computes the same density, of the same
batch kept in memory and of a loader (pip install pyhessian, in an environment of its own if you
like); it calls torch.eig, which torch has no more, so that its stand-in is given here. Run it on an
idle machine::

    python benchmarks/curvature.py [--samples 1000] [--steps 60] [--repeats 3] [--peers]
"""

import argparse
import statistics
import time

import torch
from torch import nn

from thalweg import workload
from thalweg.landscape import Objective
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
    parser.add_argument("--peers", action="store_true", help="compare with PyHessian")
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

    for _ in range(3):
        gradient()
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
    ours, theirs = [], {"in memory": [], "from a loader": []}
    for _ in range(arguments.repeats):
        ours.append(seconds(lambda: spectral_density(Hessian(objective), probes=10, steps=50))[0])
        if arguments.peers:
            for name, found in theirs.items():
                found.append(seconds(lambda way=name: peer(model, batch, way))[0])
    spent = statistics.median(ours)
    print(f"density 10 x 50: {spent / unit:.0f} gradients")
    if arguments.peers:
        for name, found in theirs.items():
            print(f"  {spent / statistics.median(found):.2f} of PyHessian's, data {name}")


def peer(model, batch, way):
    """Compute the density by PyHessian."""
    from pyhessian import hessian

    torch.eig = eig
    data = {"data": batch} if way == "in memory" else {"dataloader": [batch]}
    hessian(model, nn.CrossEntropyLoss(), cuda=False, **data).density(iter=50, n_v=10)


def eig(matrix, eigenvectors):
    """Stand in for torch.eig of a symmetric matrix: real values beside zero imaginary parts."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], 1), vectors


if __name__ == "__main__":
    main()
