"""Proximal points of quadratics, step by step."""

import pytest
import torch
from torch import Tensor

from thalweg.engine.proximal import proximal_point


@pytest.mark.parametrize(("curvature", "expected"), [(0.5, -1.0), (0.6, 0.0)])
def test_prox_point_takes_steps_that_change_the_gradient_by_up_to_1_5_times_its_norm(
    curvature: float, expected: float
) -> None:
    # The step of 1 from 0 changes f' + y by 1 + curvature; at 0 it is 1.
    def gradient(y: Tensor) -> Tensor:
        return 1 + curvature * y

    zero = torch.zeros(1, dtype=torch.float64)
    found = proximal_point(gradient, gradient(zero), zero, lr=1.0, steps=1)
    torch.testing.assert_close(found, torch.full_like(zero, expected), rtol=0, atol=0)
    # A step taken back is half as long the next time: -1/2 with the gradient left.
    if expected == 0:
        found = proximal_point(gradient, gradient(zero), zero, lr=1.0, steps=2)
        torch.testing.assert_close(found, torch.full_like(zero, -0.5), rtol=0, atol=0)
