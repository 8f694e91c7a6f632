"""What the papers of rules that divide by the Hessian's diagonal say that they do."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from curved_runs import (
    ENTROPY,
    SQUARES,
    Descent,
    assert_close,
    batches,
    evaluated,
    logistic,
    logistic_data,
    optimum_of,
    path_of,
    scaled,
    slope_at,
    start,
    value_at,
)
from torch import Tensor, nn

from reference.curved import Curved
from thalweg.core.errors import UsageError

# AdaHessian and OASIS


@pytest.mark.parametrize("execution", ["foreach", "compiled"])
@pytest.mark.parametrize("slug", ["adahessian", "oasis", "sophia"])
def test_executions_agree(slug: str, execution: str) -> None:
    paths = [
        path_of(slug, batches(SQUARES), 5, start(), execution=one, weight_decay=0.1)
        for one in ("loop", execution)
    ]
    assert_close(*paths, 1e-10)


def test_adahessian_takes_a_newton_step_scaled_by_lr_on_a_diagonal_quadratic() -> None:
    found = Descent("adahessian", start(3), ((3,),), lr=0.3, eps=0.0).step(scaled([1, 9, 50]))
    assert_close(found, 0.7 * start(3), 1e-14)


def test_oasis_needs_no_learning_rate_on_badly_scaled_logistic_regression() -> None:
    loss = logistic(*logistic_data(np.array([0.03, 1.0, 30.0, 5.0])))
    run = Descent("oasis", np.zeros(4), ((4,),))
    for _ in range(400):
        found = run.step(loss)
    assert np.linalg.norm(slope_at(loss, found)) < 1e-5
    assert value_at(loss, found) - value_at(loss, optimum_of(loss)) < 1e-7


def test_oasis_with_a_fixed_unit_diagonal_is_the_adaptive_gradient_method() -> None:
    problem = ENTROPY[0]
    found = path_of("oasis", lambda t: problem, 12, start(), lr=0.01, beta2=1.0, warm_start=0)
    w, before, eta, growth = start(), None, 0.01, math.inf
    for step in range(12):
        g = problem.gradient(w)
        if before is not None:
            change = np.linalg.norm(g - problem.gradient(before))
            new = min(math.sqrt(1 + growth) * eta, np.linalg.norm(w - before) / (2 * change))
            eta, growth = new, new / eta
        before, w = w, w - eta * g
        assert_close(found[step], w)


def test_oasis_is_invariant_to_diagonal_rescaling_once_the_diagonal_is_known() -> None:
    scale = np.array([1e-2, 1.0, 10.0])
    hyper = {"alpha": 1e-12, "lr": 0.01}
    plain = Descent("oasis", start(3), ((3,),), **hyper)
    other = Descent("oasis", start(3) / scale, ((3,),), **hyper)
    for _ in range(10):
        x = plain.step(scaled([1, 4, 25]))
        y = other.step(lambda w: scaled([1, 4, 25])(w * torch.tensor(scale)))
        assert_close(y * scale, x)
    assert_close(plain.optimizer.state[plain.params[0]]["hessian"], [1, 4, 25])


def test_oasis_stands_still_where_the_gradient_is_zero() -> None:
    run = Descent("oasis", np.zeros(3), ((3,),))
    for _ in range(3):
        assert (run.step(scaled([1, 2, 3])) == 0).all()
    assert run.number("eta") == 1e-3


def test_oasis_keeps_its_step_where_the_gradient_does_not_change() -> None:
    run = Descent("oasis", np.ones(2), ((2,),), warm_start=0, lr=0.5)
    for _ in range(3):
        found = run.step(lambda w: w.sum())
    assert run.number("eta") == 0.5
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("slug", "hyper"),
    [
        ("adahessian", {}),
        ("oasis", {}),
        ("sophia", {}),
        ("sophia", {"estimator": "gauss-newton-bartlett"}),
    ],
)
def test_parameters_that_the_loss_does_not_reach_stand_still(
    slug: str, hyper: dict[str, str]
) -> None:
    run = Descent(slug, start(4), ((2,), (2,)), weight_decay=0.0, **hyper)
    for _ in range(3):
        run.optimizer.step(lambda: _two_classes(run.params[0]))
    assert (run.w[2:] == start(4)[2:]).all()
    assert (run.w[:2] != start(4)[:2]).all()


def _two_classes(w: Tensor) -> tuple[Tensor, Tensor]:
    outputs = torch.stack([w, w**2])
    return nn.functional.cross_entropy(outputs, torch.tensor([0, 1])), outputs


def test_oasis_measures_the_same_beside_parameters_that_the_loss_does_not_reach() -> None:
    runs = [
        Descent("oasis", start(5)[:size], shapes, warm_start=0, lr=0.01, weight_decay=0.0)
        for size, shapes in ((3, ((3,),)), (5, ((3,), (2,))))
    ]
    for _ in range(4):
        for run in runs:
            run.optimizer.step(lambda run=run: scaled([1, 4, 25])(run.params[0]))
        alone, beside = (run.number("eta") for run in runs)
        assert_close(beside, alone, 1e-14)
    assert alone > 0.01


def test_oasis_looks_twice_only_where_it_measures() -> None:
    for adaptive, expected in ((True, [1, 2, 2]), (False, [1, 1, 1])):
        run, counts = Descent("oasis", start(3), ((3,),), adaptive=adaptive), []
        for _ in range(3):
            calls: list[None] = []
            run.step(lambda w, calls=calls: calls.append(None) or scaled([1, 4, 25])(w))
            counts.append(len(calls))
        assert counts == expected


def test_oasis_that_is_not_adaptive_follows_a_schedule_of_lr() -> None:
    run = Descent("oasis", start(3), ((3,),), adaptive=False, lr=0.1)
    for lr in (0.1, 0.05, 0.2):
        run.optimizer.param_groups[0]["lr"] = lr
        before = run.w
        assert_close(run.step(scaled([1, 4, 25])), (1 - lr) * before)
        assert run.number("eta") == lr


# Sophia


def test_sophia_moves_no_entry_by_more_than_lr() -> None:
    w, run = start(), Descent("sophia", start(), lr=0.02, weight_decay=0.0, gamma=1e-6)
    for t in range(6):
        found = run.step(SQUARES[t % 3])
        assert (np.abs(found - w) <= 0.02 + 1e-15).all()
        w = found


def test_sophia_steps_by_the_sign_where_curvature_is_negative() -> None:
    run = Descent("sophia", start(3), ((3,),), lr=0.1, weight_decay=0.0)
    found = run.step(lambda w: -w.square().sum())
    assert_close(found, start(3) + 0.1 * np.sign(start(3)), 1e-14)


def test_sophia_refuses_outputs_that_are_no_logits() -> None:
    run = Descent("sophia", start(), estimator="gauss-newton-bartlett")
    with pytest.raises(UsageError, match="logits of shape"):
        run.step(lambda w: (w.square().sum(), w * 1.0))
    with pytest.raises(UsageError, match=r"\(loss, outputs\)"):
        run.step(lambda w: w.square().sum())


def test_sophia_with_drawn_labels_takes_logits_with_several_leading_axes() -> None:
    # No entry is clipped, so that the curvature shows.
    hyper: dict[str, Any] = {"estimator": "gauss-newton-bartlett", "lr": 0.1, "weight_decay": 0.0}
    hyper |= {"gamma": 1e4, "eps": 10.0}
    flat, stacked = Descent("sophia", start(), **hyper), Descent("sophia", start(), **hyper)
    problem = Curved.drawn(1, "entropy", rows=6)

    def folded(w: Tensor) -> tuple[Tensor, Tensor]:
        outputs = evaluated(problem, w)[1].reshape(3, 2, 3)
        targets = torch.tensor(problem.targets)
        return nn.functional.cross_entropy(outputs.reshape(6, 3), targets), outputs

    found = stacked.step(folded)
    assert_close(found, flat.step(problem), 1e-14)
    assert (np.abs(found - start()) < 0.1).all()


@pytest.mark.parametrize("classes", [1, 2])
def test_sophia_with_drawn_labels_takes_logits_that_leave_one_label(classes: int) -> None:
    run = Descent("sophia", np.ones(2), ((2,),), estimator="gauss-newton-bartlett", lr=0.1)

    def loss(w: Tensor) -> tuple[Tensor, Tensor]:
        return w.square().sum(), torch.stack([w, w - 1e4], dim=1)[:, :classes]

    assert_close(run.step(loss), np.full(2, 0.9 - 0.1 * 0.1), 1e-12)
