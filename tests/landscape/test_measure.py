"""Quantities beside the loss: the same weights, the same statistics."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn

from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.errors import UsageError
from thalweg.landscape import Curve, Objective, layer_barriers, lines, profile, slice_along


def net(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3))


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def accuracy(model, batch):
    return (model(batch[0]).argmax(1) == batch[1]).double().mean()


def batches(seed):
    random = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 4, generator=random), torch.randint(3, (n,), generator=random))
        for n in (12, 7)
    ]


TRAIN, TEST = batches(0), batches(1)
POINTS = {"a": net(1).state_dict(), "b": net(2).state_dict()}


@pytest.fixture
def objectives():
    model = net(0)
    also = {"test loss": loss, "test accuracy": accuracy}
    return Objective(model, loss, TRAIN), {n: Objective(model, f, TEST) for n, f in also.items()}


def expected(weights, function=loss, data=TEST):
    """The mean over samples at weights whose statistics are those of the training batches."""
    model = net(0)
    model.load_state_dict(weights)
    recalibrate_batch_norm(model, TRAIN, loss)
    model.eval()
    with torch.no_grad():
        return sum(float(function(model, b)) * len(b[1]) for b in data) / 19


def mixed(one, other, t, names=None):
    whole = dict(one)
    for name, x in other.items():
        if x.is_floating_point() and (names is None or name in names):
            whole[name] = (1 - t) * one[name] + t * x
    return whole


def test_a_line_has_the_test_loss_and_the_metric(objectives):
    train, also = objectives
    before = copy.deepcopy(train.model.state_dict())
    (line,) = lines(train, POINTS, steps=4, batch_norm="recalibrate", also=also)
    for k, t in enumerate(line.positions):
        weights = mixed(POINTS["a"], POINTS["b"], t)
        assert line.losses[k] == pytest.approx(expected(weights, loss, TRAIN), rel=1e-5)
        assert line.also["test loss"][k] == pytest.approx(expected(weights), rel=1e-5)
        assert line.also["test accuracy"][k] == pytest.approx(expected(weights, accuracy))
    assert all(torch.equal(x, before[n]) for n, x in train.model.state_dict().items())
    assert line.rise() == line.barrier
    test = line.also["test loss"]
    over = [x - (1 - t) * test[0] - t * test[-1] for t, x in zip(line.positions, test, strict=True)]
    assert line.rise("test loss") == pytest.approx(max(0, *over[1:-1]))
    with pytest.raises(UsageError, match="was not evaluated"):
        line.rise("test los")


def test_a_curve_and_a_slice_have_them_too(objectives):
    train, also = objectives
    curve = Curve("chain", (POINTS["a"], net(3).state_dict(), POINTS["b"]))
    found = profile(train, curve, points=5, batch_norm="recalibrate", also=also)
    middle = expected(mixed(POINTS["a"], net(3).state_dict(), 0.5))
    assert found.also["test loss"][1] == pytest.approx(middle, rel=1e-5)
    test = found.also["test loss"]
    assert found.rise("test loss") == max(test) - max(test[0], test[-1])
    around = slice_along(train, steps=2, batch_norm="frozen", also=also)
    assert around.also["test accuracy"][1] == also["test accuracy"].value()
    broken = dataclasses.replace(around, also={"test loss": (0.0, 1.0, math.nan)})
    assert math.isnan(broken.rise("test loss"))


def test_layers_have_them_too(objectives):
    train, also = objectives
    found = layer_barriers(train, POINTS, batch_norm="recalibrate", also=also)
    assert found.also_ends["test loss"][1] == pytest.approx(expected(POINTS["b"]), rel=1e-5)
    (one,) = [x for x in found.barriers if x.layers == ("3",) and x.host == "a"]
    weights = mixed(POINTS["a"], POINTS["b"], 0.5, ("3.weight", "3.bias"))
    assert one.also["test accuracy"][1] == pytest.approx(expected(weights, accuracy))
    level = sum(found.also_ends["test accuracy"]) / 2
    apart = [x - level for x in one.also["test accuracy"]]
    assert found.change(one, "test accuracy") == max(apart, key=abs)


def test_a_metric_that_is_no_mean(objectives):
    train, _ = objectives
    rows = Objective(
        train.model,
        lambda m, b: m(b[0]).argmax(1) == b[1],
        TEST,
        combine=lambda rows: rows.mean().sqrt(),
    )
    share = Objective(train.model, accuracy, TEST).value()
    assert rows.value() == pytest.approx(math.sqrt(share))
    (line,) = lines(train, POINTS, steps=2, batch_norm="recalibrate", also={"root": rows})
    weights = mixed(POINTS["a"], POINTS["b"], 0.5)
    assert line.also["root"][1] == pytest.approx(math.sqrt(expected(weights, accuracy)))


def test_quantities_are_of_one_model(objectives):
    train, _ = objectives
    with pytest.raises(UsageError, match="another model object"):
        lines(train, POINTS, batch_norm="recalibrate", also={"x": Objective(net(0), loss, TEST)})
