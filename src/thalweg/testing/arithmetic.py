"""Checks of a rule's numbers: the same in every execution, layout and precision."""

import inspect
import warnings
from unittest import mock

import torch
from torch import Tensor

from thalweg.engine import Numbers, State, execution, kernel
from thalweg.engine.execution import EXECUTIONS
from thalweg.engine.rule import Rule, measures_each
from thalweg.testing.subject import (
    SHAPES,
    Subject,
    Trial,
    assert_close,
    assert_same,
    gradient,
    parameters,
    set_gradients,
)


def check_executions_agree(subject: Subject) -> None:
    """Compare foreach, compiled and auto with loop, in float64 and float32."""
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-5)):
        loop = subject.run(dtype=dtype, weight_decay=0.1, execution="loop").values()
        start = parameters(dtype)
        moved = [name for name in SHAPES if not torch.equal(loop[name], start[name].detach())]
        expected = [name for name, shape in SHAPES.items() if 0 not in shape]
        assert moved == expected, f"moved {moved} instead of {expected}"
        for way in EXECUTIONS:
            found = subject.run(dtype=dtype, weight_decay=0.1, execution=way).values()
            assert_close(found, loop, tolerance, f"{way} against loop in {dtype}")


def check_one_kernel(subject: Subject) -> None:
    """Change every float between steps and count the kernels that are built."""
    trial = Trial.start(subject, execution="compiled")
    trial.advance(2)
    built = len(execution._kernels)
    for factor in (0.5, 0.9, 0.99):
        for group in trial.optimizer.param_groups:
            group["lr"] *= factor
            group["weight_decay"] = 0.1 * factor
            if "betas" in group:
                group["betas"] = tuple(beta * factor for beta in group["betas"])
            if isinstance(group.get("eps"), float):
                group["eps"] *= 2
        trial.advance(1)
    assert len(execution._kernels) == built, "a changed number built another kernel"
    if subject.element_wise:
        assert subject.optimizer.rule not in execution._uncompiled, "the rule does not compile"


def check_reads_only(subject: Subject) -> None:
    """Call `update` and the measures on their own, and step, and look at g and p."""
    trial = subject.run(3)
    set_gradients(trial.params, 3)
    before = {name: p.grad.clone() for name, p in trial.params.items() if p.grad is not None}
    trial.optimizer.step()
    after = {name: p.grad for name, p in trial.params.items()}
    assert_same(after, before, "p.grad after a step")
    for part, turn in _turns(trial):
        for p, g, state, each in zip(turn.p, turn.g, turn.states, turn.each, strict=True):
            kept = {"g": g.clone(), "p": p.detach().clone()}
            k = Numbers(**vars(turn.k), **each)
            with torch.no_grad():
                turn.rule.measure(g, p, State.of(dict(state)), turn.k)
                turn.rule.measure_each(g, p, State.of(dict(state)), turn.k)
                d = turn.rule.update(g, p, State.of(dict(state)), k)
            assert_same({"g": g, "p": p.detach()}, kept, f"after update of {part}")
            assert d.shape == p.shape, f"the direction has shape {d.shape} for {p.shape}"


def _turns(trial: Trial) -> list[tuple[str, execution.Turn]]:
    """Return the turns of the trial's next step, without taking it."""
    seen: list[tuple[str, execution.Turn]] = []
    set_gradients(trial.params, trial.steps)
    with mock.patch.object(
        execution, "update", lambda turn, how: seen.append((f"{turn.rule}", turn))
    ):
        trial.optimizer.step()
    return seen


def check_concatenation(subject: Subject) -> None:
    """Run an element-wise rule on all tensors as one vector, unless it knows tensors apart."""
    if not subject.element_wise or measures_each(subject.optimizer.rule):
        return
    apart = subject.run(weight_decay=0.1).values()
    start = parameters()
    whole = torch.cat([p.detach().flatten() for p in start.values()]).requires_grad_()
    optimizer = subject.build([("whole", whole)], weight_decay=0.1)
    for step in range(8):
        whole.grad = torch.cat([gradient(name, step).flatten() for name in start])
        optimizer.step()
    expected = torch.cat([p.flatten() for p in apart.values()])
    assert_close({"whole": whole.detach()}, {"whole": expected}, 1e-11, "concatenated")


