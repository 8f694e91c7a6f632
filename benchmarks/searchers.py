"""Searchers against random search, on published functions and on `digits`.

Functions: Branin and Hartmann-6 with the fidelity of Wu et al. (2019, arXiv:1903.04703), where a
trial with the share ``s`` of the budget sees another function, and counting ones (Falkner et al.,
2018, arXiv:1807.01774) with 4 choices and 4 probabilities, where a budget is a number of draws.
Shown is the regret of the best trial of full length, at full fidelity: medians (and quartiles) over
seeds. All searchers may spend as much in all; one that looks at short trials has more of them. On
`digits` it is the error in percent after a short training with AdamW, whose learning rate and
weight decay are searched::

    python benchmarks/searchers.py [--seeds 10] [--only functions|digits] [--digits-trials 12]
"""

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from thalweg.core.seeds import derive_seed
from thalweg.core.space import Choice, Linear
from thalweg.tune import TuneConfig, minimise, named, run_tune

SEARCHERS = ("random", "quasi-random", "cma-es", "gp-ei", "tpe", "hyperband", "bohb")
BUDGETS = (1, 27)

_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def branin(values, budget=BUDGETS[1]):
    x, y, s = values["x"], values["y"], budget / BUDGETS[1]
    bend = 5.1 / (4 * math.pi**2) - 0.1 * (1 - s)
    well = (y - bend * x * x + 5 * x / math.pi - 6) ** 2
    return well + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10 - 0.39788735772973816


def hartmann(values, budget=BUDGETS[1]):
    x = np.array([values[f"x{i}"] for i in range(6)])
    weights = np.array([1 - 0.1 * (1 - budget / BUDGETS[1]), 1.2, 3.0, 3.2])
    return 3.322368011415515 - float(weights @ np.exp(-np.sum(_A * (x - _P) ** 2, axis=1)))


def counting_ones(values, budget=None):
    ones = sum(values[f"c{i}"] for i in range(4))
    probabilities = [values[f"p{i}"] for i in range(4)]
    if budget is None:
        return 8.0 - ones - sum(probabilities)
    key = repr(sorted(values.items()))
    rng = np.random.default_rng(derive_seed(0, key, round(budget)))
    draws = rng.random((max(1, round(9 * budget)), 4)) < np.array(probabilities)
    return 8.0 - ones - float(draws.mean(0).sum())


FUNCTIONS = {
    "Branin, 40 runs": (branin, {"x": Linear(-5, 10), "y": Linear(0, 15)}, 40),
    "Hartmann-6, 60 runs": (hartmann, {f"x{i}": Linear(0, 1) for i in range(6)}, 60),
    "counting ones 4 + 4, 40 runs": (
        counting_ones,
        {f"c{i}": Choice((0, 1)) for i in range(4)} | {f"p{i}": Linear(0, 1) for i in range(4)},
        40,
    ),
}


def regret(function, space, trials, searcher, seed):
    noisy = function is counting_ones  # its results are random at any budget
    budgets = BUDGETS if named(searcher).fidelity or noisy else None
    found = minimise(function, space, searcher=searcher, trials=trials, seed=seed, budgets=budgets)
    return function(found.best.values)


def digits_error(trials, steps, searcher, seed):
    with tempfile.TemporaryDirectory() as folder:
        config = TuneConfig(
            "digits",
            ("adamw + warmup(0.1) + linear",),
            Path(folder),
            searcher=searcher,
            trials=trials,
            steps=steps,
            evaluate_every=10,
            seed=seed,
            threads=torch.get_num_threads(),
        )
        return 100 * (1 - run_tune(config).metric)


def row(name, searcher, measure, seeds):
    begun = time.perf_counter()
    found = [measure(seed) for seed in range(seeds)]
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    seconds = (time.perf_counter() - begun) / seeds
    print(
        f"| {name} | {searcher} | {middle:.3g} | {low:.3g} to {high:.3g} | {seconds:.1f} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", choices=("functions", "digits"))
    parser.add_argument("--digits-trials", type=int, default=12)
    parser.add_argument("--digits-steps", type=int, default=30)
    parser.add_argument("--searchers", default=",".join(SEARCHERS))
    options = parser.parse_args()
    print("| problem | searcher | median | quartiles | s a search |\n|---|---|---|---|---|")
    for searcher in options.searchers.split(","):
        if options.only != "digits":
            for name, (function, space, trials) in FUNCTIONS.items():
                row(
                    name,
                    searcher,
                    lambda seed, f=function, s=space, t=trials, n=searcher: regret(
                        f, s, t, n, seed
                    ),
                    options.seeds,
                )
    for searcher in options.searchers.split(","):
        if options.only != "functions":
            trials, steps = options.digits_trials, options.digits_steps
            row(
                f"digits, {trials} runs of {steps} steps",
                searcher,
                lambda seed, n=searcher, t=trials, k=steps: digits_error(t, k, n, seed),
                options.seeds,
            )


if __name__ == "__main__":
    main()
