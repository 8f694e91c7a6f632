"""Train `digits` many times, and keep the results as the noise of simulated races.

Three pools: ``adamw`` and ``sgd``, one recipe each under many seeds, which is what the final runs
of a race are; ``tuning``, AdamW at as many learning rates, drawn log-uniformly from its search
space, under as many seeds, which is what the trials of a race are.

python benchmarks/digits_noise.py [--runs 80] writes benchmarks/digits_noise.csv; runs that it holds
already are left out, so an interrupted run continues.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from thalweg import train
from thalweg.recipe import Recipe
from thalweg.workload import load

FILE = Path(__file__).with_suffix(".csv")
COLUMNS = ("pool", "recipe", "seed", "final_metric", "best_metric", "steps_to_target")
ADAMW = "adamw(lr={lr:.4g}) + warmup(0.05) + linear"
SGD = "sgd(lr=0.1, momentum=0.9, nesterov=True) + warmup(0.05) + cosine"
TARGET = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=80, help="runs of each pool")
    runs = parser.parse_args().runs
    space = next(iter(Recipe.parse("adamw").space().values()))
    rates = [space.at(float(u)) for u in np.random.default_rng(0).random(runs)]
    recipes = {
        "adamw": [ADAMW.format(lr=3e-3)] * runs,
        "sgd": [SGD] * runs,
        "tuning": [ADAMW.format(lr=rate) for rate in rates],
    }
    known = set()
    if FILE.exists():
        with FILE.open(newline="") as file:
            known = {(row["pool"], int(row["seed"])) for row in csv.DictReader(file)}
    workload = load("digits")
    with FILE.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if not known:
            writer.writerow(COLUMNS)
        for seed in range(runs):
            for place, (pool, texts) in enumerate(recipes.items()):
                if (pool, seed) in known:
                    continue
                result = train.fit(
                    workload,
                    texts[seed],
                    seed=1000 * place + seed,
                    evaluate_every=30,
                    target=TARGET,
                    threads=1,
                    catch=True,
                )
                writer.writerow(
                    (
                        pool,
                        texts[seed],
                        seed,
                        result.final_metric,
                        result.best_metric,
                        result.steps_to_target,
                    )
                )
                file.flush()


if __name__ == "__main__":
    main()
