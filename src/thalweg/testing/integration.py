"""Checks of a rule at home: groups, schedulers, closures, scalers, refusals."""

import inspect
from typing import Any

import torch
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.testing.subject import (
    SHAPES,
    Subject,
    Trial,
    assert_close,
    assert_same,
    gradient,
    parameters,
    raises,
    set_gradients,
)


def check_missing_gradients(subject: Subject) -> None:
    """Leave gradients out now and then: those tensors rest, and count their own steps."""
    trial = Trial.start(subject)
    trial.optimizer.step()
    assert not trial.optimizer.state, "state without any gradient"
    alone = Trial.start(subject)
    for step in range(6):
        set_gradients(trial.params, step)
        set_gradients(alone.params, step)
        trial.optimizer.zero_grad()
        set_gradients(trial.params, step)
        if step % 2 == 0:
            rested = trial.params["hidden.bias"].detach().clone()
            trial.params["hidden.bias"].grad = None
        trial.optimizer.step()
        if step % 2 == 0:
            now = trial.params["hidden.bias"].detach()
            assert torch.equal(now, rested), "a tensor without a gradient moved"
    state = trial.optimizer.state
    counted = {name: state[p]["step"] for name, p in trial.params.items()}
    expected = {name: 3 if name == "hidden.bias" else 6 for name in trial.params}
    assert counted == expected, f"steps were counted as {counted}"


def check_groups(subject: Subject) -> None:
    """Give groups their own hyper-parameters; add a group later."""
    takes = subject.optimizer.rule.from_hyper({}).takes
    params = {name: p for name, p in parameters().items() if takes(p)}
    first, second = list(params.items())[:1], list(params.items())[1:]
    rule = subject.slug
    optimizer = subject.build([{"params": first, "lr": 0.0, "weight_decay": 0.0, "rule": rule}])
    optimizer.add_param_group({"params": second, "rule": rule})
    trial = Trial(params, optimizer)
    before = trial.values()
    trial.advance(2)
    optimizer.param_groups[0].update(lr=0.0)
    after = trial.values()
    for name, _ in second:
        if SHAPES[name] != (0,):
            assert not torch.equal(after[name], before[name]), f'"{name}" stands still'
    if _moves_by_lr(subject):
        for name, _ in first:
            assert torch.equal(after[name], before[name]), f'"{name}" moved with lr = 0'
    with raises(UsageError, "lr", "an unknown key of a group"):
        subject.build([{"params": list(params.items()), "learning_rate": 0.1, "rule": rule}])


def _moves_by_lr(subject: Subject) -> bool:
    """Return whether the first movement vanishes with lr (a mean of other points does not)."""
    return not hasattr(subject.optimizer.rule, "evaluation_weights")


def check_schedulers(subject: Subject) -> None:
    """Drive lr by torch's schedulers, and by hand: the same."""
    scheduled, by_hand = Trial.start(subject), Trial.start(subject)
    factors = (1.0, 0.5, 0.25, 0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        scheduled.optimizer, lambda step: factors[min(step, 3)]
    )
    first = [group["lr"] for group in by_hand.optimizer.param_groups]
    for step in range(4):
        scheduled.advance(1)
        scheduler.step()
        for group, lr in zip(by_hand.optimizer.param_groups, first, strict=True):
            group["lr"] = lr * factors[step]
        by_hand.advance(1)
    assert_same(scheduled.values(), by_hand.values(), "a scheduler against the same by hand")
    trial = Trial.start(subject)
    warm = torch.optim.lr_scheduler.CosineAnnealingLR(trial.optimizer, T_max=3)
    trial.advance(1)
    warm.step()
    changed = [group["lr"] for group in trial.optimizer.param_groups]
    assert all(a < b for a, b in zip(changed, first, strict=True)), f"lr went {first} -> {changed}"


def check_closure(subject: Subject) -> None:
    """Step with a closure, which is called once, with gradients enabled."""
    plain = subject.run(3)
    trial = Trial.start(subject)
    calls = []

    def closure() -> torch.Tensor:
        assert torch.is_grad_enabled(), "the closure runs without gradients"
        set_gradients(trial.params, len(calls))
        calls.append(None)
        return torch.tensor(float(len(calls)))

    losses = [float(trial.optimizer.step(closure)) for _ in range(3)]
    assert losses == [1.0, 2.0, 3.0], f"the closure's losses came back as {losses}"
    assert_same(trial.values(), plain.values(), "steps with a closure")


def check_gradient_scaler(subject: Subject) -> None:
    """Scale the loss; skip the step on an infinite gradient; equal the unscaled run."""
    plain, scaled = Trial.start(subject, torch.float32), Trial.start(subject, torch.float32)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(4):
        scaler.scale(torch.zeros(()))
        for name, p in scaled.params.items():
            p.grad = gradient(name, step).float() * scaler.get_scale()
        if step == 2:
            scaled.params["hidden.weight"].grad[0, 0] = float("inf")  # type: ignore[index]
        before = scaled.values()
        scaler.step(scaled.optimizer)
        scaler.update()
        if step == 2:
            assert_same(scaled.values(), before, "a step with an infinite gradient")
            continue
        set_gradients(plain.params, step)
        plain.optimizer.step()
    assert_close(scaled.values(), plain.values(), 1e-6, "scaled gradients")


def check_refusals(subject: Subject) -> None:
    """Refuse what cannot be taken, with a message that helps."""
    make, name = subject.build, subject.optimizer.__name__
    ok = parameters()
    with raises(UsageError, "lr", "an unknown hyper-parameter"):
        make(list(ok.items()), lrr=0.1)
    for bad in (-1.0, float("nan"), "much", None):
        with raises(UsageError, "lr", f"lr = {bad!r}"):
            make(list(ok.items()), lr=bad)
    with raises(UsageError, name, "no parameters"):
        make([])
    complex_one = torch.zeros(3, dtype=torch.complex64, requires_grad=True)
    with raises(UsageError, "complex", "a complex parameter"):
        make([("z", complex_one)])
    with raises(UsageError, "leaf", "a parameter that is no leaf"):
        make([("sum", ok["hidden.weight"] + 1)])
    with raises(UsageError, "floating", "an integer parameter"):
        make([("index", torch.zeros(3, dtype=torch.int64))])
    table = nn.Embedding(4, 3, sparse=True)
    table(torch.tensor([1])).sum().backward()
    optimizer = make(list(table.named_parameters()))
    with raises(UsageError, "sparse", "a sparse gradient"):
        optimizer.step()


def check_description(subject: Subject) -> None:
    """Look at what people see: signature, docstring, groups, state size."""
    cls: Any = subject.optimizer
    parameters_of = inspect.signature(cls).parameters
    for name in cls.rule.fields():
        assert name in parameters_of, f"the signature lacks {name}"
        assert f"{name}:" in (cls.__doc__ or ""), f"the docstring does not explain {name}"
    assert "Reference:" in (cls.__doc__ or ""), "the docstring names no reference"
    assert issubclass(cls, torch.optim.Optimizer)
    trial = subject.run(2)
    assert cls.__name__ in repr(trial.optimizer)
    tensors = [x for s in trial.optimizer.state.values() for x in s.values()]
    size = sum(x.nbytes for x in tensors if isinstance(x, torch.Tensor))
    assert trial.optimizer.state_bytes() == size, "state_bytes does not add up"
