"""Races whose runs others do: the numbers of a race alone, whoever dies."""

import os
import signal
import threading

import pytest
from race_runs import RUN

from thalweg.core.errors import UsageError
from thalweg.race import Scale, events
from thalweg.race import pool as pool_module
from thalweg.race.fleet import make_fleet
from thalweg.race.live import read_live
from thalweg.race.machine import contention, host, worker_facts
from thalweg.race.queue import Queue
from thalweg.race.rows import RunRow
from thalweg.race.run import run_race
from thalweg.race.store import Store
from thalweg.race.worker import NAME_FILE, WEIGHTS, attempt_folder, work
from thalweg.workload import load

pytest.importorskip("optuna")

ENTRANTS = ["adamw + warmup(0.05) + linear + ema", "muon + sam", "lion(lr=1e30)"]


class Hands:
    """A fleet of one worker, a thread of this process."""

    count = 1

    def __init__(self, address, name):
        self._orphaned = threading.Event()
        self._thread = threading.Thread(
            target=work, args=(address, name), kwargs={"orphaned": self._orphaned}
        )

    def start(self):
        self._thread.start()

    def watch(self):
        assert self._thread.is_alive()

    def stop(self, finished):
        self._orphaned.set()
        self._thread.join()


@pytest.fixture
def by_hand(monkeypatch):
    """Let a thread do what worker processes do, which takes seconds to start."""
    made = lambda workers, cluster, folder, address, name, threads: Hands(address, name)  # noqa: E731
    monkeypatch.setattr(pool_module, "make_fleet", made)
    monkeypatch.setattr(pool_module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr("thalweg.race.worker.POLL_SECONDS", 0.02)
    monkeypatch.setattr("thalweg.race.worker.BEAT_SECONDS", 0.05)
    return Scale(workers=1)


def rows(folder):
    times = ("seconds", "load", "worker", "peak_bytes")
    with Store.open(folder) as store:
        return [
            {k: v for k, v in vars(row).items() if not any(t in k for t in times)}
            for row in store.runs()
        ]


def test_workers_look_back_and_give_up_as_one_process_does(config, tmp_path, results, by_hand):
    asked = {"trials": 5, "seeds": 1, "steps": 24, "evaluate_every": 2, "threads": 1}
    asked |= {"searcher": "gp-ei", "prune": True}
    alone = config("adamw", "sgd", out=tmp_path / "alone", **asked)
    run_race(alone)
    shared = config("adamw", "sgd", out=tmp_path / "shared", **asked)
    run_race(shared, scale=by_hand)
    assert "pruned" in {row["status"] for row in results(alone.out)}
    assert results(shared.out) == results(alone.out)
    assert rows(shared.out) == rows(alone.out)


def test_two_workers_killed_give_the_results_of_one_process(config, tmp_path, results):
    alone = config(*ENTRANTS, out=tmp_path / "alone", threads=1)
    expected = run_race(alone)
    shared = config(*ENTRANTS, out=tmp_path / "shared", threads=1)
    moments, victims = {1, 10}, []

    def tell(event):
        # A worker that has just begun a run is killed, once in trials and once in final runs.
        if isinstance(event, events.RunStarted) and event.done in moments:
            for claim in Queue.join(str(shared.out)).open()[1].values():
                if claim.run.run_id == event.run_id and "pid" in claim.worker:
                    moments.remove(event.done)
                    victims.append(claim.worker["pid"])
                    os.kill(victims[-1], signal.SIGKILL)

    found = run_race(shared, tell, scale=Scale(workers=2))
    assert results(shared.out) == results(alone.out)
    assert rows(shared.out) == rows(alone.out)
    assert [one.mean for one in found.ranking] == [one.mean for one in expected.ranking]
    weights = [
        sorted(p.name for p in (one / "weights").iterdir()) for one in (alone.out, shared.out)
    ]
    assert weights[0] == weights[1]
    left = {path.name for path in shared.out.iterdir()}
    assert not left & {"queue.sqlite", "queue.name", "checkpoints"}
    assert read_live(shared.out) == []
    with Store.open(shared.out) as store:
        workers = {row.worker for row in store.runs() if row.status != "diverged"}
        assert workers <= set(store.machine()["workers"])
        assert store.machine()["workers_at_once"] == 2


def test_workers_log_where_one_process_does(by_hand, config, tmp_path, results):
    pytest.importorskip("tensorboard")
    told = {}
    for name, scale in (("alone", None), ("shared", by_hand)):
        race = config("adamw + linear", out=tmp_path / name, target=0.5, loggers=("tensorboard",))
        run_race(race, scale=scale)
        logs = race.out / "logs" / "tensorboard"
        told[name] = {one.name: _scalars(one) for one in logs.iterdir()}
        with Store.open(race.out) as store:
            assert set(told[name]) == {row.run_id for row in store.runs()}
    assert told["shared"] == told["alone"]
    assert all(len(one["train/loss"]) == 20 for one in told["shared"].values())
    assert results(tmp_path / "shared") == results(tmp_path / "alone")


def _scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(one.step, one.value) for one in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if "second" not in tag and "bytes" not in tag
    }


