"""Checks of rules that evaluate a closure."""

from typing import Any

import torch

from thalweg.core.errors import UsageError
from thalweg.testing.subject import (
    SHAPES,
    Subject,
    Trial,
    assert_close,
    assert_same,
    parameters,
    raises,
    set_gradients,
)


def check_moves(subject: Subject) -> None:
    """Every tensor with entries moves, by finite amounts."""
    trial = subject.run()
    start = parameters()
    moved = [n for n, p in trial.values().items() if not torch.equal(p, start[n].detach())]
    expected = [name for name, shape in SHAPES.items() if 0 not in shape]
    assert moved == expected, f"moved {moved} instead of {expected}"
    assert all(p.isfinite().all() for p in trial.values().values()), "not finite"


def check_gradients_untouched(subject: Subject) -> None:
    """What lies in ``p.grad`` stays there, bit for bit."""
    trial = subject.run(2)
    set_gradients(trial.params, 7)
    before = {name: (p.grad, p.grad.clone()) for name, p in trial.params.items()}  # type: ignore[union-attr]
    trial.advance(2)
    for name, p in trial.params.items():
        tensor, value = before[name]
        assert p.grad is tensor, f'p.grad of "{name}" was replaced'
        assert torch.equal(tensor, value), f'p.grad of "{name}" was changed'  # type: ignore[arg-type]


def check_both_closures(subject: Subject) -> None:
    """Closures that run ``backward()`` and those that do not give the same, or are refused."""
    cls: Any = subject.optimizer
    plain, backward = Trial.start(subject), Trial.start(subject)
    for _ in range(4):
        plain.advance(1)
        backward.optimizer.provide(**backward.provisions())  # type: ignore[attr-defined]
        closure = backward.closure(backward=True)
        if cls.needs_graph:
            with raises(UsageError, "backward()", "a closure that runs backward()"):
                backward.optimizer.step(closure)
            return
        if cls.needs_outputs:
            return
        backward.optimizer.step(closure)
        backward.steps += 1
    assert_close(backward.values(), plain.values(), 1e-12, "closures that run backward()")


def check_maximize(subject: Subject) -> None:
    """To climb a loss is to descend its negative, at every point that the rule looks at."""
    cls: Any = subject.optimizer
    if cls.penalised:
        with raises(UsageError, "maximize", "a rule that steps by the loss"):
            Trial.start(subject, maximize=True)
        return
    up, down = Trial.start(subject, maximize=True), Trial.start(subject)
    for _ in range(4):
        up.optimizer.provide(**up.provisions())  # type: ignore[attr-defined]
        given = {name: _negated(value) for name, value in down.provisions().items()}
        down.optimizer.provide(**given)  # type: ignore[attr-defined]
        up.optimizer.step(up.closure())
        down.optimizer.step(_negated(down.closure()))
        up.steps, down.steps = up.steps + 1, down.steps + 1
    assert_close(up.values(), down.values(), 1e-12, "maximize")


def _negated(given: Any) -> Any:
    """Return a closure, or a list of them, with its loss negated."""
    if isinstance(given, list):
        return [_negated(one) for one in given]
    return lambda: -given()


def check_loss(subject: Subject) -> None:
    """``step`` returns the loss before the step, or close by if the rule never looks there."""
    trial = Trial.start(subject)
    trial.optimizer.provide(**trial.provisions())  # type: ignore[attr-defined]
    found = trial.closure()()
    expected = float((found[0] if isinstance(found, tuple) else found).detach())
    loss = trial.optimizer.step(trial.closure())
    tolerance = 1e-2 if subject.optimizer.looks_aside else 1e-12  # type: ignore[attr-defined]
    assert abs(float(loss) - expected) <= tolerance * abs(expected), f"{loss} is not {expected}"


def check_no_closure(subject: Subject) -> None:
    """A step without a closure starts state if gradients are zero or absent, else is refused."""
    cls: Any = subject.optimizer
    if "components" in cls.provisions:
        return
    trial = Trial.start(subject)
    before = trial.values()
    trial.optimizer.step()
    assert_same(trial.values(), before, "a step without a closure")
    set_gradients(trial.params, 0)
    with raises(UsageError, "closure", "gradients without a closure"):
        trial.optimizer.step()
    if cls.provisions:
        with raises(UsageError, "provide", "a missing provision"):
            trial.optimizer.step(trial.closure())
    with raises(UsageError, "takes no", "an unknown provision"):
        trial.optimizer.provide(nonsense=1)  # type: ignore[attr-defined]
    assert_same(trial.values(), before, "after refusals")


def check_failing_closure(subject: Subject) -> None:
    """A closure that raises leaves parameters and ``p.grad`` as they were."""
    trial = subject.run(2)
    calls = 0

    def closure() -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise FloatingPointError("on purpose")
        return inner()

    inner = trial.closure()
    set_gradients(trial.params, 5)
    before, kept = trial.values(), {n: p.grad for n, p in trial.params.items()}
    trial.optimizer.provide(**trial.provisions())  # type: ignore[attr-defined]
    try:
        trial.optimizer.step(closure)
    except FloatingPointError:
        assert_same(trial.values(), before, "after a closure that raised")
    assert all(p.grad is kept[n] for n, p in trial.params.items()), "p.grad was replaced"


def check_nan_stays(subject: Subject) -> None:
    """A NaN in the loss reaches the parameters."""
    trial = subject.run(2)
    inner = trial.closure()

    def closure() -> Any:
        found = inner()
        bad = trial.params["hidden.weight"][0, 0] * float("nan")
        return (found[0] + bad, found[1]) if isinstance(found, tuple) else found + bad

    trial.optimizer.provide(**trial.provisions())  # type: ignore[attr-defined]
    for _ in range(2):
        trial.optimizer.step(closure)
    assert any(p.isnan().any() for p in trial.values().values()), "a NaN was lost"


def check_precision(subject: Subject) -> None:
    """Run in float32 and bfloat16: dtypes stay, numbers stay finite."""
    exact = subject.run(4).values()
    single = subject.run(4, torch.float32).values()
    assert_close(single, exact, 5e-3, "float32")
    half = subject.run(4, torch.bfloat16).values()
    assert all(p.dtype == torch.bfloat16 for p in half.values()), "the dtype changed"
    assert all(p.isfinite().all() for p in half.values()), "bfloat16 is not finite"
