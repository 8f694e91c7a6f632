"""The page of scores says what the tables say."""

import csv
import math
import os
import shutil

import numpy as np
import pytest
from page_reader import Page, check_figure
from scored import HOSTILE, make_races, score, write_table

from thalweg.core.errors import UsageError
from thalweg.report.numbers import TIMES, number, percent, seconds
from thalweg.report.scores.races import link

TABLE = {
    "fast": {"v": [10.0, 11.0, 12.0], "w": [100.0, 90.0, 80.0]},
    "slow": {"v": [20.0, 21.0, 22.0], "w": [200.0, math.inf, math.inf]},
    HOSTILE: {"v": [30.0, 15.0, 30.0], "w": None},
}


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def plain(text):
    """Return a text with its thin spaces as the text of a page has them."""
    return " ".join(text.split())


def page_of(out):
    return Page((out / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def races(tmp_path_factory):
    folder = tmp_path_factory.mktemp("races")
    (folder / "race 0").mkdir()
    (folder / "race 0" / "report.html").write_text("a page")
    folders = make_races(folder)
    output = score(*folders, "--out", folder / "scores")
    return folder / "scores", page_of(folder / "scores"), output


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    score(*write_table(folder, TABLE), "--out", folder)
    return folder, page_of(folder)


def test_pages_are_whole(races, table):
    for page in (races[1], table[1]):
        page.check(("#", "data:", "../race"))
        for name, figure in page.figures.items():
            check_figure(figure)
            assert name in page.ids
    assert f"report: {races[0] / 'report.html'}" in races[2].replace("\n", "")


def test_only_sections_with_data_are_there(races, table):
    always = {"leaderboard", "profiles", "times", "left-out", "ratings", "method"}
    of_races = {"pairs-section", "races"}
    assert always | of_races <= set(races[1].ids)
    assert always | {"speed-ups"} <= set(table[1].ids)
    assert not of_races & set(table[1].ids)
    for page in (races[1], table[1]):
        links = {g["href"][1:] for tag, g in page.tags if tag == "a" and g["href"][:1] == "#"}
        assert links <= set(page.ids)


@pytest.mark.parametrize("which", ["races", "table"])
def test_the_leaderboard_is_that_of_the_scores(which, request):
    out, page, *_ = request.getfixturevalue(which)
    place = page.text.index("Leaderboard", page.text.index("Ruleset"))
    for row in read(out / "scores.csv"):
        told = page.text.index(f"{float(row['score']):.4f}", place)
        assert told > place
        place = told
        after = page.text[told : told + 200]
        assert f"{float(row['score_low']):.3f} to {float(row['score_high']):.3f}" in after
        assert plain(percent(float(row["share_first"]))) in after
        low, high = row["rank_low"], row["rank_high"]
        assert (low if low == high else f"{low} to {high}") in after


def test_profiles_are_those_of_the_table(races):
    out, page, _ = races
    curves = {trace["name"]: trace for trace in page.figures["profile-figure"]["data"]}
    rows = read(out / "profiles.csv")
    for row in (row for row in rows if row["submission"] == "good"):
        curve = curves["good"]
        last = np.searchsorted(curve["x"], float(row["tau"]), side="right") - 1
        assert curve["y"][last] == pytest.approx(float(row["rho"]))


def test_times_are_those_of_the_table(table):
    out, page = table
    rows = {row["submission"]: row for row in read(out / "times.csv")}
    assert rows["slow"]["w"] == "inf"
    assert rows[HOSTILE]["w"] == ""
    part = page.text[page.text.index("Time to the target, median") :]
    for row in rows.values():
        for name in ("v", "w"):
            value = float(row[name] or "nan")
            assert (plain(seconds(value)) if math.isfinite(value) else "not reached") in part
    assert "no run" in part
    ratios = page.figures["ratios"]["data"]
    assert ratios[0]["text"][0] == [f"1.00{TIMES}"] * 2
    assert "<b>not reached</b>" in str(ratios[1]["customdata"])


def test_speed_ups_and_ratings_are_those_of_the_tables(table):
    out, page = table
    notes = str(page.figures["speed-ups-figure"]["data"][0]["customdata"])
    for row in read(out / "speed_ups.csv"):
        if row["time_ratio"]:
            assert f"<b>{number(float(row['time_ratio']))}{TIMES}</b>" in notes
    for row in read(out / "ratings.csv"):
        part = page.text[page.text.index("Other ratings") :]
        assert number(float(row["mean_rank"])) in part
        assert number(float(row["borda"]), 4) in part


def test_pairs_are_those_of_the_improvements(races):
    out, page, _ = races
    rows = read(out / "improvements.csv")
    assert len(rows) == 3
    assert all(row["better"] == row["a"] for row in rows)
    part = page.text[page.text.index("Every pair") :]
    for row in rows:
        low, high = float(row["low"]), float(row["high"])
        assert f"{float(row['probability']):.2f} {low:.2f} to {high:.2f}" in part
        assert f"{row['wins']} of {int(row['wins']) + int(row['losses'])}" in part
        rate = number(float(row["p_adjusted"]), 2)
        assert f"{plain(rate)} told apart" in part
    assert page.text.count("told apart") >= 3
    assert "The data separate all 3 pairs" in page.text


def test_ties_are_said_by_the_decision_alone(tmp_path):
    same = {"level": 0.9, "noise": 0.01}
    folders = make_races(tmp_path, entrants={"one": same, "two": same})
    score(*folders, "--out", tmp_path / "out")
    (row,) = read(tmp_path / "out" / "improvements.csv")
    assert row["better"] == ""
    assert float(row["p_adjusted"]) >= 0.05
    text = page_of(tmp_path / "out").text
    assert "not enough to tell them apart" in text
    assert "0 of 1 pair apart" in text


def test_each_race_has_its_verdict_and_a_link_where_there_is_a_page(races):
    _, page, _ = races
    part = page.text[page.text.index("Races 3 races with") :]
    assert part.count("The race's report") == 1
    assert "good wins on task-0" in part
    assert "Nobody met the target of task-2" in page.text
    hrefs = [given["href"] for tag, given in page.tags if tag == "a" and "race" in given["href"]]
    assert [one for one in hrefs if one.startswith("..")] == ["../race%200/report.html"]
    assert "72 runs took 1 min 12 s of wall time and 1 min 55 s of processor time" in part


def test_a_verdict_that_is_written_is_told(tmp_path):
    (folder,) = make_races(tmp_path, 1)
    (folder / "verdict.json").write_text('{"sentences": ["As written."], "winner": null}')
    score(folder, "--out", tmp_path / "out")
    assert "As written." in page_of(tmp_path / "out").text
    (folder / "verdict.json").write_text("[]")
    score(folder, "--out", tmp_path / "out")
    assert "good wins on task-0" in page_of(tmp_path / "out").text


def test_names_are_text_and_never_markup(races, table):
    for page in (races[1], table[1]):
        assert HOSTILE in page.text
        names = {trace["name"] for trace in page.figures["profile-figure"]["data"]}
        assert '&lt;b&gt;&amp;"' in names
        assert HOSTILE not in page.scripts["figures"]
        assert [tag for tag, _ in page.tags].count("script") == 4


def test_one_race_alone(tmp_path):
    (folder,) = make_races(tmp_path, 1)
    score(folder, "--out", tmp_path / "out")
    page = page_of(tmp_path / "out")
    page.check(("#", "data:", "../race"))
    assert "1 race scored together" in page.text
    assert "too few to tell anybody apart" in page.text
    assert "told apart: below 0.05" in page.text
    assert page.text.count("tie") >= 3


def test_nobody_meets_anything(tmp_path):
    times = {"a": {"w": [math.inf]}, "b": {"w": [math.inf]}}
    score(*write_table(tmp_path, times), "--out", tmp_path)
    page = page_of(tmp_path)
    page.check()
    assert "Nobody scores" in page.text
    assert "Nobody met the target of w." in page.text
    assert "NaN" not in page.text


def test_one_submission_and_one_study(tmp_path):
    score(*write_table(tmp_path, {"a": {"w": [3.0]}}), "--out", tmp_path)
    page = page_of(tmp_path)
    page.check()
    assert "a was scored alone" in page.text
    assert "Some times come from one study" in page.text
    assert not {"ratings", "left-out", "speed-ups"} & set(page.ids)


def test_equal_scores_are_a_tie(tmp_path):
    times = {name: {"w": [3.0, 3.0, 3.0]} for name in ("a", "b")}
    score(*write_table(tmp_path, times), "--out", tmp_path)
    page = page_of(tmp_path)
    assert "A tie: a and b" in page.text
    assert "1=" in page.text


def test_thirty_submissions(tmp_path):
    draw = np.random.default_rng(0)
    times = {
        f"submission number {i}": {f"w{j}": list(draw.uniform(1, 9, 3)) for j in range(12)}
        for i in range(30)
    }
    score(*write_table(tmp_path, times), "--out", tmp_path)
    page = page_of(tmp_path)
    page.check()
    assert sum(tag == "button" and "data-entrant" in given for tag, given in page.tags) == 30
    figure = page.figures["profile-figure"]
    assert sum(trace["opacity"] == 1 for trace in figure["data"]) == 6
    assert all(one["opacity"] == 1 for one in figure["variants"]["everyone"]["data"])
    assert figure["variants"]["first"]["data"][-1]["opacity"] == 1  # the best lies on top
    for one in page.figures.values():
        check_figure(one)


def test_a_page_that_cannot_be_written(tmp_path):
    words = write_table(tmp_path, TABLE)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        score(*words, "--out", tmp_path / "file")
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    with pytest.raises(UsageError, match="cannot write the page"):
        score(*words, "--out", tmp_path / "out")


def test_links_are_relative_and_only_to_what_is_there(tmp_path, monkeypatch):
    page = tmp_path / "a & b" / "report.html"
    assert link(page, tmp_path / "out") == ""
    page.parent.mkdir()
    page.write_text("")
    assert link(page, tmp_path / "out") == "../a%20%26%20b/report.html"
    monkeypatch.chdir(tmp_path)
    assert link(page.relative_to(tmp_path), tmp_path / "out") == "../a%20%26%20b/report.html"

    def other_drive(*_):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert link(page, tmp_path / "out") == ""
    shutil.rmtree(page.parent)
