"""The tree-structured Parzen estimator (TPE), by Optuna."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.core.checks import check_whole
from thalweg.core.seeds import derive_seed
from thalweg.core.space import Choice
from thalweg.tune.extra import optuna
from thalweg.tune.plain import quasi_random
from thalweg.tune.searcher import Searcher, Study, Trial, penalised
from thalweg.tune.space import Position, SearchSpace, index_of, settled


@dataclass(frozen=True)
class TPE(Searcher):
    """The tree-structured Parzen estimator: where good trials are dense and bad ones are not.

    Optuna's sampler, multivariate, with groups for conditional parameters, in the unit cube. The
    first trials are quasi-random. Needs the extra ``tune``.

    Args:
        start: quasi-random trials before the estimate is used; ``2 (d + 1)``, from 4 to 10, by
            default.

    Raises:
        UsageError: a number is out of range.
    """

    start: int | None = None

    def __post_init__(self) -> None:
        if self.start is not None:
            check_whole("tpe: start", self.start, least=1)

    def check(self, study: Study) -> None:
        """Check that Optuna is there.

        Raises:
            UsageError: it is not.
        """
        optuna("the searcher tpe")

    def position(self, study: Study) -> Position:
        """Return where the estimate is best."""
        number = len(study.trials)
        start = self.start or min(max(2 * (len(study.space) + 1), 4), 10)
        if number < start or penalised(study.trials) is None:
            return quasi_random(study, number)
        return estimated(study.space, study.trials, derive_seed(study.seed, "tpe", number))


def estimated(space: SearchSpace, trials: Sequence[Trial], seed: int) -> Position:
    """Return where TPE looks after some trials, of which one at least has a loss."""
    package = optuna("TPE")
    sampler = package.samplers.TPESampler(
        n_startup_trials=0,
        seed=seed % 2**32,
        multivariate=True,
        group=True,
        constant_liar=False,
    )
    study = package.create_study(sampler=sampler)
    losses = penalised(trials)
    assert losses is not None
    study.add_trials(
        [
            package.trial.create_trial(
                value=float(loss),
                params={name: _coded(space, name, u) for name, u in trial.position.items()},
                distributions={name: _distribution(space, name) for name in trial.position},
            )
            for trial, loss in zip(trials, losses, strict=True)
        ]
    )
    asked = study.ask()
    position: Position = {}
    values: dict[str, Any] = {}
    for name, one in space.spaces.items():
        if not space.is_active(name, values):
            continue
        if isinstance(one, Choice):
            size = len(one.values)
            u = (asked.suggest_categorical(name, list(range(size))) + 0.5) / size
        else:
            u = asked.suggest_float(name, 0.0, 1.0)
        position[name] = settled(one, u)
        values[name] = one.at(position[name])
    return position


def _distribution(space: SearchSpace, name: str) -> Any:
    one, distributions = space.spaces[name], optuna("TPE").distributions
    if isinstance(one, Choice):
        return distributions.CategoricalDistribution(list(range(len(one.values))))
    return distributions.FloatDistribution(0.0, 1.0)


def _coded(space: SearchSpace, name: str, u: float) -> float | int:
    one = space.spaces[name]
    return index_of(one, u) if isinstance(one, Choice) else u
