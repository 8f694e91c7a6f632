"""What the tests of the race share."""

import csv

import pytest
import torch

from thalweg.race.config import RaceConfig
from thalweg.race.entrants import parse_entrants
from thalweg.race.rows import TIME_COLUMNS


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tmp_path):
    """Return a function that makes the configuration of a small race."""

    def make(*entrants, **settings):
        defaults = {
            "workload": "quadratic",
            "out": tmp_path / "race",
            "trials": 2,
            "seeds": 3,
            "steps": 20,
            "seed": 4,
        }
        return RaceConfig(entrants=parse_entrants(entrants), **{**defaults, **settings})

    return make


@pytest.fixture
def results():
    """Return a function that reads `results.csv` without the columns of times."""

    def read(folder):
        with (folder / "results.csv").open(newline="") as file:
            return [
                {key: value for key, value in row.items() if key not in TIME_COLUMNS}
                for row in csv.DictReader(file)
            ]

    return read
