"""Rules that look more than once: at the loss, at other points, at its curvature."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from thalweg.core.errors import UsageError, did_you_mean
from thalweg.engine import distributed
from thalweg.engine.modifier import named
from thalweg.engine.optimizer import RuleOptimizer

Closure = Callable[[], Any]
Tensors = Sequence[Tensor]


class Evaluations:
    """What a closure gives at the parameters as they are when it is asked.

    Closures may run ``backward()`` themselves, as torch's convention is, or return the loss with
    its graph and leave that to the rule; `graph` and `outputs` need the latter. Gradients that lie
    in ``p.grad`` are left as they are. Every evaluation of one step draws the same random numbers,
    so that dropout is the same function at every point.

    Attributes:
        params: the parameters, in the order of the groups.
        first: the loss that the closure returned first, without the penalty.
    """

    def __init__(
        self, params: Sequence[Tensor], closure: Closure, owner: str, penalty: float = 0.0
    ) -> None:
        self.params = list(params)
        self._closure, self._owner, self._penalty = closure, owner, penalty
        self._generators = _generator_states(self.params)
        self.first: Any = None

    def loss(self) -> float:
        """Return the loss; no gradient is computed where the closure leaves that to the rule."""
        with self._aside():
            try:
                with torch.no_grad():
                    value = self._call()[0]
            except RuntimeError as error:
                if "does not require grad" not in str(error):
                    raise
                value = self._call()[0]
        return float(value) + self._penalty_value()

    def gradient(self) -> tuple[float, dict[Tensor, Tensor]]:
        """Return the loss and the gradients by parameter; those that it does not reach are absent.

        Raises:
            UsageError: the closure's loss has no gradient.
        """
        with self._aside():
            value, _ = self._call()
            found = {p: p.grad for p in self.params if p.grad is not None}
            if not found:
                gradients = torch.autograd.grad(self._scalar(value), self.params, allow_unused=True)
                found = {p: g for p, g in zip(self.params, gradients, strict=True) if g is not None}
        if self._penalty:
            found = {p: g + self._penalty * p.detach() for p, g in found.items()}
        return float(value) + self._penalty_value(), found

    def graph(self) -> tuple[Tensor, list[Tensor]]:
        """Return the loss and its gradients (zero where it does not reach), both with a graph.

        Raises:
            UsageError: the closure ran ``backward()``, or its loss has no gradient.
        """
        with self._aside(), _twice_differentiable():
            value = self._with_penalty(self._scalar(self._call()[0]))
            self._refuse_backward()
            gradients = torch.autograd.grad(
                value, self.params, create_graph=True, materialize_grads=True, allow_unused=True
            )
        return value, list(gradients)

    def outputs(self) -> tuple[Tensor, Tensor]:
        """Return the loss and the model's outputs that it was computed from, both with a graph.

        The penalty of weight decay is not part of this loss.

        Raises:
            UsageError: the closure does not return ``(loss, outputs)``, or ran ``backward()``.
        """
        with self._aside(), _twice_differentiable():
            value, outputs = self._call()
            self._refuse_backward()
        if not isinstance(outputs, Tensor) or not outputs.requires_grad:
            raise UsageError(
                f"{self._owner} needs the model's outputs: let the closure return (loss, outputs), "
                "where the loss was computed from the outputs, and not call backward()"
            )
        return self._scalar(value), outputs

    @contextlib.contextmanager
    def at(self, points: Tensors) -> Iterator[None]:
        """Put the parameters at other points, and back afterwards, bit for bit."""
        kept = [p.detach().clone() for p in self.params]
        move(self.params, points)
        try:
            yield
        finally:
            move(self.params, kept)

    def _call(self) -> tuple[Any, Any]:
        _set_generators(self._generators)
        found = self._closure()
        value, outputs = found if isinstance(found, tuple) else (found, None)
        if self.first is None:
            self.first = value.detach().clone() if isinstance(value, Tensor) else value
        return value, outputs

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """Keep the gradients that are in place out of the way."""
        kept = [p.grad for p in self.params]
        for p in self.params:
            p.grad = None
        try:
            with torch.enable_grad():
                yield
        finally:
            for p, gradient in zip(self.params, kept, strict=True):
                p.grad = gradient

    def _scalar(self, value: Any) -> Tensor:
        if not isinstance(value, Tensor) or not value.requires_grad or value.numel() != 1:
            raise UsageError(
                f"{self._owner}: the closure has to return the loss as a tensor with a graph and "
                f"one entry, or run backward() itself; it returned {_described(value)}"
            )
        return value

    def _refuse_backward(self) -> None:
        if any(p.grad is not None for p in self.params):
            raise UsageError(
                f"{self._owner} differentiates the loss itself, more than once: the closure has to "
                "return the loss without calling backward()"
            )

    def _with_penalty(self, value: Tensor) -> Tensor:
        if not self._penalty:
            return value
        return value + 0.5 * self._penalty * sum(p.square().sum() for p in self.params)

    def _penalty_value(self) -> float:
        if not self._penalty:
            return 0.0
        squares = [p.detach().square().sum().double() for p in self.params]
        return 0.5 * self._penalty * float(torch.stack(squares).sum())


class ClosureOptimizer(RuleOptimizer):
    """Base of rules whose step evaluates a closure; the others need gradients alone.

    ``step(closure)`` gets a closure that computes the loss of the step's batch and either runs
    ``backward()`` (clearing gradients is not needed) or leaves that to the rule, which must be
    so for a rule that ``needs_graph``. A subclass defines `_step`, and lists in ``provisions``
    what else `provide` takes. Weight decay is the penalty ``weight_decay / 2 |p|^2`` of the loss
    wherever the rule evaluates it, unless the rule leaves it to the engine (``penalised = False``).

    Raises:
        UsageError: sharded parameters, modifiers or ``maximize`` with a rule that does not take
            them.
    """

    needs_closure: ClassVar[bool] = True
    needs_graph: ClassVar[bool] = False
    needs_outputs: ClassVar[bool] = False
    # Whether the first look is beside the parameters, so that `step` returns the loss there.
    looks_aside: ClassVar[bool] = False
    # Whether weight decay is part of the loss; else the rule's own update applies it.
    penalised: ClassVar[bool] = True
    # What `provide` takes, by name, in words.
    provisions: ClassVar[Mapping[str, str]] = {}

    def __init__(self, params: Any, *args: Any, **hyper: Any) -> None:
        self._provided: dict[str, Any] = {}
        super().__init__(params, *args, **hyper)
        if not self.penalised:
            return
        if self.defaults["maximize"] or self.modifiers:
            what = "maximize=True" if self.defaults["maximize"] else "modifiers"
            raise UsageError(
                f"{type(self).__name__} steps by the loss and not by a gradient, and takes no "
                f"{what}; change the loss instead"
            )
        self._refuse_sharded()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; rules that treat all as one vector share its settings."""
        super().add_param_group(param_group)
        if self.penalised:
            self._refuse_sharded()

    def _refuse_sharded(self) -> None:
        for group in self.param_groups:
            if any(distributed.is_distributed(p) for p in group["params"]):
                raise UsageError(
                    f"{type(self).__name__} works on all parameters as one vector, which sharded "
                    "ones do not allow; gather them, or use another rule"
                )

    def provide(self, **given: Any) -> None:
        """Give the rule what it needs besides the closure, such as the full gradient's.

        Raises:
            UsageError: a name that the rule does not take.
        """
        for name in given:
            if name not in self.provisions:
                hint = did_you_mean(name, self.provisions)
                listed = ", ".join(self.provisions) or "nothing"
                raise UsageError(f"{type(self).__name__} takes no {name}.{hint} It takes {listed}.")
        self._provided |= given

    def provided(self, name: str) -> Any:
        """Return what was provided under a name.

        Raises:
            UsageError: nothing was; the message says what to pass.
        """
        if name not in self._provided:
            raise UsageError(
                f"{type(self).__name__} needs {self.provisions[name]}; give it by "
                f"optimizer.provide({name}=...) before the first step"
            )
        return self._provided[name]

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        """Take one step.

        Args:
            closure: computes the loss of the step's batch; see the class. Without one, as when
                distributed checkpoints set state up, gradients must be zero or absent: state is
                started and nothing moves.

        Returns:
            The loss that the first evaluation gave, or None.

        Raises:
            UsageError: no closure, or one that does not give what the rule needs; nothing has
                changed then.
        """
        if closure is None and (closure := self._own_closure()) is None:
            self._start_without_closure()
            return None
        for group in self.param_groups:
            if group.get("evaluating"):
                raise UsageError(
                    "the evaluation weights are in place; call optimizer.train() before a step"
                )
        evaluations = self.evaluations(closure)
        self._step(evaluations)
        return evaluations.first

    def evaluations(self, closure: Closure) -> Evaluations:
        """Return the evaluations of a closure at the parameters of all groups.

        Raises:
            UsageError: groups with different weight decays, if the loss has them as its penalty.
        """
        params = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        penalty = self.common("weight_decay") if self.penalised else 0.0
        return Evaluations(params, closure, type(self).__name__, penalty)

    def common(self, name: str) -> Any:
        """Return a setting that all groups share.

        Raises:
            UsageError: they do not.
        """
        values = [group[name] for group in self.param_groups]
        if any(value != values[0] for value in values):
            raise UsageError(
                f"{type(self).__name__} treats all parameters as one vector, so every group needs "
                f"the same {name}; found {', '.join(map(str, values))}"
            )
        return values[0]

    def seen_list(self, gradients: Tensors, params: Tensors) -> list[Tensor]:
        """Return gradients as the rule sees that of its step (`seen`), in the parameters' order."""
        found = self.seen(dict(zip(params, gradients, strict=True)))
        return [found[p] for p in params]

    def state_of(self, p: Tensor) -> dict[str, Any]:
        """Return the parameter's state, started if there is none."""
        state = self.state[p]
        if not state:
            group = next(g for g in self.param_groups if any(p is one for one in g["params"]))
            state.update({"step": 0, **self._fresh_state(p, group)})
            for modifier in self.modifiers:
                state.update(named(modifier, modifier.init(p)))
        return state

    def _step(self, evaluations: Evaluations) -> None:
        """Take the rule's step."""
        raise NotImplementedError(f"{type(self).__name__} has no _step")

    def _own_closure(self) -> Closure | None:
        """Return the closure that stands in for a missing one, if the rule has any."""
        return None

    def _start_without_closure(self) -> None:
        params = [p for group in self.param_groups for p in group["params"]]
        if any(p.grad is not None and bool(p.grad.count_nonzero()) for p in params):
            raise UsageError(
                f"{type(self).__name__} evaluates the loss itself: pass step() a closure that "
                "returns the loss of the batch"
            )
        for p in params:
            self.state_of(p)

    def __getstate__(self) -> dict[str, Any]:
        # What was provided are functions of the caller, which copies and files cannot hold.
        return {**super().__getstate__(), "_provided": {}}


