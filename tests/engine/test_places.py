"""What is kept of the tensors' places from step to step never outlives a change of theirs."""

import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from thalweg.engine.execution import Execution
from thalweg.optim import AdamW, NovoGrad

Params = list[torch.nn.Parameter]


def swap_data(params: Params, optimizer: torch.optim.Optimizer) -> None:
    params[1].data = params[1].data.clone()


def narrow(params: Params, optimizer: torch.optim.Optimizer) -> None:
    params[1].data = params[1].data[:2]
    for name in ("exp_avg", "exp_avg_sq"):
        optimizer.state[params[1]][name] = optimizer.state[params[1]][name][:2].clone()


def transpose(params: Params, optimizer: torch.optim.Optimizer) -> None:
    params[0].data = params[0].data.t()
    for name in ("exp_avg", "exp_avg_sq"):
        optimizer.state[params[0]][name].t_()


def half(params: Params, optimizer: torch.optim.Optimizer) -> None:
    params[2].data = params[2].data.to(torch.bfloat16)
    for name in ("exp_avg", "exp_avg_sq"):
        optimizer.state[params[2]][name] = optimizer.state[params[2]][name].to(torch.bfloat16)


def new_state(params: Params, optimizer: torch.optim.Optimizer) -> None:
    state = optimizer.state[params[0]]
    state["exp_avg"] = torch.full_like(state["exp_avg"], 0.25)


def moved_state(params: Params, optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[params[0]]["exp_avg"].share_memory_()


def counted_back(params: Params, optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[params[0]]["step"] = 1


def loaded(params: Params, optimizer: torch.optim.Optimizer) -> None:
    optimizer.load_state_dict(optimizer.state_dict())


def climbing(params: Params, optimizer: torch.optim.Optimizer) -> None:
    optimizer.param_groups[0]["maximize"] = True


def nothing(params: Params, optimizer: torch.optim.Optimizer) -> None:
    pass


CHANGES = [
    swap_data,
    narrow,
    transpose,
    half,
    new_state,
    moved_state,
    counted_back,
    loaded,
    climbing,
    nothing,
]


def _run(execution: Execution, change: Callable[..., None], rests: bool) -> list[Tensor]:
    noise = torch.Generator().manual_seed(0)
    params: Params = [
        torch.nn.Parameter(torch.randn(shape, generator=noise)) for shape in ((3, 3), (5,), (2, 4))
    ]
    optimizer = AdamW(params, lr=0.1, weight_decay=0.1, execution=execution)
    for t in range(6):
        if t == 3:
            change(params, optimizer)
        for i, p in enumerate(params):
            p.grad = torch.randn(p.shape, generator=noise).to(p.dtype)
            if rests and i == 2 and t in (2, 4):
                p.grad = None
        optimizer.step()
    return [p.detach() for p in params]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rests", [False, True])
def test_changed_tensors_are_noticed(change: Callable[..., None], rests: bool) -> None:
    expected = _run("loop", change, rests)
    for p, q in zip(_run("auto", change, rests), expected, strict=True):
        tolerance = 2e-2 if p.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(p, q, rtol=tolerance, atol=tolerance)


def test_gradients_do_not_outlive_the_step() -> None:
    p = torch.nn.Parameter(torch.ones(4))
    optimizer = NovoGrad([p], lr=0.1)
    for _ in range(3):
        p.grad = torch.ones(4)
        held = weakref.ref(p.grad)
        optimizer.step()
        p.grad = None
        gc.collect()
        assert held() is None
