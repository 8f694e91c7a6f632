"""``thalweg tune``, its page, and a searcher from another package."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thalweg.cli.application import app, main
from thalweg.report.tuning import render
from thalweg.tune import TuneConfig, run_tune

PLUG_IN = '''
"""A searcher from another package: the middle of everything."""

from dataclasses import dataclass

from thalweg.core.registry import Part, register
from thalweg.tune.searcher import Searcher


@dataclass(frozen=True)
class Middle(Searcher):
    """The middle of the space."""

    def position(self, study):
        """Return the middle."""
        return study.space.position([0.5] * len(study.space))


register(Part("middle", "searcher", "Middle", "", Middle))
'''


def test_a_search_prints_and_writes_what_it_found(tmp_path):
    out = tmp_path / "search"
    command = ["tune", "quadratic", "adamw + linear", "--trials", "8", "--steps", "12"]
    done = CliRunner().invoke(app, [*command, "--searcher", "gp-ei", "--out", str(out)])
    assert done.exit_code == 0, done.output
    best = json.loads((out / "best.json").read_text())
    assert best["recipe"] in done.output.replace("\n", "")
    assert best["trials"] == {"ok": 8}
    assert set(best["importance"]) == {"adamw.lr", "adamw.weight_decay"}
    for name in ("report.html", "results.csv", "tune.journal"):
        assert (out / name).is_file()
    assert len((out / "results.csv").read_text().splitlines()) == 9
    before = (out / "results.csv").read_bytes()
    again = CliRunner().invoke(app, [*command, "--searcher", "gp-ei", "--out", str(out)])
    assert again.exit_code == 0
    assert (out / "results.csv").read_bytes() == before


def test_unusable_input_ends_with_one_message(monkeypatch, capsys, tmp_path):
    for words, message in (
        (["adamw", "--searcher", "tpee"], 'Did you mean "tpe"'),
        (["adamw(lr=0.1, weight_decay=0.0)"], "nothing to tune"),
        (["adamw", "--searcher", "hyperband", "--trials", "1"], "smaller than one bracket"),
        (["adamw", "--storage", "sqlite:////nowhere/at/all.db"], "does not answer"),
    ):
        out = ["--out", str(tmp_path / "none")]
        monkeypatch.setattr(sys, "argv", ["thalweg", "tune", "quadratic", *words, *out])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_page_tells_everything_and_escapes(tmp_path):
    config = TuneConfig(
        "quadratic",
        ("adamw + linear", "sgd + cosine"),
        tmp_path / "t",
        searcher="successive-halving",
        trials=6,
        steps=18,
        evaluate_every=2,
        threads=1,
    )
    tuned = run_tune(config)
    page = render(tuned)
    assert page == render(tuned)
    for words in ("Progress", "Importance", "Slices", "successive-halving", str(tuned.best)[:20]):
        assert words in page
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S)[1])
    assert {"progress-figure", "importance-figure", "slice-0"} <= set(figures)


def test_a_search_without_any_result_still_writes_its_page(tmp_path):
    out = tmp_path / "t"
    words = ["quadratic", "sgd(lr=1e30)", "--trials", "2", "--steps", "8", "--out", str(out)]
    done = CliRunner().invoke(app, ["tune", *words])
    assert done.exit_code == 1, done.output
    assert "no trial has a result" in done.output
    assert "No trial has a result" in (out / "report.html").read_text()
    assert json.loads((out / "best.json").read_text())["recipe"] is None


def test_a_plug_in_s_searcher_is_one_of_the_searchers(tmp_path):
    path = Path(__file__).parents[1] / "core" / "test_plugins.py"
    spec = importlib.util.spec_from_file_location("plug_ins", path)
    plug_ins = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plug_ins)
    plug_ins.install(tmp_path, "middle_search", PLUG_IN)
    # Recipes first, which load plug-ins while they are being imported themselves.
    program = (
        "import thalweg.recipe; from thalweg.tune import minimise; "
        "from thalweg.core.space import Linear; "
        "print(minimise(lambda v: v['x'], {'x': Linear(0, 1)}, searcher='middle', trials=1)"
        ".best.loss)"
    )
    done = plug_ins.run(tmp_path, program)
    assert done.stdout == "0.5\n", done.stderr
    assert "could not be loaded" not in done.stderr
