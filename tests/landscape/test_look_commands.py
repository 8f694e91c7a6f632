"""The commands that look around solutions, from files and from their errors."""

import json

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

from thalweg import workload
from thalweg.cli.application import app
from thalweg.core.errors import UsageError
from thalweg.landscape import Surface, load
from thalweg.race.config import RaceConfig
from thalweg.race.entrants import parse_entrants
from thalweg.race.run import run_race
from thalweg.race.solutions import open_solutions
from thalweg.race.store import Store


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("abc"):
        torch.manual_seed(seed)
        model = workload.load("logistic-regression").model()
        save_file(
            {n: x + torch.randn_like(x) for n, x in model.state_dict().items()},
            f"{name}.safetensors",
        )

    def invoke(command, *words):
        done = CliRunner().invoke(app, [command, "logistic-regression", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


A, B, C = (f"{name}.safetensors" for name in "abc")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("surface", A, "--steps", "4", "--plane", "none"), "surface/surface"),
        (("surface", A, "--steps", "4", "--plane", "hessian"), "surface/surface"),
        (("surface", A, B, C, "--steps", "4", "--plane", "points"), "surface/surface"),
        (("line", A, B, "--steps", "4"), "line/line"),
        (("connect", A, B, "--steps", "3", "--points", "5"), "connect/profile"),
        (("barrier", A, B), "barrier/barriers"),
        (("spectrum", A, "--probes", "2", "--steps", "4"), "spectrum/density"),
        (("spectrum", A, "--probes", "2", "--steps", "4"), "spectrum/eigenpairs"),
        (("sharpness", A, "--adaptive"), "sharpness/sharpness"),
        (("sharpness", A, "--epsilon", "1e-3"), "sharpness/way"),
    ],
    ids=lambda value: " ".join(value[:1]) if isinstance(value, tuple) else "",
)
def test_a_command_writes_data_a_figure_and_a_page(words, name, run, tmp_path):
    run(*words)
    load(tmp_path / f"{name}.npz")
    json.loads((tmp_path / f"{name}.json").read_text())
    assert "<svg" in (tmp_path / f"{name}.svg").read_text()
    assert "Logistic regression" in (tmp_path / f"{name}.html").read_text()


def test_a_surface_is_exported_and_drawn_as_asked(run, tmp_path):
    words = ("--steps", "4", "--plane", "none", "--figure", "none", "--look", "night")
    files = "x.glb", "new/y.vtu", "z.gif"
    said = run("surface", A, *words, *(word for file in files for word in ("--export", file)))
    for file in files:
        assert (tmp_path / file).stat().st_size > 1000
        assert f"export: {file}" in said
    assert '"look":"night"' in (tmp_path / "surface/surface.html").read_text()


def test_a_surface_goes_on(run, tmp_path):
    words = ("surface", A, "--steps", "8", "--plane", "none")
    run(*words, "--seconds", "1e-9")
    assert Surface.load(tmp_path / "surface/surface.npz").evaluated == 1
    assert not (tmp_path / "surface/surface.html").exists()
    run(*words)
    found = Surface.load(tmp_path / "surface/surface.npz")
    assert found.complete
    assert (tmp_path / "surface/surface.html").exists()
    # This workload validates by a formula: there is a metric, and no test loss.
    assert list(found.also) == ["test loss above the minimum"]


def test_the_way_to_the_worst_point_ends_at_its_loss(run, tmp_path):
    assert "rises by" in run("sharpness", A)
    found, way = (load(tmp_path / "sharpness" / f"{name}.npz") for name in ("sharpness", "way"))
    middle = len(way.losses) // 2
    assert way.losses[middle] == pytest.approx(found.loss)
    assert way.losses[-1] - way.losses[middle] == pytest.approx(found.rise, rel=1e-3)
    run("sharpness", A, "--rho", "0", "--out", "nothing")
    assert not (tmp_path / "nothing" / "way.npz").exists()


