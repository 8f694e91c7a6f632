"""Averages: many points of one run become one.

Each is settings (`EMA`, `SWA`, `LAWA` and so on); ``attach(model)`` starts a running average, which
the training loop feeds after every update and swaps in for evaluation. `Ensemble` averages the
predictions of several points instead, and `calibration` tells how far to trust them.
"""

from thalweg.average.aswa import ASWA, NASWA
from thalweg.average.calibration import Calibration, calibration
from thalweg.average.ema import EMA
from thalweg.average.ensemble import Ensemble
from thalweg.average.fge import FGE
from thalweg.average.lawa import LAWA
from thalweg.average.nt_asgd import NTASGD
from thalweg.average.polyak import Polyak
from thalweg.average.polynomial import PolynomialDecay
from thalweg.average.power_ema import PowerAverage, PowerEMA
from thalweg.average.running import RunningAverage, UniformAverage, WeightedAverage
from thalweg.average.settings import Average
from thalweg.average.sma import SMA, WAKD
from thalweg.average.swa import SWA
from thalweg.average.swad import SWAD, ValleyAverage
from thalweg.average.swag import SWAG, GaussianAverage
from thalweg.average.switch_ema import SwitchEMA
from thalweg.average.twa import TWA, TrainedAverage
from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.registry import Part, register
from thalweg.core.space import Choice, OneMinusLog

__all__ = [
    "ASWA",
    "EMA",
    "FGE",
    "LAWA",
    "NASWA",
    "NTASGD",
    "SMA",
    "SWA",
    "SWAD",
    "SWAG",
    "TWA",
    "WAKD",
    "Average",
    "Calibration",
    "Ensemble",
    "GaussianAverage",
    "Polyak",
    "PolynomialDecay",
    "PowerAverage",
    "PowerEMA",
    "RunningAverage",
    "SwitchEMA",
    "TrainedAverage",
    "UniformAverage",
    "ValleyAverage",
    "WeightedAverage",
    "calibration",
    "recalibrate_batch_norm",
]

_DECAY = {"decay": OneMinusLog(0.9, 0.999)}

for _part in (
    Part(
        "ema",
        "average",
        "Exponential moving average",
        "Tarvainen & Valpola, 2017, arXiv:1703.01780",
        EMA,
        _DECAY,
    ),
    Part(
        "switch-ema",
        "average",
        "Switch EMA",
        "Li et al., 2024, arXiv:2402.09240",
        SwitchEMA,
        _DECAY,
    ),
    Part(
        "power-ema",
        "average",
        "Power-function EMA with post-hoc reconstruction",
        "Karras et al., 2024, arXiv:2312.02696",
        PowerEMA,
    ),
    Part("swa", "average", "SWA", "Izmailov et al., 2018, arXiv:1803.05407", SWA),
    Part("swag", "average", "SWAG", "Maddox et al., 2019, arXiv:1902.02476", SWAG),
    Part(
        "polyak",
        "average",
        "Polyak-Ruppert averaging",
        "Polyak & Juditsky, 1992, doi:10.1137/0330046",
        Polyak,
    ),
    Part(
        "polynomial-decay",
        "average",
        "Polynomial-decay averaging",
        "Shamir & Zhang, 2013, arXiv:1212.1824",
        PolynomialDecay,
        {"gamma": Choice((1.0, 3.0, 8.0, 16.0))},
    ),
    Part(
        "lawa",
        "average",
        "Latest weight averaging",
        "Kaddour, 2022, arXiv:2209.14981; Sanyal et al., 2024, arXiv:2306.03241",
        LAWA,
    ),
    Part("aswa", "average", "ASWA", "Madhyastha & Jain, 2019, arXiv:1909.10447", ASWA),
    Part("naswa", "average", "NASWA", "Madhyastha & Jain, 2019, arXiv:1909.10447", NASWA),
    Part("nt-asgd", "average", "NT-ASGD", "Merity et al., 2018, arXiv:1708.02182", NTASGD),
    Part("swad", "average", "SWAD", "Cha et al., 2021, arXiv:2102.08604", SWAD),
    Part("sma", "average", "Simple moving average", "Arpit et al., 2022, arXiv:2110.10832", SMA),
    Part("wakd", "average", "WAKD", "Berezovskiy & Morozov, 2023, arXiv:2309.11446", WAKD),
    Part(
        "twa",
        "average",
        "Trainable weight averaging",
        "Li et al., 2023, openreview:8wbnpOJY-f",
        TWA,
    ),
    Part(
        "fge", "average", "Fast geometric ensembling", "Garipov et al., 2018, arXiv:1802.10026", FGE
    ),
):
    register(_part)
