import json
import math

import pytest
import torch
from synthetic_race import make_store

from thalweg.report import terrain as module
from thalweg.report.facts import read_race
from thalweg.report.page import render
from thalweg.report.sections import landscape
from thalweg.report.terrain import Terrain, terrain

ENTRANTS = {
    "first": {"level": 0.9, "noise": 1e-4},
    "second": {"level": 0.8, "noise": 1e-4},
    "third": {"level": 0.7, "noise": 1e-4},
    "last": {"level": 0.6, "noise": 1e-4},
}
TASK = """
import torch
from torch import nn

metric_name = "score"
batch_size = 64
steps = 10


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(3))
        self.norm = nn.BatchNorm1d(3, affine=False)

    def forward(self, x):
        return self.norm(x) * self.w


def model():
    return Net()


def data():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0)) * 4 + 2
    return {"x": x}, {"x": x[:50]}


def loss(model, batch):
    return (model(batch["x"]) ** 2).mean()


def metric(model, batch):
    return -loss(model, batch)
"""


@pytest.fixture(autouse=True)
def _small_grid(monkeypatch):
    monkeypatch.setattr(module, "SIZE", 7)
    monkeypatch.setattr(module, "STEPS", 8)


def vector(entrant, seed, size=20):
    stream = torch.Generator().manual_seed(1000 * list(ENTRANTS).index(entrant) + seed)
    return {"x": torch.randn(size, generator=stream)}


def bowl(entrant, seed):
    matrix = 100 ** torch.linspace(-1, 0, 20, dtype=torch.float64)
    return {"matrix": matrix.float(), **vector(entrant, seed)}


def test_the_plane_goes_through_the_best_run_of_the_three_best_entrants(tmp_path):
    with make_store(tmp_path, ENTRANTS, workload="quadratic", weights=bowl) as store:
        race = read_race(store)
        told = []
        found = terrain(store, race, lambda *step: told.append(step))
    assert [row.entrant for row in found.runs] == ["first", "second", "third"]
    for row in found.runs:
        rivals = [r for e in race.entrants for r in e.finals if r.entrant == row.entrant]
        assert row.final_metric == max(rival.final_metric for rival in rivals)
    assert found.plane.names == tuple(row.run_id for row in found.runs)
    assert len(found.lines) == 3
    assert found.batch_norm is None
    assert found.reason == ""
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert {total for _, total in told} == {len(told)}


def test_the_map_is_that_of_the_known_bowl(tmp_path):
    with make_store(tmp_path, ENTRANTS, workload="quadratic", weights=bowl) as store:
        race = read_race(store)
        found = terrain(store, race)
        matrix = bowl("first", 0)["matrix"]
        points = [
            bowl(row.entrant, int(row.run_id.rsplit("-", 1)[1]))["x"].double() for row in found.runs
        ]
    # Noise adds a plane to the bowl, so second differences along a line are the bowl's alone.
    for line, (i, j) in zip(found.lines, ((0, 1), (0, 2), (1, 2)), strict=True):
        step = (points[j] - points[i]) / 8
        expected = float((matrix * step * step).sum())
        for a, b, c in zip(line.losses, line.losses[1:], line.losses[2:], strict=False):
            assert a - 2 * b + c == pytest.approx(expected, rel=1e-3)


def test_the_second_report_reads_what_the_first_computed(tmp_path):
    with make_store(tmp_path, ENTRANTS, workload="quadratic", weights=bowl) as store:
        race = read_race(store)
        first = terrain(store, race)
        told = []
        assert terrain(store, race, lambda *step: told.append(step)) == first
        assert told == []
        kept = tmp_path / "landscape.json"
        content = json.loads(kept.read_text(), parse_constant=lambda name: pytest.fail(name))
        assert content["samples"] == first.samples
        # Other weights, or a file that is no longer whole, are computed anew.
        kept.write_text("{")
        assert terrain(store, race, lambda *step: told.append(step)) == first
        assert told
        path = store.weights(first.runs[0].run_id)
        path.write_bytes(store.weights("final-03-000").read_bytes())
        assert terrain(store, race) != first


