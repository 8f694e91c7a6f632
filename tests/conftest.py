"""One thread for small models: two that wait for each other are slower on a busy machine."""

import pytest
import torch
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("thalweg", deadline=None)
settings.load_profile("thalweg")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
