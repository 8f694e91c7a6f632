"""`thalweg align`: what it writes and says, and what it refuses."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from thalweg import workload
from thalweg.cli.application import app
from thalweg.core.errors import UsageError
from thalweg.landscape import load


@pytest.fixture
def invoke(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        model = workload.load("digits").model()
        save_file(dict(model.state_dict()), f"{name}.safetensors")

    def run(*words):
        done = CliRunner().invoke(app, ["align", "digits", *words])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.output

    return run


SMALL = ("--steps", "2", "--samples", "64", "--figure", "none")


def test_it_writes_the_same_network_in_another_order_and_their_mean(invoke, tmp_path):
    said = invoke("a.safetensors", "b.safetensors", "--merge", *SMALL)
    before, after = (load(tmp_path / f"align/{name}.npz") for name in ("before", "after"))
    assert before.losses[0] == after.losses[0]
    assert after.losses[-1] == pytest.approx(before.losses[-1], rel=1e-5)
    assert "84 units in 3 groups" in said
    assert "train loss of the mean, repaired" in said
    moved = load_file(tmp_path / "align/b-aligned.safetensors")
    old = load_file(tmp_path / "b.safetensors")
    assert moved.keys() == old.keys()
    for name, x in old.items():
        assert torch.equal(moved[name].flatten().sort().values, x.flatten().sort().values)
    assert load_file(tmp_path / "align/merged.safetensors").keys() == old.keys()


def test_activations_serve_too(invoke, tmp_path):
    invoke("a.safetensors", "b.safetensors", "--by", "activations", *SMALL)
    assert (tmp_path / "align/after.html").exists()


def test_what_cannot_be_aligned_is_refused_before_anything_is_written(invoke, tmp_path):
    torch.save({}, tmp_path / "c.pt")
    with pytest.raises(UsageError, match="two networks are aligned, found 1"):
        invoke("a.safetensors", *SMALL)
    for name in ("../b", "", "..", "x/y"):
        with pytest.raises(UsageError, match=f'"{name}" in .* is no name'):
            invoke("a.safetensors", f"{name}=b.safetensors", *SMALL)
    with pytest.raises(UsageError, match="is a pickle"):
        invoke("a.safetensors", "c.pt", *SMALL)
    other = {n: x[..., :1] for n, x in load_file(tmp_path / "a.safetensors").items() if x.ndim}
    save_file({n: x.contiguous() for n, x in other.items()}, tmp_path / "d.safetensors")
    with pytest.raises(UsageError):
        invoke("a.safetensors", "d.safetensors", *SMALL)
    assert not (tmp_path / "align").exists()
