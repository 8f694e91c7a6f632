"""A race logs every run where it is asked to, and is the same race."""

import pytest

from thalweg.core.errors import UnknownNameError
from thalweg.core.registry import Part, register
from thalweg.log import Logger
from thalweg.race import Store, run_race

FACTS = ("entrant", "recipe", "phase", "trial", "seed")


class Ledger(Logger):
    """Keeps each run's name, facts and end; breaks for one of them."""

    slug = "ledger"
    package = "json"
    runs = {}  # noqa: RUF012
    folders = set()  # noqa: RUF012
    breaks = None

    def open(self, name, facts):
        self.name = name
        if name == self.breaks:
            raise OSError("no space left")
        self.folders.add(self.folder)
        self.runs[name] = [self.project, facts, None]

    def log(self, values):
        pass

    def close(self, status, summary):
        self.runs[self.name][2] = (status, summary.get("final_metric"))


register(Part("ledger", "logger", "Ledger", "", Ledger))


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(Ledger, "runs", {})
    monkeypatch.setattr(Ledger, "folders", set())


def test_every_run_is_logged(config):
    asked = config("mine = adamw + linear", "boom = sgd(lr=1e30)", loggers=("ledger",))
    run_race(asked)
    with Store.open(asked.out) as store:
        rows = store.runs()
    trained = [row for row in rows if not (row.error or "").startswith("not run")]
    assert set(Ledger.runs) == {row.run_id for row in trained}
    for row in trained:
        project, facts, end = Ledger.runs[row.run_id]
        assert project == "thalweg-quadratic"
        expected = {name: getattr(row, name) for name in FACTS}
        assert {name: facts[name] for name in FACTS} == expected
        assert end == (row.status, row.final_metric)
    assert Ledger.folders == {asked.out / "logs"}


def test_a_logger_changes_no_number_even_where_it_fails(config, results, tmp_path, monkeypatch):
    run_race(config("adamw + linear"))
    monkeypatch.setattr(Ledger, "breaks", "tune-00-001")
    logged = config("adamw + linear", out=tmp_path / "logged", loggers=("ledger",))
    with pytest.warns(RuntimeWarning, match="ledger could not be opened.*no space left"):
        run_race(logged)
    assert results(tmp_path / "logged") == results(tmp_path / "race")
    assert "final-00-002" in Ledger.runs


def test_a_race_continues_with_or_without_loggers(config):
    run_race(config("adamw + linear"))
    run_race(config("adamw + linear", loggers=("ledger",)))
    assert Ledger.runs == {}


def test_an_unknown_logger_is_refused_before_anything_is_written(config):
    asked = config("adamw", loggers=("ledgr",))
    with pytest.raises(UnknownNameError, match=r'unknown logger "ledgr"\. Did you mean "ledger"'):
        run_race(asked)
    assert not asked.out.exists()
