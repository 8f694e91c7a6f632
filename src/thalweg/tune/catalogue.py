"""All searchers, by name."""

from __future__ import annotations

from thalweg.core.named import build
from thalweg.core.registry import Part, register
from thalweg.tune.asynchronous import AsynchronousHalving, AsynchronousHyperband
from thalweg.tune.bayesian import (
    ExpectedImprovement,
    ProbabilityOfImprovement,
    UpperConfidenceBound,
)
from thalweg.tune.cma_es import CMAES
from thalweg.tune.evolution import Evolution
from thalweg.tune.halving import BOHB, Hyperband, SuccessiveHalving
from thalweg.tune.plain import GridSearch, QuasiRandomSearch, RandomSearch
from thalweg.tune.population import PopulationBasedTraining
from thalweg.tune.searcher import Searcher
from thalweg.tune.tpe import TPE

for _slug, _name, _reference, _factory in (
    ("grid", "Grid search", "", GridSearch),
    ("random", "Random search", "Bergstra & Bengio, JMLR 2012", RandomSearch),
    (
        "quasi-random",
        "Quasi-random search",
        "Bousquet et al., 2017, arXiv:1706.03200",
        QuasiRandomSearch,
    ),
    ("cma-es", "CMA-ES", "Hansen, 2016, arXiv:1604.00772", CMAES),
    ("gp-ei", "Gaussian process, expected improvement", "Jones et al., 1998", ExpectedImprovement),
    (
        "gp-pi",
        "Gaussian process, probability of improvement",
        "Kushner, 1964",
        ProbabilityOfImprovement,
    ),
    (
        "gp-ucb",
        "Gaussian process, upper confidence bound",
        "Srinivas et al., 2010, arXiv:0912.3995",
        UpperConfidenceBound,
    ),
    (
        "tpe",
        "Tree-structured Parzen estimator",
        "Bergstra et al., 2011; Watanabe, 2023, arXiv:2304.11127",
        TPE,
    ),
    ("evolution", "Regularised evolution", "Real et al., 2018, arXiv:1802.01548", Evolution),
    (
        "successive-halving",
        "Successive halving",
        "Jamieson & Talwalkar, 2015, arXiv:1502.07943",
        SuccessiveHalving,
    ),
    ("hyperband", "Hyperband", "Li et al., 2016, arXiv:1603.06560", Hyperband),
    ("bohb", "BOHB", "Falkner et al., 2018, arXiv:1807.01774", BOHB),
    (
        "async-halving",
        "Asynchronous successive halving",
        "Li et al., 2018, arXiv:1810.05934",
        AsynchronousHalving,
    ),
    (
        "async-hyperband",
        "Asynchronous Hyperband",
        "Li et al., 2018, arXiv:1810.05934",
        AsynchronousHyperband,
    ),
    (
        "population",
        "Population-based training",
        "Jaderberg et al., 2017, arXiv:1711.09846",
        PopulationBasedTraining,
    ),
):
    register(Part(_slug, "searcher", _name, _reference, _factory))


def named(searcher: str | Searcher) -> Searcher:
    """Return the searcher of a name, with settings in parentheses where there are any.

    Args:
        searcher: ``"tpe"``, ``"hyperband(eta=4)"``, or a searcher, which is returned as it is.

    Raises:
        UsageError: no such searcher or setting (the message offers the nearest), or an impossible
            value.
    """
    return build(searcher, "searcher", Searcher, "hyperband(eta=4)")
