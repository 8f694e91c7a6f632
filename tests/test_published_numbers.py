"""The commands of docs/published-numbers.rst start, and average where the authors do."""

import shlex
from pathlib import Path

import click
import numpy as np
import pytest
import torch
import typer

from thalweg import workload
from thalweg.cli.application import app
from thalweg.core.cycles import Cycles
from thalweg.core.errors import UsageError
from thalweg.recipe import Recipe

ROOT = Path(__file__).parent.parent
EPOCH = 390
PARAMETERS = {"vgg16": 15_291_300, "preresnet164": 1_726_388, "wrn-28-10": 36_546_980}


def commands() -> list[tuple[str, str, int]]:
    """Return network, recipe and steps of each command, in the page's order."""
    found, network = [], ""
    page = (ROOT / "docs" / "published-numbers.rst").read_text("utf-8").replace("\\\n", "")
    for line in page.splitlines():
        words = shlex.split(line) if line.startswith(("   export", "   thalweg")) else [""]
        if words[0] == "export":
            network = dict(word.split("=") for word in words[1:])["NETWORK"]
        elif words[0] == "thalweg":
            group = typer.main.get_command(app)
            command = group.get_command(click.Context(group), words[1])  # type: ignore[attr-defined]
            given = command.make_context(words[1], words[2:]).params
            assert given["workload"] == "examples/cifar.py"
            found.append((network, given["recipe"], given["steps"]))
    return found


@pytest.fixture(params=[1, 2])
def cifar(request, tmp_path, monkeypatch):
    """Random images in the form of CIFAR-10, with one label, or of CIFAR-100, with two."""
    random = np.random.default_rng(0)
    names = ("train.bin", "test.bin")
    if request.param == 1:
        names = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
    for name in names:
        rows = random.integers(0, 256, (8, request.param + 3072), dtype=np.uint8)
        rows[:, : request.param] %= 10
        rows.tofile(tmp_path / name)
    monkeypatch.setenv("CIFAR", str(tmp_path))
    return request.param


def test_the_page_has_its_commands():
    assert len(commands()) == 14
    assert {network for network, _, _ in commands()} == set(PARAMETERS)


@pytest.mark.parametrize("cifar", [2], indirect=True)
@pytest.mark.parametrize(("network", "recipe", "steps"), commands())
def test_command_starts(network, recipe, steps, cifar, monkeypatch):
    """One step of the run, on two images: a whole evaluation would take minutes."""
    monkeypatch.setenv("NETWORK", network)
    task = workload.load(ROOT / "examples" / "cifar.py")
    model = task.model()
    made = Recipe.parse(recipe).build(model, steps)
    before = model.state_dict()["0.weight"].clone()
    loss = task.loss(model, task.train.__getitems__([0, 1]))
    loss.backward()
    made.optimizer.step()
    made.learning_rate.step()
    if made.average is not None:
        made.average.update(0, steps)
    assert loss.isfinite()
    assert not model.state_dict()["0.weight"].equal(before)


@pytest.mark.parametrize(("network", "recipe", "steps"), commands())
def test_points_are_those_of_the_authors(network, recipe, steps):
    """SWA: after each epoch from 161 (126; 200 for SWALP) on; FGE: 20 members, 2 epochs apart."""
    use = Recipe.parse(recipe).average
    if use is None:
        return
    settings = use.part.factory(**use.hyper)
    if use.part.slug == "fge":
        cycles = Cycles(settings.start, settings.cycles)
        points = [step + 1 for step in range(steps) if cycles.is_middle(step, steps)]
        assert len(points) == 20
        assert set(np.diff(points)) == {2 * EPOCH}
        return
    points = [step + 1 for step in range(steps) if settings.collects(step, steps)]
    first = 200 if "low-precision" in recipe else 126 if network == "preresnet164" else 161
    assert points == [epoch * EPOCH for epoch in range(first, steps // EPOCH + 1)]


@pytest.mark.parametrize(("network", "size"), PARAMETERS.items())
def test_networks_have_the_published_size(network, size, cifar, monkeypatch):
    monkeypatch.setenv("NETWORK", network)
    task = workload.load(ROOT / "examples" / "cifar.py")
    last = {"vgg16": 512, "preresnet164": 256, "wrn-28-10": 640}[network]
    with torch.device("meta"):
        model = task.model()
    fewer = 90 * (last + 1) if cifar == 1 else 0
    assert sum(p.numel() for p in model.parameters()) == size - fewer
    images, labels = task.validation.__getitems__([0, 1])
    assert images.shape == (2, 3, 32, 32)
    assert labels.shape == (2,)


def test_images_are_shifted_and_flipped(tmp_path, monkeypatch):
    """Each training image is a 32 x 32 window of the padded one, or its mirror image."""
    rows = np.random.default_rng(1).integers(1, 256, (8, 3074), dtype=np.uint8)
    for name in ("train.bin", "test.bin"):
        rows.tofile(tmp_path / name)
    monkeypatch.setenv("CIFAR", str(tmp_path))
    monkeypatch.setenv("NETWORK", "vgg16")
    task = workload.load(ROOT / "examples" / "cifar.py")
    task.train.scaled = lambda pixels: pixels
    plain = rows[:, 2:].reshape(8, 3, 32, 32)
    padded = np.pad(plain, ((0, 0), (0, 0), (4, 4), (4, 4)))
    images, labels = task.train.__getitems__(list(range(8)))
    assert labels.tolist() == rows[:, 1].tolist()
    seen = set()
    for image, whole in zip(images.numpy(), padded, strict=True):
        windows = [
            (y, x, flip)
            for y in range(9)
            for x in range(9)
            for flip in (1, -1)
            if (image == whole[:, y : y + 32, x : x + 32][:, :, ::flip]).all()
        ]
        assert len(windows) == 1
        seen.add(windows[0])
    assert len(seen) > 4
    task.validation.scaled = lambda pixels: pixels
    assert (task.validation.__getitems__([0])[0].numpy() == plain[:1]).all()


def test_missing_data_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CIFAR", str(tmp_path))
    with pytest.raises(UsageError, match=r"data_batch_1\.bin is missing; set CIFAR to the folder"):
        workload.load(ROOT / "examples" / "cifar.py")
