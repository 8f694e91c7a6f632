"""Averages of a model that is sharded over two processes."""

import sys
from pathlib import Path

import pytest
import torch

from thalweg.testing.sharding import two_processes


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_averages_of_a_sharded_model_are_those_of_the_whole(tmp_path):
    script = Path(__file__).with_name("sharded_averages.py")
    two_processes([sys.executable, str(script)], [str(tmp_path / "store")])
