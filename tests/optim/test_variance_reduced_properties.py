"""Rules for finite sums equal their papers' loops, and keep what the papers promise."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from finite_sums import FiniteSum, Run, check_defaults, check_golden, quadratic

from reference.ai_sarah import ai_sarah
from reference.saga import saga
from reference.sarah import sarah
from reference.spider import spider
from reference.storm import CLOSURE_GOLDEN, storm
from reference.svrg import svrg
from thalweg import optim
from thalweg.core.errors import UsageError
from thalweg.core.seeds import generator
from thalweg.modifier import ClipNorm, ClipValue, MedianGradient

START = np.array([1.0, -2.0, 0.5, 0.3])
PROBLEM = FiniteSum()
SQUARES = FiniteSum(n=16, kind="squares", ridge=0.5, seed=3)
LOOPS = {
    "svrg": svrg,
    "saga": saga,
    "sarah": sarah,
    "ai-sarah": ai_sarah,
    "spider": spider,
    "storm": storm,
}


@pytest.mark.parametrize("rule", LOOPS)
def test_defaults_are_the_procedures(rule: str) -> None:
    check_defaults(rule, LOOPS[rule])


# Equal to the papers' loops

RUNS = [
    ("svrg", {"lr": 0.3, "inner_steps": 5}),
    ("svrg", {"lr": 0.1, "inner_steps": 3, "weight_decay": 0.4}),
    ("sarah", {"lr": 0.3, "inner_steps": 5}),
    ("sarah", {"lr": 0.2, "inner_steps": 4, "weight_decay": 0.4}),
    ("sarah", {"lr": 0.5, "inner_steps": 9, "gamma": 0.4}),
    ("sarah", {"lr": 0.5, "inner_steps": 9, "plus": True, "gamma": 0.4}),
    ("sarah", {"lr": 0.3, "plus": True, "gamma": 1.0}),
    ("sarah", {"lr": 0.4, "plus": True, "weight_decay": 0.2}),
    ("spider", {"lr": 0.1, "inner_steps": 5}),
    ("spider", {"lr": 0.2, "inner_steps": 3, "beta": 0.4, "weight_decay": 0.3}),
    ("spider", {"lr": 0.2, "beta": 0.0}),
    ("ai-sarah", {}),
    ("ai-sarah", {"gamma": 0.3, "beta": 0.6, "weight_decay": 0.2}),
    ("ai-sarah", {"lr": 0.5, "gamma": 0.5, "beta": 0.9}),
    ("storm", {}),
    ("storm", {"lr": 0.5, "w": 2.0, "c": 3.0, "weight_decay": 0.3}),
]


def _reference(
    rule: str,
    problem: FiniteSum,
    drawn: Any,
    steps: int,
    seen: Callable[[np.ndarray], np.ndarray] = np.asarray,
    **hyper: Any,
) -> list[Any]:
    """Return the points of the procedure, to which ``seen`` gives its gradients."""
    arguments: list[Any] = [
        START,
        lambda t, x: seen(problem.gradient(drawn(t), x)),
        lambda x: seen(problem.gradient(problem.everything, x)),
    ]
    if rule == "storm":
        arguments.pop()
    if rule == "ai-sarah":
        arguments.append(lambda t, x, v: problem.along(drawn(t), x, v))
    found = islice(LOOPS[rule](*arguments, **hyper), steps)
    return [one[0] if isinstance(one, tuple) else one for one in found]


@pytest.mark.parametrize(
    ("rule", "hyper"), RUNS, ids=[f"{rule}-{i}" for i, (rule, _) in enumerate(RUNS)]
)
def test_rule_equals_its_procedure(rule: str, hyper: dict[str, Any]) -> None:
    drawn = PROBLEM.batches(4)
    run = Run.on(rule, PROBLEM, START, **hyper)
    for t, expected in enumerate(_reference(rule, PROBLEM, drawn, 24, **hyper), start=1):
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10, err_msg=f"step {t}")


# Modifiers and maximize act on every gradient that is compared


def _clipped(g: np.ndarray) -> np.ndarray:
    return g * min(1.0, 0.3 / (np.linalg.norm(g) + 1e-6))


SEEN: dict[str, dict[str, Any]] = {
    "clipped": {"modifiers": (ClipNorm(0.3),)},
    "values": {"modifiers": (ClipValue(0.1),)},
    "climbing": {"maximize": True},
}
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "clipped": _clipped,
    "values": lambda g: np.clip(g, -0.1, 0.1),
    "climbing": np.negative,
}


@pytest.mark.parametrize("how", SEEN)
@pytest.mark.parametrize("rule", ["svrg", "sarah", "spider", "storm"])
def test_all_gradients_are_seen_alike(rule: str, how: str) -> None:
    drawn = PROBLEM.batches(4)
    # STORM's share a is 1 with its own c, and the gradient at the point before plays no part.
    hyper = {"lr": 0.3, "c": 10.0} if rule == "storm" else {"lr": 0.3, "inner_steps": 5}
    run = Run.on(rule, PROBLEM, START, **hyper, **SEEN[how])
    expected = _reference(rule, PROBLEM, drawn, 12, FUNCTIONS[how], **hyper)
    for t, point in enumerate(expected, start=1):
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, point, rtol=0, atol=1e-10, err_msg=f"step {t}")


@pytest.mark.parametrize("how", SEEN)
def test_saga_all_gradients_are_seen_alike(how: str) -> None:
    run, points, draws = _saga({"lr": 0.3, **SEEN[how]}), [], []
    for _ in range(12):
        draws.append(run.optimizer.drawn())
        points.append(run.step())
    seen = FUNCTIONS[how]
    expected = saga(START, lambda i, x: seen(PROBLEM.gradient([i], x)), PROBLEM.n, draws, lr=0.3)
    np.testing.assert_allclose(points, list(expected), rtol=0, atol=1e-10)


def test_storm_leaves_a_modifier_s_state_to_its_own_gradient() -> None:
    """Median gradients of one batch at two points: the estimate moves once a step."""
    run = Run.on("storm", PROBLEM, START, lr=0.1, modifiers=(MedianGradient(tau=0.2),))
    plain = Run("sgd", START[:-1], START[-1], modifiers=(MedianGradient(tau=0.2),))
    closure = PROBLEM.closure(PROBLEM.everything, run.params)
    run.step(closure)
    torch.autograd.backward(PROBLEM.closure(PROBLEM.everything, plain.params)())
    plain.step()
    name = next(name for name in run.optimizer.state[run.params[0]] if "__" in name)
    np.testing.assert_allclose(run.state(name), plain.state(name), rtol=1e-12)


@pytest.mark.parametrize("rule", ["svrg", "sarah", "ai-sarah", "spider"])
def test_components_stand_for_the_whole_and_are_drawn(rule: str) -> None:
    hyper = {} if rule == "ai-sarah" else {"lr": 0.2, "inner_steps": 5}
    run = Run.on(rule, PROBLEM, START, seed=3, **hyper)
    run.optimizer._provided.clear()
    terms = [PROBLEM.closure([i], run.params) for i in range(PROBLEM.n)]
    run.optimizer.provide(components=terms)
    points, draws = [], []
    for t in range(12):
        draws.append(run.optimizer.drawn())
        assert type(draws[-1]) is int
        random = generator(3, "term", t)
        assert draws[-1] == int(torch.randint(PROBLEM.n, (), generator=random))
        points.append(run.step())
    assert len(set(draws)) > 4
    expected = _reference(rule, PROBLEM, lambda t: [draws[t - 1]], 12, **hyper)
    np.testing.assert_allclose(points, expected, rtol=0, atol=1e-10)


# SAGA

SAGA_RUNS = [{"lr": 0.3}, {"lr": 0.1, "weight_decay": 0.4}]


def _saga(hyper: dict[str, Any], problem: FiniteSum = PROBLEM) -> Run:
    run = Run.on("saga", problem, START, **hyper)
    terms = [problem.closure([i], run.params) for i in range(problem.n)]
    run.optimizer.provide(components=terms)
    return run


@pytest.mark.parametrize("hyper", SAGA_RUNS)
def test_saga_equals_its_procedure(hyper: dict[str, Any]) -> None:
    run, points, draws = _saga(hyper), [], []
    for _ in range(30):
        draws.append(run.optimizer.drawn())
        points.append(run.step())
    expected = saga(START, lambda i, x: PROBLEM.gradient([i], x), PROBLEM.n, draws, **hyper)
    np.testing.assert_allclose(points, list(expected), rtol=0, atol=1e-10)


def test_saga_table_holds_every_term_s_last_gradient_and_average_their_mean() -> None:
    run = _saga({"lr": 0.2, "seed": 4})
    last = [PROBLEM.gradient([i], START) for i in range(PROBLEM.n)]
    for _ in range(10):
        j = run.optimizer.drawn()
        last[j] = PROBLEM.gradient([j], run.point)
        run.step()
    table = [run.optimizer.state[p]["table"] for p in run.params]
    found = np.hstack([x.reshape(PROBLEM.n, -1).numpy() for x in table])
    np.testing.assert_allclose(found, last, rtol=0, atol=1e-12)
    np.testing.assert_allclose(run.state("average"), np.mean(last, axis=0), rtol=0, atol=1e-12)


def test_saga_takes_a_closure_for_the_term_drawn() -> None:
    own, given = _saga({"lr": 0.2}), _saga({"lr": 0.2})
    for _ in range(6):
        j = given.optimizer.drawn()
        np.testing.assert_array_equal(own.step(), given.step(PROBLEM.closure([j], given.params)))


def test_saga_refuses_another_number_of_terms_and_none() -> None:
    run = _saga({})
    run.step()
    run.optimizer.provide(components=[PROBLEM.closure([0], run.params)])
    before = run.point
    with pytest.raises(UsageError, match="another number of terms than the 1"):
        run.step()
    np.testing.assert_array_equal(run.point, before)
    run = Run("saga", START[:-1], START[-1])
    with pytest.raises(UsageError, match="provide"):
        run.step(PROBLEM.closure([0], run.params))


def test_saga_starts_anew_for_a_tensor_that_joins_later() -> None:
    p, q = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    run = Run("saga", START[:-1], lr=0.1)
    run.params = [p, q]
    run.optimizer = optim.create("saga", [("p", p)], lr=0.1)
    run.optimizer.provide(components=[quadratic(1.0, p), quadratic(2.0, p)])
    run.step()
    run.optimizer.add_param_group({"params": [("q", q)]})
    terms = [lambda c=c: c * (p.square().sum() + q.square().sum()) for c in (1.0, 2.0)]
    run.optimizer.provide(components=terms)
    before = run.point
    run.step()
    assert (np.abs(run.point) < np.abs(before)).all()
    # The draws go on by the tensor that has been there for longest.
    for t in range(2, 8):
        random = generator(0, "term", t)
        assert run.optimizer.drawn() == int(torch.randint(2, (), generator=random))
        run.step()


# Estimates


@pytest.mark.parametrize("rule", ["svrg", "saga", "sarah", "spider"])
def test_at_the_snapshot_the_estimate_is_the_full_gradient(rule: str) -> None:
    run = _saga({"lr": 0.1}) if rule == "saga" else Run.on(rule, PROBLEM, START, lr=0.1)
    full = PROBLEM.gradient(PROBLEM.everything, START)
    expected = START - 0.1 * full / (np.linalg.norm(full) if rule == "spider" else 1.0)
    closure = None if rule == "saga" else PROBLEM.closure([2, 5], run.params)
    np.testing.assert_allclose(run.step(closure), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("rule", ["svrg", "sarah", "spider", "storm"])
def test_with_full_batches_the_estimate_is_the_full_gradient(rule: str) -> None:
    hyper = {"lr": 0.2} if rule == "storm" else {"lr": 0.2, "inner_steps": 4}
    run = Run.on(rule, PROBLEM, START, **hyper)
    for t in range(1, 11):
        x = run.point
        moved = run.step(PROBLEM.closure(PROBLEM.everything, run.params)) - x
        assert run.group.get("inner_step", t % 4) == t % 4
        full = PROBLEM.gradient(PROBLEM.everything, x)
        length = np.linalg.norm(moved) / np.linalg.norm(full)
        np.testing.assert_allclose(moved, -length * full, rtol=0, atol=1e-12)
        if rule != "storm":
            unit = 1.0 if rule == "spider" else np.linalg.norm(full)
            assert abs(np.linalg.norm(moved) - 0.2 * unit) < 1e-12


@pytest.mark.parametrize("rule", ["svrg", "saga"])
def test_estimates_are_unbiased(rule: str) -> None:
    # After the same six steps, the mean over all terms that could be drawn next.
    moves = []
    for j in range(PROBLEM.n):
        run = _saga({"lr": 0.1}) if rule == "saga" else Run.on(rule, PROBLEM, START, lr=0.1)
        for t in range(6):
            run.step(None if rule == "saga" else PROBLEM.closure([t], run.params))
        x = run.point
        run.optimizer.drawn = lambda j=j: j
        moves.append(run.step(PROBLEM.closure([j], run.params)) - x)
    full = PROBLEM.gradient(PROBLEM.everything, x)
    np.testing.assert_allclose(np.mean(moves, axis=0), -0.1 * full, rtol=0, atol=1e-14)
    assert np.std(moves, axis=0).max() > 1e-4


# Rates, measured against the bounds of the papers


def _one_loop(rule: str, lr: float, steps: int) -> Run:
    return Run.on(rule, SQUARES, START, lr=lr, inner_steps=steps)


def test_svrg_loses_the_gap_at_the_rate_of_its_theorem() -> None:
    # Johnson & Zhang, theorem 1: a point drawn from one inner loop, in expectation.
    smooth, convex = SQUARES.constants()
    best = SQUARES.loss(SQUARES.everything, SQUARES.solution())
    lr, steps, gaps = 0.1 / smooth, 200, []
    for seed in range(3):
        run = Run.on("svrg", SQUARES, START, lr=lr, inner_steps=steps)
        drawn = SQUARES.batches(1, seed)
        for t in range(1, steps + 1):
            gaps.append(SQUARES.loss(SQUARES.everything, run.point) - best)
            run.step(SQUARES.closure(drawn(t), run.params))
    bound = 1 / (convex * lr * (1 - 2 * smooth * lr) * steps)
    bound += 2 * smooth * lr / (1 - 2 * smooth * lr)
    assert bound < 1
    assert np.mean(gaps) <= bound * gaps[0]


def test_svrg_converges_linearly_with_a_constant_step_where_sgd_stalls() -> None:
    smooth, _ = SQUARES.constants()
    solution = SQUARES.solution()
    distance = {}
    for rule in ("svrg", "sgd"):
        run = Run.on("svrg", SQUARES, START, lr=0.3 / smooth, inner_steps=32)
        if rule == "sgd":
            run.optimizer = optim.create("sgd", run.params, lr=0.3 / smooth)
        drawn = SQUARES.batches(1)
        for t in range(1, 600):
            closure = SQUARES.closure(drawn(t), run.params)
            if rule == "sgd":
                run.optimizer.zero_grad()
                closure().backward()
                run.optimizer.step()
            else:
                run.step(closure)
        distance[rule] = np.linalg.norm(run.point - solution)
    assert distance["svrg"] < 1e-5
    assert distance["sgd"] > 1e-2


def test_sarah_bounds_of_its_theorems() -> None:
    # Nguyen et al., theorems 1 and 2: the estimate shrinks inside one inner loop, and the
    # gradient at a point drawn from it is below the one it began with.
    smooth, convex = SQUARES.constants()
    lr, steps = 0.5 / smooth, 120
    first = np.sum(SQUARES.gradient(SQUARES.everything, START) ** 2)
    estimates, gradients = [], []
    for seed in range(4):
        run, drawn = _one_loop("sarah", lr, steps), SQUARES.batches(1, seed)
        for t in range(1, steps + 1):
            gradients.append(np.sum(SQUARES.gradient(SQUARES.everything, run.point) ** 2))
            run.step(SQUARES.closure(drawn(t), run.params))
            estimates.append(np.sum(run.state("estimate") ** 2))
    means = np.reshape(estimates, (4, steps)).mean(0)
    rate = 1 - (2 / (lr * smooth) - 1) * convex**2 * lr**2
    assert (means <= rate ** np.arange(steps) * first * (1 + 1e-12)).all()
    assert means[-1] < 1e-4 * first
    bound = 1 / (convex * lr * steps) + lr * smooth / (2 - lr * smooth)
    assert bound < 1
    assert np.mean(gradients) <= bound * first


def test_sarah_estimate_vanishes_in_one_loop_and_svrg_s_does_not() -> None:
    smooth, _ = SQUARES.constants()
    norms = {}
    for rule in ("sarah", "svrg"):
        run, drawn = _one_loop(rule, 0.5 / smooth, 250), SQUARES.batches(1)
        lengths = []
        for t in range(1, 250):
            x = run.point
            lengths.append(np.linalg.norm(run.step(SQUARES.closure(drawn(t), run.params)) - x))
        norms[rule] = max(lengths[-40:]) / lengths[0]
    assert norms["sarah"] < 1e-4
    assert norms["svrg"] > 1e-2


def test_sarah_plus_ends_its_loop_where_it_says() -> None:
    smooth, _ = SQUARES.constants()
    run = Run.on("sarah", SQUARES, START, lr=0.5 / smooth, plus=True, inner_steps=1000)
    drawn, norms = SQUARES.batches(1), []
    for t in range(1, 80):
        begins = run.group["inner_step"] == 0
        run.step(SQUARES.closure(drawn(t), run.params))
        norm = np.sum(run.state("estimate") ** 2)
        if begins:
            full = SQUARES.gradient(SQUARES.everything, run.state("previous"))
            np.testing.assert_allclose(run.state("estimate"), full, rtol=1e-12)
            norms = [norm]
        norms.append(norm)
        ended = run.group["inner_step"] == 0
        assert ended == (norm <= norms[0] / 8)


def test_saga_shrinks_the_distance_at_the_rate_of_its_theorem() -> None:
    # Defazio et al., corollary 1, for steps of 1 / (3 L).
    smooth, convex = SQUARES.constants()
    solution, whole, steps = SQUARES.solution(), SQUARES.everything, 250
    n = SQUARES.n
    start = np.sum((START - solution) ** 2)
    start += 2 * n / (3 * smooth) * (SQUARES.loss(whole, START) - SQUARES.loss(whole, solution))
    rate = 1 - min(1 / (4 * n), convex / (3 * smooth))
    distances = np.zeros(steps)
    for seed in range(4):
        run = _saga({"lr": 1 / (3 * smooth), "seed": seed}, SQUARES)
        distances += [np.sum((run.step() - solution) ** 2) / 4 for _ in range(steps)]
    assert (distances <= rate ** np.arange(1, steps + 1) * start).all()
    assert distances[-1] < 1e-2 * distances[0]


@pytest.mark.parametrize("rule", ["sarah", "spider"])
def test_groups_begin_their_loops_together(rule: str) -> None:
    p, q = (torch.nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    groups = [{"params": [("p", p)], "inner_steps": 2}, {"params": [("q", q)], "inner_steps": 5}]
    optimizer = optim.create(rule, groups)

    def closure() -> torch.Tensor:
        return (p * q).sum()

    optimizer.provide(full_closure=closure)
    for expected in ([1, 1], [0, 2], [1, 1], [0, 2]):
        optimizer.step(closure)
        assert [group["inner_step"] for group in optimizer.param_groups] == expected


# SPIDER


def test_spider_steps_have_one_length() -> None:
    run, drawn = Run.on("spider", PROBLEM, START, lr=0.05, inner_steps=4), PROBLEM.batches(3)
    for t in range(1, 12):
        x = run.point
        moved = run.step(PROBLEM.closure(drawn(t), run.params)) - x
        assert abs(np.linalg.norm(moved) - 0.05) < 1e-14


def test_spider_rests_where_the_gradient_is_zero() -> None:
    run = Run("spider", np.zeros(3))
    closure = quadratic([1.0, 2.0, 3.0], run.params[0])
    run.optimizer.provide(full_closure=closure)
    np.testing.assert_array_equal(run.step(closure), np.zeros(3))


def test_spider_on_least_squares_ends_in_a_ball_of_its_step() -> None:
    problem = FiniteSum(n=64, d=4, kind="squares", ridge=0.0, seed=1)
    start = np.zeros(5)
    run = Run.on("spider", problem, start, lr=0.01, inner_steps=8)
    drawn = problem.batches(8)
    for t in range(1, 300):
        run.step(problem.closure(drawn(t), run.params))
    final = np.linalg.norm(problem.gradient(problem.everything, run.point))
    assert final < 0.03
    assert final < 0.1 * np.linalg.norm(problem.gradient(problem.everything, start))


@pytest.mark.parametrize("beta", [1.0, 2 / 3])
def test_spider_converges_where_gradient_descent_with_a_fixed_step_diverges(beta: float) -> None:
    # The mean of cosh(a_i x - b_i): its curvature grows with its gradient. A step that is small
    # enough near the solution (L = 1 there) throws gradient descent out from afar.
    rows, shifts = np.array([1.0, -0.8, 0.6, 1.0]), np.array([0.1, 0.2, -0.1, 0.0])

    def slope(x: float) -> float:
        return float(np.mean(rows * np.sinh(rows * x - shifts)))

    x = 8.0
    for _ in range(2):
        x -= 0.25 * slope(x)
    assert abs(x) > 1e3
    run = Run("spider", [8.0], lr=0.25, inner_steps=2, beta=beta)
    p = run.params[0]
    terms = [
        lambda a=a, b=b: torch.cosh(a * p - b).sum() for a, b in zip(rows, shifts, strict=True)
    ]
    run.optimizer.provide(components=terms)
    whole = [slope(run.step()[0]) for _ in range(60)]
    for _ in range(60):
        run.group["lr"] *= 0.9
        whole.append(slope(run.step()[0]))
    assert slope(8.0) > 500
    assert abs(whole[-1]) < 1e-2


def test_spider_with_full_gradients_is_beta_normalised_descent() -> None:
    run = Run("spider", [3.0, -1.0], lr=0.05, inner_steps=1, beta=0.5)
    p, x = run.params[0], np.array([3.0, -1.0])
    run.optimizer.provide(full_closure=lambda: p.pow(4).sum() / 4)
    for _ in range(30):
        g = x**3
        x = x - 0.05 * g / np.linalg.norm(g) ** 0.5
        found = run.step(lambda: p.sum() * 0.0)
        np.testing.assert_allclose(found, x, rtol=0, atol=1e-13)


# AI-SARAH


def test_ai_sarah_minimises_the_next_estimate_on_a_quadratic() -> None:
    run, drawn = Run.on("ai-sarah", SQUARES, START), SQUARES.batches(2)
    x = START
    v = SQUARES.gradient(SQUARES.everything, START)
    after = run.step(SQUARES.closure(drawn(1), run.params))
    hv = SQUARES.along(drawn(1), START, v)[0]
    a = (v @ hv) / (hv @ hv)
    np.testing.assert_allclose(after, x - a * v, rtol=0, atol=1e-12)
    estimate = run.state("estimate")
    assert abs(estimate @ hv) < 1e-12 * (hv @ hv)
    assert abs(run.group["delta"] - 1 / a) < 1e-12
    # Numbers of the run, not tensors: they are saved with the groups.
    for name in ("delta", "norm_sq", "first_norm_sq"):
        assert type(run.group[name]) is float


@pytest.mark.parametrize(
    "problem",
    [
        FiniteSum(n=32, seed=1, ridge=1 / 32),
        FiniteSum(n=32, seed=2, ridge=1 / 32, scale=1e3),
        FiniteSum(n=32, seed=3, ridge=1 / 32, scale=1e-3),
        FiniteSum(n=32, seed=4, kind="squares", ridge=0.1),
    ],
    ids=["logistic", "large", "small", "squares"],
)
def test_ai_sarah_is_tune_free_on_convex_problems(problem: FiniteSum) -> None:
    run, drawn = Run.on("ai-sarah", problem, START), problem.batches(8)
    for t in range(1, 250):
        run.step(problem.closure(drawn(t), run.params))
    first = np.linalg.norm(problem.gradient(problem.everything, START))
    final = np.linalg.norm(problem.gradient(problem.everything, run.point))
    assert final < 1e-6 * first


def test_ai_sarah_does_not_see_the_scale_of_the_loss() -> None:
    paths = []
    for scale in (1.0, 2.0**10):
        problem = FiniteSum(scale=scale)
        run, drawn = Run.on("ai-sarah", problem, START), problem.batches(4)
        paths.append([run.step(problem.closure(drawn(t), run.params)) for t in range(1, 20)])
    np.testing.assert_allclose(paths[0], paths[1], rtol=0, atol=1e-12)


def test_ai_sarah_rests_at_the_solution_and_on_a_plane() -> None:
    run = Run("ai-sarah", np.zeros(3))
    closure, calls = quadratic([1.0, 2.0, 3.0], run.params[0]), []
    run.optimizer.provide(full_closure=lambda: calls.append(1) or closure())
    for _ in range(3):
        np.testing.assert_array_equal(run.step(closure), np.zeros(3))
    assert run.group["delta"] == 0
    assert len(calls) == 1
    run = Run("ai-sarah", np.ones(3))
    plane = run.params[0].sum
    run.optimizer.provide(full_closure=plane)
    np.testing.assert_array_equal(run.step(plane), np.ones(3))


def test_ai_sarah_divides_by_the_size_of_the_curvature() -> None:
    # phi'' < 0 for f = x^4 / 4 - x: <v, Hv> = 3 x^2 v^2, <Hv, Hv> + <v, (DHv) v> =
    # 9 x^4 v^2 + 6 x v^3, which is negative between 0 and the minimum at 1.
    x, v = 0.5, 0.5**3 - 1
    curvature = 9 * x**4 * v**2 + 6 * x * v**3
    assert curvature < 0
    run = Run("ai-sarah", [x])
    p = run.params[0]
    closure = lambda: p.pow(4).sum() / 4 - p.sum()  # noqa: E731
    run.optimizer.provide(full_closure=closure)
    expected = x + 3 * x**2 * v**2 / curvature * v
    np.testing.assert_allclose(run.step(closure), [expected], rtol=1e-13)
    # At x = 1 with the minimum where x^3 = 2.5, phi'' = 0, and nothing can be said.
    run = Run("ai-sarah", [1.0])
    p = run.params[0]
    closure = lambda: p.pow(4).sum() / 4 - 2.5 * p.sum()  # noqa: E731
    run.optimizer.provide(full_closure=closure)
    np.testing.assert_array_equal(run.step(closure), [1.0])


def test_ai_sarah_says_that_it_needs_the_graph() -> None:
    assert optim.AISARAH.needs_graph
    with pytest.raises(UsageError, match="one vector"):
        optim.create(
            "ai-sarah",
            [
                {"params": [("p", torch.nn.Parameter(torch.ones(1)))], "weight_decay": 0.1},
                {"params": [("q", torch.nn.Parameter(torch.ones(1)))]},
            ],
        ).step(lambda: None)


# STORM


@pytest.mark.parametrize("golden", CLOSURE_GOLDEN, ids=str)
def test_storm_golden_numbers(golden: Any) -> None:
    check_golden(golden)


def test_storm_is_norm_adagrad_with_a_cube_root_when_it_forgets() -> None:
    drawn = PROBLEM.batches(3)
    run, x, total = Run.on("storm", PROBLEM, START, lr=0.3, w=0.5, c=1e9), START, 0.5
    for t in range(1, 15):
        g = PROBLEM.gradient(drawn(t), x)
        total += g @ g
        x = x - 0.3 / total ** (1 / 3) * g
        found = run.step(PROBLEM.closure(drawn(t), run.params))
        np.testing.assert_allclose(found, x, rtol=0, atol=1e-13)


def test_storm_reduces_the_variance_of_its_estimate() -> None:
    problem = FiniteSum(n=64, seed=5)
    run, drawn = Run.on("storm", problem, START, lr=0.1, w=1.0, c=10.0), problem.batches(1)
    estimate, plain = [], []
    for t in range(1, 300):
        x = run.point
        full = problem.gradient(problem.everything, x)
        plain.append(np.sum((problem.gradient(drawn(t), x) - full) ** 2))
        run.step(problem.closure(drawn(t), run.params))
        estimate.append(np.sum((run.state("estimate") - full) ** 2))
    assert np.mean(estimate[100:]) < 0.3 * np.mean(plain[100:])


# All of them


@pytest.mark.parametrize("rule", ["svrg", "sarah", "ai-sarah", "spider"])
def test_nothing_moves_without_the_whole_loss(rule: str) -> None:
    run = Run(rule, START[:-1], START[-1])
    with pytest.raises(UsageError, match=r"provide\(full_closure"):
        run.step(PROBLEM.closure([0], run.params))
    np.testing.assert_array_equal(run.point, START)
    assert run.step() is not None  # no closure and no gradient: state alone is started
    np.testing.assert_array_equal(run.point, START)


@pytest.mark.parametrize("rule", LOOPS)
def test_steps_return_the_loss_of_the_batch(rule: str) -> None:
    run = _saga({}) if rule == "saga" else Run.on(rule, PROBLEM, START)
    for chosen in ([1, 2], [3], [4, 5]):
        expected = PROBLEM.loss(chosen, run.point)
        found = run.optimizer.step(PROBLEM.closure(chosen, run.params))
        np.testing.assert_allclose(float(found), expected, rtol=1e-12)


@pytest.mark.parametrize("rule", LOOPS)
def test_state_has_no_graph(rule: str) -> None:
    p = torch.nn.Parameter(torch.ones(2))
    state = type(optim.create(rule, [p])).rule.from_hyper({}).init(p)
    assert state
    assert not any(x.requires_grad for x in state.values())


@pytest.mark.parametrize("rule", ["ai-sarah", "storm"])
def test_a_nan_of_one_batch_is_not_lost(rule: str) -> None:
    run = Run.on(rule, PROBLEM, START)
    closure = PROBLEM.closure([0], run.params)
    for _ in range(2):
        run.step(closure)
    for _ in range(2):
        run.step(lambda: closure() + run.params[0][0] * float("nan"))
    assert np.isnan(run.point).any()


@pytest.mark.parametrize("rule", LOOPS)
def test_a_term_that_misses_a_tensor_moves_it_along(rule: str) -> None:
    run = Run(rule, [1.0, 2.0], [3.0], **({} if rule == "ai-sarah" else {"lr": 0.1}))
    p, q = run.params
    terms = [lambda: p.square().sum(), lambda: p.square().sum() + q.square().sum()]
    if rule != "storm":
        run.optimizer.provide(components=terms)
        run.optimizer.drawn = lambda: 0
    run.step(terms[1] if rule == "storm" else terms[0])
    before = run.point
    run.step(terms[0])
    if rule != "ai-sarah":  # which has found no curvature in the first term by now, and waits
        assert run.point[2] < before[2] < 3.0
    assert all(run.optimizer.state[x]["step"] == 2 for x in (p, q))


@pytest.mark.parametrize("rule", LOOPS)
def test_frozen_tensors_rest(rule: str) -> None:
    run = Run(rule, [1.0, 2.0], [3.0])
    p, q = run.params
    run.optimizer = optim.create(rule, [{"params": [("p", p)]}, {"params": [("q", q)]}])
    q.requires_grad_(False)
    closure = quadratic(1.0, p)
    if rule != "storm":
        run.optimizer.provide(components=[closure, closure])
    counts = []
    inner = run.optimizer.full_gradient if rule in ("sarah", "spider") else None
    if inner is not None:
        run.optimizer.full_gradient = lambda params: counts.append(1) or inner(params)
    for _ in range(4):
        run.step(closure)
    assert run.point[2] == 3.0
    assert (run.point[:2] < [1.0, 2.0]).all()
    assert len(counts) <= 1


@pytest.mark.parametrize("rule", ["svrg", "saga", "sarah", "spider", "storm"])
def test_modifiers_with_state_go_around(rule: str) -> None:
    run = Run(rule, [1.0, 2.0], modifiers=[MedianGradient(tau=1e-3)])
    closure = quadratic(1.0, run.params[0])
    if rule != "storm":
        run.optimizer.provide(components=[closure, closure])
    for _ in range(3):
        run.step(closure)
    assert any("median" in name for name in run.optimizer.state[run.params[0]])


@pytest.mark.parametrize("rule", ["svrg", "sarah", "ai-sarah", "spider"])
@pytest.mark.parametrize("value", [0, -1])
def test_impossible_values_are_refused(rule: str, value: int) -> None:
    name = "beta" if rule == "ai-sarah" else "inner_steps"
    with pytest.raises(UsageError, match=name):
        Run(rule, [1.0], **{name: value - 1 if name == "beta" else value})
