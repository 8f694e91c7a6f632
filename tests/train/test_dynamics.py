"""Measurements along a run against what is known of quadratics, and the edge of stability."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from train_problems import workload

from thalweg import optim
from thalweg.core.errors import UsageError
from thalweg.train import FollowDynamics, fit
from thalweg.train.stability import stability

VALUES = torch.tensor([4.0, 2.0, 0.5])


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3))


def quadratic(model, batch):
    return 0.5 * (VALUES * model.w.square()).sum()


def followed(make, steps=5, **words):
    problem = workload(
        model=Point,
        train=torch.ones(4, 1),
        validation=torch.ones(4, 1),
        batch_size=4,
        loss=quadratic,
        metric=lambda m, b: torch.zeros(4),
        steps=steps,
        evaluate_every=steps,
    )
    follow = FollowDynamics(share=None, tolerance=1e-6, **words)
    result = fit(problem, lambda model, steps: make(model.parameters()), callbacks=[follow])
    return follow.dynamics(), result


def test_a_quadratic():
    found, _ = followed(lambda p: torch.optim.SGD(p, lr=0.1), count=2)
    assert found.step.tolist() == [2, 3, 4, 5]
    np.testing.assert_allclose(found.eigenvalues, [[4, 2]] * 4, rtol=1e-5)
    np.testing.assert_allclose(found.threshold, 20)
    np.testing.assert_allclose(found.stability, 4, rtol=1e-5)
    rates = 1 - 0.1 * VALUES.double().numpy()
    for row, t in enumerate(found.step):
        w = rates**t
        g = VALUES.numpy() * w
        assert found.loss[row] == pytest.approx(0.5 * (g * w).sum(), rel=1e-5)
        assert found.gradient_norm[row] == pytest.approx(np.linalg.norm(g), rel=1e-5)
        assert found.top_share[row] == pytest.approx((g[:2] ** 2).sum() / (g**2).sum(), rel=1e-4)
        assert found.distance[row] == pytest.approx(np.linalg.norm(w - 1), rel=1e-5)
        one, other = rates**t - rates ** (t - 1), rates ** (t - 1) - rates ** (t - 2)
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert found.update_cosine[row] == pytest.approx(cosine, rel=1e-4)
    assert np.isnan(found.noise_scale).all()
    assert found.cost > 0


@pytest.mark.parametrize(
    "make",
    [
        lambda p, lr: torch.optim.SGD(p, lr=lr),
        lambda p, lr: torch.optim.SGD(p, lr=lr, weight_decay=0.5),
        lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9),
        lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.5, dampening=0.3),
        lambda p, lr: torch.optim.SGD(p, lr=lr, momentum=0.9, nesterov=True),
        lambda p, lr: optim.SGD(p, lr=lr, momentum=0.8),
    ],
)
def test_thresholds_are_where_rules_diverge(make):
    def end(lr):
        w = torch.ones(1, dtype=torch.float64, requires_grad=True)
        optimizer = make([w], lr)
        for _ in range(600):
            optimizer.zero_grad()
            (0.5 * 3 * w.square()).sum().backward()
            optimizer.step()
        return abs(float(w)), stability(optimizer, [w]).threshold

    low, high = 0.01, 10.0
    for _ in range(60):  # the learning rate at which the threshold is the curvature
        lr = math.sqrt(low * high)
        w = torch.ones(1, requires_grad=True)
        low, high = (lr, high) if stability(make([w], lr), [w]).threshold > 3 else (low, lr)
    assert end(0.97 * low)[0] < 1e-2
    assert end(1.03 * low)[0] > 1e2


def test_adam_is_measured_preconditioned():
    for make in (torch.optim.Adam, optim.AdamW):
        found, _ = followed(lambda p, make=make: make(p, lr=0.01, betas=(0.9, 0.5)))
        assert found.measured == "preconditioned hessian"
        assert found.threshold[-1] == pytest.approx(2 * 1.9 * (1 - 0.9**5) / (0.1 * 0.01))
        # On a separable quadratic H and P are diagonal.
        assert found.stability[0] > 0
        np.testing.assert_allclose(found.sharpness, 4, rtol=1e-5)
    w = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([w], lr=0.1, betas=(0.9, 0.5))
    quadratic_of = (VALUES * w.square()).sum() / 2
    quadratic_of.backward()
    optimizer.step()
    limit = stability(optimizer, [w])
    torch.testing.assert_close(limit.preconditioner, VALUES + 1e-8)


def test_other_rules_have_no_known_threshold():
    found, _ = followed(lambda p: torch.optim.Adagrad(p, lr=0.01))
    assert found.measured == "hessian"
    assert np.isnan(found.threshold).all()


def test_following_changes_nothing_and_keeps_to_its_share():
    def train(*callbacks):
        def make(model, steps):
            return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        return fit(workload(steps=40, evaluate_every=40), make, callbacks=callbacks)

    follow = FollowDynamics(share=0.2, noise=True)
    plain, watched = train(), train(follow)
    assert plain.curve[-1].metric == watched.curve[-1].metric
    for name, x in plain.weights.items():
        assert torch.equal(x, watched.weights[name])
    found = follow.dynamics()
    assert found.step[0] == 2
    assert len(found.step) < 39
    assert np.isfinite(found.noise_scale).all() or (found.noise_scale > 0).all()
    spaced = FollowDynamics(share=None, every=10)
    train(spaced)
    assert spaced.dynamics().step.tolist() == [2, 12, 22, 32]


def test_gradient_descent_reaches_the_edge_of_stability():
    def loss(model, batch):
        return 0.5 * (model(batch[0]) - batch[1]).square().sum(1).mean()

    x = torch.linspace(-2, 2, 24)[:, None]
    data = (x, torch.sin(3 * x))
    problem = workload(
        model=lambda: nn.Sequential(nn.Linear(1, 24), nn.Tanh(), nn.Linear(24, 1)),
        train=data,
        validation=data,
        batch_size=24,
        loss=loss,
        metric=lambda m, b: (m(b[0]) - b[1]).square()[:, 0],
        steps=EDGE_STEPS,
        evaluate_every=EDGE_STEPS,
    )
    follow = FollowDynamics(share=None, every=EDGE_STEPS // 20)
    fit(problem, lambda m, steps: torch.optim.SGD(m.parameters(), lr=EDGE_LR), callbacks=[follow])
    found = follow.dynamics()
    edge = found.stability / found.threshold
    assert edge[0] < 0.7
    assert 0.9 < float(np.median(edge[-6:])) < 1.15
    assert found.loss[-1] < 0.5 * found.loss[0]


EDGE_LR, EDGE_STEPS = 0.2, 2000


@pytest.mark.parametrize("words", [{"share": 0.0}, {"every": 0}, {"count": 0}, {"samples": 0}])
def test_impossible_arguments_are_refused(words):
    with pytest.raises(UsageError, match="positive share"):
        FollowDynamics(**words)
