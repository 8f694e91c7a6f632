"""Workloads on real data, or the reason why a test has none."""

from collections.abc import Callable

import pytest
from real_data import load_or_skip

from thalweg.workload import Workload, digits_ctc


@pytest.fixture
def real(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Workload]:
    """Load workloads, or skip the test where their data cannot be had.

    Speaking takes long, so few digits are spoken, into a cache of their own.
    """

    def load(name: str) -> Workload:
        if name != "digits-ctc":
            return load_or_skip(name)
        with monkeypatch.context() as few:
            few.setattr(digits_ctc, "TRAIN", 32)
            few.setattr(digits_ctc, "HELD_OUT", 24)
            few.setenv("THALWEG_CACHE", str(tmp_path_factory.mktemp("spoken")))
            digits_ctc._data.cache_clear()
            try:
                return load_or_skip(name)
            finally:
                digits_ctc._data.cache_clear()

    return load
