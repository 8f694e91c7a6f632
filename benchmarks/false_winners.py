"""How often races of equal entrants name a winner, and how often real winners are found.

Results of races are drawn, with replacement, from real runs of `digits` (digits_noise.csv, by
digits_noise.py), so their noise is as coarse and as skewed as it really is. In races of equals all
entrants draw from one pool; for power one entrant is ahead by a constant. Entrants draw
independently, or share part of their noise through the seed as paired runs do ("paired": half of
the variance). Every race is decided by `thalweg.race.decisions.decide`, as `thalweg race` does it.

* False winners: equal entrants, at fixed seeds, at ``--seeds 3..10``, and with the luck of tuning
  in it (the best of 5 tuning runs in each of some studies, as in the ruleset external).
* Power: one of the entrants is better by a multiple of the standard deviation of a run.
* What stopping costs and saves: seeds used.
* Procedures for pairs: Benjamini and Yekutieli, Holm, and Benjamini and Hochberg.

python benchmarks/false_winners.py [--races 500]
"""

import argparse
import csv
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats

from thalweg.race.decisions import decide
from thalweg.race.power import power
from thalweg.race.sequential import looks

FILE = Path(__file__).with_name("digits_noise.csv")
RESAMPLES = 200
SEQUENTIAL = (3, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--races", type=int, default=500, help="races of each kind")
    races = parser.parse_args().races
    pools = read()
    for name, pool in pools.items():
        unique = len(np.unique(pool))
        print(f"{name}: {len(pool)} runs, accuracy {pool.mean():.4f} +- {pool.std(ddof=1):.4f}, "
              f"{unique} different values")  # fmt: skip
    print(f"\nRaces of equals, {races} each: share with a winner, share in which any pair is told")
    print("pool     entrants  noise     seeds    winner      any pair")
    for name in ("adamw", "sgd"):
        for entrants in (2, 3, 6):
            for paired in (False, True):
                for least, most in ((3, 3), (5, 5), (10, 10), SEQUENTIAL):
                    draw = np.random.default_rng([entrants, most, paired])
                    found = [
                        race(sample(pools[name], entrants, most, paired, draw), least, most, n)
                        for n in range(races)
                    ]
                    show(name, entrants, paired, least, most, found)
    print("\nEqual entrants tuned by 5 trials in each of some studies")
    for studies in (3, 5):
        draw = np.random.default_rng(studies)
        found = [
            race(draw.choice(pools["tuning"], (3, studies, 5)).max(2), studies, studies, n)
            for n in range(races)
        ]
        show("tuning", 3, False, studies, studies, found)
    powers(pools["adamw"], races // 2)
    procedures(pools["adamw"], races)


def read() -> dict[str, np.ndarray]:
    pools: dict[str, list[float]] = {}
    with FILE.open(newline="") as file:
        for row in csv.DictReader(file):
            # A run that diverged would be -inf; in these pools none did.
            pools.setdefault(row["pool"], []).append(float(row["final_metric"]))
    return {name: np.array(values) for name, values in pools.items()}


def sample(
    pool: np.ndarray, entrants: int, seeds: int, paired: bool, draw: np.random.Generator
) -> np.ndarray:
    own = draw.choice(pool, (entrants, seeds))
    if not paired:
        return own
    shared = draw.choice(pool, seeds) - pool.mean()
    mixed = pool.mean() + ((own - pool.mean()) + shared) / np.sqrt(2)
    return np.round(mixed, 3)  # accuracies on 1,000 images


def race(scores: np.ndarray, least: int, most: int, seed: int) -> tuple[int | None, bool, float]:
    """Return who wins, whether any pair is told apart, and the mean number of seeds."""
    planned = looks(least, most)
    has = [least] * len(scores)
    outcome = None
    for look in planned:
        if outcome is not None:
            if not outcome.undecided:
                break
            for i in outcome.undecided:
                has[i] = look
        seen = [values[:n] for values, n in zip(scores, has, strict=True)]
        outcome = decide(seen, [True] * len(scores), planned, seed, RESAMPLES)
    assert outcome is not None
    return outcome.winner, bool(outcome.separated), float(np.mean(has))


def show(name: str, entrants: int, paired: bool, least: int, most: int, found: list) -> None:
    winners = sum(one[0] is not None for one in found)
    low, high = interval(winners, len(found))
    seeds = f"{least}" if least == most else f"{least}..{most}"
    kind = "paired" if paired else "own"
    print(f"{name:8} {entrants:8}  {kind:8}  {seeds:6}  {winners / len(found):6.3f} "
          f"({low:.3f}-{high:.3f})  {np.mean([one[1] for one in found]):6.3f}"
          f"  mean seeds {np.mean([one[2] for one in found]):.1f}")  # fmt: skip


def interval(hits: int, of: int) -> tuple[float, float]:
    found = stats.binomtest(hits, of).proportion_ci(method="wilson")
    return found.low, found.high


def powers(pool: np.ndarray, races: int) -> None:
    deviation = pool.std(ddof=1)
    tenth = 0.1 * (1 - pool.mean())
    print(f"\nPower: one entrant is ahead by a gap; a standard deviation is {deviation:.4f}, "
          f"10 % of the error rate {tenth:.4f}")  # fmt: skip
    print(
        "entrants  gap      in sd   3       5       10      3..10 (mean seeds)   foretold 3, 5, 10"
    )
    for entrants in (2, 6):
        for gap in (tenth, *(k * deviation for k in (1, 1.5, 2, 3, 4, 6))):
            cells = []
            for least, most in ((3, 3), (5, 5), (10, 10), SEQUENTIAL):
                draw = np.random.default_rng([entrants, most])
                found = []
                for n in range(races):
                    scores = draw.choice(pool, (entrants, most))
                    scores[0] += gap
                    found.append(race(scores, least, most, n))
                rate = np.mean([one[0] == 0 for one in found])
                cells.append(f"{rate:.2f}")
                if least < most:
                    cells[-1] += f" ({np.mean([one[2] for one in found]):.1f})"
            theory = " ".join(f"{power(gap, float(deviation), n):.2f}" for n in (3, 5, 10))
            text = "    ".join(cells)
            print(f"{entrants:8}  {gap:.4f}  {gap / deviation:5.2f}   {text}    {theory}")


def procedures(pool: np.ndarray, races: int) -> None:
    """Compare procedures on six entrants in two groups of three, 4 deviations apart, 5 seeds."""
    deviation = pool.std(ddof=1)
    draw = np.random.default_rng(9)
    pairs = list(combinations(range(6), 2))
    true = np.array([(i < 3) != (j < 3) for i, j in pairs])
    tallies = {name: np.zeros(2) for name in ("by", "bh", "holm")}
    for n in range(races):
        scores = draw.choice(pool, (6, 5))
        scores[:3] += 4 * deviation
        outcome = decide(list(scores), [True] * 6, [5], n, RESAMPLES)
        compared = [outcome.comparisons[pair] for pair in pairs]
        p = np.array([one.p_value if one.supported else 1.0 for one in compared])
        for name, tally in tallies.items():
            if name == "holm":
                order = np.argsort(p)
                raw = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
                adjusted = np.empty(len(p))
                adjusted[order] = raw
            else:
                adjusted = stats.false_discovery_control(p, method=name)
            told = adjusted < 0.05
            tally += (told[~true].sum() / max(1, told.sum()), told[true].mean())
    print("\nSix entrants in two groups 4 deviations apart, 5 seeds: false-discovery rate, and "
          "share of the true differences found")  # fmt: skip
    for name, tally in tallies.items():
        rate, found = tally / races
        print(f"{name:5} {rate:.4f}  {found:.3f}")


if __name__ == "__main__":
    main()
