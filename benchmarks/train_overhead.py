"""What the training loop costs beside a loop written by hand, on `digits`.

Both train the same model on the same batches with torch's AdamW and no evaluation, in turns, so
that what else the machine does hits both; each turn is a whole run, and the order within a pair
alternates. Printed is the ratio of the median step times over all steps after the first ten of a
run, and the ratio of whole training times. Run it on an idle machine::

    python benchmarks/train_overhead.py [--pairs 15] [--steps 120] [--threads 2]
"""

import argparse
import statistics
import time

import torch

from thalweg import workload
from thalweg.core.seeds import derive_seed
from thalweg.train import Callback, fit

SKIPPED = 10  # steps of a run that warm caches up, and the two that memory is measured in


class Clock(Callback):
    """Takes the training time after every step, as the loop itself counts it."""

    def __init__(self):
        self.at = []

    def on_step(self, run, step, loss):
        self.at.append(run.seconds)


def by_the_loop(problem, steps, seed):
    clock = Clock()
    fit(
        problem,
        lambda model, steps: torch.optim.AdamW(model.parameters(), lr=1e-3),
        steps=steps,
        evaluate_every=steps,
        seed=seed,
        device="cpu",
        callbacks=[clock],
    )
    return [b - a for a, b in zip(clock.at, clock.at[1:], strict=False)]


def by_hand(problem, steps, seed):
    torch.manual_seed(derive_seed(seed, "model"))
    model = problem.model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    images, labels = problem.train
    count, size = len(images), problem.batch_size
    losses, seconds = [], []
    order = torch.randperm(count)
    start = 0
    for _ in range(steps):
        begin = time.perf_counter()
        if start + size > count:
            order, start = torch.randperm(count), 0
        index = order[start : start + size]
        start += size
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[index]), labels[index])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    return seconds[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    problem = workload.load("digits")
    steps = {by_the_loop: [], by_hand: []}
    ratios = []
    for pair in range(arguments.pairs):
        both = [by_the_loop, by_hand] if pair % 2 else [by_hand, by_the_loop]
        found = {run: run(problem, arguments.steps, pair)[SKIPPED:] for run in both}
        for run, seconds in found.items():
            steps[run] += seconds
        ratios.append(sum(found[by_the_loop]) / sum(found[by_hand]))
    loop, hand = (statistics.median(steps[run]) for run in (by_the_loop, by_hand))
    print(f"threads {arguments.threads}, {len(steps[by_hand])} steps each")
    print(f"median step: loop {1e3 * loop:.3f} ms, by hand {1e3 * hand:.3f} ms")
    print(f"ratio of median steps: {loop / hand:.4f}")
    print(f"ratio of training times, median of pairs: {statistics.median(ratios):.4f}")


if __name__ == "__main__":
    main()
