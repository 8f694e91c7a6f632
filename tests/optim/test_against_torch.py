"""The rules that torch also has give torch's numbers under the same conventions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import arrays, feed, parameters

from reference.loop import Arrays
from reference.settings import SHAPES, Setting
from thalweg import optim

STEPS = 25
MATRICES = ((3, 4), (5, 2), (4, 4))

SGD_MODES = [
    {"lr": 0.1, "momentum": momentum, "dampening": dampening, "weight_decay": decay, **extra}
    for momentum, dampening, extra in (
        (0.0, 0.0, {}),
        (0.0, 0.4, {}),
        (0.9, 0.0, {}),
        (0.9, 0.4, {}),
        (0.9, 0.0, {"nesterov": True}),
    )
    for decay in (0.0, 0.1)
]
ADAM_MODES = [
    {"lr": 0.1},
    {"lr": 0.03, "betas": (0.8, 0.95), "eps": 0.01, "weight_decay": 0.2},
]


def _start_and_script(
    shapes: tuple[tuple[int, ...], ...],
) -> tuple[Arrays, list[Arrays]]:
    setting = Setting("", "", {}, shapes=shapes, steps=STEPS)
    return setting.start(), setting.gradients()


def _named(params: list[torch.nn.Parameter]) -> list[tuple[str, torch.nn.Parameter]]:
    return [(f"hidden_{i}", p) for i, p in enumerate(params)]


def _assert_same_path(
    own: Callable[[Any], torch.optim.Optimizer],
    other: Callable[[Any], torch.optim.Optimizer],
    *,
    dtype: torch.dtype,
    tolerance: float,
    shapes: tuple[tuple[int, ...], ...] = SHAPES,
) -> None:
    start, script = _start_and_script(shapes)
    ours, theirs = parameters(start, dtype), parameters(start, dtype)
    one, two = own(ours), other(theirs)
    for t, gradients in enumerate(script, start=1):
        for params, optimizer in ((ours, one), (theirs, two)):
            feed(params, gradients)
            optimizer.step()
        for a, b in zip(arrays(ours), arrays(theirs), strict=True):
            error = float((np.abs(a - b) / np.maximum(1.0, np.abs(b))).max())
            assert error <= tolerance, f"step {t}, shape {a.shape}: off by {error:.2e}"


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hyper", SGD_MODES, ids=str)
def test_sgd_bit_for_bit(hyper: dict[str, Any], dtype: torch.dtype, maximize: bool) -> None:
    _assert_same_path(
        lambda p: optim.SGD(p, execution="loop", maximize=maximize, **hyper),
        lambda p: torch.optim.SGD(p, foreach=False, maximize=maximize, **hyper),
        dtype=dtype,
        tolerance=0.0,
    )


PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-13)]
)


@PRECISIONS
@pytest.mark.parametrize("hyper", ADAM_MODES, ids=str)
@pytest.mark.parametrize(
    ("own", "other", "extra"),
    [
        (optim.Adam, torch.optim.Adam, {}),
        (optim.AdamW, torch.optim.AdamW, {}),
        (optim.AMSGrad, torch.optim.Adam, {"amsgrad": True}),
    ],
    ids=["adam", "adamw", "amsgrad"],
)
def test_adam_family(
    own: Callable[..., torch.optim.Optimizer],
    other: Callable[..., torch.optim.Optimizer],
    extra: dict[str, Any],
    hyper: dict[str, Any],
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    _assert_same_path(
        lambda p: own(p, execution="loop", **hyper),
        lambda p: other(p, foreach=False, **hyper, **extra),
        dtype=dtype,
        tolerance=tolerance,
    )


@PRECISIONS
@pytest.mark.parametrize(
    "hyper",
    [
        {"lr": 0.3},
        {"lr": 0.3, "beta2_decay": -0.6, "eps": (0.02, 0.5), "d": 1.3, "weight_decay": 0.2},
    ],
    ids=str,
)
def test_adafactor(hyper: dict[str, Any], dtype: torch.dtype, tolerance: float) -> None:
    _assert_same_path(
        lambda p: optim.Adafactor(p, **hyper),
        lambda p: torch.optim.Adafactor(p, foreach=False, **hyper),
        dtype=dtype,
        tolerance=tolerance,
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw"])
def test_muon_to_the_precision_of_bfloat16(adjust: str, nesterov: bool, dtype: torch.dtype) -> None:
    hyper = {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov}
    _assert_same_path(
        lambda p: optim.Muon(_named(p), adjust_lr_fn=adjust, **hyper),
        lambda p: torch.optim.Muon(p, adjust_lr_fn=adjust, **hyper),
        dtype=dtype,
        tolerance=0.03,  # torch iterates in bfloat16: 0.01 a step at most, 0.02 over the run
        shapes=MATRICES,
    )