def test_a_worker_without_the_races_folder_says_that_it_logs_nothing(config, tmp_path):
    name, said = "elsewhere", []
    race = config("adamw")
    facts = {
        "config": race.resolved(load("quadratic")),
        "folder": str(tmp_path / "not here"),
        "loggers": ["tensorboard"],
    }
    queue = Queue.begin(str(tmp_path / "queue.sqlite"), name, facts)

    def tell(text):
        said.append(text)
        queue.close()

    assert work(str(tmp_path / "queue.sqlite"), name, tell=tell) == 0
    assert "nothing is logged to tensorboard: the race's folder" in said[1]


def test_a_worker_without_a_loggers_package_takes_no_run(config, tmp_path, monkeypatch):
    race = config("adamw")
    (tmp_path / NAME_FILE).write_text("it")
    facts = {"config": race.resolved(load("quadratic")), "folder": str(tmp_path)}
    queue = Queue.begin(str(tmp_path / "queue.sqlite"), "it", {**facts, "loggers": ["wandb"]})
    queue.post(RUN)
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(UsageError, match=r"pip install 'thalweg\[wandb\]'"):
        work(str(tmp_path / "queue.sqlite"), "it")
    assert len(queue.open()[0]) == 1


def test_a_head_that_stops_loses_nothing(by_hand, config, tmp_path, results):
    alone = config(*ENTRANTS, out=tmp_path / "alone")
    run_race(alone)
    shared = config(*ENTRANTS, out=tmp_path / "shared")

    def stop(event):
        if isinstance(event, events.RunFinished) and event.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_race(shared, stop, scale=by_hand)
    assert (shared.out / "queue.sqlite").exists()
    with Store.open(shared.out) as store:
        assert len(store.runs()) == 5
    started = []

    def count(event):
        if isinstance(event, events.RaceStarted):
            started.append(event.done)

    run_race(shared, count, scale=by_hand)
    assert started == [5]
    assert results(shared.out) == results(alone.out)
    run_race(shared, scale=by_hand)  # a race that is over starts nobody
    assert not (shared.out / "queue.sqlite").exists()


def test_a_silent_worker_loses_its_run_and_its_folder(by_hand, monkeypatch, config, results):
    monkeypatch.setattr(pool_module, "LEASE_SECONDS", 0.3)
    race = config(ENTRANTS[0], trials=1, seeds=1)
    held = []

    def tell(event):
        if isinstance(event, events.RunFinished) and not held:
            held.append(None)  # the next run is taken by a worker of another machine that is silent
            queue = Queue.join(str(race.out))
            held[0] = (queue, queue.claim({"name": "far:1", "host": "far", "pid": 1}))

    run_race(race, tell, scale=by_hand)
    if held[0][1] is not None:
        assert not held[0][0].hand_in(held[0][1].ticket, {})
    assert len(results(race.out)) == 2


