"""SWAG against explicit sums of its points, and FGE, ensembles and calibration."""

import math

import pytest
import torch
from points import Vector, follow, walk
from torch import nn

from thalweg.average import FGE, SWA, SWAG, Ensemble, calibration
from thalweg.core.errors import UsageError

close = {"rtol": 1e-10, "atol": 1e-10}


def test_mean_variance_and_deviations_are_the_explicit_sums():
    points = walk(3, 30)
    average, seen = follow(SWAG(0.5, 2, rank=4), points)
    taken = points[14::2]
    torch.testing.assert_close(seen[-1], taken.mean(0), **close)
    assert torch.equal(seen, follow(SWA(0.5, 2), points)[1])
    variance = (taken**2).mean(0) - taken.mean(0) ** 2
    torch.testing.assert_close(average.variance()["w"], variance, **close)
    means = torch.stack([taken[: i + 1].mean(0) for i in range(len(taken))])
    found = torch.stack([point["w"] for point in average.deviations()])
    torch.testing.assert_close(found, (taken - means)[-4:], **close)


def test_variance_does_not_cancel_in_float32():
    model = Vector(1).float()
    average = SWAG(0.0, 1).attach(model)
    for step in range(100):
        with torch.no_grad():
            model.w.fill_(1000 + (-1) ** step * 0.01)
        average.update(step, 100)
    # The mean of squares less the square of the mean is off by more than all of it.
    assert float(average.variance()["w"]) == pytest.approx(1e-4, rel=0.05)


def test_samples_have_the_mean_and_the_covariance():
    points = walk(3, 12)
    average, seen = follow(SWAG(0.0, 1, rank=5), points)
    columns = torch.stack([point["w"] for point in average.deviations()])
    diagonal = torch.diag(average.variance()["w"])
    random = torch.Generator().manual_seed(0)
    cases = [
        ({}, 0.5 * (diagonal + columns.T @ columns / 4)),
        ({"scale": 0.25}, 0.125 * (diagonal + columns.T @ columns / 4)),
        ({"diagonal": True}, diagonal),
    ]
    for how, covariance in cases:
        drawn = torch.stack([average.sample(random, **how)["w"] for _ in range(6000)])
        size = covariance.abs().max()
        assert (torch.cov(drawn.T) - covariance).abs().max() < 0.07 * size
        assert (drawn.mean(0) - seen[-1]).abs().max() < 4 * (size / 6000).sqrt()
    assert torch.equal(average.sample(random, scale=0)["w"], seen[-1])


def test_the_same_generator_gives_the_same_sample():
    average, _ = follow(SWAG(0.0, 1), walk(3, 12))
    one, two = (average.sample(torch.Generator().manual_seed(7))["w"] for _ in range(2))
    assert torch.equal(one, two)


def test_sampling_refuses_what_cannot_be():
    random = torch.Generator()
    with pytest.raises(UsageError, match="no point of the average yet"):
        SWAG().attach(Vector(2)).sample(random)
    average, _ = follow(SWAG(0.0, 1, rank=0), walk(2, 5))
    with pytest.raises(UsageError, match="two deviations, found 0"):
        average.sample(random)
    average.sample(random, diagonal=True)
    with pytest.raises(UsageError, match="found -1"):
        average.sample(random, scale=-1, diagonal=True)
    with pytest.raises(UsageError, match="0 or at least 2, found 1"):
        SWAG(rank=1)


def test_members_are_samples_and_only_on_request():
    points = walk(3, 12)
    assert follow(SWAG(0.0, 1), points)[0].members() is None
    average, _ = follow(SWAG(0.0, 1, samples=4), points)
    members = list(average.members())
    assert len({tuple(point["w"].tolist()) for point in members}) == 4
    again = list(average.members())
    assert all(torch.equal(a["w"], b["w"]) for a, b in zip(members, again, strict=True))


def test_fge_takes_the_middle_of_each_cycle():
    points = walk(2, 100)
    average, seen = follow(FGE(0.6, 4), points)
    # Cycles of 10 from the 61st update on: the lowest rate is that of its sixth.
    members = torch.stack([point["w"] for point in average.members()])
    assert torch.equal(members, points[[65, 75, 85, 95]])
    assert torch.equal(seen[-1], points[95])
    assert follow(FGE(0.6, 4), points[:1])[0].members() is None


def test_an_ensemble_of_values_of_a_linear_model_is_the_value_of_the_mean():
    torch.manual_seed(0)
    model = nn.Linear(4, 3, dtype=torch.float64)
    points = [{name: torch.randn_like(p) for name, p in model.named_parameters()} for _ in range(5)]
    mean = {name: sum(point[name] for point in points) / 5 for name in points[0]}
    x = torch.randn(7, 4, dtype=torch.float64)
    before = model(x)
    found = Ensemble(model, points, "values")(x)
    torch.testing.assert_close(found, torch.func.functional_call(model, mean, x), **close)
    assert torch.equal(model(x), before)


