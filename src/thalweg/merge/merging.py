"""Merging models that are in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.merge.catalogue import named
from thalweg.merge.engine import Progress, carry_out
from thalweg.merge.method import Evidence, Merge, Score, Weights
from thalweg.merge.plan import Keys, make_plan
from thalweg.merge.source import Entry

if TYPE_CHECKING:
    from thalweg.landscape import Objective


class Held:
    """A model's tensors in memory, as a source; see `thalweg.merge.source.Source`.

    Args:
        label: what messages call it.
        weights: tensors by name; what is no tensor is left out.
    """

    def __init__(self, label: str, weights: Weights) -> None:
        self.label = label
        self._tensors = {n: x.detach() for n, x in weights.items() if isinstance(x, Tensor)}
        self.entries = {n: Entry(tuple(x.shape), x.dtype) for n, x in self._tensors.items()}
        self.implied: Mapping[str, str] = {}
        self.tied: dict[str, str] = {}
        first: dict[object, str] = {}
        for name, x in self._tensors.items():
            place = (x.device, x.data_ptr(), x.shape, x.stride(), x.dtype)
            if x.numel() and first.setdefault(place, name) != name:
                self.tied[name] = first[place]

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Return entries of the flattened tensor."""
        return self._tensors[name].reshape(-1)[start:stop]


def merge(
    method: str | Merge,
    models: Mapping[str, Weights | nn.Module] | Sequence[Weights | nn.Module],
    base: Weights | nn.Module | None = None,
    *,
    statistics: Sequence[Weights] | None = None,
    base_statistics: Weights | None = None,
    score: Score | None = None,
    objective: Objective | None = None,
    keys: Keys = "same",
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """Return the weights of one model made of many.

    Computed in float32, or in float64 if any tensor is. Tensors that are not floats must be the
    same in all models, or single numbers (batch-norm counters), of which the largest is taken.
    Batch-norm statistics are averaged, by a soup's weights or else plainly, whatever the merge;
    they belong to none of the models, so recompute them
    (`thalweg.average.recalibrate_batch_norm`). Ties stay ties.

    Args:
        method: a merge, or its name with settings: ``"ties(density=0.3)"``.
        models: modules or state dicts, by name or in order.
        base: the model that all were fine-tuned from, for merges that need it.
        statistics: one mapping a model, by the tensors' names, for merges that need them.
        base_statistics: the same for the base.
        score: of weights on held-out data, higher is better, for merges that choose by it.
        objective: the held-out loss, for merges that choose by it.
        keys: "same", "common" or "all"; see `thalweg.merge.plan.make_plan`.
        dtype: of the result's floats; that of the models unless given.
        progress: told how many of how many entries are done.

    Raises:
        UsageError: models that do not fit together, what the merge needs is missing, an entry is
            not finite, or a result that its dtype does not hold; the models are unchanged.
    """
    method = named(method)
    if isinstance(models, Mapping):
        labelled = {f'"{name}"': weights_of(x) for name, x in models.items()}
    else:
        labelled = {f"model {i}": weights_of(x) for i, x in enumerate(models, 1)}
    if not labelled:
        raise UsageError("there is nothing to merge; give models")
    sources = [Held(label, weights) for label, weights in labelled.items()]
    held_base = None if base is None else Held("the base", weights_of(base))
    if method.chooses:
        # Compared before anything is scored; any merge without needs serves.
        make_plan(named("model-soups"), sources, keys=keys)
        method = chosen(method, list(labelled.values()), Evidence(score, objective))
    plan = make_plan(
        method,
        sources,
        held_base,
        statistics=_held("statistics", labelled, statistics),
        base_statistics=None if base_statistics is None else Held("base's", base_statistics),
        keys=keys,
        dtype=dtype,
    )
    result: dict[str, Tensor] = {}
    for job, start, piece in carry_out(plan, progress):
        if job.name not in result:
            result[job.name] = torch.empty(job.shape, dtype=job.dtype, device=piece.device)
        result[job.name].view(-1)[start : start + piece.numel()] = piece
    order = [name for name in sources[0].entries if name in result or name in plan.tied]
    order += [name for name in result if name not in sources[0].entries]
    return {name: result[plan.tied.get(name, name)] for name in order}


def chosen(method: Merge, models: Sequence[Weights], evidence: Evidence) -> Merge:
    """Return the merge to carry out, after it chose by data if it does.

    Raises:
        UsageError: what it chooses by is missing.
    """
    method.check(len(models))
    if method.chooses and getattr(evidence, method.chooses) is None:
        what = {
            "score": "a score of weights on held-out data (score=...)",
            "objective": "the loss on held-out data (objective=...)",
        }[method.chooses]
        raise UsageError(f"{type(method).__name__} chooses by {what}; none was given")
    return method.choose(models, evidence)


def weights_of(model: Weights | nn.Module) -> Weights:
    """Return a module's state dict, or the mapping itself.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(model, nn.Module):
        return getattr(model, "_orig_mod", model).state_dict()
    if not isinstance(model, Mapping):
        raise UsageError(f"a model is a module or a state dict, found {type(model).__name__}")
    return model


def _held(
    what: str, models: Mapping[str, Weights], given: Sequence[Weights] | None
) -> list[Held] | None:
    if given is None:
        return None
    labels = [f"the {what} of {label}" for label in models]
    labels += [f"further {what}"] * (len(given) - len(labels))
    return [Held(label, weights) for label, weights in zip(labels, given, strict=False)]