def test_numbers_that_json_does_not_know_come_back(tmp_path):
    def diverging(entrant, seed):
        weights = bowl(entrant, seed)
        return {**weights, "x": weights["x"] * 3e19} if entrant == "second" else weights

    with make_store(tmp_path, ENTRANTS, workload="quadratic", weights=diverging) as store:
        race = read_race(store)
        first, again = terrain(store, race), terrain(store, race)
        assert math.isinf(first.plane.solutions[1])
        assert repr(first) == repr(again)
        page = render(race, first)
    assert "grid points gave no finite loss and are blank" in page


def test_equal_solutions_are_passed_over(tmp_path):
    def equal(entrant, seed):
        return bowl("first" if entrant != "last" else "last", 0 if entrant != "last" else seed)

    with make_store(tmp_path, ENTRANTS, workload="quadratic", weights=equal) as store:
        found = terrain(store, read_race(store))
    assert len({row.entrant for row in found.runs}) == 2
    assert [row.entrant for row in found.runs].count("last") == 2


def test_two_solutions_make_a_line_and_one_makes_none(tmp_path):
    def two(entrant, seed):
        return bowl("first" if entrant == "first" else "last", 0)

    with make_store(tmp_path / "two", ENTRANTS, workload="quadratic", weights=two) as store:
        race = read_race(store)
        found = terrain(store, race)
        assert found.plane is None
        assert len(found.lines) == 1
        assert "There is no map, but there are lines: fewer than three" in render(race, found)
    with make_store(
        tmp_path / "one", ENTRANTS, workload="quadratic", weights=lambda e, s: bowl("first", 0)
    ) as store:
        race = read_race(store)
        assert "ended at the very same weights" in terrain(store, race).reason
    with make_store(tmp_path / "none", ENTRANTS, workload="quadratic") as store:
        race = read_race(store)
        found = terrain(store, race)
        assert "no final run of this race finished and left its weights" in found.reason
        assert "There is no landscape: no final run" in render(race, found)


def test_a_task_file_with_batch_norm_and_dict_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAMPLES", 128)
    task = tmp_path / "own.py"
    task.write_text(TASK)

    def weights(entrant, seed):
        net = {"w": vector(entrant, seed, 3)["x"]}
        return {
            **net,
            "norm.running_mean": torch.full((3,), 77.0),
            "norm.running_var": torch.full((3,), 1e-6),
            "norm.num_batches_tracked": torch.tensor(5),
        }

    options = {"workload": str(task), "weights": weights}
    with make_store(tmp_path / "race", ENTRANTS, **options) as store:
        race = read_race(store)
        found = terrain(store, race)
        page = render(race, found)
    assert found.batch_norm == "recalibrate"
    assert found.samples == 128
    # Standardised inputs have a mean square of (nearly) one, whatever the stored statistics say.
    for row, loss in zip(found.runs, found.plane.solutions, strict=True):
        w = weights(row.entrant, int(row.run_id.rsplit("-", 1)[1]))["w"]
        assert loss == pytest.approx(float((w**2).mean()), rel=0.05)
    assert "running statistics recomputed on the same samples" in page


def test_what_cannot_be_computed_is_told_in_the_page(tmp_path):
    options = {"workload": str(tmp_path / "gone.py"), "weights": bowl}
    with make_store(tmp_path / "race", ENTRANTS, **options) as store:
        race = read_race(store)
        found = terrain(store, race)
        assert "it could not be computed" in found.reason
        assert "gone.py" in found.reason
        assert "There is no landscape: it could not be computed" in render(race, found)
        assert not (tmp_path / "race" / "landscape.json").exists()


def test_a_task_file_that_has_changed_is_not_used(tmp_path):
    task = tmp_path / "own.py"
    task.write_text(TASK)
    with make_store(tmp_path / "race", ENTRANTS, workload=str(task), weights=bowl) as store:
        race = read_race(store)
        race.config["workload_sha256"] = "0" * 64
        assert "has changed since the race" in terrain(store, race).reason


def test_titles_say_what_was_found(tmp_path):
    with make_store(tmp_path, ENTRANTS, workload="quadratic", weights=bowl) as store:
        race = read_race(store)
        found = terrain(store, race)
        section = landscape.build(race, found)
        assert section["title"].startswith("No barrier to speak of separates")
        assert {figure.title for figure in section["lines"]} == {
            "first to second: no barrier",
            "first to third: no barrier",
            "second to third: no barrier",
        }
        assert landscape.build(race, Terrain(reason="why"))["lines"] == []
