"""The public runs of AlgoPerf 0.5, and small tables of our own."""

import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from scoring_data import DATA

from thalweg.scoring import Runs, Suite, read_runs, read_suite


@pytest.fixture(scope="session")
def trials_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("algoperf") / "trials.csv"
    path.write_bytes(gzip.decompress((DATA / "trials.csv.gz").read_bytes()))
    return path


@pytest.fixture(scope="session")
def targets_file() -> Path:
    return DATA / "workload_targets_v05.json"


@pytest.fixture(scope="session")
def runs(trials_file: Path) -> Runs:
    return read_runs(trials_file)


@pytest.fixture(scope="session")
def suite(targets_file: Path) -> Suite:
    return read_suite(targets_file)


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes rows to a CSV file."""

    def write(
        rows: Sequence[Sequence[object]],
        columns: str = "submission,workload,study,trial,time_to_target",
    ) -> Path:
        path = tmp_path / "runs.csv"
        lines = [columns, *(",".join(map(str, row)) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
        return path

    return write
