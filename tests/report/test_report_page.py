import re

import pytest
import torch
from page_reader import Page, check_figure
from synthetic_race import make_store

from thalweg.core.errors import UsageError
from thalweg.race.store import Store
from thalweg.report import write_report
from thalweg.report.facts import read_race
from thalweg.report.page import render
from thalweg.report.sections import curves, pairs, tuning, verdict
from thalweg.report.terrain import Terrain

SECTIONS = (
    "leaderboard",
    "curves",
    "pairs-section",
    "tuning",
    "cost",
    "landscape",
    "recipes",
    "method",
)
HOSTILE = "<script>alert(1)</script>"
USUAL = {
    "adamw": {"level": 0.97, "noise": 0.002},
    "sgd": {"level": 0.93, "noise": 0.002, "lr": 0.97, "trials": ["ok", "diverged"]},
    "muon": {"level": 0.968, "noise": 0.006, "broken": ["diverged"]},
}
RACES = {
    "usual": (USUAL, {}),
    "alone, one seed, no target": (
        {"adamw": {"level": 2e-7}},
        {"seeds": 1, "trials": 1, "target": None, "higher": False},
    ),
    "target out of reach": ({"a": {"level": 0.5}, "b": {"level": 0.4}}, {"target": 0.99}),
    "nothing finished": (
        {
            "one": {"level": 0.9, "trials": ["failed"] * 6, "broken": ["failed"] * 3},
            "two": {"level": 0.9, "trials": ["diverged"] * 6, "broken": ["diverged"] * 3},
        },
        {},
    ),
    "huge and fixed": (
        {
            "fixed": {"level": 3e9, "noise": 1e8, "fixed": True},
            "far off": {"level": 1.2e3, "noise": 10, "broken": ["ok", "failed"]},
        },
        {"higher": False, "metric": "loss <per> &character", "target": 5e3},
    ),
    "zero and negative": (
        {"zero": {"level": 0.0}, "below": {"level": -3.0}},
        {"higher": False, "target": -1.0},
    ),
    "twenty": (
        {
            **{f"entrant number {i}, with a name of its own": {"level": 0.8} for i in range(18)},
            HOSTILE: {"level": 0.9},
            "<b>%{x}</b> &amp; \"'`${y}": {"level": 0.85, "recipe": "adamw + ema"},
        },
        {"seeds": 2, "trials": 2},
    ),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    made = {}
    for name, (entrants, options) in RACES.items():
        with make_store(tmp_path_factory.mktemp("race"), entrants, **options) as store:
            made[name] = Page(render(read_race(store), Terrain(reason="there is none.")))
    return made


@pytest.mark.parametrize("race", RACES)
def test_every_figure_is_one_that_plotly_knows(pages, race):
    page = pages[race]
    for name, figure in page.figures.items():
        check_figure(figure)
        assert name in page.ids


@pytest.mark.parametrize("race", RACES)
def test_a_page_is_whole_and_asks_for_nothing(pages, race):
    page = pages[race]
    page.check()
    assert set(SECTIONS) <= set(page.ids)


def test_names_are_text_and_never_markup(pages):
    page = pages["twenty"]
    assert [t for t, _ in page.tags].count("script") == 4
    assert HOSTILE in page.text
    assert HOSTILE not in page.scripts["figures"]
    names = {trace["name"] for trace in page.figures["curve-metric"]["data"] if "name" in trace}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in names
    assert "<b>" not in "".join(names)
    templates = re.findall(r'"hovertemplate":"([^"]*)"', page.scripts["figures"])
    assert templates
    assert not any("alert" in one or "%{y}" in one for one in templates)


def test_the_verdict_is_told_plainly(pages):
    assert "A tie: adamw and muon" in pages["usual"].text
    assert "adamw ran alone" in pages["alone, one seed, no target"].text
    assert "No entrant finished" in pages["nothing finished"].text
    assert "A tie between 20 entrants" in pages["twenty"].text


def test_a_winner_is_named(tmp_path):
    entrants = {
        "good + warmup(0.05)": {"level": 0.97, "noise": 0.001, "recipe": "good + warmup(0.05)"},
        "bad": {"level": 0.9, "noise": 0.001},
    }
    with make_store(tmp_path, entrants, seeds=5) as store:
        race = read_race(store)
        told = verdict.build(race)
        assert told["headline"] == "good wins"
        assert '<b title="good + warmup(0.05)">good</b> wins' in told["lead"]
        assert [row["winner"] for row in told["rows"]] == [True, False]
        assert pairs.build(race)["margins"][0]["told"] == "told apart"


def test_the_leaderboard_shows_what_the_store_holds(pages):
    text = pages["usual"].text
    rows = re.search(r"Entrant.*?Accuracy after", text).group()
    assert "1 diverged" in rows
    assert "4 ms" in rows.replace("\u202f", " ")
    assert "270 kB" in rows.replace("\u202f", " ")
    assert "not reached" in pages["target out of reach"].text
    assert "no run finished" in pages["nothing finished"].text
    assert "Steps to target" not in pages["alone, one seed, no target"].text


def test_bars_lie_on_one_scale_and_far_ones_are_pinned_to_its_end(tmp_path):
    levels = {"a": 0.97, "b": 0.96, "c": 0.95, "d": 0.1}
    entrants = {name: {"level": level, "noise": 1e-4} for name, level in levels.items()}
    with make_store(tmp_path, entrants) as store:
        rows = verdict.build(read_race(store))["rows"]
    dots = [row["bar"]["dot"] for row in rows]
    assert dots == sorted(dots, reverse=True)
    assert [row["bar"]["off"] for row in rows] == ["", "", "", "low"]
    assert dots[-1] == 0
    assert dots[2] > 2


def test_curves_carry_means_and_ranges_over_seeds(tmp_path):
    with make_store(tmp_path, {"adamw": {"level": 0.9, "noise": 0.05}}, seeds=3) as store:
        race = read_race(store)
        metric, loss = curves.build(race)["figures"]
        area, line = metric.data
        finals = [row.final_metric for row in race.entrants[0].finals]
        assert line["y"][-1] == pytest.approx(sum(finals) / 3)
        count = len(line["y"])
        assert area["y"][count - 1] == max(finals)
        assert area["y"][count] == min(finals)
        curve = store.curve("final-00-000")
        assert line["x"] == [point.step for point in curve]
        assert metric.variants["seconds"]["data"][1]["x"] == pytest.approx(
            [point.seconds for point in curve]
        )
        low, high = metric.variants["half"]["layout"]["yaxis"]["range"]
        assert line["y"][0] < low < line["y"][-1] < high
        assert loss.layout["yaxis"]["type"] == "log"


def test_a_run_that_diverged_is_drawn_alone_up_to_its_last_number(tmp_path):
    entrants = {"a": {"level": 0.9}, "b": {"level": 0.8, "broken": ["diverged"]}}
    with make_store(tmp_path, entrants) as store:
        race = read_race(store)
        (broken,) = [
            t
            for t in curves.build(race)["figures"][0].data
            if t["y"][-1:] and isinstance(t.get("marker", {}).get("symbol"), list)
        ]
        curve = store.curve("final-01-000")
        assert curve[-1].metric != curve[-1].metric
        assert broken["y"] == [point.metric for point in curve[:-1]]
        assert broken["marker"]["symbol"][-1] == "x-thin"
        assert "diverged at step 70" in broken["customdata"][-1][1]


def test_a_loss_of_nan_or_infinity_reaches_the_page_as_a_gap(tmp_path):
    with make_store(tmp_path, {"a": {"level": 0.9}}, seeds=1) as store:
        store._connection.execute(
            "UPDATE curve SET train_loss = 'inf' WHERE run_id = 'final-00-000' AND step = 100"
        )
        assert store.curve("final-00-000")[9].train_loss == float("inf")
        page = Page(render(read_race(store), Terrain(reason="none.")))
    (line,) = page.figures["curve-loss"]["data"]
    assert 100 not in line["x"]
    assert 90 in line["x"]


def test_the_target_is_drawn_where_it_does_not_squeeze_the_curves(pages):
    layout = pages["usual"].figures["curve-metric"]["layout"]
    assert layout["shapes"][0]["y0"] == 0.9
    assert layout["annotations"][0]["text"] == "target 0.9"
    assert "shapes" not in pages["usual"].figures["curve-loss"]["layout"]


def test_titles_say_who_is_first_and_claim_no_time_on_a_busy_machine(tmp_path, pages):
    variants = pages["usual"].figures["curve-metric"]["variants"]
    fewest = "adamw and muon reach 0.9 in the fewest steps, 120"
    assert variants["steps"]["title"] == fewest
    assert variants["seconds"]["title"].startswith("adamw and muon reach 0.9 in the least time")
    with make_store(tmp_path, {"a": {"level": 0.95}, "b": {"level": 0.9, "cost": 3}}) as store:
        store._connection.execute("UPDATE run SET load = 17.0")
        page = Page(render(read_race(store), Terrain(reason="none.")))
    title = page.figures["curve-metric"]["variants"]["seconds"]["title"]
    assert title == "Against training time, which other work on the machine disturbed"
    assert "Step time, which other work on the machine disturbed" in page.text
    assert "Times below are not to be compared: the load average was 17.0" in page.text


def test_pairs_mirror_each_other_and_ties_are_pale(pages):
    apart, ties = pages["usual"].figures["pairs"]["data"]
    both = [
        [a if a is not None else b for a, b in zip(one, other, strict=True)]
        for one, other in zip(apart["z"], ties["z"], strict=True)
    ]
    for i in range(3):
        assert both[i][i] is None
        for j in range(i):
            assert both[i][j] + both[j][i] == pytest.approx(1)
    assert "even" in str(ties["colorscale"])
    assert "for-2" not in str(ties["colorscale"])
    assert "told apart" in str(apart["customdata"])
    assert "pairs" not in pages["alone, one seed, no target"].figures


def test_tuning_panels_mark_the_best_the_broken_and_the_edge(tmp_path):
    with make_store(tmp_path, USUAL) as store:
        race = read_race(store)
        panels = {panel["label"]: panel for panel in tuning.build(race)["panels"]}
    sgd = panels["sgd"]
    assert "upper edge" in sgd["warning"]
    assert panels["adamw"]["warning"] == ""
    plain, cross, best = sgd["figure"].data
    assert len(plain["x"]) == 4
    assert cross["marker"]["symbol"] == "x-thin"
    low, high = sgd["figure"].layout["yaxis"]["range"]
    assert low < cross["y"][0] < low + 0.1 * (high - low)
    assert best["y"] == [race.entrants[1].best.final_metric]
    assert sgd["figure"].layout["xaxis"]["type"] == "log"
    assert len(sgd["figure"].layout["shapes"]) == 2
    assert "1 of 6 did not finish" in sgd["facts"]


def test_an_entrant_with_nothing_to_tune_says_so(pages):
    assert "Nothing to tune: its recipe fixes every value." in pages["huge and fixed"].text
    assert "tuning-0" not in pages["huge and fixed"].figures


def test_the_python_of_a_recipe_runs(tmp_path):
    recipes = ["adamw + warmup(0.05) + linear", "adamw + sam + ema(0.9)", "sgd(lr=0.1)"]
    entrants = {recipe: {"level": 0.9, "recipe": recipe} for recipe in recipes}
    with make_store(tmp_path, entrants, steps=20) as store:
        page = Page(render(read_race(store), Terrain(reason="none.")))
    codes = [g["data-copy"] for t, g in page.tags if "import Recipe" in g.get("data-copy", "")]
    assert len(codes) == 3
    for code in codes:
        model = torch.nn.Linear(3, 1)
        before = model.weight.clone()
        batches = [torch.ones(2, 3)] * 20
        names = {"model": model, "batches": batches}
        names["loss"] = lambda model, batch: (model(batch) ** 2).mean()
        exec(compile(code, "page", "exec"), names)
        assert not torch.equal(model.weight, before)
        if "ema" in code:
            assert names["algorithm"].average.count == 20


@pytest.mark.parametrize(
    ("average", "told"),
    [("ema", ""), ("swad", "evaluated(validation_loss)"), ("fge", "algorithm.average.members()")],
)
def test_beside_the_python_stands_what_an_average_needs(tmp_path, average, told):
    entrants = {"one": {"level": 0.9, "recipe": f"sgd(lr=0.1) + {average}"}}
    with make_store(tmp_path, entrants, steps=20) as store:
        text = Page(render(read_race(store), Terrain(reason="none."))).text
    assert "algorithm.average.applied(model)" in text
    assert told in text
    assert ("algorithm.average.evaluated" in text) == (average == "swad")


def test_the_command_to_repeat_the_race_is_quoted_for_a_shell(pages):
    (command,) = [
        g["data-copy"]
        for t, g in pages["usual"].tags
        if g.get("data-copy", "").startswith("thalweg race")
    ]
    assert "--entrant 'adamw=adamw + warmup(0.05) + linear'" in command
    assert "--trials 6 --seeds 3 --steps 200 --evaluate-every 10 --seed 0" in command


def test_the_file_is_written_beside_the_store_or_where_asked(tmp_path):
    folder = tmp_path / "race"
    with make_store(folder, {"adamw": {"level": 0.9}}) as store:
        assert write_report(store) == folder / "report.html"
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert html.startswith("<!doctype html>")
    assert 1.5e6 < len(html) < 2.6e6
    other = tmp_path / "page.html"
    assert write_report(folder, other) == other
    assert other.read_text(encoding="utf-8") == html


def test_what_cannot_be_reported_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UsageError, match="no race found"):
        write_report(tmp_path)
    folder = tmp_path / "race"
    with make_store(folder, {"a": {"level": 0.9}, "b": {"level": 0.8}}) as store:
        with pytest.raises(UsageError, match="is a folder; name a file"):
            write_report(store, tmp_path)
        with pytest.raises(UsageError, match="is no folder"):
            write_report(store, tmp_path / "missing" / "page.html")
        store._connection.execute("DELETE FROM run WHERE run_id = 'final-01-002'")
        with pytest.raises(UsageError, match="not finished"):
            write_report(store)
        store._connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    with pytest.raises(UsageError, match="version 99"):
        write_report(folder)
    assert [path.name for path in folder.iterdir()] == ["race.sqlite"]


def test_a_store_opened_for_reading_is_enough(tmp_path):
    make_store(tmp_path / "race", {"adamw": {"level": 0.9}}).close()
    with Store.open(tmp_path / "race", readonly=True) as store:
        page = write_report(store, tmp_path / "page.html")
    assert page.is_file()
