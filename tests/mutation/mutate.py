"""Break every rule in every way that `mutations` knows, and see whether its tests notice.

    python tests/mutation/mutate.py [--rule SLUG ...] [--jobs N]

Works on copies of the package and its tests, never on the work tree. Survivors are listed with
what was changed; the exit code is 1 if any mutant survives that `equivalent` does not explain.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from equivalent import EQUIVALENT
from mutations import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "thalweg"

# Mathematics outside optim/ that is part of rules' formulas, and what the tests of it are about.
SHARED = {
    "engine/blocks.py": ("shampoo",),
    "engine/cautious.py": ("cautious", "cautious-adamw", "cautious-lion"),
    "engine/finite_sum.py": ("svrg", "saga", "sarah", "spider"),
    "engine/d_adaptation.py": (
        "dadapt-sgd",
        "dadapt-adam",
        "dadapt-lion",
        "dadapt-adagrad",
        "dadapt",
    ),
    "engine/initial_rate.py": ("adabound", "gravity"),
    "engine/factored.py": ("adafactor", "came", "factored"),
    "engine/linear_algebra.py": (
        "muon",
        "soap",
        "newton_schulz",
        "symmetric_product",
        "orthogonalising_dtype",
        "merge_axes",
    ),
    "engine/low_rank.py": ("galore", "fira", "apollo", "low_rank", "principal_directions"),
    "engine/mars.py": ("mars-adamw", "mars-lion", "mars-shampoo", "mars"),
    "engine/manifold.py": ("riemannian-adam", "riemannian-sgd", "manifold_riemannian"),
    "engine/riemannian.py": (
        "riemannian-adam",
        "riemannian-sgd",
        "riemannian-adagrad",
        "riemannian_rules",
    ),
    "engine/moments.py": ("adam", "adamw", "amsgrad", "adabelief"),
    "engine/numeric.py": ("lion", "wide"),
    "engine/orthogonal.py": ("adago", "steepest-descent", "steepest_descent"),
    "engine/proximal.py": ("prox-point", "prox_point", "proxy"),
    "engine/radial.py": ("adamp", "sgdp"),
    "engine/stacks.py": ("muon", "soap", "stacks"),
    "engine/schedule_free.py": ("schedule-free-sgd", "schedule-free-adamw", "schedule_free"),
    "engine/subsets.py": ("subset-norm", "subset_norm"),
    "engine/subspace.py": ("subspace-momentum", "subspace_momentum", "sn-sm", "sn_sm"),
}


@dataclass(frozen=True)
class Job:
    """A mutant of one file, and the subjects of the tests to run; None is the file as it is."""

    label: str
    subjects: tuple[str, ...]
    file: str
    mutant: Mutant | None


@dataclass(frozen=True)
class Answer:
    """What the tests said of a job."""

    job: Job
    status: str
    seconds: float
    output: str


def main() -> int:
    """Run the tool and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rule", action="append", help="only this rule; may be repeated")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    options = parser.parse_args()
    files = dict(_files())
    for rule in options.rule or ():
        if rule not in files:
            parser.error(f'unknown rule "{rule}"; known: {", ".join(sorted(files))}')
    chosen = {label: files[label] for label in (options.rule or files)}
    jobs, excused = _jobs(chosen)
    with _Pool(options.jobs) as pool:
        baseline = [Job(label, subjects, file, None) for label, (file, subjects) in chosen.items()]
        for answer in pool.run(baseline):
            if answer.status != "passed":
                _say(f"{answer.job.label}: the tests fail on the rule as it is\n{answer.output}")
                return 2
        answers = []
        for answer in pool.run(jobs):
            answers.append(answer)
            _say_if_alive(answer)
    return _report(chosen, answers, excused, whole=not options.rule)


Files = dict[str, tuple[str, tuple[str, ...]]]


def _files() -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    """Yield (label, (file in the package, subjects of the tests to run))."""
    for path in sorted((PACKAGE / "optim").glob("*.py")):
        slugs = _slugs(path.read_text())
        if slugs:
            subjects = tuple(subject for slug in slugs for subject in _subjects(slug))
            yield slugs[0], (f"optim/{path.name}", subjects)
    for file, subjects in SHARED.items():
        yield Path(file).stem, (file, subjects)


def _subjects(slug: str) -> tuple[str, ...]:
    """Return the spellings of a rule in the names and ids of tests."""
    return slug, slug.replace("-", "_"), slug.removesuffix("-adamw").replace("-", "_")


def _slugs(source: str) -> list[str]:
    """Return the slugs of a file's rules; the first one names the file."""
    return re.findall(r'slug="([^"]+)"', source)


