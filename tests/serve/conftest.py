"""Races under way, for the tests of their live page."""

import shutil

import pytest
from begun_race import race_until


@pytest.fixture(scope="session")
def begun_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun") / "race"
    race_until(folder, "tune-01-001")
    return folder


@pytest.fixture
def begun(begun_once, tmp_path):
    """A race whose second entrant is in its second trial."""
    return shutil.copytree(begun_once, tmp_path / "race")
