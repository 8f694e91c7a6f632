import subprocess
import sys
from pathlib import Path


def test_two_processes_with_a_sharded_model_equal_one_with_the_whole(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("sharded_run.py"))]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(outputs)
