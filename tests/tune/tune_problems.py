"""Functions with known minima, and small things for the tests of searchers."""

import math

from thalweg.core.space import Choice, Linear, Log, OneMinusLog
from thalweg.tune import SearchSpace, Study, Trial, When

SQUARE = {"x": Linear(-1.0, 1.0), "y": Linear(-1.0, 1.0)}

MIXED = {
    "kind": Choice(("sgd", "adam", "none")),
    "lr": Log(1e-4, 1.0),
    "momentum": When("kind", ("sgd",), Linear(0.0, 0.99)),
    "beta": When("kind", ("adam",), OneMinusLog(0.9, 0.999)),
}


def bowl(values):
    return (values["x"] - 0.3) ** 2 + (values["y"] + 0.2) ** 2


def mixed(values):
    loss = (math.log10(values["lr"]) + 2) ** 2 + {"sgd": 0.5, "adam": 0.0, "none": 1.0}[
        values["kind"]
    ]
    return loss + values.get("momentum", 0.0) + (1 - values.get("beta", 1.0))


def trial(number, loss, budget=1.0, status="ok", position=None, parent=None):
    return Trial(
        number=number,
        position=position or {"x": 0.5, "y": 0.5},
        values={},
        budget=budget,
        parent=parent,
        status=status if loss is not None else "diverged",
        loss=loss,
        reached=budget,
        curve=() if loss is None else ((budget, loss),),
    )


def study(trials=(), space=None, **settings):
    defaults = {"seed": 0, "budget": 50}
    return Study(SearchSpace(space or SQUARE), tuple(trials), **{**defaults, **settings})
