"""What the papers of PSGD say that it does."""

from typing import Any

import numpy as np
import torch
from rule_runs import Run, noise, numbers_kept

from thalweg import optim
from thalweg.core.seeds import generator
from thalweg.engine import Numbers, State
from thalweg.optim.psgd_kron import _norm_bound, _towards_symmetry


def _ill_conditioned(steps: int) -> list[list[np.ndarray]]:
    """Return gradients A Z B of random matrices Z, with condition numbers of 100."""
    random = np.random.default_rng(9)
    left, right = np.diag([1.0, 0.1, 0.01]), np.diag([10.0, 1.0, 0.3, 0.1])
    turn = np.linalg.qr(random.standard_normal((3, 3)))[0]
    return [[turn @ left @ random.standard_normal((3, 4)) @ right] for _ in range(steps)]


def _psgd(script: list[list[np.ndarray]], **hyper: Any) -> tuple[Run, np.ndarray]:
    """Return a run on scripted gradients, and its last moves, one a row."""
    hyper = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "lr_preconditioner": 0.1, **hyper}
    own = Run("psgd-kron", [np.zeros((3, 4))], **hyper)
    moves = []
    for gradients in script:
        before = own.points[0]
        moves.append((own.step(gradients)[0] - before).ravel())
    return own, np.array(moves[len(moves) // 2 :])


def test_psgd_kron_whitens_gradients() -> None:
    hyper: dict[str, Any] = {"preconditioner_max_skew": 9.0, "grad_clip_max_amps": (1e3, 1e3)}
    script = _ill_conditioned(600)
    moves = _psgd(script, **hyper)[1]
    sizes = np.linalg.svd(moves.T @ moves / len(moves))[1]
    assert sizes[0] / sizes[-1] < 6
    assert 0.5 < np.mean(sizes) < 1.5
    raw = np.array([g[0].ravel() for g in script])
    sizes = np.linalg.svd(raw.T @ raw / len(raw))[1]
    assert sizes[0] / sizes[-1] > 1e6


def test_psgd_kron_factors_are_balanced_and_nearly_symmetric() -> None:
    own, _ = _psgd(_ill_conditioned(300), preconditioner_max_skew=9.0)
    state = own.optimizer.state[own.params[0]]
    one, two = state["factor_0"], state["factor_1"]
    torch.testing.assert_close(one.abs().max(), two.abs().max())
    for q in (one, two):
        assert q.ndim == 2
        assert (q - q.mT).abs().max() < 0.05 * q.abs().max()


def test_psgd_kron_balances_factors_by_the_size_of_their_entries() -> None:
    hyper: dict[str, Any] = {"preconditioner_max_skew": 9.0, "lr_preconditioner": 0.0}
    own = Run("psgd-kron", [np.zeros((3, 4))], **hyper)
    own.step(_ill_conditioned(1)[0])
    state = own.optimizer.state[own.params[0]]
    state["factor_0"].copy_(torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.1, -5.0], [0.0, -5.0, 0.1]]))
    own.step(_ill_conditioned(1)[0])
    torch.testing.assert_close(state["factor_0"].abs().max(), state["factor_1"].abs().max())


def test_psgd_kron_adds_noise_of_the_size_of_rounding() -> None:
    """One fit in single precision, whose factor in double precision shows what it was fitted to."""
    entries = np.random.default_rng(3).choice([-1.0, 1.0], 500) * np.logspace(-1, 1, 500)
    x = torch.tensor(entries, dtype=torch.float32)
    one = torch.ones(500, dtype=torch.float64)
    s = State(factor_0=one.clone(), smoothness_0=one.new_zeros(()))
    k = Numbers(t=1, damping=0.0, beta_l=0.0, lr_preconditioner=0.5)
    optim.PSGDKron.rule(seed=4)._fit(x, s, k)
    # Q <- Q - 0.5 / L (y^2 - 1) Q entry by entry, with L = max y^2 + 1.
    found = (1 + 2 * (1 - s.factor_0) * s.smoothness_0).sqrt()
    eps, random = torch.finfo(torch.float32).eps, generator(4, "psgd-kron", 1, 500)
    expected = x + eps * x.abs() * torch.randn(500, generator=random, dtype=torch.float64)
    assert ((found - expected.abs()) / x).abs().max() < 0.51 * eps


def test_psgd_kron_fits_where_its_draw_is_below_the_probability() -> None:
    drawn = float(torch.rand((), generator=generator(0, "psgd-kron", 1), dtype=torch.float64))
    for probability, fits in ((drawn, False), (float(np.nextafter(drawn, 1.0)), True)):
        rule = optim.PSGDKron.rule(preconditioner_update_probability=probability)
        assert rule.scalars(1)["fits"] is fits


