"""The number of torch's threads is changed for a block and then put back."""

import pytest
import torch

from thalweg.core.threads import use_threads


def test_threads_are_as_asked_within_the_block_and_as_before_after_it():
    before = torch.get_num_threads()
    with use_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(ZeroDivisionError), use_threads(before + 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    with use_threads(None):
        assert torch.get_num_threads() == before
