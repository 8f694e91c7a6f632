import sys
from pathlib import Path

from thalweg.testing.sharding import two_processes


def test_two_processes_with_a_sharded_model_equal_one_with_the_whole(tmp_path):
    script = Path(__file__).with_name("sharded_run.py")
    two_processes([sys.executable, str(script)], [str(tmp_path / "store")])
