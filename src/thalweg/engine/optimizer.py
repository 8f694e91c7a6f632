"""The optimiser around a rule: all that a `torch.optim.Optimizer` has to do, done once."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from types import MappingProxyType
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from thalweg.core import registry
from thalweg.core.errors import UnknownNameError, UsageError
from thalweg.core.space import Space
from thalweg.engine import distributed, hyper_parameters, routing, saving, stepping
from thalweg.engine.execution import EXECUTIONS, Execution
from thalweg.engine.modifier import Modifier, resolved
from thalweg.engine.plan import Gradients, GroupPlan, fresh_state
from thalweg.engine.rule import Numbers, Rule, State, unknown_hyper
from thalweg.engine.storage import Bits, check_bits

Params = Iterable[Any] | nn.Module

_OWN_KEYS = ("params", "param_names", "rule", "maximize", "evaluating", "modifiers", "lr_scale")


class RuleOptimizer(torch.optim.Optimizer):
    """Runs a `Rule` over the parameters of a model; the base of every class of `thalweg.optim`.

    A subclass names its rule in the class statement, which also registers it::

        class Lion(RuleOptimizer, rule=LionRule, slug="lion", reference="...", space={...}): ...

    Args:
        params: an `nn.Module`, tensors, ``(name, tensor)`` pairs, or groups of either as
            dictionaries. A module or names are best: state then belongs to names, and rules for
            matrices know embeddings and heads.
        **hyper: the rule's hyper-parameters; see the subclass.
        maximize: climb instead of descend.
        execution: "loop", "foreach", "compiled", or "auto" for the fastest that serves. All give
            the same numbers up to rounding. Compiled kernels run on CPUs; tensors elsewhere and
            machines without a C compiler use "foreach".
        foreach: as in `torch.optim`; True is ``execution="foreach"``.
        fused: as in `torch.optim`; True is ``execution="compiled"``.
        modifiers: what changes every step: `Modifier` values such as ``ClipNorm(1.0)``, or their
            slugs; see `thalweg.modifier`. Their order is fixed, whatever the order here.
        state_bits: 16 keeps state in bfloat16 and 8 in 8-bit codes with a scale for every 256
            entries, both rounded stochastically; what does not start at zero (points), and with 8
            what has fewer than 4,096 entries, keeps the parameter's precision.

    Raises:
        UsageError: an unknown or impossible hyper-parameter, or parameters that cannot be taken
            (none at all, complex, not a leaf, not floating-point).
    """

    rule: ClassVar[type[Rule]]
    slug: ClassVar[str]
    # The rule that takes what `rule` does not, and its defaults.
    rest: ClassVar[str | None] = None
    rest_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(
        cls,
        *,
        rule: type[Rule] | None = None,
        slug: str = "",
        name: str = "",
        reference: str = "",
        space: Mapping[str, Space] | None = None,
        rest: str | None = None,
        rest_defaults: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init_subclass__()
        if rule is None:
            return
        cls.rule, cls.slug, cls.rest, cls.rest_defaults = rule, slug, rest, rest_defaults or {}
        cls.__signature__ = hyper_parameters.signature(cls)  # type: ignore[attr-defined]
        registry.register(
            registry.Part(slug, "rule", name or cls.__name__, reference, cls, space or {})
        )

    def __init__(
        self,
        params: Params,
        *args: Any,
        maximize: bool = False,
        execution: Execution = "auto",
        foreach: bool | None = None,
        fused: bool | None = None,
        modifiers: Sequence[Modifier | str] = (),
        state_bits: Bits | None = None,
        **hyper: Any,
    ) -> None:
        rule, rest = hyper_parameters.split(
            type(self), hyper_parameters.bind(type(self), args, hyper)
        )
        if foreach and fused:
            raise UsageError("foreach=True and fused=True exclude each other; choose one")
        if execution not in EXECUTIONS:
            raise UnknownNameError("execution", str(execution), EXECUTIONS)
        if execution == "auto" and (foreach or fused):
            execution = "foreach" if foreach else "compiled"
        self.execution: Execution = execution
        self.modifiers = resolved(modifiers)
        check_bits(state_bits)
        self.state_bits: Bits | None = state_bits
        self._rest_hyper = rest
        self._module = params if isinstance(params, nn.Module) else getattr(params, "module", None)
        self._kept_plans: list[GroupPlan] | None = None
        self._kept_for: tuple[Any, ...] = ()
        self._training_weights: dict[Tensor, Tensor] = {}
        if isinstance(params, nn.Module):
            params = routing.named_parameters(params)
        params = list(params)
        if not params:
            raise UsageError(f"{type(self).__name__} got no parameters; pass model.parameters()")
        super().__init__(params, {**vars(rule), "maximize": bool(maximize)})
        self._module = None

    def _patch_step_function(self) -> None:
        """Let torch put its hooks and its mark for profilers around `step`, where they are used.

        Beside the work of a small model they take as long as a third of the rest of the step.
        """
        plain = type(self).step
        super()._patch_step_function()
        hooked = type(self).step
        if hooked is plain:  # done before
            return

        @wraps(plain)
        def step(self: Any, *args: Any, **kwargs: Any) -> Any:
            watched = (
                self._optimizer_step_pre_hooks
                or self._optimizer_step_post_hooks
                or _global_optimizer_pre_hooks
                or _global_optimizer_post_hooks
                or torch.autograd._profiler_enabled()
            )
            return (hooked if watched else plain)(self, *args, **kwargs)

        step.hooked = True  # type: ignore[attr-defined]
        type(self).step = step

    # Hyper-parameters

    @classmethod
    def check_hyper(cls, **hyper: Any) -> None:
        """Raise a `UsageError` unless these hyper-parameters are known and possible."""
        engine = {"maximize", "execution", "foreach", "fused", "modifiers", "state_bits"}
        hyper_parameters.split(cls, {k: v for k, v in hyper.items() if k not in engine})

    # Parameter groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, routing to the second rule what the first does not take.

        Args:
            param_group: ``params`` (tensors or ``(name, tensor)`` pairs), any of the rule's
                hyper-parameters, ``lr_scale`` to multiply the learning rate by, and ``rule`` to
                choose the rule for the group by its slug.

        Raises:
            UsageError: as for the class.
        """
        group = dict(param_group)
        params = group["params"]
        group["params"] = params = [params] if isinstance(params, Tensor) else list(params)
        for entry in params:
            routing.check_parameter(entry)
        routing.check_once(params, self.param_groups)
        self._kept_plans = None
        slug = group.pop("rule", None)
        if slug is not None:
            self._add(group, slug)
        elif self.rest is None:
            self._add(group, self.slug)
        else:
            self._route(group)

    def _route(self, group: dict[str, Any]) -> None:
        params = group.pop("params")
        named = [entry for entry in params if isinstance(entry, tuple)]
        if self._module is not None:
            others = routing.first_and_last_layers(self._module)
        else:
            others = routing.named_like_first_or_last(named)
            if not named:
                warnings.warn(
                    f"{type(self).__name__} was given tensors without names and routes them by "
                    "shape alone; pass the model itself, or model.named_parameters(), so that "
                    "embeddings and the output layer are told apart",
                    stacklevel=5,
                )
        rule = self.rule.from_hyper({})
        taken, left = [], []
        for entry in params:
            p = entry[1] if isinstance(entry, tuple) else entry
            (taken if rule.takes(p) and p not in others else left).append(entry)
        if taken:
            self._add({**group, "params": taken}, self.slug)
        if left:
            shared = {
                key: value
                for key, value in group.items()
                if key not in self.rule.fields() or key in ("initial_lr", "weight_decay")
            }
            self._add({**shared, "params": left}, cast(str, self.rest))

    def _add(self, group: dict[str, Any], slug: str) -> None:
        known = hyper_parameters.rule_of(slug)
        if slug == self.slug:
            defaults = {key: self.defaults[key] for key in known.fields()}
        else:
            defaults = self._rest_hyper if slug == self.rest else {}
        fields = known.fields()
        hyper = {key: value for key, value in group.items() if key in fields}
        for key in group:
            if key not in fields and key not in _OWN_KEYS and key != "initial_lr":
                raise unknown_hyper(f"a group of {type(self).__name__}", key, fields)
        rule = known.from_hyper({**defaults, **hyper})
        rule = replace(rule, lr=rule.lr * group.get("lr_scale", 1.0))
        for entry in group["params"]:
            p = entry[1] if isinstance(entry, tuple) else entry
            if not rule.takes(p):
                raise UsageError(
                    f'"{slug}" cannot take a parameter of shape {tuple(p.shape)}; leave '
                    f'rule="{slug}" out of the group, and it is routed to another rule'
                )
        group = {**group, **vars(rule), **rule.shared(), "rule": slug}
        group.setdefault("maximize", self.defaults["maximize"])
        if _has_evaluation(known):
            group.setdefault("evaluating", False)
        if self.modifiers:
            group["modifiers"] = [str(modifier) for modifier in self.modifiers]
        inherited = [key for key in self.defaults if key not in group]
        super().add_param_group(group)
        for key in inherited:
            del self.param_groups[-1][key]

    # Stepping

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take one step with the gradients in ``p.grad``; a tensor whose gradient is None rests.

        Args:
            closure: evaluates the model again and returns the loss; called once, first.

        Returns:
            What the closure returned, or None.

        Raises:
            UsageError: an impossible hyper-parameter in a group, a sparse gradient, or
                evaluation weights in place; nothing has changed then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._advance(loss=loss)
        return loss

    @torch._disable_dynamo  # a traced step would trace addresses and ctypes calls of kernels
    def _advance(
        self,
        gradients: Gradients | None = None,
        extras: Mapping[str, Gradients] = MappingProxyType({}),
        loss: Any = None,
    ) -> None:
        """Take the rule's step.

        Args:
            gradients: by parameter; those in ``p.grad`` if None.
            extras: further tensors by name and parameter, which `update` finds in ``s``.
            loss: what the closure returned.
        """
        plans = self._plans()
        rules = [hyper_parameters.rule_from_group(group) for group in self.param_groups]
        for group, rule in zip(self.param_groups, rules, strict=True):
            if group.get("evaluating"):
                raise UsageError(
                    "the evaluation weights are in place; call optimizer.train() before a step"
                )
            if rule.needs_loss and loss is None:
                raise UsageError(
                    f"{type(self).__name__} needs the loss: pass step() a closure that clears the "
                    "gradients, runs forward and backward and returns the loss"
                )
        found = [plan.gradients(type(self).__name__, gradients) for plan in plans]
        parts = [
            (group, part)
            for group, plan, rule, grads in zip(self.param_groups, plans, rules, found, strict=True)
            for part in plan.open(rule, self.modifiers, grads, extras, self.state_bits)
        ]
        self._kept_for = (id(self.state), len(self.state), [len(plan.params) for plan in plans])
        number = None if loss is None else float(loss)
        stepping.run(parts, self.modifiers, number, self.execution, self.state_bits)

    def seen(self, gradients: Gradients) -> dict[Tensor, Tensor]:
        """Return further gradients as the rule sees that of its step: negated, modified.

        For rules that compare gradients of several points. A modifier's state stays as it is.
        """
        if not self.modifiers and not any(group["maximize"] for group in self.param_groups):
            return dict(gradients)
        parts = []
        for group in self.param_groups:
            copies = {p: _copied(self.state[p]) for p in group["params"] if self.state.get(p)}
            plan = GroupPlan(group, copies)
            rule = hyper_parameters.rule_from_group(group)
            found = plan.gradients(type(self).__name__, gradients)
            opened = plan.open(rule, self.modifiers, found, {}, self.state_bits)
            parts += [(group, part) for part in opened]
        return stepping.seen_gradients(parts, self.modifiers, self.state_bits)

    def _plans(self) -> list[GroupPlan]:
        """Return each group's parameters beside their state, kept while nothing replaced them."""
        sizes = [len(group["params"]) for group in self.param_groups]
        now = (id(self.state), len(self.state), sizes)
        if self._kept_plans is None or now != self._kept_for:
            self._kept_plans = [GroupPlan(group, self.state) for group in self.param_groups]
        return self._kept_plans

    # Evaluation weights

    @torch.no_grad()
    def eval(self) -> None:
        """Put the weights to be evaluated in place, for rules that train at other ones.

        Does nothing for most rules. `train` brings the training weights back, bit for bit.
        """
        self._switch(evaluating=True)

    @torch.no_grad()
    def train(self, mode: bool = True) -> None:
        """Put the training weights back in place; ``train(False)`` is `eval`."""
        self._switch(evaluating=not mode)

    def _switch(self, evaluating: bool) -> None:
        for group in self.param_groups:
            if group.get("evaluating", evaluating) == evaluating:
                continue
            rule: Any = hyper_parameters.rule_from_group(group)
            for p in group["params"]:
                state = self.state.get(p)
                if not state:
                    continue
                k = Numbers(lr=rule.lr, **rule.scalars(state["step"]))
                if evaluating:
                    self._training_weights[p] = p.detach().clone()
                    p.copy_(rule.evaluation_weights(p, State.of(state), k))
                elif p in self._training_weights:
                    p.copy_(self._training_weights.pop(p))
                else:
                    p.copy_(rule.training_weights(p, State.of(state), k))
            group["evaluating"] = evaluating

    # Saving

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what `state_dict` returned; continuing is then bit for bit the same.

        State belongs to parameter names where both sides have them, whatever their order, and to
        positions otherwise. Tensors get the dtype that this optimiser keeps them in.

        Raises:
            UsageError: groups, names, rules or shapes do not match; nothing has changed then.
        """
        prepared = saving.prepare(self, state_dict)
        super().load_state_dict(prepared)
        saving.restore_dtypes(self, prepared)
        self._kept_plans = None
        self._training_weights.clear()

    def _fresh_state(self, p: Tensor, group: dict[str, Any]) -> dict[str, Any]:
        """Return the state that a parameter of the group would start with."""
        rule = hyper_parameters.rule_from_group(group)
        return fresh_state(rule, self.modifiers, p, self.state_bits)

    def state_bytes(self) -> int:
        """Return the bytes that the state takes on this process."""
        return sum(
            distributed.local(x).nbytes
            for state in self.state.values()
            for x in state.values()
            if isinstance(x, Tensor)
        )

    def __getstate__(self) -> dict[str, Any]:
        return {
            **super().__getstate__(),
            "execution": self.execution,
            "modifiers": self.modifiers,
            "state_bits": self.state_bits,
            "_rest_hyper": self._rest_hyper,
            "_training_weights": self._training_weights,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._kept_plans, self._kept_for, self._module = None, (), None


def _copied(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: x.clone() if isinstance(x, Tensor) else x for name, x in state.items()}


def _has_evaluation(rule: type[Rule]) -> bool:
    return hasattr(rule, "evaluation_weights")
