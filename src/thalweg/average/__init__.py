"""Averages: many points of one run become one.

`EMA` and `SWA` are settings; ``attach(model)`` starts a running average, which the training loop
feeds after every update and swaps in for evaluation.
"""

from thalweg.average.ema import EMA
from thalweg.average.running import RunningAverage
from thalweg.average.swa import SWA
from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.registry import Part, register
from thalweg.core.space import OneMinusLog

__all__ = ["EMA", "SWA", "RunningAverage", "recalibrate_batch_norm"]

register(
    Part(
        "ema",
        "average",
        "Exponential moving average",
        "Tarvainen & Valpola, 2017, arXiv:1703.01780",
        EMA,
        {"decay": OneMinusLog(0.9, 0.999)},
    )
)
register(Part("swa", "average", "SWA", "Izmailov et al., 2018, arXiv:1803.05407", SWA))
