"""Torch's hooks and its marks for profilers are around each step that has any."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.profiler import ProfilerActivity, profile

from thalweg.optim import AdamW, Muon, NesterovInterpolation


@pytest.fixture
def optimizer():
    p = torch.nn.Parameter(torch.ones(3))
    p.grad = torch.ones(3)
    return AdamW([p], lr=0.1)


def test_hooks_of_one_and_of_all_optimizers_run(optimizer):
    calls = []
    optimizer.step()
    everywhere = register_optimizer_step_pre_hook(lambda *_: calls.append("all"))
    one = optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    other = optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step()
    assert calls == ["all", "before", "after"]
    for handle in (everywhere, one, other):
        handle.remove()
    optimizer.step()
    assert len(calls) == 3


def test_a_hook_may_replace_the_arguments(optimizer):
    optimizer.register_step_pre_hook(lambda opt, args, kwargs: ((opt, lambda: 7.0), {}))
    assert optimizer.step() == 7.0


def test_profilers_see_steps_by_name(optimizer):
    other = NesterovInterpolation([torch.nn.Parameter(torch.ones(2))], lr=0.1)
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        optimizer.step()
        other.step()
    names = {event.key for event in seen.key_averages()}
    assert {
        "Optimizer.step#AdamW.step",
        "Optimizer.step#NesterovInterpolation.step",
    } <= names


def test_wrapped_once_for_each_class():
    weights = torch.nn.Parameter(torch.ones(4, 4))
    first = Muon([("layer.weight", weights)], lr=0.1).step.__func__
    assert Muon([("layer.weight", weights)], lr=0.1).step.__func__ is first


def test_schedulers_of_torch_count_steps(optimizer, recwarn):
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert not [w for w in recwarn if "lr_scheduler.step" in str(w.message)]
