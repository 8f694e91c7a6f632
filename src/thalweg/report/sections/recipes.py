"""What each entrant is, ready to be used."""

import json
from typing import Any

from thalweg.core.errors import UsageError
from thalweg.recipe import Recipe
from thalweg.report import look
from thalweg.report.facts import Entrant, Race

HEAD = """\
from thalweg.recipe import Recipe

algorithm = Recipe.parse({recipe}).build(model, steps={steps})
"""
LOOP = """\
for step, batch in enumerate(batches):
    loss(model, batch).backward()
    algorithm.optimizer.step()
    algorithm.optimizer.zero_grad()
    algorithm.learning_rate.step()
"""
CLOSURE_LOOP = """\
for step, batch in enumerate(batches):
    def closure():
        algorithm.optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        return value.detach()
    algorithm.optimizer.step(closure)
    algorithm.learning_rate.step()
"""
AVERAGE = "    algorithm.average.update(step, {steps})\n"


def build(race: Race) -> dict[str, Any]:
    """Return each entrant's recipe as written and as tuned, and how to use it."""
    return {"entrants": [_entrant(entrant, race) for entrant in race.ranking]}


def _entrant(entrant: Entrant, race: Race) -> dict[str, Any]:
    best = entrant.best
    return {
        "label": entrant.label,
        "name": entrant.name if entrant.name not in (entrant.label, entrant.recipe) else "",
        "swatch": look.swatch(entrant.index),
        "index": entrant.index,
        "written": entrant.recipe,
        "tuned": best.recipe if best is not None else None,
        "trial": best.trial + 1 if best is not None else None,
        "trials": len(entrant.trials),
        "use": None if best is None else _use(best.recipe, race.config["steps"]),
        "error": entrant.standing.error,
    }


def _use(text: str, steps: int) -> dict[str, str] | None:
    """Return Python that trains with a recipe in a loop of one's own, and what to do beside it."""
    try:
        recipe = Recipe.parse(text)
    except UsageError:  # a part that was registered for the race and is not known here
        return None
    looks_twice = any(use.part.factory.needs_closure for use in recipe.around)
    code = HEAD.format(recipe=json.dumps(text), steps=steps)
    code += CLOSURE_LOOP if looks_twice else LOOP
    note = "Call algorithm.optimizer.eval() before an evaluation and .train() after it"
    if recipe.average is not None:
        code += AVERAGE.format(steps=steps)
        note += "; evaluate inside “with algorithm.average.applied(model):”"
        kind = recipe.average.part.factory
        if getattr(kind, "by_validation_loss", False):
            note += (
                ". After every evaluation of the model as it is trained call "
                "algorithm.average.evaluated(validation_loss)"
            )
        if getattr(kind, "of_predictions", False):
            note += (
                ". Predict by thalweg.average.Ensemble(model, algorithm.average.members()) where "
                "there are members"
            )
    return {"code": code, "note": note + "."}
