import random

import numpy as np
import pytest
import torch

from thalweg.core.errors import UsageError
from thalweg.core.streams import GlobalStream


def draw():
    return (torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random() for _ in range(3)])


def test_outside_is_untouched():
    with GlobalStream(1):
        draw()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = draw(), draw()
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    first = draw()
    with GlobalStream(2):
        draw()
    assert (first, draw()) == expected


def test_outside_is_untouched_after_an_error():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with pytest.raises(ZeroDivisionError), GlobalStream(1):
        _ = draw(), 1 / 0
    assert torch.equal(torch.rand(2), expected)


def test_continues_where_it_stopped():
    with GlobalStream(3):
        expected = draw(), draw()
    stream = GlobalStream(3)
    with stream:
        first = draw()
    draw()
    with stream:
        assert (first, draw()) == expected


def test_is_the_stream_of_manual_seed_and_differs_by_seed():
    with GlobalStream(11):
        found = draw()
    with GlobalStream(12):
        other = draw()
    state = torch.get_rng_state()
    torch.manual_seed(11)
    assert found[0] == torch.rand(3).tolist()
    torch.set_rng_state(state)
    assert all(one != two for one, two in zip(found, other, strict=True))


@pytest.mark.parametrize("active", [True, False])
def test_state_continues_the_stream(active):
    stream = GlobalStream(4)
    with stream:
        draw()
        np.random.standard_normal()  # leaves a cached second value behind
        if active:
            state = stream.state_dict()
        else:
            state = None
        expected = draw(), np.random.standard_normal()
    if not active:
        state = stream.state_dict()
        with stream:
            expected = draw(), np.random.standard_normal()
    assert state is not None
    other = GlobalStream(99)
    other.load_state_dict(state)
    with other:
        assert (draw(), np.random.standard_normal()) == expected


def test_state_before_the_first_use():
    other = GlobalStream(5)
    other.load_state_dict(GlobalStream(6).state_dict())
    with GlobalStream(6):
        expected = draw()
    with other:
        assert draw() == expected


def test_entering_twice_is_refused():
    stream = GlobalStream(1)
    with stream, pytest.raises(UsageError, match="active already"), stream:
        draw()
