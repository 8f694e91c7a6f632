"""What a group does in one step: which tensors have gradients, and which of them step together."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.engine import distributed
from thalweg.engine.rule import Rule


class Part:
    """Tensors of one group that share a step count and a sharding.

    Attributes:
        rule: the group's rule.
        t: the step, from 1.
        maximize: whether to climb.
        whole: the parameters as the user has them.
        p: what the rule works on: the local parts of sharded tensors if it reads elements.
        g: the gradients that belong to ``p``.
        states: the state dictionaries that belong to ``p``.
    """

    def __init__(
        self,
        rule: Rule,
        t: int,
        maximize: bool,
        p: list[Tensor],
        g: list[Tensor],
        states: list[dict[str, Any]],
    ) -> None:
        self.rule, self.t, self.maximize = rule, t, maximize
        self.whole, self._whole_states = p, states
        self.p, self.g, self.states = p, g, states
        for state in states:
            state["step"] = t
        self._local = rule.reads == "element" and distributed.is_distributed(p[0])
        if self._local:
            self.p = [distributed.local(x) for x in p]
            self.g = [distributed.local(x) for x in g]
            self.states = [
                {k: distributed.local(x) if isinstance(x, Tensor) else x for k, x in state.items()}
                for state in states
            ]

    def close(self) -> None:
        """Carry state that the rule assigned anew from local parts to the sharded tensors."""
        if not self._local:
            return
        for state, worked in zip(self._whole_states, self.states, strict=True):
            for name, x in state.items():
                if isinstance(x, Tensor):
                    target = distributed.local(x)
                    if target.data_ptr() != worked[name].data_ptr():
                        target.copy_(worked[name])


class GroupPlan:
    """The parameters of a group beside their state dictionaries.

    Looking state up by parameter costs more than the rest of a step on a thousand tensors, so
    the optimiser keeps the plan for as long as its state is the same dictionary.
    """

    def __init__(
        self, group: dict[str, Any], state: MutableMapping[Tensor, dict[str, Any]]
    ) -> None:
        self.group, self.state = group, state
        self.params: list[Tensor] = list(group["params"])
        self.states = [state.get(p) for p in self.params]
        shardings = [distributed.sharding(p) for p in self.params]
        self.shardings = None if all(one is None for one in shardings) else shardings

    def check(self, owner: str) -> None:
        """Refuse sparse gradients.

        Raises:
            UsageError: a gradient is sparse.
        """
        grads = [p.grad for p in self.params]
        if any(g is not None and g.layout is not torch.strided for g in grads):
            raise UsageError(
                f"{owner} takes dense gradients, found a sparse one; make the embedding with "
                "sparse=False"
            )

    def open(self, rule: Rule) -> list[Part]:
        """Start state where there is none, count the step, and return what steps together."""
        grads = [p.grad for p in self.params]
        chosen = [i for i, g in enumerate(grads) if g is not None]
        for i in chosen:
            if not self.states[i]:
                p = self.params[i]
                self.state[p] = self.states[i] = {"step": 0, **rule.init(p)}
        states: Any = self.states
        steps = [states[i]["step"] + 1 for i in chosen]
        if self.shardings is None:
            keys: Sequence[Any] = steps
        else:
            keys = [(t, self.shardings[i]) for t, i in zip(steps, chosen, strict=True)]
        alike: Mapping[Any, list[int]] = {}
        if len(set(keys)) == 1:
            alike = {keys[0]: chosen}
        else:
            for key, i in zip(keys, chosen, strict=True):
                alike.setdefault(key, []).append(i)  # type: ignore[attr-defined]
        return [
            Part(
                rule,
                states[indices[0]]["step"] + 1,
                bool(self.group["maximize"]),
                [self.params[i] for i in indices],
                [grads[i] for i in indices],  # type: ignore[misc]
                [states[i] for i in indices],
            )
            for indices in alike.values()
        ]
