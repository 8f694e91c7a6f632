"""FSDP2 with distributed checkpoints, on two processes."""

import sys
from pathlib import Path

import pytest
import torch

from thalweg.testing.sharding import two_processes


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_loaded_sharded_run_is_the_uninterrupted_one(tmp_path):
    script = Path(__file__).with_name("sharded_run.py")
    two_processes([sys.executable, str(script)], [str(tmp_path)])
