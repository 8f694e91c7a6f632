"""What skip connections do to the loss: filter-normalised surfaces with and without them.

A deep thin network (3 x 3 convolutions of 8 channels, each with batch norm) is trained on the
digits of the workload at 14 x 14, once with and once without skip connections around each pair of
convolutions, from the same seed, by SGD with momentum. The figure has both surfaces on one scale
(Li et al., 2018, arXiv 1712.09913, figure 1). Printed are losses, errors and how rough each
surface is: local minima on the grid, the share of its inner points where the discrete Hessian has
a negative eigenvalue, and the share of the area with less than twice the loss of a guess::

    python benchmarks/skip_connections.py [--depth 56] [--out skip-connections]

One core takes some minutes.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from thalweg import landscape, train, workload

WIDTH = 8


def conv_norm(channels, stride=1):
    convolution = nn.Conv2d(channels, WIDTH, 3, stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(WIDTH)


class Block(nn.Module):
    def __init__(self, skip):
        super().__init__()
        self.skip = skip
        first, second = conv_norm(WIDTH), conv_norm(WIDTH)
        self.inner = nn.Sequential(*first, nn.ReLU(), *second)

    def forward(self, x):
        return torch.relu(self.inner(x) + x if self.skip else self.inner(x))


def network(depth, skip):
    blocks = [Block(skip) for _ in range((depth - 2) // 2)]
    pool = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * WIDTH, 10)]
    return nn.Sequential(*conv_norm(1, stride=2), nn.ReLU(), *blocks, *pool)


def roughness(surface):
    z = np.array(surface.losses)
    inner = z[1:-1, 1:-1]
    around = [z[1 + i : z.shape[0] - 1 + i, 1 + j : z.shape[1] - 1 + j]
              for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]  # fmt: skip
    minima = int(np.all([inner < one for one in around], axis=0).sum())
    xx = z[1:-1, 2:] - 2 * inner + z[1:-1, :-2]
    yy = z[2:, 1:-1] - 2 * inner + z[:-2, 1:-1]
    xy = (z[2:, 2:] - z[2:, :-2] - z[:-2, 2:] + z[:-2, :-2]) / 4
    least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return minima, float((least < 0).mean()), float((z < 2 * np.log(10)).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--depth", type=int, default=56, help="layers with weights")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--size", type=int, default=30, help="steps along each side")
    parser.add_argument("--samples", type=int, default=250, help="of the surface")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clip", type=float, default=10.0)
    parser.add_argument("--out", type=Path, default=Path("skip-connections"))
    arguments = parser.parse_args()
    begin = time.process_time()
    whole = workload.load("digits")
    data = [(nn.functional.avg_pool2d(x, 2), y) for x, y in (whole.train, whole.validation)]
    found = {}
    for skip in (True, False):
        task = dataclasses.replace(
            whole,
            name="small-digits",
            model=lambda skip=skip: network(arguments.depth, skip),
            train=data[0],
            validation=data[1],
        )
        result = train.fit(
            task,
            f"sgd(lr={arguments.lr}, momentum=0.9, weight_decay=5e-4) + warmup(0.1) + cosine",
            steps=arguments.steps,
            seed=arguments.seed,
            evaluate_every=arguments.steps,
        )
        title = f"{arguments.depth} layers, {'with' if skip else 'without'} skips"
        if not result.weights:
            print(f"{title}: {result.error}", flush=True)
            continue
        model = task.model()
        model.load_state_dict(result.weights)
        images, labels = (x[:: len(x) // arguments.samples][: arguments.samples] for x in data[0])
        objective = landscape.Objective(model, task.loss, [(images, labels)])
        surface = landscape.surface(
            objective, steps=arguments.size, seed=arguments.seed, batch_norm="frozen"
        )
        surface.save(arguments.out / f"{'with' if skip else 'without'}.npz")
        minima, concave, low = roughness(surface)
        values = np.array(surface.losses)
        print(
            f"{title}: test accuracy {result.final_metric:.3f}, training loss "
            f"{objective.value():.4f}\n  surface: from {values.min():.4g} to {values.max():.4g}, "
            f"{minima} local minima, negative curvature at {concave:.1%} of the points, loss below "
            f"4.6 on {low:.1%} of the area",
            flush=True,
        )
        found[title] = surface
    for suffix in ("png", "pdf"):
        landscape.side_by_side(
            found, arguments.out / f"surfaces.{suffix}", view="both", clip=arguments.clip
        )
    print(f"{time.process_time() - begin:.0f} CPU seconds; {arguments.out / 'surfaces.png'}")


if __name__ == "__main__":
    main()
