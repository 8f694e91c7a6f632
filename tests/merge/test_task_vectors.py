"""Merges of task vectors, against formulas by hand and independent loops."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from one_vector import F64, tensor, values, zero

from thalweg.core.errors import UsageError
from thalweg.merge import DARE, TIES, ModelStock, TaskArithmetic, merge
from thalweg.merge.thresholds import Thresholds


def test_task_arithmetic_by_hand():
    base, a, b = tensor(1, 1, 1), tensor(2, 1, 0), tensor(1, 3, 1)
    assert values(merge("task-arithmetic", [a, b], base)) == [2, 3, 0]
    assert values(merge("task-arithmetic(scale=0.5)", [a, b], base)) == [1.5, 2, 0.5]
    # A negative weight takes a task away again.
    assert values(merge(TaskArithmetic(weights=(1, -1)), [a, b], base)) == [2, -1, 0]
    assert values(merge(TaskArithmetic(0.5), [a, b], base)) == values(merge("model-soups", [a, b]))


def test_ties_worked_example():
    found = merge("ties(density=1.0)", [tensor(2, -1, 0), tensor(1, 3, 0)], zero(3))
    assert values(found) == [1.5, 3, 0]


def test_ties_of_one_task_untrimmed_is_that_model():
    base, a = tensor(1, 5, -2), tensor(3, 4, 0)
    assert values(merge("ties(density=1.0)", [a], base)) == values(a)


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_ties_keeps_exactly_the_share(scope):
    # The authors' mask keeps 3 of these 10.
    tau = torch.arange(1, 11, dtype=F64) * torch.tensor([1, -1] * 5)
    found = merge(TIES(0.2, scope=scope), [{"w": tau}], zero(10))
    assert found["w"].nonzero().flatten().tolist() == [8, 9]
    assert found["w"][8:].tolist() == [9, -10]


def test_ties_keeps_all_that_equal_the_last_kept():
    found = merge("ties(density=0.25)", [tensor(2, -2, 2, 1)], zero(4))
    assert values(found) == [2, -2, 2, 0]


def test_what_is_undecided_takes_the_majority_sign_or_stays():
    # The first entry's sum is 0; the other two elect plus.
    assert values(merge("ties(density=1.0)", [tensor(1, 2, 1), tensor(-1, 2, 1)], zero(3))) == [
        1,
        2,
        1,
    ]
    assert values(merge("ties(density=1.0)", [tensor(1, 2, -1), tensor(-1, 2, -1)], zero(3))) == [
        0,
        2,
        -1,
    ]


def test_scopes_of_ties_differ_where_tensors_moved_unequally():
    far, near = torch.tensor([4.0, 3.0], dtype=F64), torch.tensor([0.2, 0.1], dtype=F64)
    model = {"far": far, "near": near}
    base = {"far": torch.zeros(2, dtype=F64), "near": torch.zeros(2, dtype=F64)}
    overall = merge("ties(density=0.5)", [model], base)
    assert overall["far"].tolist() == [4, 3]
    assert overall["near"].tolist() == [0, 0]
    each = merge("ties(density=0.5, scope='tensor')", [model], base)
    assert each["far"].tolist() == [4, 0]
    assert each["near"].tolist() == pytest.approx([0.2, 0])


def ties_loop(taus, density, scale, weights):
    """The paper's procedure, entry by entry."""
    kept = []
    for tau in taus:
        count = round(density * len(tau))
        least = sorted(np.abs(tau))[::-1][count - 1] if count else np.inf
        kept.append([x if abs(x) >= least else 0.0 for x in tau])
    sums = [sum(w * tau[p] for w, tau in zip(weights, kept, strict=True)) for p in range(len(tau))]
    balance = sum(np.sign(s) for s in sums)
    result = []
    for p, total in enumerate(sums):
        sign = np.sign(total) or np.sign(balance)
        agreeing = [(w, tau[p]) for w, tau in zip(weights, kept, strict=True) if tau[p] * sign > 0]
        share = sum(w for w, _ in agreeing)
        result.append(scale * sum(w * x for w, x in agreeing) / share if share else 0.0)
    return result


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 12),
    st.sampled_from([0.1, 0.3, 0.5, 1.0]),
)
def test_ties_is_the_papers_loop(seed, count, size, density):
    random = np.random.default_rng(seed)
    taus = random.integers(-4, 5, (count, size)).astype(np.float64)
    weights = random.integers(1, 4, count).astype(float)
    models = [{"w": torch.from_numpy(tau)} for tau in taus]
    found = merge(TIES(density, 2.0, tuple(weights)), models, zero(size))
    assert values(found) == pytest.approx(ties_loop(taus, density, 2.0, weights))


