"""What a group does in one step: which tensors have gradients, and which of them step together."""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from thalweg.core.errors import UsageError
from thalweg.engine import distributed
from thalweg.engine.modifier import Modifiers, has, named
from thalweg.engine.places import PlacesCache
from thalweg.engine.rule import Rule, has_formulas
from thalweg.engine.storage import Bits, compressed

Gradients = Mapping[Tensor, Tensor]


class Part:
    """Tensors of one group that share a step count and a sharding.

    Attributes:
        rule: the rule that its tensors take.
        t: the step, from 1.
        maximize: whether to climb.
        whole: the parameters as the user has them.
        p: what the rule works on: the local parts of sharded tensors if it reads elements.
        g: the gradients that belong to ``p``.
        states: the state dictionaries that belong to ``p``.
        cache: where the tensors lie, kept from step to step.
    """

    def __init__(
        self,
        rule: Rule,
        t: int,
        maximize: bool,
        p: list[Tensor],
        g: list[Tensor],
        states: list[dict[str, Any]],
        extras: list[dict[str, Tensor]],
    ) -> None:
        self.whole, self._whole_states = p, states
        self.p, self.states = p, states
        self.cache = PlacesCache()
        self._extras = tuple(extras[0])
        self._begin(rule, t, maximize, g)
        for state, extra in zip(states, extras, strict=True):
            state |= extra
        self._local = rule.reads == "element" and distributed.is_distributed(p[0])
        if self._local:
            self.p = [distributed.local(x) for x in p]
            self.g = [distributed.local(x) for x in g]
            self.states = [
                {k: distributed.local(x) if isinstance(x, Tensor) else x for k, x in state.items()}
                for state in states
            ]

    def next(self, rule: Rule, maximize: bool, g: list[Tensor]) -> bool:
        """Go on to the next step with the same tensors, if that is all that there is to it."""
        if self._local or self._extras or {state.get("step") for state in self.states} != {self.t}:
            return False
        self._begin(rule, self.t + 1, maximize, g)
        return True

    def _begin(self, rule: Rule, t: int, maximize: bool, g: list[Tensor]) -> None:
        self.rule, self.t, self.maximize, self.g = rule, t, maximize, g
        for state in self._whole_states:
            state["step"] = t
        self.cache.renew()

    def close(self) -> None:
        """Let gradients go, and carry state assigned anew from local parts to sharded tensors."""
        self.g = []  # or they would live on until the next step
        for name in self._extras:
            for state in self._whole_states:
                del state[name]
        if not self._local:
            return
        for state, worked in zip(self._whole_states, self.states, strict=True):
            for name, x in state.items():
                if isinstance(x, Tensor):
                    target = distributed.local(x)
                    if target.data_ptr() != worked[name].data_ptr():
                        target.copy_(worked[name])
                else:
                    state[name] = worked[name]


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
        self._last: tuple[list[int], Part] | None = None

    def gradients(self, owner: str, given: Gradients | None) -> list[Tensor | None]:
        """Return the gradients in the order of the parameters: those given, or those in place.

        Raises:
            UsageError: a gradient is sparse.
        """
        if given is None:
            found = [p.grad for p in self.params]
        else:
            found = [given.get(p) for p in self.params]
        if {g.layout for g in found if g is not None} - {torch.strided}:
            raise UsageError(
                f"{owner} takes dense gradients, found a sparse one; make the embedding with "
                "sparse=False"
            )
        return found

    def open(
        self,
        rule: Rule,
        modifiers: Modifiers,
        grads: Sequence[Tensor | None],
        extras: Mapping[str, Gradients],
        bits: Bits | None,
    ) -> list[Part]:
        """Start state where there is none, count the step, and return what steps together."""
        maximize = bool(self.group["maximize"])
        chosen = [i for i, g in enumerate(grads) if g is not None]
        prepares = any(has(modifier, "prepare") for modifier in modifiers)
        simple = not (extras or prepares or has_formulas(type(rule)))
        if simple and self._last is not None:
            indices, part = self._last
            if chosen == indices and part.next(rule, maximize, [g for g in grads if g is not None]):
                return [part]
        for i in chosen:
            if not self.states[i]:
                p = self.params[i]
                self.state[p] = self.states[i] = {
                    "step": 0,
                    **fresh_state(rule, modifiers, p, bits),
                }
        states: Any = self.states
        steps = [states[i]["step"] + 1 for i in chosen]
        keys: Sequence[Any] = steps
        if self.shardings is not None:
            keys = [(t, self.shardings[i]) for t, i in zip(steps, chosen, strict=True)]
        if has_formulas(type(rule)):
            formulas = [rule.formula(self.params[i]) for i in chosen]
            keys = list(zip(keys, formulas, strict=True))
        alike: Mapping[Any, list[int]] = {}
        if len(set(keys)) == 1:
            alike = {keys[0]: chosen}
        else:
            for key, i in zip(keys, chosen, strict=True):
                alike.setdefault(key, []).append(i)  # type: ignore[attr-defined]
        parts = [
            Part(
                _formula(rule, self.params[indices[0]]),
                states[indices[0]]["step"] + 1,
                maximize,
                [self.params[i] for i in indices],
                [_prepared(modifiers, grads[i], self.params[i]) for i in indices],
                [states[i] for i in indices],
                [{name: given[self.params[i]] for name, given in extras.items()} for i in indices],
            )
            for indices in alike.values()
        ]
        self._last = (chosen, parts[0]) if len(parts) == 1 else None
        return parts


def _formula(rule: Rule, p: Tensor) -> Rule:
    formula = rule.formula(p)
    return rule if formula is type(rule) else formula(**vars(rule))


def fresh_state(rule: Rule, modifiers: Modifiers, p: Tensor, bits: Bits | None) -> dict[str, Any]:
    """Return the state that a parameter starts with."""
    state = rule.init(p)
    for modifier in modifiers:
        state |= named(modifier, modifier.init(p))
    return compressed(state, p, bits)


def _prepared(modifiers: Modifiers, g: Any, p: Tensor) -> Tensor:
    """Return the gradient after what depends on the whole tensor's shape."""
    for modifier in modifiers:
        if has(modifier, "prepare"):
            whole, at = distributed.gathered(g), distributed.gathered(p.detach())
            g = distributed.like(modifier.prepare(whole, at), p)
    return g
