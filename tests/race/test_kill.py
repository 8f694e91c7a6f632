"""`kill -9` of a racing process group, then the same call: the same results."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from thalweg.core.errors import UsageError
from thalweg.race.run import run_race
from thalweg.race.store import Store

# Imports everything once, then forks a racing process group for every line that it reads.
SERVER = """
import os, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from thalweg import train
from thalweg.race import events, training
from thalweg.race.config import RaceConfig
from thalweg.race.entrants import parse_entrants
from thalweg.race.run import run_race

training.CHECKPOINT_SECONDS = 0.01  # every run writes checkpoints, so kills hit those as well

def tell(event):
    if isinstance(event, events.RaceStarted):
        print(os.getpid(), flush=True)
    if isinstance(event, events.RunFinished):
        time.sleep(0.25)  # so that no machine is through before the last kill

entrants = parse_entrants(sys.argv[2:])
config = RaceConfig("quadratic", entrants, Path(sys.argv[1]), trials=2, seeds=3, steps=20, seed=4)
train.fit("quadratic", entrants[0].recipe, steps=3)
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setsid()
        run_race(config, tell)
        os._exit(0)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""
ENTRANTS = ["adamw + warmup(0.05) + linear + ema", "muon + sam", "lion(lr=1e30)"]


def test_killed_at_random_moments(config, tmp_path, results):
    whole = config(*ENTRANTS, out=tmp_path / "whole")
    expected = run_race(whole)
    broken = config(*ENTRANTS, out=tmp_path / "broken")
    moments = random.Random(1)
    counts = []
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(broken.out), *ENTRANTS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        for _ in range(5):
            server.stdin.write("race\n")
            server.stdin.flush()
            group = int(server.stdout.readline())
            if not counts:
                with pytest.raises(UsageError, match="another process is racing"):
                    run_race(broken)
            time.sleep(moments.uniform(0.0, 0.5))
            os.killpg(group, signal.SIGKILL)
            assert server.stdout.readline() == "gone\n"
            with Store.open(broken.out) as store:
                counts.append(len(store.runs()))
    with Store.open(whole.out) as store:
        assert counts == sorted(counts)
        assert counts[-1] < len(store.runs())
    found = run_race(broken)
    assert results(broken.out) == results(whole.out)
    assert found.winner == expected.winner
    assert [one.mean for one in found.ranking] == [one.mean for one in expected.ranking]
    assert not (broken.out / "checkpoints").exists()
