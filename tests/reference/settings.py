"""Hyper-parameters under which every term of every rule matters, and gradients to run them on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from reference.loop import Arrays

Shape = tuple[int, ...]

SHAPES: tuple[Shape, ...] = ((), (5,), (3, 4), (2, 3, 2, 2))


@dataclass(frozen=True)
class Setting:
    """One run of one rule.

    Attributes:
        rule: its slug.
        name: what the setting is for.
        hyper: hyper-parameters; ``lr`` may be a function of the step, for a scheduler.
        shapes: of the tensors.
        steps: number of gradients.
        drift: mean of the gradients, for rules that measure progress.
        full: how many of the first gradients have no zeros, for rules that factorise them.
    """

    rule: str
    name: str
    hyper: dict[str, Any]
    shapes: tuple[Shape, ...] = SHAPES
    steps: int = 30
    drift: float = 0.0
    full: int = 0

    def __str__(self) -> str:
        """Return an id for a test's name."""
        return f"{self.rule}-{self.name}"

    def start(self) -> Arrays:
        """Return the starting points."""
        rng = np.random.default_rng(7)
        return [np.asarray(rng.standard_normal(shape)) for shape in self.shapes]

    def gradients(self) -> list[Arrays]:
        """Return the gradients: signs flip, sizes vary by two orders, entries are exactly zero."""
        rng = np.random.default_rng(11)
        script = []
        for t in range(self.steps):
            spread = 10.0 ** rng.uniform(-1, 1)
            gradients = []
            for shape in self.shapes:
                g = np.asarray(self.drift + spread * rng.standard_normal(shape))
                zero = rng.random(shape) < 0.15
                gradients.append(np.where(zero, 0.0, g) if t >= self.full else g)
            script.append(gradients)
        if self.full == 0:
            script[self.steps // 2][-1] = np.zeros(self.shapes[-1])
        return script


def _up_and_down(t: int) -> float:
    return 0.0 if t == 1 else 0.1 if t <= 8 else 0.2 if t <= 14 else 0.03


_MATRICES: tuple[Shape, ...] = ((), (5,), (3, 4), (5, 2), (3, 1), (2, 3, 2, 2))
_FACTORS: tuple[Shape, ...] = ((4,), (3, 4), (3, 3), (1, 2), (2, 3, 2, 2))

SETTINGS = [
    Setting("sgd", "plain", {"lr": 0.1, "weight_decay": 0.2}),
    Setting("sgd", "momentum", {"lr": 0.05, "momentum": 0.9}),
    Setting(
        "sgd",
        "dampened",
        {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.1},
    ),
    Setting("sgd", "nesterov", {"lr": 0.1, "momentum": 0.7, "nesterov": True, "weight_decay": 0.1}),
    Setting("adam", "decayed", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.01, "weight_decay": 0.3}),
    Setting("adam", "no-momentum", {"lr": 0.02, "betas": (0.0, 0.9), "eps": 1e-6}),
    Setting(
        "adamw", "decayed", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.01, "weight_decay": 0.3}
    ),
    Setting("adamw", "slow", {"lr": 0.02, "betas": (0.95, 0.9), "eps": 1e-6, "weight_decay": 0.0}),
    Setting(
        "amsgrad", "forgetful", {"lr": 0.1, "betas": (0.8, 0.5), "eps": 0.01, "weight_decay": 0.3}
    ),
    Setting("amsgrad", "slow", {"lr": 0.02, "betas": (0.95, 0.9), "eps": 1e-6}),
    Setting("lion", "decayed", {"lr": 0.03, "betas": (0.9, 0.7), "weight_decay": 0.3}),
    Setting("lion", "slow", {"lr": 0.01, "betas": (0.6, 0.95)}),
    Setting(
        "adabelief",
        "rectified",
        {"lr": 0.05, "betas": (0.8, 0.97), "eps": 1e-4, "weight_decay": 0.3},
    ),
    Setting(
        "adabelief",
        "waiting",
        {
            "lr": 0.05,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
            "weight_decay": 0.02,
            "fixed_decay": True,
            "degenerated_to_sgd": False,
        },
    ),
    Setting(
        "adabelief",
        "coupled",
        {
            "lr": 0.05,
            "betas": (0.7, 0.9),
            "eps": 1e-3,
            "weight_decay": 0.3,
            "weight_decouple": False,
            "rectify": False,
        },
    ),
    # The evidence tends to exactly 5, the threshold, from below.
    Setting(
        "adabelief",
        "threshold",
        {"lr": 0.05, "betas": (0.8, float(np.nextafter(2 / 3, 1.0))), "eps": 1e-8},
        shapes=((5,),),
        steps=130,
    ),
    Setting(
        "ademamix",
        "warmed",
        {
            "lr": 0.1,
            "betas": (0.8, 0.95, 0.999),
            "alpha": 5.0,
            "beta3_warmup": 12,
            "alpha_warmup": 20,
            "eps": 0.01,
            "weight_decay": 0.3,
        },
    ),
    Setting(
        "ademamix",
        "one-average",
        {
            "lr": 0.03,
            "betas": (0.0, 0.9, 0.98),
            "alpha": 3.0,
            "eps": 1e-6,
            "alpha_warmup": 8,
            "beta3_warmup": 30,
        },
    ),
    Setting(
        "ademamix",
        "no-average",
        {"lr": 0.03, "betas": (0.0, 0.9, 0.0), "alpha": 3.0, "beta3_warmup": 5},
    ),
    Setting(
        "ademamix",
        "beta-warmed",
        {"lr": 0.03, "betas": (0.9, 0.99, 0.995), "alpha": 1.5, "beta3_warmup": 40},
    ),
    Setting("adafactor", "clipped", {"lr": 0.3, "weight_decay": 0.2, "beta2_decay": -0.5}),
    Setting(
        "adafactor",
        "floors",
        {"lr": 0.05, "eps": (0.7, 2.0), "d": 1.6, "weight_decay": 0.1},
    ),
    Setting(
        "schedule-free-adamw",
        "warmed",
        {
            "lr": 0.1,
            "betas": (0.8, 0.95),
            "eps": 0.01,
            "weight_decay": 0.3,
            "warmup_steps": 7,
            "r": 0.5,
            "weight_lr_power": 1.5,
        },
    ),
    Setting(
        "schedule-free-adamw",
        "scheduled",
        {"lr": _up_and_down, "betas": (0.95, 0.9), "eps": 1e-6, "weight_lr_power": 1.0},
    ),
    Setting(
        "prodigy",
        "adaptive",
        {"lr": 0.7, "betas": (0.8, 0.9), "d0": 1e-3, "eps": 0.01, "weight_decay": 0.1},
        drift=1.5,
        steps=40,
    ),
    Setting(
        "prodigy",
        "guarded",
        {
            "lr": 1.2,
            "betas": (0.9, 0.95),
            "beta3": 0.9,
            "eps": 1e-6,
            "weight_decay": 0.2,
            "decouple": False,
            "use_bias_correction": True,
            "safeguard_warmup": True,
            "d0": 1e-2,
            "d_coef": 2.0,
        },
        drift=1.5,
        steps=40,
    ),
    Setting(
        "prodigy",
        "throttled",
        {"betas": (0.9, 0.99), "d0": 1e-4, "growth_rate": 1.3, "weight_decay": 0.05},
        drift=2.0,
        steps=60,
    ),
    Setting(
        "muon",
        "original",
        {
            "lr": 0.05,
            "momentum": 0.8,
            "weight_decay": 0.3,
            "eps": 0.05,
            "adamw_lr": 0.04,
            "adamw_betas": (0.7, 0.9),
            "adamw_eps": 0.01,
            "adamw_weight_decay": 0.2,
        },
        shapes=_MATRICES,
    ),
    Setting(
        "muon",
        "matched",
        {
            "lr": 0.02,
            "momentum": 0.9,
            "nesterov": False,
            "ns_steps": 3,
            "ns_coefficients": (2.0, -1.5, 0.5),
            "adjust_lr_fn": "match_rms_adamw",
        },
        shapes=_MATRICES,
    ),
    Setting(
        "soap",
        "refreshed",
        {
            "lr": 0.05,
            "betas": (0.9, 0.8),
            "shampoo_beta": 0.7,
            "eps": 1e-3,
            "weight_decay": 0.3,
            "precondition_frequency": 3,
        },
        shapes=_FACTORS,
        full=30,
    ),
    Setting(
        "soap",
        "limited",
        {
            "lr": 0.02,
            "betas": (0.8, 0.95),
            "eps": 1e-6,
            "weight_decay": 0.0,
            "precondition_frequency": 1,
            "max_precond_dim": 3,
            "precondition_1d": True,
            "normalize_grads": True,
            "correct_bias": False,
        },
        shapes=((2,), (4,), (3, 4), (3, 3), (2, 3, 2, 2)),
        full=4,
    ),
    Setting(
        "soap",
        "merged",
        {
            "lr": 0.02,
            "betas": (0.9, 0.95),
            "precondition_frequency": 4,
            "max_precond_dim": 4,
            "merge_dims": True,
        },
        shapes=((3,), (2, 2, 3), (3, 2, 2), (1, 3, 1, 4)),
        full=4,
    ),
]


def constant(hyper: dict[str, Any]) -> dict[str, Any]:
    """Return the hyper-parameters with the learning rate of step 1 where it is a function."""
    lr = hyper.get("lr")
    return {**hyper, "lr": lr(1)} if isinstance(lr, Callable) else dict(hyper)