def run_thresholds(pieces, densities):
    """Return the thresholds of vectors that are read in pieces, and the passes that it took."""
    found = Thresholds(densities)
    turn = 0
    while turn < found.passes:
        for piece in pieces:
            size = len(piece[0])
            found.add(turn, [x[: found.part(turn, size)] for x in piece], size)
        found.end(turn)
        turn += 1
    return found.least, turn


def thresholds(x, parts, *densities):
    return run_thresholds([[part] * len(densities) for part in x.split(parts)], densities)


def nth_largest(x, density):
    count = round(density * len(x))
    return x.abs().sort(descending=True).values[count - 1].item() if count else float("inf")


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0), st.integers(1, 300))
def test_thresholds_are_the_nth_largest_magnitude(seed, density, size):
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.standard_normal(size).astype(np.float32))
    x *= 10.0 ** torch.from_numpy(random.integers(-20, 20, size))
    found, _ = thresholds(x.float(), 7, density, 1.0)
    assert found == [nth_largest(x.float(), density), nth_largest(x.float(), 1.0)]


@pytest.mark.parametrize("density", [1e-7, 0.01, 0.2, 0.9])
@pytest.mark.parametrize("step", [0.0, 0.7])
def test_thresholds_of_long_vectors_are_exact_after_a_look_at_some_entries(density, step):
    x = torch.randn(300_000, generator=torch.Generator().manual_seed(0))
    x = (x / step).round() * step if step else x
    found, passes = thresholds(x, 1 << 17, density)
    assert found == [nth_largest(x, density)]
    assert passes == 2


@pytest.mark.parametrize("seed", range(12))
def test_thresholds_of_several_vectors_of_pieces_of_all_lengths(seed):
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 250_000, 3)
    scales = np.repeat(10.0 ** random.uniform(-3, 0, 3), sizes)
    vectors = torch.from_numpy(random.standard_normal((2, sizes.sum())) * scales).float()
    if seed % 3 == 0:
        vectors = (vectors / 0.01).round() * 0.01
    densities = random.uniform(0.001, 1, 2).tolist()
    tensors = vectors.split(sizes.tolist(), 1)
    found, _ = run_thresholds(
        [list(piece) for part in tensors for piece in part.split(1 << 17, 1)], densities
    )
    assert found == [nth_largest(*pair) for pair in zip(vectors, densities, strict=True)]


def test_the_look_weighs_long_and_short_pieces_alike():
    x = torch.randn(140_000, generator=torch.Generator().manual_seed(0))
    x[1 << 17 :] *= 100
    found, passes = thresholds(x, 1 << 17, 0.2)
    assert found == [nth_largest(x, 0.2)]
    assert passes == 2


