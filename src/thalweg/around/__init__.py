"""What wraps a whole step: SAM, Lookahead, LowPrecision, Accumulate, around any optimiser."""

from thalweg.around.accumulate import Accumulate
from thalweg.around.dual import dual_vector
from thalweg.around.lookahead import Lookahead
from thalweg.around.low_precision import LowPrecision
from thalweg.around.sam import SAM
from thalweg.around.wrapper import Wrapper
from thalweg.core.registry import Part, register
from thalweg.core.space import Choice, Log

__all__ = ["SAM", "Accumulate", "Lookahead", "LowPrecision", "Wrapper", "dual_vector"]

register(
    Part(
        "sam", "around", "SAM", "Foret et al., 2021, arXiv:2010.01412", SAM, {"rho": Log(0.01, 0.3)}
    )
)
register(
    Part(
        "lookahead",
        "around",
        "Lookahead",
        "Zhang et al., 2019, arXiv:1907.08610",
        Lookahead,
        {"alpha": Choice((0.5, 0.8)), "k": Choice((5, 10))},
        also=("rule",),
    )
)
register(
    Part(
        "accumulate",
        "around",
        "Gradient accumulation",
        "no paper; the mean of gradients",
        Accumulate,
    )
)
register(
    Part(
        "low-precision",
        "around",
        "Low-precision training (SWALP)",
        "Yang et al., 2019, arXiv:1904.11943",
        LowPrecision,
    )
)
