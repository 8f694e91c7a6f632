"""Small tensors of one shape go through a rule together, and come out as if they had gone alone."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from thalweg.engine import Numbers, State
from thalweg.engine.stacks import in_stacks, stack, stacked

SHAPES = [(2, 3), (4,), (2, 3), (3, 2), (256, 256), (256, 256), (4,), (257, 256), (257, 256)]


def test_in_stacks_calls_for_small_alike_tensors_at_once_and_keeps_the_order() -> None:
    p = [torch.zeros(shape) for shape in SHAPES]
    p += [torch.zeros(2, 3).double(), torch.zeros(2, 3, device="meta")]
    g = [torch.full_like(x, i) for i, x in enumerate(p)]
    s = [State(index=i) for i in range(len(p))]
    k = Numbers()
    calls: list[list[int]] = []

    def together(
        some_g: Sequence[Tensor], some_p: Sequence[Tensor], some_s: Sequence[State], same_k: Numbers
    ) -> Tensor:
        assert same_k is k
        calls.append([one.index for one in some_s])
        assert [id(x) for x in some_g] == [id(g[i]) for i in calls[-1]]
        assert [id(x) for x in some_p] == [id(p[i]) for i in calls[-1]]
        return torch.stack(list(some_g))

    directions = list(in_stacks(together, g, p, s, k))
    assert sorted(calls) == [[0, 2], [1, 6], [3], [4, 5], [7], [8], [9], [10]]
    for d, x in zip(directions[:-1], g, strict=False):
        assert torch.equal(d, x)
    assert directions[-1].device.type == "meta"


def test_in_stacks_waits_with_large_tensors_until_they_are_wanted() -> None:
    p = [torch.zeros(300, 300), torch.zeros(300, 300)]
    made: list[int] = []

    def together(g: Any, p: Any, s: Any, k: Numbers) -> Tensor:
        made.append(len(g))
        return torch.stack(g)

    directions = in_stacks(together, p, p, [State(), State()], Numbers())
    next(directions)
    assert made == [1]


def test_stacks_of_one_are_views() -> None:
    x = torch.zeros(2)
    stack([x]).add_(1.0)
    assert torch.equal(x, torch.ones(2))
    assert torch.equal(stack([x, 2 * x]), torch.tensor([[1.0, 1.0], [2.0, 2.0]]))


@pytest.mark.parametrize("count", [1, 2])
def test_stacks_of_states_carry_back_what_is_written(count: int) -> None:
    states = [
        State(step=3, a=torch.full((2,), float(i)), b=torch.zeros(2), c=torch.ones(2), other=None)
        for i in range(count)
    ]
    kept = [s.a for s in states]
    with stacked(states, ["a", "b", "c"]) as state:
        assert set(vars(state)) == {"a", "b", "c"}
        assert torch.equal(state.a[:, 0], torch.arange(count).float())
        state.a.add_(1.0)
        vars(state)["b"] = state.b + state.a
    for i, s in enumerate(states):
        assert s.a is kept[i]
        assert torch.equal(s.a, torch.full((2,), i + 1.0))
        assert torch.equal(s.b, s.a)
        assert s.b.data_ptr() != s.a.data_ptr()
        assert torch.equal(s.c, torch.ones(2))
