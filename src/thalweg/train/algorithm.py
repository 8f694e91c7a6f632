"""From what `fit` was given as the training algorithm to the parts that the loop drives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.recipe import Recipe

Build = Callable[[nn.Module, int], Any]


@dataclass(frozen=True)
class Parts:
    """What the loop drives: the optimiser, and a learning-rate driver and an average or None."""

    optimizer: torch.optim.Optimizer
    learning_rate: Any = None
    average: Any = None


def as_recipe(recipe: Recipe | str | Build) -> Recipe | Build:
    """Return the recipe of a text, and anything else that builds an optimiser as it is.

    Raises:
        UsageError: the text is no recipe, or the value builds nothing.
    """
    if isinstance(recipe, str):
        return Recipe.parse(recipe)
    if isinstance(recipe, Recipe) or callable(recipe):
        return recipe
    raise UsageError(
        f'expected a recipe such as "adamw(lr=1e-3) + linear", found {type(recipe).__name__}; a '
        "function (model, steps) -> optimiser also works"
    )


def recipe_text(recipe: Recipe | Build) -> str:
    """Return the canonical text of a recipe, or the name of a function."""
    if isinstance(recipe, Recipe):
        return str(recipe)
    return f"{recipe.__module__}.{getattr(recipe, '__qualname__', type(recipe).__qualname__)}"


def build(recipe: Recipe | Build, model: nn.Module, steps: int) -> Parts:
    """Return the parts for a model.

    A function may return an optimiser, or an object with ``optimizer``, ``learning_rate`` (with
    ``step()`` after every update and a state dict, as torch's schedulers have) and ``average``.

    Raises:
        UsageError: a rule on parameters that it cannot take, or a function that returned neither.
    """
    built = recipe.build(model, steps) if isinstance(recipe, Recipe) else recipe(model, steps)
    if isinstance(built, torch.optim.Optimizer):
        return Parts(built)
    optimizer = getattr(built, "optimizer", None)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UsageError(
            "the function that builds the training algorithm must return a torch optimiser, "
            f"found {type(built).__name__}"
        )
    return Parts(optimizer, getattr(built, "learning_rate", None), getattr(built, "average", None))


def hyper_parameters(recipe: Recipe | Build, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the hyper-parameters by name: the recipe's, or those of the first group."""
    if isinstance(recipe, Recipe):
        return recipe.hyper()
    group = optimizer.param_groups[0]
    return {
        key: value
        for key, value in group.items()
        if isinstance(value, (bool, int, float, str, tuple)) and key != "param_names"
    }
