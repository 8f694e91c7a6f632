"""Gradient descent at the edge of stability: sharpness rises to 2 / lr and stays about there.

Full-batch gradient descent on the mean squared error of a 196-64-64-10 tanh network, on 500 digits
of the workload at 14 x 14, with several learning rates from the same weights (Cohen et al., 2021,
arXiv 2103.00065). Printed is the median of sharpness times lr / 2 over the last quarter of each
run, which is 1 at the edge::

    python benchmarks/edge_of_stability.py [--lr 0.05 0.07 0.1] [--out edge-of-stability]

One core takes some minutes.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from thalweg import train, workload
from thalweg.landscape.figures.dynamics import draw_dynamics


def network():
    return nn.Sequential(
        nn.Linear(196, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
    )


def squares(model, batch):
    images, labels = batch
    wanted = nn.functional.one_hot(labels, 10).float()
    return 0.5 * (model(images) - wanted).square().sum(1).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lr", type=float, nargs="+", default=[0.05, 0.07, 0.1])
    parser.add_argument("--time", type=float, default=150.0, help="steps times lr")
    parser.add_argument("--measurements", type=int, default=80, help="a run")
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("edge-of-stability"))
    arguments = parser.parse_args()
    begin = time.process_time()
    whole = workload.load("digits")
    step = len(whole.train[0]) // arguments.samples
    (images, labels), held_out = (
        (nn.functional.avg_pool2d(x, 2).flatten(1), y) for x, y in (whole.train, whole.validation)
    )
    task = workload.Workload(
        name="edge-of-stability",
        title="Digits by full-batch gradient descent",
        model=network,
        train=(images[::step][: arguments.samples], labels[::step][: arguments.samples]),
        validation=held_out,
        loss=squares,
        metric=whole.metric,
        metric_name="accuracy",
        higher_is_better=True,
        batch_size=arguments.samples,
        steps=1000,
    )
    found = {}
    for lr in arguments.lr:
        steps = round(arguments.time / lr)
        follow = train.FollowDynamics(
            share=None,
            every=max(1, steps // arguments.measurements),
            samples=arguments.samples,
            tolerance=1e-2,
        )
        train.fit(task, f"sgd(lr={lr})", steps=steps, evaluate_every=steps, callbacks=[follow])
        found[f"lr {lr:g}"] = dynamics = follow.dynamics()
        ratio = dynamics.sharpness * lr / 2
        tail = ratio[-(len(ratio) // 4) :]
        crossed = np.flatnonzero(ratio >= 1)
        first = f"from step {dynamics.step[crossed[0]]}" if len(crossed) else "not reached"
        print(
            f"lr {lr:g}: 2 / lr {first}; sharpness at the start {dynamics.sharpness[0]:.2f}, times "
            f"lr / 2 over the last quarter: median {np.median(tail):.3f}, from {tail.min():.3f} to "
            f"{tail.max():.3f}; loss {dynamics.loss[0]:.4f} to {dynamics.loss[-1]:.4f}",
            flush=True,
        )
    for suffix in ("png", "pdf"):
        draw_dynamics(found, arguments.out / f"sharpness.{suffix}")
    print(f"{time.process_time() - begin:.0f} CPU seconds; {arguments.out / 'sharpness.png'}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
