"""Every registered average passes the conformance suite; and the suite notices broken ones."""

from dataclasses import dataclass

import pytest

from thalweg.average import LAWA, SWA, RunningAverage, UniformAverage
from thalweg.core import registry
from thalweg.core.errors import UsageError
from thalweg.testing import AVERAGE_CHECKS, check_average

AVERAGES = registry.slugs("average")


@pytest.mark.parametrize("slug", AVERAGES)
def test_average_conforms(slug: str) -> None:
    check_average(slug)


class _Aliasing(RunningAverage):
    needs_recalibration = False
    averages_buffers = True

    def _update(self, step, steps):
        self._points["average"] = self._now()
        self.count += 1

    def _current(self):
        return self._points["average"]


class _Forgetful(UniformAverage):
    def state_dict(self):
        return {"count": super().state_dict()["count"]}


class _Meddling(UniformAverage):
    def _update(self, step, steps):
        super()._update(step, steps)
        self._write(self._points["average"])


class _Blind(UniformAverage):
    def _current(self):
        return {name: x.nan_to_num() for name, x in super()._current().items()}


class _Shrinking(UniformAverage):
    def _current(self):
        return {name: 0.99 * x for name, x in super()._current().items()}


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_Aliasing, "owns its memory"),
        (_Aliasing, "precision"),
        (_Forgetful, "resume"),
        (_Meddling, "leaves the model alone"),
        (_Blind, "NaN stays"),
        (_Shrinking, "is a mean"),
    ],
)
def test_the_suite_notices(broken, check):
    @dataclass(frozen=True)
    class Settings(SWA):
        def attach(self, model):
            return broken(self, model)

    AVERAGE_CHECKS[check](SWA(0.5))
    with pytest.raises((AssertionError, UsageError)):
        AVERAGE_CHECKS[check](Settings(0.5))


@pytest.mark.parametrize(
    "settings",
    [LAWA(1, 1), LAWA(3, 7, 0.5), LAWA(200, 1)],
)
def test_other_settings_conform(settings):
    for check in AVERAGE_CHECKS.values():
        check(settings)