def check_maximize(subject: Subject) -> None:
    """Climb along the negated gradients, which is to descend along the gradients."""
    for way in ("loop", "foreach", "compiled"):
        down = subject.run(4, execution=way).values()
        trial = Trial.start(subject, maximize=True, execution=way)
        for step in range(4):
            for name, p in trial.params.items():
                p.grad = -gradient(name, step)
            trial.optimizer.step()
        assert_close(trial.values(), down, 1e-12, f"maximize in {way}")


def check_half_precision(subject: Subject) -> None:
    """Run in bfloat16 and float16 and stay near the float32 run."""
    exact = subject.run(6, torch.float32).values()
    for dtype, tolerance in ((torch.bfloat16, 0.1), (torch.float16, 0.05)):
        for way in ("loop", "foreach", "compiled"):
            if dtype == torch.float16 and _underflows(subject, dtype):
                continue
            trial = subject.run(6, dtype, execution=way)
            values = trial.values()
            assert all(p.dtype == dtype for p in values.values()), "the dtype changed"
            assert_close(values, exact, tolerance, f"{way} in {dtype}")


def _underflows(subject: Subject, dtype: torch.dtype) -> bool:
    """Return whether the rule's eps vanishes in the dtype, as a docstring has to say."""
    signature = inspect.signature(subject.optimizer).parameters
    hyper = {name: one.default for name, one in signature.items()} | dict(subject.hyper)
    small = [x for name, x in hyper.items() if name.endswith("eps") and isinstance(x, float)]
    return any(torch.tensor(x).to(dtype).item() == 0 for x in small)


def check_layouts(subject: Subject) -> None:
    """Run on channels-last, transposed and strided parameters."""
    plain = subject.run(5).values()
    for way in ("loop", "foreach", "compiled"):
        params = parameters()
        storage = torch.zeros(7, 2, dtype=torch.float64)
        changed: dict[str, Tensor] = {
            **params,
            "conv.weight": params["conv.weight"].detach().to(memory_format=torch.channels_last),
            "hidden.weight": params["hidden.weight"].detach().t().contiguous().t(),
            "hidden.bias": storage[:, 0].copy_(params["hidden.bias"].detach()),
        }
        leaves = {name: p.detach().requires_grad_() for name, p in changed.items()}
        trial = Trial(leaves, subject.build(list(leaves.items()), execution=way))
        trial.advance(5)
        assert_close(trial.values(), plain, 1e-12, f"other layouts in {way}")
        assert not storage[:, 1].any(), f"{way} wrote between the entries of a strided tensor"


def check_nan_stays(subject: Subject) -> None:
    """Put one NaN into a gradient and find it in the parameter."""
    for way in ("loop", "foreach", "compiled"):
        trial = subject.run(3, execution=way)
        for _ in range(2):
            set_gradients(trial.params, trial.steps)
            trial.params["hidden.weight"].grad[0, 0] = float("nan")  # type: ignore[index]
            trial.optimizer.step()
        assert trial.params["hidden.weight"].isnan().any(), f"{way} lost a NaN of the gradient"


def _formulas(subject: Subject) -> list[Rule]:
    """Return the rule that each of the parameters takes."""
    rule = subject.optimizer.rule()
    return [rule.formula(p)() for p in parameters().values() if rule.takes(p)]


def check_no_compiler(subject: Subject) -> None:
    """Take the compiler away: right numbers, and one warning for an element-wise rule."""
    expected = subject.run(4, execution="loop").values()
    with (
        mock.patch.object(kernel, "find_compiler", return_value=None),
        mock.patch.object(execution, "_kernels", {}),
        mock.patch.object(execution, "_uncompiled", set()),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        kernel.load.cache_clear()
        execution._warn_once.cache_clear()
        found = subject.run(4, execution="compiled").values()
        again = subject.run(4, execution="auto").values()
    kernel.load.cache_clear()
    assert_close(found, expected, 1e-12, "without a compiler")
    assert_close(again, expected, 1e-12, "without a compiler, again")
    told = [str(one.message) for one in caught if "compiler" in str(one.message)]
    reads = {rule.reads for rule in _formulas(subject)}
    wanted = 1 if "element" in reads or subject.optimizer.rest else 0
    assert len(told) == wanted, f"{len(told)} warnings instead of {wanted}: {told}"
