"""A race with workers, of which processes are killed at random.

Run as ``python benchmarks/kill_workers.py KILLS``.

Each kill takes a worker or the race's own process with SIGKILL at a random moment; a race whose
own process was killed is begun again with the same command, and one that is through before the
last kill is followed by another. Each must end with the results of one that nobody disturbed.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from thalweg.core.errors import UsageError
from thalweg.race.queue import Queue
from thalweg.race.rows import TIME_COLUMNS
from thalweg.race.store import Store

HEAD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from thalweg.race import RaceConfig, Scale, parse_entrants, run_race
entrants = parse_entrants(["adamw + warmup(0.05) + linear + ema", "muon + sam", "lion(lr=1e30)"])
sizes = {"trials": 3, "seeds": 4, "steps": STEPS, "threads": 1}
config = RaceConfig("quadratic", entrants, Path(sys.argv[1]), **sizes)
run_race(config, scale=Scale(workers=int(sys.argv[2])) if sys.argv[2] != "0" else None)
"""


def children(pid):
    """Return the processes that a process started."""
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(one) for one in listed.split()]


def results(folder):
    with (folder / "results.csv").open(newline="") as file:
        return [
            {key: value for key, value in row.items() if key not in TIME_COLUMNS}
            for row in csv.DictReader(file)
        ]


def head(folder, workers, steps):
    code = HEAD.replace("STEPS", str(steps))
    return subprocess.Popen([sys.executable, "-c", code, str(folder), str(workers)])


def recorded(folder):
    if not Store.exists(folder):
        return 0
    with Store.open(folder) as store:
        return len(store.runs())


def at_work(folder, workers):
    """Return which of the workers have a run in hand."""
    try:
        claims = Queue.join(str(folder)).open()[1].values()
    except UsageError:
        return set()
    return {claim.worker.get("pid") for claim in claims} & set(workers)


def main(kills, steps, spread=4.0, seed=0):
    moments = random.Random(seed)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary) / "whole"
        assert head(whole, 0, steps).wait() == 0
        print(f"undisturbed: {time.monotonic() - begun:.0f} s, {recorded(whole)} runs", flush=True)
        done = {"worker": 0, "head": 0}
        busy = 0
        race = 0
        while sum(done.values()) < kills:
            race += 1
            folder = Path(temporary) / f"race-{race}"
            process = head(folder, 2, steps)
            before = 0
            while process.poll() is None and sum(done.values()) < kills:
                if not at_work(folder, children(process.pid)):
                    time.sleep(0.2)  # nobody works yet
                    continue
                time.sleep(moments.uniform(0.0, spread))
                workers = children(process.pid)
                kind = "head" if moments.random() < 0.3 else "worker"
                if process.poll() is not None or not workers:
                    continue
                victim = process.pid if kind == "head" else moments.choice(workers)
                training = at_work(folder, workers)
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:  # it has ended meanwhile
                    continue
                done[kind] += 1
                busy += bool(training) if kind == "head" else victim in training
                now = recorded(folder)
                assert now >= before, "a recorded run was lost"
                before = now
                print(f"{kind} killed, {now} runs recorded", flush=True)
                if kind == "head":
                    process.wait()
                    process = head(folder, 2, steps)
            assert process.wait() == 0
            assert results(folder) == results(whole)
            names = sorted(path.name for path in (whole / "weights").iterdir())
            assert sorted(path.name for path in (folder / "weights").iterdir()) == names
            assert not (folder / "checkpoints").exists()
            assert not (folder / "queue.sqlite").exists()
        print(
            f"{done['worker']} workers and {done['head']} heads killed in {race} races, "
            f"{busy} of them with runs under way, "
            f"{time.monotonic() - begun:.0f} s: nothing lost, results equal"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]), steps=600)
