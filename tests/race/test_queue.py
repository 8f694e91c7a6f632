"""The queue on every storage that needs no server, and on a gRPC proxy."""

import dataclasses
import os
import socket
import sqlite3
import threading

import pytest
from race_runs import RUN

from thalweg.core.errors import UsageError
from thalweg.race.queue import PREFIX, Queue
from thalweg.race.storage import open_storage, shown
from thalweg.race.worker import work

optuna = pytest.importorskip("optuna")

FACTS = {"config": {"steps": 3}, "folder": "/nowhere"}
ME = {"name": "me:1", "host": "here", "pid": 1}


@pytest.fixture(params=["sqlite", "journal", "grpc", "postgresql"])
def address(request, tmp_path):
    if request.param == "sqlite":
        yield str(tmp_path / "queue.sqlite")
    elif request.param == "journal":
        yield f"journal://{tmp_path}/queue.journal"
    elif request.param == "postgresql":
        database = os.environ.get("THALWEG_TEST_POSTGRESQL")
        if not database:
            pytest.skip("THALWEG_TEST_POSTGRESQL names no empty PostgreSQL database")
        yield database
        storage = open_storage(database)
        for study in storage.get_all_studies():
            storage.delete_study(study._study_id)
    else:
        pytest.importorskip("grpc")
        from optuna.storages._grpc.server import make_server

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        behind = open_storage(str(tmp_path / "behind.sqlite"))
        server = make_server(behind, "127.0.0.1", port)
        server.start()
        yield f"grpc://127.0.0.1:{port}"
        server.stop(None)


def test_a_run_goes_to_one_worker_and_comes_back(address):
    head = Queue.begin(address, "one", FACTS)
    tickets = [head.post(dataclasses.replace(RUN, run_id=f"tune-00-00{i}")) for i in range(2)]
    worker, other = Queue.join(address), Queue.join(address, "one")
    assert worker.facts()["config"] == FACTS["config"]
    first, second = worker.claim(ME), other.claim(ME)
    assert [first.ticket, second.ticket] == tickets
    assert first.run == RUN
    assert worker.claim(ME) is None
    assert worker.beat(first.ticket, [1, 2, float("nan")])
    waiting, running = head.open()
    assert waiting == set()
    assert running[first.ticket].worker == ME
    assert running[first.ticket].beat[:2] == [1, 2]
    assert worker.hand_in(first.ticket, {"curve": [[1, 0.5, float("inf"), 2.0]]})
    assert head.result(first.ticket) == {"curve": [[1, 0.5, float("inf"), 2.0]], "worker": ME}
    assert head.posted()[first.ticket] == ("tune-00-000", "COMPLETE")

    assert head.give_up(second.ticket)
    assert not other.beat(second.ticket, [2, 2, None])
    assert not other.hand_in(second.ticket, {"curve": []})
    assert head.result(second.ticket) is None
    assert not head.returned(second.ticket)
    again = head.post(second.run)
    assert worker.claim(ME).ticket == again
    assert worker.give_up(again, returned=True)
    assert head.returned(again)

    head.close()
    assert worker.facts()["closed"]
    with pytest.raises(UsageError, match="not under way"):
        Queue.join(address)
    assert not Queue.begin(address, "one", FACTS).facts()["closed"]


def test_one_claim_however_many_ask(tmp_path):
    address = str(tmp_path / "queue.sqlite")
    head = Queue.begin(address, "one", FACTS)
    for _ in range(6):
        head.post(RUN)
    got = []

    def take():
        queue = Queue.join(address)
        while (claim := queue.claim(ME)) is not None:
            got.append(claim.ticket)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(head.posted())


def test_several_races_in_one_storage(tmp_path):
    address = str(tmp_path / "queue.sqlite")
    Queue.begin(address, "one", FACTS)
    Queue.begin(address, "two", FACTS)
    with pytest.raises(UsageError, match="one, two; choose by --race"):
        Queue.join(address)
    assert Queue.join(address, "two").name == "two"
    with pytest.raises(UsageError, match='"three" is not under way'):
        Queue.join(address, "three")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("thalweg", "0.0.1", "begun with Thalweg 0.0.1 and this worker has"),
        ("torch", "1.0", "begun with torch 1.0"),
        ("workload", "/nowhere/task.py", "task file /nowhere/task.py is not on this machine"),
        ("workload", __file__, "differs from the one"),
    ],
)
def test_a_worker_that_does_not_fit_is_refused(tmp_path, config, key, value, said):
    from thalweg.workload import load

    settings = config("adamw").resolved(load("quadratic"))
    settings |= {"workload_sha256": "0" * 64 if key == "workload" else None, key: value}
    head = Queue.begin(str(tmp_path / "queue.sqlite"), "one", {**FACTS, "config": settings})
    ticket = head.post(RUN)
    with pytest.raises(UsageError, match=said):
        work(str(tmp_path))
    assert head.open()[0] == {ticket}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("grpc://127.0.0.1:1", "does not answer"),
        ("grpc://host", "grpc://host:port"),
        ("postgresql://me:secret@127.0.0.1:1/x", r"me:\*\*\*@127.0.0.1:1/x"),
        ("http://x", "is no storage"),
        ("sqlite://", "names no file"),
        ("journal:///nowhere/at/all", "no folder /nowhere/at"),
        ("nothing://x", "does not answer"),
    ],
)
def test_addresses_that_do_not_answer(monkeypatch, address, said):
    monkeypatch.setattr("thalweg.race.storage.ANSWER_SECONDS", 1)
    with pytest.raises(UsageError, match=said) as error:
        open_storage(address)
    assert "secret" not in str(error.value)
    assert "secret" not in shown(address)


def test_joining_leaves_other_files_alone(tmp_path):
    file = tmp_path / "other.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE mine (x)")
    text = tmp_path / "text"
    text.write_text("no database")
    for path in (file, text, tmp_path / "missing"):
        with pytest.raises(UsageError, match="not under way"):
            Queue.join(str(path))
    with sqlite3.connect(file) as connection:
        assert len(connection.execute("SELECT * FROM sqlite_master").fetchall()) == 1
    assert not (tmp_path / "missing").exists()


def test_without_optuna(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UsageError, match=r"thalweg\[scale\]"):
        open_storage("sqlite:///x")


def test_nobody_sees_a_storage_half_made(tmp_path, monkeypatch):
    """Tables without their version made the second of two that open them fail."""
    from optuna.storages._rdb.storage import _VersionManager

    path, seen = tmp_path / "queue.sqlite", []
    make = _VersionManager.__init__

    def watched(self, *arguments):  # the tables are there, the version is not
        seen.append((path.exists(), open_storage(str(path), create=False)))
        monkeypatch.undo()
        make(self, *arguments)

    monkeypatch.setattr(_VersionManager, "__init__", watched)
    assert open_storage(str(path)).get_all_studies() == []
    assert seen == [(False, None)]
    assert [one.name for one in tmp_path.iterdir()] == ["queue.sqlite"]


def test_a_storage_that_somebody_else_made_first_is_theirs(tmp_path, monkeypatch):
    path = tmp_path / "queue.sqlite"
    link = os.link

    def slow(made, target):
        monkeypatch.undo()
        Queue.begin(str(path), "first", {})
        link(made, target)

    monkeypatch.setattr(os, "link", slow)
    assert [one.study_name for one in open_storage(str(path)).get_all_studies()] == [
        PREFIX + "first"
    ]
