"""Storages: what is written, what is refused."""

import re
import sqlite3
import sys

import pytest
from tune_problems import MIXED, SQUARE, bowl, mixed

from thalweg.core.errors import UsageError
from thalweg.core.space import Choice
from thalweg.tune import ledger, minimise


def test_optuna_reads_what_was_written(tmp_path):
    import optuna

    storage = f"sqlite:///{tmp_path / 'search.db'}"
    found = minimise(mixed, MIXED, searcher="random", trials=9, storage=storage, name="mine")
    study = optuna.load_study(study_name="mine", storage=storage)
    assert study.best_value == found.best.loss
    assert study.best_params == pytest.approx(found.best.values)
    assert [t.params for t in study.trials] == [pytest.approx(t.values) for t in found.trials]


def test_more_trials_continue_a_search(tmp_path):
    storage = str(tmp_path / "journal")
    minimise(bowl, SQUARE, searcher="gp-ei", trials=8, storage=storage)
    calls = []

    def function(values):
        calls.append(values)
        return bowl(values)

    more = minimise(function, SQUARE, searcher="gp-ei", trials=10, storage=storage)
    assert len(calls) == 2
    whole = minimise(bowl, SQUARE, searcher="gp-ei", trials=10)
    assert [t.position for t in more.trials] == [t.position for t in whole.trials]


def test_another_search_in_the_same_place_is_refused(tmp_path):
    storage = str(tmp_path / "journal")
    minimise(bowl, SQUARE, searcher="random", trials=2, storage=storage)
    for change, message in (
        ({"searcher": "tpe"}, 'searcher was "RandomSearch" and is "TPE"'),
        ({"seed": 1}, "seed was 0 and is 1"),
    ):
        with pytest.raises(UsageError, match=message):
            minimise(
                bowl, SQUARE, **{"searcher": "random", "trials": 3, "storage": storage, **change}
            )
    with pytest.raises(UsageError, match="space was"):
        minimise(mixed, MIXED, searcher="random", trials=3, storage=storage)
    minimise(mixed, MIXED, searcher="random", trials=3, storage=storage, name="other")


def test_choices_of_any_value_are_kept(tmp_path):
    space = {"betas": Choice(((0.9, 0.99), (0.9, 0.999), None, True))}
    storage = str(tmp_path / "journal")
    asked = {"searcher": "random", "trials": 8, "storage": storage}
    first = minimise(lambda v: len(str(v["betas"])), space, **asked)
    assert minimise(pytest.fail, space, **asked).trials == first.trials


def test_a_storage_that_does_not_answer_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "_TIMEOUT", 1)

    def refused(storage, message):
        with pytest.raises(UsageError, match=message):
            minimise(bowl, SQUARE, searcher="random", trials=2, storage=storage)

    refused("sqlite:////nowhere/at/all.db", "does not answer")
    refused("oracle://x", 'URL of "sqlite"')
    refused("grpc://localhost", "grpc://host:port")
    refused("grpc://127.0.0.1:9", "does not answer|needs a package")
    refused("postgresql://nobody@127.0.0.1:9/x", "does not answer|needs a package")
    refused(str(tmp_path), "is a folder")
    (tmp_path / "file").write_text("x")
    refused(str(tmp_path / "file" / "journal"), "is a file")
    broken = tmp_path / "broken.db"
    broken.write_text("not a database, not even nearly one" * 40)
    refused(f"sqlite:///{broken}", "does not answer")
    refused(str(broken), "does not answer")


def test_a_second_process_in_the_same_study_is_noticed(tmp_path):
    storage = str(tmp_path / "journal")

    def function(values):
        if not inner:
            inner.append(True)
            minimise(bowl, SQUARE, searcher="random", trials=1, storage=storage)
        return bowl(values)

    inner = []
    with pytest.raises(UsageError, match="another process is searching"):
        minimise(function, SQUARE, searcher="random", trials=2, storage=storage)


def test_without_optuna_the_message_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    extra = r'pip install "thalweg\[tune\]"'
    for searcher, budgets in (
        ("tpe", None),
        ("bohb", (1, 9)),
        ("async-halving", (1, 9)),
        ("async-hyperband", (1, 9)),
    ):
        with pytest.raises(UsageError, match=extra):
            minimise(lambda *_: pytest.fail("called"), SQUARE, searcher=searcher, budgets=budgets)
    with pytest.raises(UsageError, match=extra):
        minimise(bowl, SQUARE, searcher="random", storage=str(tmp_path / "journal"))
    for searcher in ("random", "gp-ei", "cma-es", "evolution", "grid"):
        assert minimise(bowl, SQUARE, searcher=searcher, trials=7).best


def test_nothing_is_pickled(tmp_path):
    file = tmp_path / "search.db"
    for searcher in ("cma-es", "tpe"):
        minimise(
            bowl, SQUARE, searcher=searcher, trials=11, storage=f"sqlite:///{file}", name=searcher
        )
    with sqlite3.connect(file) as connection:
        dump = "\n".join(connection.iterdump())
    assert not re.search("[0-9a-f]{60}", dump)  # a pickle in hexadecimal
    assert "\x80" not in dump
