"""Element-wise functions that rules share."""

import math

import pytest
import torch

from thalweg.engine.numeric import sign, wide


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_wide_has_32_bits_at_least(dtype: torch.dtype, expected: torch.dtype) -> None:
    x = torch.tensor([1.5, -3.0], dtype=dtype)
    found = wide(x)
    assert found.dtype == expected
    assert found.tolist() == [1.5, -3.0]
    assert (found is x) == (dtype == expected)


def test_sign_as_lion_takes_it_keeps_nan() -> None:
    x = torch.tensor([-2.0, -0.0, 0.0, 3.0, math.inf, math.nan])
    torch.testing.assert_close(
        sign(x), torch.tensor([-1.0, 0.0, 0.0, 1.0, 1.0, math.nan]), equal_nan=True
    )
