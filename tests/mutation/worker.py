"""A process that has imported torch already, and forks once for each mutant.

Tests are collected once for all mutants of a rule; each child imports the broken module and runs
them. Mathematics that rules share is imported by everyone, so its mutants collect anew.

Reads jobs from its standard input, one JSON object a line: `file` (inside the copied package),
`source` (what to put there; null for nothing) and `subjects`. Answers on its standard output with
`status` ("passed", "failed", "timeout" or "error"), `seconds` and `output`.
"""

import contextlib
import gc
import importlib
import json
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

LIMIT = 30  # seconds of processor time; a mutant that runs longer is noticed by anyone
PATIENCE = 900.0  # seconds by the clock, for a mutant that waits for something


class _About:
    """Keeps the tests about some subjects, in the execution that runs a formula as it is."""

    def __init__(self, subjects: list[str]) -> None:
        # A test says what it is about in its name or id, as a whole word.
        either = "|".join(map(re.escape, subjects))
        self.wanted = re.compile(rf"(?<![a-z])({either})(?![a-z])")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [
            item
            for item in items
            if self.wanted.search(item.name.removeprefix("test_"))
            and not item.name.endswith(("-foreach]", "-compiled]"))
        ]
        assert items, "no test is about the file"


class _Server:
    """Runs the collected tests for each job, in a child that has imported the broken source."""

    def __init__(self, root: Path, jobs: TextIO, answers: TextIO) -> None:
        self._root, self._jobs, self._answers = root, jobs, answers

    def pytest_runtestloop(self) -> None:
        """Serve jobs; in a child, return, so that the tests run."""
        for line in self._jobs:
            job = json.loads(line)
            with tempfile.TemporaryFile("w+") as output, _written(self._root, job):
                child = os.fork()
                if child == 0:
                    os.dup2(output.fileno(), 1)
                    os.dup2(output.fileno(), 2)
                    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))
                    if job["anew"]:
                        _import_anew(job["file"])
                    return
                status = _wait(child)
                output.seek(0)
                text = output.read()[-4000:]
            self._answers.write(json.dumps({"status": status, "output": text}) + "\n")
            self._answers.flush()
        os._exit(0)


@contextlib.contextmanager
def _written(root: Path, job: dict[str, Any]) -> Iterator[None]:
    """Put the job's source in place while the block runs."""
    path = root / "src" / "thalweg" / job["file"]
    original, here = path.read_text(), os.getpid()
    try:
        if job["source"] is not None:
            path.write_text(job["source"])
        yield
    finally:
        if os.getpid() == here:
            path.write_text(original)


class _Collected:
    """A child that has collected the tests of one job's subjects and serves jobs about them."""

    def __init__(self, root: Path, job: dict[str, Any]) -> None:
        self.about = (job["file"], job["subjects"])
        theirs, self._jobs = os.pipe()
        self._answers, ours = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            os.close(self._jobs)
            os.close(self._answers)
            server = _Server(root, os.fdopen(theirs), os.fdopen(ours, "w"))
            _collect(root, job, server)
        os.close(theirs)
        os.close(ours)
        self._to, self._from = os.fdopen(self._jobs, "w"), os.fdopen(self._answers)

    def run(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer; None if the tests could not be collected."""
        with contextlib.suppress(BrokenPipeError):
            self._to.write(json.dumps(job) + "\n")
            self._to.flush()
        line = self._from.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        """End the child."""
        with contextlib.suppress(BrokenPipeError):
            self._to.close()
        self._from.close()
        os.waitpid(self._child, 0)


def main() -> None:
    """Serve jobs until the input ends."""
    root = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing but answers goes to the pipe
    sys.path[:0] = [str(root / "tests"), str(root / "tests" / "optim"), str(root / "src")]
    _warm_up(root)
    collected: _Collected | None = None
    for line in sys.stdin:
        job = json.loads(line)
        start = time.perf_counter()
        job["anew"] = job["file"].startswith("optim/")
        if collected is not None and (
            not job["anew"] or collected.about != (job["file"], job["subjects"])
        ):
            collected.close()
            collected = None
        if collected is None:
            with _written(root, job if not job["anew"] else job | {"source": None}):
                collected = _Collected(root, job)
                answer = collected.run(job)
        else:
            answer = collected.run(job)
        if answer is None:  # a mutant that does not import is noticed by anyone
            collected.close()
            collected = None
            broken = job["source"] is not None and not job["anew"]
            answer = {"status": "failed" if broken else "error", "output": "nothing collected"}
        answer["seconds"] = time.perf_counter() - start
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _warm_up(root: Path) -> None:
    """Import what all mutants share; their own package comes anew in each."""
    import numpy  # noqa: F401
    import torch

    import thalweg.optim

    torch.set_num_threads(1)
    origin = Path(thalweg.optim.__file__ or "")
    if not origin.is_relative_to(root):
        raise SystemExit(f"imported {origin}, which is not the copy in {root}")
    p = torch.nn.Parameter(torch.ones(2, 2))
    p.grad = torch.ones(2, 2)
    torch.optim.AdamW([p], foreach=False).step()
    for name in ("hypothesis", "scipy.optimize", "scipy.stats", "reference"):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # children need not look through what they inherit


def _collect(root: Path, job: dict[str, Any], server: _Server) -> None:
    """Collect the tests of the file's room and of rules, and let the server run them."""
    code, subjects = 3, job["subjects"]
    with contextlib.suppress(BaseException):
        os.chdir(root)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if not job["anew"]:
            _import_anew(job["file"])
        importlib.import_module("reference").only(subjects)
        rooms = dict.fromkeys((job["file"].split("/")[0], "optim"))
        tests = [str(path) for room in rooms for path in _files(root / "tests" / room, subjects)]
        options = ["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "--tb=line"]
        options += ["-p", "no:unraisableexception", "-p", "no:threadexception"]
        code = int(pytest.main([*options, *tests], plugins=[_About(subjects), server]))
        sys.stdout.flush()
    os._exit(code)


def _import_anew(file: str) -> None:
    """Make the broken source the one that is imported: its module alone, or the whole package."""
    room, _, name = file.removesuffix(".py").partition("/")
    if room != "optim":
        for module in [one for one in sys.modules if one.split(".")[0] == "thalweg"]:
            del sys.modules[module]
        return
    package = importlib.import_module("thalweg.optim")
    before = sys.modules.pop(f"thalweg.optim.{name}")
    after = importlib.import_module(f"thalweg.optim.{name}")
    renewed = {
        id(old): getattr(after, key) for key, old in vars(before).items() if key in vars(after)
    }
    holders = [package, *(m for n, m in sys.modules.items() if n.startswith(("test_", "tests")))]
    for holder in holders:
        for key, value in list(vars(holder).items()):
            if getattr(value, "__module__", None) == before.__name__ and id(value) in renewed:
                setattr(holder, key, renewed[id(value)])


def _files(room: Path, subjects: list[str]) -> list[Path]:
    """Return the files that hold tests of all rules, or that mention a subject."""
    wanted = re.compile("|".join(map(re.escape, subjects)))
    return [
        path
        for path in sorted(room.glob("test_*.py"))
        if path.name in ("test_reference.py", "test_golden.py") or wanted.search(path.read_text())
    ]


def _wait(child: int) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            if os.WIFSIGNALED(status):
                return "failed"
            code = os.WEXITSTATUS(status)
            # 2 is an error while the tests were imported: the broken source does not import.
            return {0: "passed", 1: "failed", 2: "failed"}.get(code, "error")
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


if __name__ == "__main__":
    main()
