"""Schedules: the learning rate as a pure function of progress, and joins of them.

A schedule maps a step (from 0) of a run of so many steps to a factor of the peak learning rate.
`LearningRate` applies the factors to an optimiser.
"""

from thalweg.core.registry import Part, register
from thalweg.schedule.base import Schedule
from thalweg.schedule.cycles import SWAConstant, SWACyclical, Triangular
from thalweg.schedule.driver import LearningRate
from thalweg.schedule.shapes import Constant, Cooldown, Cosine, Linear
from thalweg.schedule.warmup import Chain, Warmup

__all__ = [
    "Chain",
    "Constant",
    "Cooldown",
    "Cosine",
    "LearningRate",
    "Linear",
    "SWAConstant",
    "SWACyclical",
    "Schedule",
    "Triangular",
    "Warmup",
]

# None has a search space: a dimension costs trials, and these defaults are hard to beat by enough
# to repay them. Whoever wants to compare shapes enters them as recipes of their own.
for _part in (
    Part("constant", "schedule", "Constant", "Robbins & Monro, 1951", Constant),
    Part(
        "warmup",
        "schedule",
        "Linear warm-up",
        "Goyal et al., 2017, arXiv:1706.02677",
        Warmup,
    ),
    Part("linear", "schedule", "Linear decay", "Bergsma et al., 2025, arXiv:2502.15938", Linear),
    Part(
        "cosine",
        "schedule",
        "Cosine decay",
        "Loshchilov & Hutter, 2017, arXiv:1608.03983",
        Cosine,
    ),
    Part(
        "cooldown",
        "schedule",
        "Constant with cooldown",
        "Hägele et al., 2024, arXiv:2405.18392",
        Cooldown,
    ),
    Part(
        "swa-constant",
        "schedule",
        "Constant for averaging",
        "Izmailov et al., 2018, arXiv:1803.05407",
        SWAConstant,
    ),
    Part(
        "swa-cyclical",
        "schedule",
        "Cyclical for averaging",
        "Izmailov et al., 2018, arXiv:1803.05407",
        SWACyclical,
    ),
    Part(
        "triangular",
        "schedule",
        "Triangular cycles",
        "Garipov et al., 2018, arXiv:1802.10026",
        Triangular,
    ),
):
    register(_part)
