"""Loading a workload whose data may not be on this machine."""

import pytest

from thalweg import workload
from thalweg.core.errors import UsageError


def load_or_skip(name):
    try:
        return workload.load(name)
    except UsageError as error:
        pytest.skip(f"the data of {name} are not here: {error}")