def _jobs(chosen: Files) -> tuple[list[Job], dict[str, int]]:
    """Return the jobs, and how many mutants of each label are excused as equivalent."""
    jobs: list[Job] = []
    excused: dict[str, int] = defaultdict(int)
    for label, (file, subjects) in chosen.items():
        for mutant in mutants((PACKAGE / file).read_text()):
            if (file, mutant.before, mutant.after) in EQUIVALENT:
                excused[label] += 1
            else:
                jobs.append(Job(label, subjects, file, mutant))
    return jobs, excused


def _stale(chosen: Files) -> list[tuple[str, str, str]]:
    """Return the entries of the list of equivalent mutants that match none."""
    found = {
        (file, mutant.before, mutant.after)
        for file, _ in chosen.values()
        for mutant in mutants((PACKAGE / file).read_text())
    }
    return [entry for entry in EQUIVALENT if entry not in found]


def _report(
    chosen: Files,
    answers: list[Answer],
    excused: dict[str, int],
    whole: bool,
) -> int:
    survivors = [answer for answer in answers if answer.status == "passed"]
    errors = [answer for answer in answers if answer.status == "error"]
    for answer in errors[:1]:
        _say(answer.output)
    stale = _stale(chosen) if whole else []
    for file, before, after in stale:
        _say(f"explained as equivalent, but no longer made: {file}: {before}  ->  {after}")
    _say(f"{'rule':<22}{'mutants':>9}{'killed':>9}{'survived':>10}{'equivalent':>12}{'seconds':>9}")
    for label in chosen:
        own = [answer for answer in answers if answer.job.label == label]
        alive = sum(answer.status not in ("failed", "timeout") for answer in own)
        seconds = sum(answer.seconds for answer in own)
        _say(
            f"{label:<22}{len(own):>9}{len(own) - alive:>9}{alive:>10}"
            f"{excused.get(label, 0):>12}{seconds:>9.1f}"
        )
    killed = len(answers) - len(survivors) - len(errors)
    _say(f"mutation score {killed}/{len(answers)}")
    return 1 if survivors or errors or stale else 0


def _say_if_alive(answer: Answer) -> None:
    title = {"passed": "survived", "error": "not decided"}.get(answer.status)
    mutant = answer.job.mutant
    if title and mutant:
        _say(f"{title}: {answer.job.file}:{mutant.line} [{mutant.kind}] {mutant.change}")


class _Pool:
    """Some workers, each with a copy of the package and its tests."""

    def __init__(self, size: int) -> None:
        self._size = max(1, size)
        self._folder = Path(tempfile.mkdtemp(prefix="thalweg-mutation-"))
        self._workers: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "_Pool":
        for index in range(self._size):
            self._workers.append(self._start(self._folder / str(index)))
        return self

    def __exit__(self, *error: Any) -> None:
        for worker in self._workers:
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()
        shutil.rmtree(self._folder)

    def _start(self, copy: Path) -> subprocess.Popen[str]:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src", copy / "src", ignore=ignore)
        for room in ("reference", "optim", "engine"):
            shutil.copytree(ROOT / "tests" / room, copy / "tests" / room, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", copy)
        environment = {
            **os.environ,
            "PYTHONPATH": str(copy / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",  # mutants of one second and size would share bytecode
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "OMP_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), str(copy)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, jobs: list[Job]) -> Iterator[Answer]:
        """Yield an answer for each job, as they come."""
        waiting: SimpleQueue[Job] = SimpleQueue()
        answers: SimpleQueue[Answer | None] = SimpleQueue()
        for job in jobs:
            waiting.put(job)
        for worker in self._workers:
            Thread(target=_serve, args=(worker, waiting, answers), daemon=True).start()
        start = time.monotonic()
        for done in range(1, len(jobs) + 1):
            answer = answers.get()
            if answer is None:
                raise SystemExit("a worker ended early")
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{done}/{len(jobs)} in {time.monotonic() - start:.0f} s ")
            yield answer


def _serve(
    worker: "subprocess.Popen[str]",
    waiting: "SimpleQueue[Job]",
    answers: "SimpleQueue[Answer | None]",
) -> None:
    """Give the worker one job after the other."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    while True:
        try:
            job = waiting.get_nowait()
        except Empty:
            return
        source = None if job.mutant is None else job.mutant.source
        worker.stdin.write(
            json.dumps({"file": job.file, "source": source, "subjects": job.subjects}) + "\n"
        )
        worker.stdin.flush()
        line = worker.stdout.readline()
        if not line:
            answers.put(None)
            return
        found = json.loads(line)
        answers.put(Answer(job, found["status"], found["seconds"], found["output"]))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
