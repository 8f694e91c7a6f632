"""``thalweg merge``, from files to a folder, and what it refuses."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from thalweg import workload
from thalweg.cli.application import app
from thalweg.core.errors import UsageError
from thalweg.merge import Diagnosis, merge


def model(seed):
    torch.manual_seed(seed)
    weights = workload.load("digits").model().state_dict()
    return {n: x + 0.02 * torch.randn(x.shape) for n, x in weights.items()}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b", "base")):
        save_file(model(seed), f"{name}.safetensors")

    def invoke(*words):
        done = CliRunner().invoke(app, ["merge", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return invoke


A, B, BASE = (f"{name}.safetensors" for name in ("a", "b", "base"))


def test_a_merge_from_the_command_line(run, tmp_path):
    output = run("ties(density=0.5)", A, B, "--base", BASE, "--out", "out", "--dtype", "bfloat16")
    assert "merged by TIES" in output
    found = load_file(tmp_path / "out/model.safetensors")
    wanted = merge("ties(density=0.5)", [model(0), model(1)], model(2), dtype=torch.bfloat16)
    assert all(torch.equal(found[n], x) for n, x in wanted.items())


@pytest.mark.parametrize(
    "method", ["greedy-soup", "learned-soup(epochs=1)", "fisher-merge", "regmean", "btm"]
)
def test_a_workload_gives_what_a_merge_needs_to_know(method, run, tmp_path):
    run(method, A, B, "--workload", "digits", "--samples", "64", "--out", "out")
    assert load_file(tmp_path / "out/model.safetensors").keys() == model(0).keys()


def test_a_greedy_soup_on_a_workload_is_not_below_its_members(run, tmp_path):
    from thalweg.merge import named
    from thalweg.race.merge_evidence import evidence_on

    score = evidence_on("digits", named("greedy-soup"), [A, B], samples=64).evidence.score
    run("greedy-soup", A, B, "--workload", "digits", "--samples", "64", "--out", "out")
    found = load_file(tmp_path / "out/model.safetensors")
    assert score(found) >= max(score(model(0)), score(model(1)))


def test_statistics_from_files(run, tmp_path):
    names = list(model(0))
    for name in "ab":
        save_file({names[0]: torch.ones_like(model(0)[names[0]])}, f"f{name}.safetensors")
    run("fisher-merge", A, B, "--statistics", "fa.safetensors", "--statistics", "fb.safetensors")
    found = load_file(tmp_path / "merged/model.safetensors")
    torch.testing.assert_close(
        found[names[0]], merge("model-soups", [model(0), model(1)])[names[0]]
    )


def test_a_recipe_file(run, tmp_path):
    pytest.importorskip("yaml")
    text = f"models: [{{model: {A}}}, {{model: {B}}}]\nmerge_method: slerp\nbase_model: {A}"
    (tmp_path / "merge.yaml").write_text(text)
    run("--recipe", "merge.yaml", "--out", "out")
    found = load_file(tmp_path / "out/model.safetensors")
    wanted = merge("slerp", [model(0), model(1)])
    assert all(torch.equal(found[n], x) for n, x in wanted.items())


@pytest.mark.parametrize("first", [(), ("ties",)])
def test_explain_prints_and_draws(first, run, tmp_path):
    output = run("--explain", *first, A, B, "--base", BASE, "--out", "why")
    assert "cancels" in output
    found = Diagnosis.load(tmp_path / "why/diagnosis.npz")
    assert found.models == (A, B)
    assert "<svg" in (tmp_path / "why/diagnosis.svg").read_text()
    json.loads((tmp_path / "why/diagnosis.json").read_text())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "name a merge and checkpoints"),
        (("ties",), "name a merge and checkpoints"),
        (("tise", A, B), 'Did you mean "ties"'),
        (("ties(dense=1)", A, B), "It takes density"),
        (("ties", A, B), "needs the base"),
        (("model-soups", A, "none"), "there is no checkpoint none"),
        (("model-soups", A, B, "--dtype", "int8"), "--dtype must be one of"),
        (("model-soups", A, B, "--shard-size", "0"), "--shard-size must be"),
        (("model-soups", A, B, "--shard-size", "nan"), "--shard-size must be"),
        (("greedy-soup", A, B), "chooses by a score"),
        (("fisher-merge", A, B), "statistics for each"),
        (("--explain", A, B), "two checkpoints or more and their --base"),
        (("--recipe", "x.yaml", "ties", A), "a recipe names the merge"),
    ],
)
def test_what_cannot_be_used_is_refused(words, message, run, tmp_path):
    with pytest.raises(UsageError, match=message):
        run(*words)
    assert not (tmp_path / "merged").exists()


def test_the_list_shows_merges():
    done = CliRunner().invoke(app, ["list", "merge", "--json"])
    rows = {row["id"]: row for row in json.loads(done.output)}
    assert {"model-soups", "fisher-merge", "model-stock", "btm", "warm", "diwa"} <= rows.keys()
    assert rows["ties"]["parameters"]["density"] == 0.2
