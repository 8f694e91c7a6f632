"""A-CODER against its loop, and its rates on problems with certified optima."""

import inspect
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
import torch

from reference.a_coder import a_coder
from thalweg import optim
from thalweg.core.errors import UsageError


def regression(seed: int = 0, rows: int = 40, columns: int = 24) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * np.geomspace(1, 0.1, columns)
    truth = np.where(np.arange(columns) % 5 == 0, 2.0, 0.0)
    return x, x @ truth + 0.1 * rng.standard_normal(rows)


class Solver:
    """Least squares over blocks of columns."""

    def __init__(self, parts: int = 4, **hyper: Any) -> None:
        self.x, self.y = regression()
        self.cuts = np.array_split(np.arange(24), parts)
        self.params = [torch.nn.Parameter(torch.zeros(len(c)).double()) for c in self.cuts]
        self.lr = hyper.pop("lr", 40 / np.linalg.eigvalsh(self.x.T @ self.x).max())
        self.optimizer = optim.ACODER(self.params, lr=self.lr, **hyper)
        self.calls = 0

    def loss(self) -> torch.Tensor:
        self.calls += 1
        w = torch.cat(tuple(self.params))
        return (torch.tensor(self.x) @ w - torch.tensor(self.y)).square().sum() / 80

    def gradient(self, points: list[np.ndarray]) -> list[np.ndarray]:
        g = self.x.T @ (self.x @ np.concatenate(points) - self.y) / 40
        return [g[c] for c in self.cuts]

    def run(self, steps: int) -> np.ndarray:
        for _ in range(steps):
            self.optimizer.step(self.loss)
        return np.concatenate([p.detach().numpy() for p in self.params])


@pytest.mark.parametrize("hyper", [{}, {"l1": 0.05}, {"l1": 0.02, "weight_decay": 0.3}])
def test_a_coder_equals_its_loop(hyper: dict[str, float]) -> None:
    own = Solver(**hyper)
    start = [np.zeros(len(c)) for c in own.cuts]
    for expected in islice(a_coder(start, own.gradient, lr=own.lr, **hyper), 30):
        np.testing.assert_allclose(own.run(1), np.concatenate(expected), rtol=0, atol=1e-11)
    assert own.calls == 30 * 4


def test_a_coder_says_that_it_looks_beside_the_parameters() -> None:
    own = Solver()
    assert optim.ACODER.looks_aside
    own.run(2)
    here = own.loss().item()
    there = own.optimizer.step(own.loss)
    assert abs(float(there) - here) > 1e-6 * here


def test_a_coder_follows_a_learning_rate_that_changes() -> None:
    own = Solver()
    start = [np.zeros(len(c)) for c in own.cuts]
    first = list(islice(a_coder(start, own.gradient, lr=own.lr), 3))[-1]
    np.testing.assert_allclose(own.run(3), np.concatenate(first), rtol=0, atol=1e-12)
    own.optimizer.param_groups[0]["lr"] = 0.0
    before = own.run(0)
    assert np.array_equal(own.run(1), before)


def test_a_coder_rests_while_the_rate_is_zero_and_returns_the_loss() -> None:
    own, plain = Solver(), Solver()
    found = []
    for lr in (0.0, own.lr, own.lr, 0.0, own.lr):
        own.optimizer.param_groups[0]["lr"] = lr
        before = own.run(0)
        loss = own.optimizer.step(own.loss)
        if lr:
            found.append(own.run(0))
        else:
            assert np.array_equal(own.run(0), before)
            assert loss == own.loss().detach()
    np.testing.assert_array_equal(found, [plain.run(1) for _ in range(3)])


def test_a_coder_counts_its_steps() -> None:
    own = Solver()
    own.run(3)
    assert [state["step"] for state in own.optimizer.state.values()] == [3] * 4


