"""What a race is asked to do, and how that is told apart from another race."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from thalweg import log
from thalweg._version import __version__
from thalweg.core.checks import check_flag, check_number, check_whole
from thalweg.core.errors import UsageError
from thalweg.race.entrants import Entrant
from thalweg.race.ruleset import parse_budget, ruleset, trials_within
from thalweg.race.search import QUASI_RANDOM, searcher_of
from thalweg.race.sequential import parse_seeds
from thalweg.recipe import Recipe
from thalweg.train.settings import Settings, resolve
from thalweg.workload import Workload


@dataclass(frozen=True)
class RaceConfig:
    """A race to run, or to continue.

    Attributes:
        workload: the name of a workload, or the path of a task file.
        entrants: who takes part; see `thalweg.race.entrants.parse_entrants`.
        out: the folder of the race, made if it is not there.
        trials: tuning trials of each entrant, or of each of its studies; the ruleset's by default.
        seeds: final runs of each entrant's best trial, or studies; the ruleset's by default. Fewer
            than 3 separate nothing. A range such as ``3..10``, or ``auto``, adds seeds only while
            somebody is not told from another one; see `thalweg.race.sequential`.
        steps: steps of every run, before the ruleset makes them longer; the workload's by default.
        seed: of everything random in the race.
        target: the metric that counts as reached; see `thalweg.race.target`.
        evaluate_every: steps between evaluations; the workload's by default.
        device: as in `thalweg.train.fit`.
        precision: as in `thalweg.train.fit`.
        threads: torch's threads; on continuing, those that the race began with.
        loggers: where every run is logged besides; names of `thalweg.log`.
        ruleset: ``budget``, ``external``, ``self`` or ``speedrun``; see `thalweg.race.ruleset`.
        budget: tuning budget of each entrant instead of ``trials``, in trials, steps or seconds of
            training (``20trials``, ``3000steps``, ``90s``); not in ``external`` and ``self``.
        searcher: proposes each entrant's trials, as `thalweg.tune.named` takes it; not in
            ``external`` and ``self``.
        prune: whether trials that fall behind are given up (`thalweg.race.pruning`); not in
            ``external`` and ``self``.
    """

    workload: str
    entrants: tuple[Entrant, ...]
    out: Path
    trials: int | None = None
    seeds: int | str | None = None
    steps: int | None = None
    seed: int = 0
    target: float | None = None
    evaluate_every: int | None = None
    device: str | None = None
    precision: str = "float32"
    threads: int | None = None
    loggers: tuple[str, ...] = ()
    ruleset: str = "budget"
    budget: str | None = None
    searcher: str = QUASI_RANDOM
    prune: bool = False

    def check(self) -> None:
        """Check what can be checked without the workload.

        Raises:
            UsageError: a number is out of range, two entrants share a name, a recipe does not
                parse, or a logger cannot be used.
        """
        self._check_rules()
        check_whole("seed", self.seed, least=0)
        if self.steps is not None:
            check_whole("steps", self.steps, least=1)
        if self.target is not None:
            check_number("target", self.target, "(-inf, inf)")
        if not self.entrants:
            raise UsageError("a race needs at least one entrant; name a recipe such as adamw")
        log.make(self.loggers, folder=self.out)
        names = [entrant.name for entrant in self.entrants]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f'two entrants are called "{name}"; give each its own name')
        for entrant in self.entrants:
            Recipe.parse(entrant.recipe)

    def _check_rules(self) -> None:
        rules = ruleset(self.ruleset)
        if self.trials is not None:
            check_whole("trials", self.trials, least=1)
            if rules.trials == 0:
                raise UsageError(
                    f"the ruleset {rules.name} has no trials: an entrant tunes itself within its "
                    "run; leave trials out, or fix values in the recipe"
                )
        if self.budget is not None:
            if rules.name not in ("budget", "speedrun"):
                raise UsageError(
                    f"the ruleset {rules.name} has a budget of its own; leave the budget out, or "
                    "use the ruleset budget"
                )
            if self.trials is not None:
                raise UsageError("give the budget or the trials, not both")
            parse_budget(self.budget)
        check_flag("prune", self.prune)
        chosen = searcher_of(self.searcher)
        if rules.name in ("external", "self") and (self.searcher != QUASI_RANDOM or self.prune):
            raise UsageError(
                f"the ruleset {rules.name} says how an entrant is tuned; leave searcher and prune "
                "out, or use the ruleset budget"
            )
        if chosen.sized and self.budget is not None and parse_budget(self.budget)[0] == "seconds":
            raise UsageError(
                f'the searcher "{self.searcher}" has to know the number of trials, and a budget of '
                "seconds does not tell; give a budget of trials or steps, or another searcher"
            )
        least, most = self._seeds()
        if rules.name == "external" and most > least:
            raise UsageError(
                "the ruleset external has a fixed number of studies, because each is tuned anew; "
                f'give a number and not "{self.seeds}"'
            )

    def _seeds(self) -> tuple[int, int]:
        if self.seeds is None:
            seeds = ruleset(self.ruleset).seeds
            return seeds, seeds
        if not isinstance(self.seeds, str):
            check_whole("seeds", self.seeds, least=1)
        return parse_seeds(self.seeds)

    def _trials(self, steps: int) -> tuple[int, float | None]:
        """Return the trials, at most, and the seconds for them if those are what is limited."""
        if self.budget is None:
            return ruleset(self.ruleset).trials if self.trials is None else self.trials, None
        unit, size = parse_budget(self.budget)
        return trials_within(unit, size, steps), size if unit == "seconds" else None

    def settings(self, workload: Workload) -> Settings:
        """Return the settings of a run, with the workload's and the machine's defaults."""
        steps = workload.steps if self.steps is None else self.steps
        return resolve(
            workload,
            steps=steps * ruleset(self.ruleset).factor,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            compile=False,
            accumulate=1,
            evaluate_every=self.evaluate_every,
            checkpoint_every=None,
            target=self.target,
            threads=self.threads,
        )

    def resolved(self, workload: Workload) -> dict[str, Any]:
        """Return everything that decides the race's numbers, as `Store.config` keeps it."""
        settings = self.settings(workload)
        file = workload.source_file
        trials, seconds = self._trials(settings.steps)
        least, most = self._seeds()
        return {
            "workload": file or workload.name,
            "workload_sha256": file_digest(Path(file)) if file else None,
            "entrants": [
                {"name": entrant.name, "recipe": str(Recipe.parse(entrant.recipe))}
                for entrant in self.entrants
            ],
            "ruleset": self.ruleset,
            "trials": trials,
            "budget_seconds": seconds,
            "searcher": self.searcher,
            "prune": self.prune,
            "seeds": least,
            "seeds_most": most if most > least else None,
            "steps": settings.steps,
            "seed": self.seed,
            "target": None if self.target is None else float(self.target),
            "evaluate_every": settings.evaluate_every,
            "device": str(settings.device),
            "precision": self.precision,
            "threads": self.threads or torch.get_num_threads(),
            "thalweg": __version__,
            "torch": torch.__version__,
        }


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def differences(begun: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """Return, for each setting in which two resolved configurations differ, both in words."""
    found = []
    # Races of before there were others.
    begun = {"ruleset": "budget", "searcher": QUASI_RANDOM, "prune": False, **begun}
    for key in {**begun, **asked}:
        was, now = begun.get(key), asked.get(key)
        if was == now:
            continue
        if key == "entrants":
            found += _entrant_differences(was or [], now or [])
        elif key == "workload_sha256":
            found.append("the content of the task file has changed")
        else:
            name = {"thalweg": "Thalweg's version", "torch": "torch's version"}.get(key, key)
            found.append(f"{name} was {_word(was)} and is {_word(now)}")
    return found


def _entrant_differences(was: list[dict[str, str]], now: list[dict[str, str]]) -> list[str]:
    before = {one["name"]: one["recipe"] for one in was}
    after = {one["name"]: one["recipe"] for one in now}
    found = [f'the entrant "{name}" is missing' for name in before if name not in after]
    found += [f'the entrant "{name}" is new' for name in after if name not in before]
    found += [
        f'the entrant "{name}" was {before[name]} and is {after[name]}'
        for name in before
        if name in after and before[name] != after[name]
    ]
    return found or ["the entrants' order has changed"]


def _word(value: Any) -> str:
    return "not set" if value is None else str(value)