def test_a_run_that_kills_its_workers_is_a_failure(by_hand, monkeypatch, config):
    monkeypatch.setattr(pool_module, "DEATHS", 2)
    dead = {"name": "dead:1", "host": host(), "pid": 2**22 + 1}
    real = Queue.claim
    monkeypatch.setattr(Queue, "claim", lambda queue, worker: real(queue, dead) and None)
    run_race(config(ENTRANTS[0], trials=1, seeds=1), scale=by_hand)
    with Store.open(config("adamw").out) as store:
        assert store.runs()[0].status == "failed"
        assert "died, 2 times" in store.runs()[0].error


def test_an_attempt_takes_over_the_checkpoints_of_the_last(tmp_path):
    from thalweg.race.queue import Claim
    from thalweg.race.worker import _attempt_folder

    (tmp_path / "queue.name").write_text("it")
    old = attempt_folder(tmp_path, RUN.run_id, 3)
    old.mkdir(parents=True)
    (old / "step").touch()
    with _attempt_folder(tmp_path, "it", Claim(8, RUN, {}, [])) as folder:
        assert folder == attempt_folder(tmp_path, RUN.run_id, 8)
        assert (folder / "step").exists()
        assert not old.exists()
    with _attempt_folder(tmp_path, "other", Claim(9, RUN, {}, [])) as folder:
        assert tmp_path not in folder.parents
    assert WEIGHTS.endswith(".safetensors")


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (Scale(workers=0), "workers must be a whole number of at least 1"),
        (Scale(storage="grpc://nowhere"), "grpc://host:port"),
        (Scale(cluster="k8s"), 'cluster "k8s" is unknown'),
        (Scale(cluster="ray:127.0.0.1:1"), "Ray cluster 127.0.0.1:1 does not answer"),
        (Scale(cluster="ray://127.0.0.1:1"), "does not answer"),
        (Scale(cluster="rayon"), "is no address of Ray"),
        (Scale(cluster="slurm"), "sbatch"),
        (Scale(cluster="slurm:partition"), "options are key=value"),
    ],
)
def test_bad_scale_is_said_before_any_work(config, monkeypatch, scale, said):
    if (scale.cluster or "").startswith("ray"):
        pytest.importorskip("ray")
    if (scale.cluster or "").startswith("slurm"):
        pytest.importorskip("submitit")
        monkeypatch.setenv("PATH", "")
    asked = config("adamw")
    with pytest.raises(UsageError, match=said):
        run_race(asked, scale=scale)
    assert not asked.out.exists()


@pytest.mark.parametrize(
    ("module", "cluster", "extra"), [("ray", "ray", "ray"), ("submitit", "slurm", "slurm")]
)
def test_a_missing_extra_is_named(monkeypatch, tmp_path, module, cluster, extra):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UsageError, match=rf"thalweg\[{extra}\]"):
        make_fleet(2, cluster, tmp_path, "", "", 1)


def test_times_of_workers_are_compared_only_where_they_can_be():
    def row(worker):
        facts = {"seconds_per_step": 1.0, "wall_seconds": 1.0, "cpu_seconds": 1.0, "load": 2.0}
        return RunRow("final-00-000", "a", "a", "final", 0, 0, "ok", 5, worker=worker, **facts)

    big = {"cpu": "A", "cores": 8}
    machine = {"cpu": "A", "cores": 1, "threads": 1, "device": "cpu", "workers": {"w": big}}
    assert contention([row("w")], machine) is None
    assert "load average was 2.0 on 1 cores" in contention([row(None)], machine)
    machine["workers"]["v"] = {"cpu": "B", "cores": 8}
    assert "different processors: A, B" in contention([row("w"), row("v")], machine)
    machine = {**machine, "cores": 2, "threads": 2, "workers_at_once": 2}
    assert "2 workers with 2 threads each shared the 2 cores" in contention([row("w")], machine)
    assert worker_facts("cpu", 1)["pid"] == os.getpid()
