"""The check that a run sharded over two processes equals the dense one."""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_TIME_LIMIT = 300


def check_sharding(
    slugs: Sequence[str],
    modules: Sequence[str] = ("thalweg.optim",),
    modifiers: Sequence[str] = (),
) -> None:
    """Run rules on DTensors over two gloo processes and compare with dense tensors.

    Tensors are cut along their first axis or replicated. Both processes are started here, on
    this machine, and meet through a file.

    Args:
        slugs: rules to run.
        modules: imported first in each process; name the ones that register the rules.
        modifiers: slugs; with any, each rule runs with them one after the other and all together.

    Raises:
        AssertionError: a process failed; its output says which rule and by how much.
    """
    with tempfile.TemporaryDirectory() as folder:
        two_processes(
            [sys.executable, "-m", "thalweg.testing.sharded_worker", str(Path(folder) / "meeting")],
            [",".join(modules), ",".join(modifiers), *slugs],
            seconds=_TIME_LIMIT,
        )


def two_processes(
    command: Sequence[str], arguments: Sequence[str] = (), *, seconds: float = 120
) -> None:
    """Run ``command RANK arguments`` side by side for the ranks 0 and 1.

    Raises:
        AssertionError: one failed; with what both wrote.
        subprocess.TimeoutExpired: one takes longer than so many seconds; both are ended.
    """
    ranks = [
        subprocess.Popen(
            [*command, str(rank), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [rank.communicate(timeout=seconds)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    codes = [rank.returncode for rank in ranks]
    assert codes == [0, 0], "the sharded run failed:\n" + "\n".join(outputs)
