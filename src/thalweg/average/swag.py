"""SWA-Gaussian: a normal distribution over weights, from the iterates."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from thalweg.average.kept import Point, blend, check_not_sharded
from thalweg.average.running import WeightedAverage
from thalweg.average.settings import Average, interval
from thalweg.core.checks import check_choice, check_number, check_whole
from thalweg.core.cycles import is_due
from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.engine.distributed import like
from thalweg.engine.numeric import wide

_LEAST_VARIANCE = 1e-30


@dataclass(frozen=True)
class SWAG(Average):
    r"""The normal distribution with the iterates' mean, variances and last deviations.

    As `SWA`, and of the n points so far besides: the variance of each weight, and the last K
    deviations :math:`d_i = w_i - \bar w_i` from the mean up to each, as columns of D. A sample is
    :math:`\bar w + \sqrt{s} \left( \tfrac{1}{\sqrt 2} \Sigma^{1/2} z_1 + \tfrac{1}{\sqrt{2 (K-1)}}
    D z_2 \right)` with :math:`\Sigma` the diagonal of variances, and of SWAG-Diagonal
    :math:`\bar w + \sqrt{s} \Sigma^{1/2} z_1`. Evaluated is the mean, or with ``samples`` the
    Bayesian model average: the mean of the predicted probabilities of so many samples, each with
    batch norm of its own. Maddox et al., "A Simple Baseline for Bayesian Uncertainty in Deep
    Learning", NeurIPS 2019, arXiv:1902.02476, with a constant learning rate (`SWAConstant`), a
    point an epoch and 30 samples.

    Where the authors' code differs, this is the paper: the scale s is 1 with the factors above
    (in the code 0.5 or 1 by the caller), its square root multiplies in every sampler, and K in the
    formula is the number of columns there are. Variances are kept about the mean, which is the
    same number as the mean of squares less the square of the mean, without its cancellation.

    It keeps K + 2 times the model's memory.

    Args:
        start: where averaging starts, as a share of the run in [0, 1].
        every: updates between two points, at least 1; a hundredth of the run if None.
        rank: K, at least 2; 0 keeps no deviations (SWAG-Diagonal).
        samples: of the predictive average at an evaluation; 0 evaluates the mean.
        scale: s, at least 0, of those samples.
        output: whether the model's outputs are ``"logits"`` along their last axis, whose
            probabilities are averaged, or ``"values"``, which are averaged themselves.
        seed: of those samples.
        device: see `Average`.
        precision: see `Average`.

    Raises:
        UsageError: an impossible value; when it is attached, ``samples`` of a model that is sharded
            over processes.
    """

    of_predictions: ClassVar[bool] = True

    start: float = 0.5
    every: int | None = None
    rank: int = 20
    samples: int = 0
    scale: float = 1.0
    output: Literal["logits", "values"] = "logits"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("swag: start", self.start, "[0, 1]")
        if self.every is not None:
            check_whole("swag: every", self.every, least=1)
        check_whole("swag: rank", self.rank, least=0)
        if self.rank == 1:
            raise UsageError("swag: rank must be 0 or at least 2, found 1")
        check_whole("swag: samples", self.samples, least=0)
        check_number("swag: scale", self.scale, "[0, inf)")
        check_choice("swag: output", self.output, ("logits", "values"))
        check_whole("swag: seed", self.seed, least=0)

    def attach(self, model: nn.Module) -> "GaussianAverage":
        """Return a running distribution that has no point yet."""
        return GaussianAverage(self, model)


class GaussianAverage(WeightedAverage):
    """The running distribution of `SWAG`."""

    needs_recalibration: ClassVar[bool] = True
    averages_buffers: ClassVar[bool] = False
    rows = ("deviation",)

    def __init__(self, settings: SWAG, model: nn.Module) -> None:
        super().__init__(settings, model)
        if settings.samples:
            check_not_sharded("swag with samples", self._now())
        average = self._points["average"]
        self._points["variance"] = {name: torch.zeros_like(x) for name, x in average.items()}

    def _weight(self, step: int, steps: int) -> float | None:
        due = is_due(step, steps, self.settings.start, interval(self.settings.every, steps))
        return 1 / (self.count + 1) if due else None

    def _update(self, step: int, steps: int) -> None:
        weight = self._weight(step, steps)
        if weight is None:
            return
        average, now = self._points["average"], self._now()
        kept = {name: wide(now[name].to(x.device)) for name, x in average.items()}
        before = {name: kept[name] - x for name, x in average.items()}
        self._blend("average", weight)
        after = {name: kept[name] - x for name, x in average.items()}
        products = [before[name] * after[name] for name in average]
        blend(list(self._points["variance"].values()), products, weight, self.count + 2**20)
        if self.settings.rank:
            self._points[f"deviation-{self.count}"] = {
                name: x.to(average[name].dtype) for name, x in after.items()
            }
            self._points.pop(f"deviation-{self.count - self.settings.rank}", None)
        self.count += 1

    def variance(self) -> Point:
        """Return the variance of each weight over the points, at least 1e-30."""
        return {
            name: wide(x).clamp(min=_LEAST_VARIANCE) for name, x in self._points["variance"].items()
        }

    def deviations(self) -> list[Point]:
        """Return the columns of D, oldest first; not copies."""
        return [self._points[name] for name in self._row("deviation")]

    def sample(
        self, random: torch.Generator, *, scale: float = 1.0, diagonal: bool = False
    ) -> Point:
        """Draw weights from the distribution.

        Args:
            random: where numbers are drawn from, on the CPU.
            scale: of the covariance, at least 0; with 0 it is the mean.
            diagonal: whether to draw from SWAG-Diagonal.

        Returns:
            Weights by name, in the precision of the average and float32 at least.

        Raises:
            UsageError: no point yet, fewer than two deviations, or an impossible scale.
        """
        check_number("swag: scale", scale, "[0, inf)")
        if not self.count:
            raise UsageError("there is no point of the average yet, so there is nothing to sample")
        columns = [] if diagonal else self.deviations()
        if not diagonal and len(columns) < 2:
            raise UsageError(
                f"the low-rank part needs two deviations, found {len(columns)}; collect more "
                "points, or sample with diagonal=True"
            )
        half = 0.5 if columns else 1.0
        z2 = torch.randn(len(columns), generator=random, dtype=torch.float64).tolist()
        drawn: Point = {}
        variance = self.variance()
        for name, mean in self._points["average"].items():
            spread = variance[name]
            z1 = torch.randn(spread.shape, generator=random, dtype=spread.dtype).to(spread.device)
            part = spread.sqrt() * like(z1, spread) * half**0.5
            for z, column in zip(z2, columns, strict=True):
                part.add_(column[name], alpha=z * (half / (len(columns) - 1)) ** 0.5)
            drawn[name] = wide(mean) + scale**0.5 * part
        return drawn

    def members(self) -> Iterator[Point] | None:
        """Return the samples whose predictions are averaged, if the settings ask for any."""
        settings = self.settings
        if not settings.samples or self.count < 2:
            return None
        return (
            self.sample(
                generator(settings.seed, "swag", i),
                scale=settings.scale,
                diagonal=not settings.rank,
            )
            for i in range(settings.samples)
        )