def test_entrants_of_a_race_are_looked_at(tmp_path):
    """By name the best final run, by the run's own name that one."""
    folder = tmp_path / "race"
    entrants = parse_entrants(["slow=sgd(lr=1e-4)", "fast=sgd(lr=0.1)"])
    run_race(RaceConfig("logistic-regression", entrants, folder, trials=1, seeds=2, steps=5))
    found = open_solutions(str(folder), ["fast", "slow"], samples=50)
    assert list(found.points) == ["fast", "slow"]
    with Store.open(folder) as store:
        runs = [run for run in store.runs("final") if run.entrant == "fast"]
        best = min(runs, key=lambda run: run.final_metric)
        other = max(runs, key=lambda run: run.final_metric)
    metric = found.metrics["test loss above the minimum"]
    assert metric.value() == pytest.approx(best.final_metric)
    again = open_solutions(str(folder), [other.run_id], samples=50)
    assert again.metrics["test loss above the minimum"].value() == pytest.approx(other.final_metric)
    done = CliRunner().invoke(
        app, ["line", str(folder), "slow", "fast", "--steps", "2", "--out", str(tmp_path / "line")]
    )
    assert done.exit_code == 0, done.output
    with pytest.raises(UsageError, match='no final run of "nobody" finished'):
        open_solutions(str(folder), ["nobody"])


def test_unusable_weights_are_refused(run, tmp_path):
    (tmp_path / "x.pt").write_bytes(b"x")
    (tmp_path / "bad.safetensors").write_bytes(b"x")
    for words, message in (
        (("sharpness", "x.pt"), "is a pickle"),
        (("sharpness", "none.safetensors"), "there is no file"),
        (("sharpness", "bad.safetensors"), "damaged"),
        (("sharpness", A, B), "one point"),
        (("spectrum", A, "--probes", "0"), "probes must be a whole number"),
        (("line", A, A), "two files"),
        (("line", A, f"b={A}"), "same point"),
        (("surface", A, "--plane", "trajectory"), "needs --trajectory"),
        (("surface", A, "--figure", "gif"), "a figure is a file"),
        (("surface", A, "--clip", "nan"), "--clip is a loss"),
        (("surface", A, "--device", "nowhere"), 'the device "nowhere" cannot be used'),
        (("surface", A, "--export", "x.obj"), "exported to .glb, .vtu or .gif"),
    ):
        with pytest.raises(UsageError, match=message):
            run(*words)


def test_train_and_test_and_the_metric(tmp_path):
    for seed in (0, 1):
        torch.manual_seed(seed)
        save_file(workload.load("digits").model().state_dict(), tmp_path / f"{seed}.safetensors")
    files = [str(tmp_path / f"{seed}.safetensors") for seed in (0, 1)]
    words = ["--samples", "64", "--steps", "2", "--figure", "none", "--out", str(tmp_path)]
    names = ["test loss", "train accuracy", "test accuracy"]

    def invoke(*words):
        done = CliRunner().invoke(app, [*words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    said = invoke("line", "digits", *files, *words)
    assert "test loss: " in said
    line = load(tmp_path / "line.npz")
    assert list(line.also) == names
    assert line.batch_norm == "recalibrate"
    found = open_solutions("digits", files, samples=64)
    invoke("surface", "digits", files[0], *words, "--batch-norm", "recalibrate")
    assert load(tmp_path / "surface.npz").batch_norm == "recalibrate"
    invoke("line", "digits", *files, *words, "--batch-norm", "frozen")
    assert load(tmp_path / "line.npz").also["test loss"][0] == found.test["test loss"].value()
    for refused, message in (
        (("surface", "digits", files[0], "--batch-norm", "interpolate"), "around one"),
        (("connect", "digits", *files, "--batch-norm", "frozen"), "mixes several"),
        (("barrier", "digits", *files, "--batch-norm", "frozen"), "mixes several"),
        (("surface", "digits", *files, "--plane", "points"), "three points"),
        (("surface", "digits", *files * 2, "--plane", "points"), "three points"),
    ):
        with pytest.raises(UsageError, match=message):
            invoke(*refused)


def test_weights_of_eight_bits_are_looked_at(tmp_path):
    state = workload.load("digits").model().state_dict()
    small = {n: x.to(torch.float8_e4m3fn) if x.is_floating_point() else x for n, x in state.items()}
    save_file(small, tmp_path / "small.safetensors")
    found = open_solutions("digits", [str(tmp_path / "small.safetensors")], samples=8)
    held = found.train.module.state_dict()
    assert all(torch.equal(held[name], x.to(held[name])) for name, x in small.items())


def test_weights_without_a_buffer_are_refused(tmp_path):
    state = workload.load("digits").model().state_dict()
    state.pop("1.running_mean")
    save_file(state, tmp_path / "half.safetensors")
    with pytest.raises(UsageError, match="not the weights of Handwritten digits"):
        open_solutions("digits", [str(tmp_path / "half.safetensors")])
