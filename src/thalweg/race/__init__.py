"""A fair race between training algorithms: search, runs, store, score and verdict.

Example::

    from pathlib import Path

    from thalweg.race import RaceConfig, parse_entrants, run_race

    entrants = parse_entrants(["adamw + linear", "mine = sgd(momentum=0.9) + cosine"])
    verdict = run_race(RaceConfig("digits", entrants, Path("my-race"), trials=4, seeds=3))
    print(verdict.winner, verdict.sentences[0])
"""

from thalweg.race.config import RaceConfig
from thalweg.race.entrants import DEFAULT_ENTRANTS, Entrant, parse_entrants
from thalweg.race.pool import Scale
from thalweg.race.run import run_race
from thalweg.race.standings import Pair, Standing, Verdict
from thalweg.race.store import Store
from thalweg.race.verdict import judge

__all__ = [
    "DEFAULT_ENTRANTS",
    "Entrant",
    "Pair",
    "RaceConfig",
    "Scale",
    "Standing",
    "Store",
    "Verdict",
    "judge",
    "parse_entrants",
    "run_race",
]