def _twice_differentiable() -> contextlib.AbstractContextManager[Any]:
    """Let attention be computed in a way whose derivative has a derivative."""
    return sdpa_kernel(SDPBackend.MATH)


def move(params: Tensors, points: Tensors) -> None:
    """Put parameters at points."""
    for p, x in zip(params, points, strict=True):
        p.detach().copy_(x)


def flatten(tensors: Tensors) -> Tensor:
    """Return the entries of all tensors as one vector."""
    return torch.cat([x.reshape(-1) for x in tensors])


def unflatten(vector: Tensor, like: Tensors) -> list[Tensor]:
    """Return a vector's entries in the shapes and dtypes of tensors."""
    parts = vector.split([x.numel() for x in like])
    return [part.reshape(x.shape).to(x.dtype) for part, x in zip(parts, like, strict=True)]


def zeros_where_absent(gradients: Mapping[Tensor, Tensor], params: Tensors) -> list[Tensor]:
    """Return the gradients in the order of the parameters, zero where there is none."""
    return [gradients[p] if p in gradients else torch.zeros_like(p) for p in params]


def _generator_states(params: Tensors) -> dict[torch.device | None, Tensor]:
    states: dict[torch.device | None, Tensor] = {None: torch.get_rng_state()}
    for device in {p.device for p in params if p.device.type == "cuda"}:
        states[device] = torch.cuda.get_rng_state(device)
    return states


def _set_generators(states: Mapping[torch.device | None, Tensor]) -> None:
    for device, state in states.items():
        if device is None:
            torch.set_rng_state(state)
        else:
            torch.cuda.set_rng_state(state, device)


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        graph = "with" if value.requires_grad else "without"
        return f"a tensor of shape {tuple(value.shape)} {graph} a graph"
    return type(value).__name__
