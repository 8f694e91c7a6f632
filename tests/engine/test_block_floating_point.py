import math

import pytest
import torch

from thalweg.engine.block_floating_point import block_quantised


def test_rounds_to_whole_multiples_of_a_power_of_two_of_each_block():
    x = torch.tensor([[1.0, 0.3, -0.7], [100.0, 30.0, -1.0], [0.0, 0.0, 0.0]])
    found = block_quantised(x, 8, 0, 0)
    for row, unit in zip(found[:2], (2.0**-6, 2.0**0), strict=True):
        assert torch.equal((row / unit).round(), row / unit)
    assert torch.equal(found[2], x[2])
    assert ((found - x).abs() <= torch.tensor([[2.0**-6], [1.0], [0.0]])).all()


def test_a_vector_is_one_block():
    found = block_quantised(torch.tensor([1.0, 0.001]), 8, 0, 0)
    assert found[1].item() in (0.0, 2.0**-6)


def test_is_unbiased_where_nothing_is_clipped():
    x = torch.linspace(-0.9, 0.9, 13, dtype=torch.float64)
    mean = torch.stack([block_quantised(x, 6, step, 0) for step in range(4000)]).mean(0)
    unit = 2.0 ** (-1 - 4)
    assert (mean - x).abs().max() < 4 * unit / 2 / math.sqrt(4000)


def test_clips_at_the_largest_number_and_keeps_what_has_few_bits():
    # b = 4: 1.99 would round up to 8/4, and the largest is 7/4.
    found = {block_quantised(torch.tensor([1.99]), 4, step, 0).item() for step in range(50)}
    assert found == {1.75}
    x = torch.tensor([1.5, -2.0, 0.5, -0.25])  # exponent 1: multiples of 2^(1 - 6)
    assert all(torch.equal(block_quantised(x, 8, step, 3), x) for step in range(20))


def test_the_same_step_and_salt_give_the_same_bits_and_others_others():
    x = torch.randn(200, generator=torch.Generator().manual_seed(0))
    one = block_quantised(x, 5, 3, 7)
    assert torch.equal(one, block_quantised(x, 5, 3, 7))
    assert not torch.equal(one, block_quantised(x, 5, 4, 7))
    assert not torch.equal(one, block_quantised(x, 5, 3, 8))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_so(bad):
    found = block_quantised(torch.tensor([1.0, bad, 0.5]), 8, 0, 0)
    torch.testing.assert_close(found, torch.tensor([1.0, bad, 0.5]), equal_nan=True)


def test_empty_scalar_and_half_precision():
    assert block_quantised(torch.zeros(0, 3), 8, 0, 0).shape == (0, 3)
    assert block_quantised(torch.tensor(0.75), 8, 0, 0).item() == 0.75
    assert block_quantised(torch.ones(3, dtype=torch.bfloat16), 8, 0, 0).dtype == torch.bfloat16