def test_a_look_that_misleads_is_found_out():
    # In one of two vectors the first entries, and these alone are looked at first, are small.
    x, y = torch.randn(2, 1 << 17, generator=torch.Generator().manual_seed(0))
    x[: 1 + len(x) // 7] *= 1e-3
    found, passes = thresholds(x, 1 << 17, 0.05)
    assert found == [nth_largest(x, 0.05)]
    assert passes == 4
    base = {"w": torch.zeros_like(x)}
    told = []
    merged = merge(
        "ties(density=0.05)", [{"w": x}, {"w": y}], base, progress=lambda *at: told.append(at)
    )
    kept = [tau.abs() >= nth_largest(tau, 0.05) for tau in (x, y)]
    assert torch.equal(merged["w"] != 0, kept[0] | kept[1])
    assert told[-1] == (6 * len(x), 6 * len(x))


def test_dare_without_drop_is_what_follows():
    base, models = tensor(1, 1, 1), [tensor(2, 1, 0), tensor(1, 3, 1)]
    for then in ("task-arithmetic", "model-soups", "ties(density=0.5)"):
        assert values(merge(DARE(0.0, then), models, base)) == values(merge(then, models, base))


def test_dare_is_right_on_average_with_its_variance():
    base, model = {"w": torch.zeros(200_000, dtype=F64)}, {"w": torch.ones(200_000, dtype=F64)}
    for drop in (0.5, 0.9):
        found = merge(DARE(drop, seed=1), [model], base)["w"]
        assert set(found.tolist()) == {0.0, 1 / (1 - drop)} or drop == 0.9
        deviation = (drop / (1 - drop)) ** 0.5
        assert found.mean().item() == pytest.approx(1, abs=4 * deviation / 200_000**0.5)
        assert found.var().item() == pytest.approx(drop / (1 - drop), rel=0.03)


def test_a_linear_layers_output_is_unchanged_on_average_under_dare():
    random = torch.Generator().manual_seed(0)
    base = torch.randn(6, 40, generator=random, dtype=F64)
    model = base + 0.1 * torch.randn(6, 40, generator=random, dtype=F64)
    x = torch.randn(40, generator=random, dtype=F64)
    outs = torch.stack(
        [merge(DARE(0.8, seed=s), [{"w": model}], {"w": base})["w"] @ x for s in range(600)]
    )
    error = (outs.mean(0) - model @ x) / (outs.std(0) / 600**0.5)
    assert error.abs().max() < 4


def test_dares_masks_differ_by_seed_model_and_tensor():
    ones = {"a": torch.ones(64), "b": torch.ones(64)}
    base = {"a": torch.zeros(64), "b": torch.zeros(64)}

    def masks(seed):
        found = merge(
            DARE(0.5, seed=seed, then=TaskArithmetic(weights=(1, 10))), [ones, ones], base
        )
        return [*(found["a"] % 5).tolist(), *found["b"].tolist()], found

    assert masks(0)[0] == masks(0)[0]
    assert masks(0)[0] != masks(1)[0]
    found = masks(0)[1]
    assert not torch.equal(found["a"], found["b"])
    assert len(found["a"].unique()) == 4  # both, either one, neither


def test_drops_may_differ_by_model():
    a, b = {"w": torch.ones(1000)}, {"w": torch.full((1000,), 10.0)}
    found = merge(DARE((0.0, 0.9), rescale=False), [a, b], {"w": torch.zeros(1000)})["w"]
    assert set(found.tolist()) == {1.0, 11.0}
    assert 60 < (found == 11).sum() < 140


def test_model_stock_by_hand():
    # Two task vectors of length 2 at 60 degrees: cos = 1/2, t = 2 cos / (1 + cos) = 2/3.
    base, a = tensor(1, 1), tensor(3, 1)
    b = tensor(1 + 1, 1 + 3**0.5)
    mean = [2.5, 1 + 3**0.5 / 2]
    found = values(merge("model-stock", [a, b], base))
    assert found == pytest.approx([1 + (m - 1) * 2 / 3 for m in mean])


def test_model_stock_between_its_limits():
    base, a = tensor(0, 0), tensor(1, 0)
    assert values(merge("model-stock", [a, a], base)) == values(a)
    assert values(merge("model-stock", [a, tensor(0, 1)], base)) == [0, 0]
    assert values(merge("model-stock", [a, tensor(-1, 0.5)], base)) == [0, 0]
    assert values(merge("model-stock", [a], base)) == values(a)
    assert values(merge("model-stock", [base, base], base)) == [0, 0]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_model_stock_is_nearest_to_the_centre_of_a_thin_shell(count):
    """Models at mu + r e_i, the base at another point that is as far from every one of them."""
    size, radius = 12, 2.0
    random = torch.Generator().manual_seed(count)
    rotation = torch.linalg.qr(torch.randn(size, size, generator=random, dtype=F64)).Q
    mu = torch.randn(size, generator=random, dtype=F64)
    models = [mu + radius * rotation[i] for i in range(count)]
    base = mu + 3.0 * rotation[-1]
    found = merge("model-stock", [{"w": w} for w in models], {"w": base})["w"]
    for w in models:
        assert abs((found - mu) @ (w - base)) < 1e-10
    for other in itertools.chain(models, [base, torch.stack(models).mean(0)]):
        assert (found - mu).norm() <= (other - mu).norm() + 1e-12


def test_more_than_two_models_use_the_mean_of_all_cosines():
    base = tensor(0, 0, 0)
    taus = [tensor(1, 0, 0), tensor(1, 1, 0), tensor(1, 0, 1)]
    cosine = (2**-0.5 + 2**-0.5 + 0.5) / 3
    t = 3 * cosine / (1 + 2 * cosine)
    assert values(merge("model-stock", taus, base)) == pytest.approx([t, t / 3, t / 3])
    assert values(merge(ModelStock(), taus, base)) == values(merge("model-stock", taus, base))


@pytest.mark.parametrize(
    "text",
    [
        "ties(density=0)",
        "ties(density=1.5)",
        "ties(scope='layer')",
        "ties(weights=(1, -1))",
        "ties(density=(0.5, 2))",
        "dare(drop=1.0)",
        "dare(drop=-0.1)",
        "dare(seed=-1)",
        "dare(then='greedy-soup')",
        "dare(then='nonsense')",
        "task-arithmetic(scale='x')",
        "task-arithmetic(weights=(float,))",
        "tis",
        "ties(densty=0.5)",
    ],
)
def test_impossible_settings_are_refused(text):
    with pytest.raises(UsageError):
        merge(text, [tensor(1.0)], tensor(0.0))


def test_a_setting_for_each_model_must_match_their_number():
    with pytest.raises(UsageError, match="density has 2 numbers for 1 models"):
        merge(TIES((0.5, 0.2)), [tensor(1)], tensor(0))