def test_a_coder_s_defaults_are_its_loop_s() -> None:
    given = inspect.signature(a_coder).parameters.values()
    expected = {x.name: x.default for x in given if x.kind is x.KEYWORD_ONLY}
    assert optim.ACODER.rule.fields() == {**expected, "blocks": 0}


def test_a_coder_s_state_is_float32_at_least_and_has_no_graph() -> None:
    for dtype, kept in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        p = torch.ones(3, dtype=dtype, requires_grad=True)
        for x in optim.ACODER.rule().init(p).values():
            assert x.dtype == kept
            assert not x.requires_grad


def test_a_coder_blocks_join_neighbouring_tensors() -> None:
    joined, plain = Solver(parts=4, blocks=2, l1=0.03), Solver(parts=2, l1=0.03)
    np.testing.assert_allclose(joined.run(20), plain.run(20), rtol=0, atol=1e-12)
    assert joined.calls == 40
    many = Solver(parts=4, blocks=9, l1=0.03)
    np.testing.assert_allclose(many.run(5), Solver(parts=4, l1=0.03).run(5), rtol=0, atol=1e-14)
    assert many.calls == 20


def lasso_gap(x: np.ndarray, y: np.ndarray, w: np.ndarray, l1: float) -> float:
    """Return the duality gap of the lasso, which bounds how far the objective is from its least."""
    n = len(y)
    residual = y - x @ w
    dual = residual / n * min(1.0, l1 / np.abs(x.T @ residual / n).max())
    primal = residual @ residual / (2 * n) + l1 * np.abs(w).sum()
    return float(primal - (y @ y / (2 * n) - n / 2 * np.sum((y / n - dual) ** 2)))


def test_a_coder_solves_the_lasso_to_a_certified_gap_with_exact_zeros() -> None:
    own = Solver(l1=0.05)
    gaps, before = {}, 0
    for k in (10, 100, 2000):
        gaps[k], before = lasso_gap(own.x, own.y, own.run(k - before), 0.05), k
    assert gaps[2000] < 1e-6
    w = own.run(0)
    assert (w == 0).sum() >= 5
    # The rate 1 / k^2 at least, from the bound |w|^2 / (2 A_k).
    for k, gap in gaps.items():
        assert gap < 25 * np.sum(w**2) / (own.lr * k**2)


def test_a_coder_is_linear_with_strong_convexity() -> None:
    own = Solver(weight_decay=0.5)
    h = own.x.T @ own.x / 40 + 0.5 * np.eye(24)
    best = np.linalg.solve(h, own.x.T @ own.y / 40)
    errors = [np.linalg.norm(own.run(20) - best) for _ in range(4)]
    assert all(b < 0.1 * a for a, b in pairwise(errors))


def test_a_coder_logistic_regression_reaches_newton_s_optimum() -> None:
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.standard_normal((80, 6)))
    y = torch.tensor(np.sign(rng.standard_normal(80) + x[:, 0].numpy()))
    w = torch.nn.ParameterList([torch.zeros(3).double(), torch.zeros(3).double()])

    def f(v: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.softplus(-y * (x @ v)).mean()

    best = torch.zeros(6).double()
    for _ in range(20):
        slope = torch.func.grad(f)(best) + 0.1 * best
        hessian = torch.func.hessian(f)(best) + 0.1 * torch.eye(6).double()
        best = best - torch.linalg.solve(hessian, slope)
    lr = 4 * 80 / float(torch.linalg.eigvalsh(x.mT @ x).max())
    optimizer = optim.ACODER(w, lr=lr, weight_decay=0.1)
    for _ in range(150):
        optimizer.step(lambda: f(torch.cat(tuple(w))))
    torch.testing.assert_close(torch.cat(tuple(w)).detach(), best, rtol=0, atol=1e-9)


def test_a_coder_refuses_impossible_settings() -> None:
    for hyper in ({"l1": -1.0}, {"blocks": -1}):
        with pytest.raises(UsageError, match=next(iter(hyper))):
            Solver(**hyper)