def test_psgd_kron_bounds_its_steps() -> None:
    script = [[1e6 * g for g in gradients] for gradients in _ill_conditioned(5)]
    for bounds in ((2.0, 10.0), (0.5, 0.7)):
        _, moves = _psgd(script, grad_clip_max_amps=bounds, preconditioner_update_probability=0.0)
        assert np.abs(moves).max() <= bounds[1]
        assert (np.sqrt(np.mean(moves**2, axis=1)) <= bounds[0] * (1 + 1e-12)).all()


def test_psgd_kron_without_fits_is_sgd_with_an_average_first() -> None:
    script = noise((3, 4), steps=4).gradients()
    hyper: dict[str, Any] = {"grad_clip_max_amps": (1e9, 1e9), "lr": 0.1, "momentum": 0.5}
    own = Run("psgd-kron", [np.zeros((3, 4))], preconditioner_update_probability=0.0, **hyper)
    g = [gradients[0] for gradients in script]
    means = [g[0], (g[0] + g[1]) / 2, ((g[0] + g[1]) / 2 + g[2]) / 2]
    for t, mean in enumerate(means):
        before = own.points[0]
        np.testing.assert_allclose(own.step(script[t])[0], before * 0.995 - 0.1 * mean, atol=1e-12)


def test_psgd_kron_draws_its_own_random_numbers() -> None:
    script = _ill_conditioned(20)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = _psgd(script, damping=0.1)[1]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    np.testing.assert_array_equal(_psgd(script, damping=0.1)[1], one)
    assert np.abs(_psgd(script, damping=0.1, seed=1)[1] - one).max() > 1e-4


def test_psgd_kron_norm_bound_of_symmetric_matrices_is_close() -> None:
    random = np.random.default_rng(2)
    for size in (3, 20):
        x = random.standard_normal((size, size))
        for matrix in (x @ x.T, x - x.T, -np.eye(size)):
            exact = np.linalg.svd(matrix)[1][0]
            found = float(_norm_bound(torch.tensor(matrix), torch.Generator().manual_seed(0)))
            assert 0.8 * exact < found <= exact * (1 + 1e-12)
    for size in (0.0, torch.finfo(torch.float64).smallest_normal):
        matrix = torch.full((1, 1), size, dtype=torch.float64)
        found = float(_norm_bound(matrix, torch.Generator().manual_seed(0)))
        assert size / 2 <= found <= size


def test_psgd_kron_turns_factors_by_up_to_an_eighth() -> None:
    def turn(angle: float) -> np.ndarray:
        c, s = np.cos(angle), np.sin(angle)
        return np.array([[c, -s], [s, c]])

    for angle in (0.1, -0.1, 1.0, -1.0, 2.5):
        q = turn(angle)
        found = q + _towards_symmetry(torch.tensor(q), torch.Generator().manual_seed(0)).numpy()
        by = min(np.tan(abs(angle)), 1 / 8) if abs(angle) < np.pi / 2 else 1 / 8
        # To second order in what it turns by, which leaves a cube.
        np.testing.assert_allclose(found, turn(angle - np.sign(angle) * by), rtol=0, atol=by**3 / 5)
    tiny = torch.finfo(torch.float64).smallest_normal
    q = torch.tensor([[1.0, 0.0], [tiny, 1.0]], dtype=torch.float64)
    found = q + _towards_symmetry(q, torch.Generator().manual_seed(0))
    assert torch.equal(found, found.mT)


def test_psgd_kron_state_bytes() -> None:
    """Beside m: a matrix for each axis whose square is at most n entries, else a vector."""
    assert numbers_kept("psgd-kron", (8, 5)) == 40 + (8 + 25) + 2
    assert numbers_kept("psgd-kron", (8, 5), preconditioner_max_skew=10.0) == 40 + (64 + 25) + 2
    assert numbers_kept("psgd-kron", (8, 5), preconditioner_max_skew=0.0) == 40 + (8 + 5) + 2
    assert numbers_kept("psgd-kron", (8, 5), preconditioner_max_size=4.0) == 40 + (8 + 5) + 2
    assert numbers_kept("psgd-kron", (4, 4)) == 16 + 32 + 2
    assert numbers_kept("psgd-kron", (7,)) == 7 + 7 + 1
    assert numbers_kept("psgd-kron", (1, 7, 1)) == 7 + 7 + 1
    assert numbers_kept("psgd-kron", ()) == 1 + 1 + 1


def test_psgd_kron_factors_of_vectors_and_scalars_are_diagonal() -> None:
    for shape in ((), (1,), (1, 1), (7,), (1, 7)):
        rule = optim.PSGDKron.rule()
        assert rule.init(torch.zeros(shape))["factor_0"].ndim == 1