def test_an_ensemble_of_logits_is_the_mean_of_probabilities():
    model = nn.Linear(1, 2, bias=False, dtype=torch.float64)
    logits = [torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [3.0]])]
    found = Ensemble(model, [{"weight": x.double()} for x in logits])(torch.ones(1, 1).double())
    expected = (torch.tensor([math.e, 1]) / (1 + math.e)) / 2
    expected = expected + (torch.tensor([1, math.e**3]) / (1 + math.e**3)) / 2
    torch.testing.assert_close(found.exp()[0], expected.double(), rtol=1e-6, atol=1e-6)
    assert float(found.exp().sum()) == pytest.approx(1)


def test_an_ensemble_of_one_has_its_log_probabilities_however_small():
    model = nn.Linear(1, 2, bias=False)
    found = Ensemble(model, [{"weight": torch.tensor([[0.0], [500.0]])}])(torch.ones(1, 1))
    assert found[0].tolist() == [-500.0, 0.0]


def test_a_weighted_ensemble_keeps_the_smallest_probabilities():
    model = nn.Linear(1, 2, bias=False)
    points = [{"weight": torch.tensor([[0.0], [500.0]])}, {"weight": torch.tensor([[0.0], [0.0]])}]
    found = Ensemble(model, points, weights=(3, 1))(torch.ones(1, 1))
    expected = [math.log(0.125), math.log(0.75 + 0.125)]
    assert found[0].tolist() == pytest.approx(expected)
    # What has no weight is not asked at all, and so cannot spoil the mean.
    spoilt = [points[0], {"weight": torch.full((2, 1), math.nan)}]
    assert Ensemble(model, spoilt, weights=(2, 0))(torch.ones(1, 1))[0].tolist() == [-500.0, 0.0]
    assert Ensemble(model, spoilt, "values", weights=(2, 0))(torch.ones(1, 1))[0].tolist() == [
        0,
        500,
    ]


def test_an_ensemble_takes_state_dicts_of_a_model_with_tied_weights():
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    w = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    state = {"0.weight": w, "1.weight": w.clone()}
    assert torch.equal(Ensemble(model, [state], "values")(torch.eye(2)), w.T @ w.T)


def test_an_ensemble_refuses_no_point_and_unknown_names():
    model = nn.Linear(1, 2)
    with pytest.raises(UsageError, match="2 weights for 1 points"):
        Ensemble(model, [{}], weights=(1, 1))
    with pytest.raises(UsageError, match="found \\(-1,\\)"):
        Ensemble(model, [{}], weights=(-1,))
    with pytest.raises(UsageError, match="found none"):
        Ensemble(model, [])
    with pytest.raises(UsageError, match='no "w"'):
        Ensemble(model, [{"w": torch.zeros(1)}])
    with pytest.raises(UsageError, match="logits"):
        Ensemble(model, [{}], "logit")


def test_calibration_by_hand():
    # Confidences 0.9, 0.9, 0.6, 0.6 of which the first, third and fourth are right.
    probabilities = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]).double()
    found = calibration(probabilities.log(), torch.tensor([0, 1, 1, 1]), bins=10)
    assert found.accuracy == 0.75
    assert found.nll == pytest.approx(-(math.log(0.9) + math.log(0.1) + 2 * math.log(0.6)) / 4)
    assert found.ece == pytest.approx(0.5 * abs(0.9 - 0.5) + 0.5 * abs(0.6 - 1.0))
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.32 + 0.32) / 4)
    assert [n for n, *_ in found.bins] == [2, 2]
    assert found.bins[1][1:] == (pytest.approx(0.9), 0.5)


def test_calibrated_predictions_have_no_error_to_speak_of():
    random = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20000, 5, generator=random, dtype=torch.float64)
    classes = torch.multinomial(logits.softmax(1), 1, generator=random)[:, 0]
    found = calibration(logits, classes)
    assert found.ece < 0.02
    sharper = calibration(4 * logits, classes)
    assert sharper.ece > 0.15
    assert sharper.accuracy == found.accuracy
    assert sharper.nll > found.nll


@pytest.mark.parametrize(
    ("logits", "classes", "message"),
    [
        (torch.zeros(3), torch.zeros(3), r"\(n, C\)"),
        (torch.zeros(3, 2), torch.zeros(2), r"\(3, 2\) and \(2,\)"),
        (torch.zeros(0, 2), torch.zeros(0), "at least 1"),
        (torch.full((1, 2), float("nan")), torch.zeros(1).long(), "NaN"),
        (torch.zeros(1, 2), torch.tensor([2]), "0 to 1"),
        (torch.zeros(1, 2), torch.tensor([0.5]), "whole numbers"),
    ],
)
def test_calibration_refuses(logits, classes, message):
    with pytest.raises(UsageError, match=message):
        calibration(logits, classes)
