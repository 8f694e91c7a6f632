"""What the papers of low-rank and block-wise rules say that they do."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from rule_runs import Run, assert_paths, noise, numbers_kept, path_of

from thalweg import optim
from thalweg.core.errors import UsageError
from thalweg.engine import Numbers, State
from thalweg.engine.low_rank import LowRankAdam, grown_slowly, principal_directions
from thalweg.optim.adam_mini import blocks_of

# Low-rank rules


def _rank_two(shape: tuple[int, int], steps: int = 8) -> list[list[np.ndarray]]:
    """Return gradients of rank 2 whose rows and columns lie in the same spaces at all steps."""
    random = np.random.default_rng(4)
    left, right = random.standard_normal((shape[0], 2)), random.standard_normal((2, shape[1]))
    return [[left @ random.standard_normal((2, 2)) @ right] for _ in range(steps)]


@pytest.mark.parametrize("rule", ["galore", "fira"])
def test_low_rank_steps_stay_in_the_subspace_of_gradients(rule: str) -> None:
    start = [np.zeros((6, 5))]
    script = _rank_two((6, 5))
    own = Run(rule, start, lr=0.1, rank=2, scale=1.0, update_proj_gap=100)
    for gradients in script:
        points = own.step(gradients)[0]
    inside = np.linalg.svd(script[0][0])[2][:2]
    np.testing.assert_allclose(points @ inside.T @ inside, points, atol=1e-9)
    assert np.abs(points).max() > 0.1


def test_galore_of_rank_one_moves_along_the_leading_directions() -> None:
    g = np.diag([3.0, 2.0, 1.0]) @ np.ones((3, 1)) @ np.array([[0.6, 0.0, 0.8, 0.0]])
    own = Run("galore", [np.zeros((3, 4))], lr=0.1, rank=1, scale=0.5, eps=1e-12)
    moved = own.step([g])[0]
    # Adam's first step has entries of size 1, in the space of one row and four columns.
    u = np.array([3.0, 2.0, 1.0]) / np.sqrt(14)
    expected = -0.1 * 0.5 * np.outer(u, np.sign(g[0]) * (np.abs(g[0]) > 0))
    np.testing.assert_allclose(moved, expected, atol=1e-9)


@pytest.mark.parametrize("rule", ["galore", "fira", "apollo"])
def test_low_rank_routes_vectors_embeddings_and_the_output_layer(rule: str) -> None:
    named = ["embed.weight", "hidden.weight", "hidden.bias", "head.weight"]
    params = [(n, torch.nn.Parameter(torch.ones((4,) if "bias" in n else (4, 4)))) for n in named]
    optimizer = optim.create(rule, params)
    first, second = optimizer.param_groups
    assert (first["rule"], first["param_names"]) == (rule, ["hidden.weight"])
    assert (second["rule"], len(second["params"])) == ("adamw", 3)


def test_fira_limits_the_growth_of_the_remainder() -> None:
    """Gradients a thousand times as large leave the norm of what lies outside 1.01-fold."""
    last = torch.tensor(2.0, dtype=torch.float64)
    x = torch.full((4,), 1000.0, dtype=torch.float64)
    assert abs(float(torch.linalg.vector_norm(grown_slowly(x, last))) - 2.02) < 1e-7
    assert abs(float(last) - 2.02) < 1e-7
    small = grown_slowly(x / 1e6, last)
    torch.testing.assert_close(small, x / 1e6)
    torch.testing.assert_close(last, torch.linalg.vector_norm(small))


def test_fira_limits_growth_from_next_to_nothing() -> None:
    """The authors' 1.01 (|before| + 1e-8), and 16 bits' norm in 32."""
    last = torch.tensor(1e-8, dtype=torch.float64)
    found = grown_slowly(torch.ones(4, dtype=torch.float64), last)
    torch.testing.assert_close(found, torch.full_like(found, 1.01e-8), rtol=1e-12, atol=0)
    x = torch.linspace(1, 2, 1000, dtype=torch.bfloat16)
    last = torch.tensor(1e9)
    found = grown_slowly(x, last)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(last, torch.linalg.vector_norm(x.float()))


def test_low_rank_rules_take_matrices_with_entries() -> None:
    rule = LowRankAdam(rank=2)
    shapes = ((1, 1), (3, 2), (2, 3, 4), (0, 3), (3, 0), (3,), ())
    assert [rule.takes(torch.zeros(shape)) for shape in shapes] == [True] * 3 + [False] * 4
    for name, state in rule.init(torch.zeros(5, 3, device="meta").bfloat16()).items():
        assert (state.device.type, state.dtype) == ("meta", torch.bfloat16)
        assert state.shape == (3 if name == "basis" else 5, 2)
    x = torch.zeros(1, 1)
    with pytest.raises(NotImplementedError, match="LowRankAdam has no direction"):
        rule.direction(x, x, x, x, State(), Numbers())


def test_fira_goes_on_after_a_gradient_of_zero() -> None:
    script = noise((4, 4), steps=9).gradients()
    own = Run("fira", [np.zeros((4, 4))], rank=1)
    own.step([np.zeros((4, 4))])
    before = own.step(script[0])[0]
    moved = own.step(script[1])[0] - before
    assert np.linalg.matrix_rank(moved, tol=1e-4) > 1


def test_principal_directions_do_not_depend_on_signs_or_the_library() -> None:
    x = torch.tensor(np.random.default_rng(0).standard_normal((6, 4)))
    columns = principal_directions(x, 3)
    torch.testing.assert_close(principal_directions(-x, 3), columns)
    assert (columns.amax(0) == columns.abs().amax(0)).all()
    torch.testing.assert_close(columns.mT @ columns, torch.eye(3, dtype=torch.float64))
    np.testing.assert_allclose((x @ columns).norm(dim=0), np.linalg.svd(x)[1][:3])
    half = principal_directions(x.bfloat16(), 3)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, principal_directions(x.bfloat16().float(), 3).bfloat16())
    x[0, 0] = torch.nan
    some = principal_directions(x, 3)
    torch.testing.assert_close(some.mT @ some, torch.eye(3, dtype=torch.float64))


def test_galore_and_fira_state_bytes() -> None:
    """For a x b with a >= b, both moments are a x rank and the basis is b x rank."""
    for shape in ((8, 5), (5, 8)):
        assert numbers_kept("galore", shape, rank=3) == 3 * (8 + 8 + 5)
        assert numbers_kept("galore", shape, rank=3, proj_type="reverse_std") == 3 * (5 + 5 + 8)
        assert numbers_kept("fira", shape, rank=3) == 3 * (8 + 8 + 5) + 1
    assert numbers_kept("galore", (4, 2, 3), rank=2) == 2 * (6 + 6 + 4)


def test_apollo_draws_the_same_projection_between_choices_and_for_equal_seeds() -> None:
    g = [np.random.default_rng(6).standard_normal((6, 4))]
    hyper: dict[str, Any] = {"rank": 2, "betas": (0.0, 0.0), "eps": 1e-12, "update_proj_gap": 2}

    def factors(seed: int) -> list[np.ndarray]:
        path = path_of("apollo", [g] * 3, [np.zeros((6, 4))], lr=1.0, seed=seed, **hyper)
        points = [np.zeros((6, 4)), *(points[0] for points in path)]
        return [(a - b)[:, 0] / g[0][:, 0] for a, b in pairwise(points)]

    one = factors(1)
    np.testing.assert_allclose(one[1], one[0], rtol=1e-6)
    assert np.abs(one[2] / one[1] - 1).min() > 1e-3
    assert np.abs(factors(2)[0] / one[0] - 1).min() > 1e-3
    np.testing.assert_array_equal(factors(1)[0], one[0])


def test_apollo_mini_moves_along_the_gradient() -> None:
    hyper: dict[str, Any] = {"rank": 1, "scale_type": "tensor", "scale": 128.0}
    own = Run("apollo", [np.zeros((4, 3))], **hyper)
    for gradients in noise((4, 3), steps=4).gradients()[:2]:
        before = own.points[0]
        moved = own.step(gradients)[0] - before
        ratio = moved[gradients[0] != 0] / gradients[0][gradients[0] != 0]
        np.testing.assert_allclose(ratio, ratio[0], rtol=1e-9)
        assert ratio[0] < 0


def test_apollo_state_bytes() -> None:
    """Both moments are a x rank for a x b with a >= b, and one norm: nothing else."""
    for shape in ((8, 5), (5, 8)):
        assert numbers_kept("apollo", shape, rank=3) == 2 * 3 * 8 + 1
        assert numbers_kept("apollo", shape, rank=1, scale_type="tensor") == 2 * 8 + 1


# Adam-mini


def test_adam_mini_with_a_block_an_entry_is_adamw() -> None:
    setting = noise((3, 4), (5,))
    hyper: dict[str, Any] = {"lr": 0.05, "weight_decay": 0.2}
    one = path_of("adam-mini", setting.gradients(), setting.start(), blocks="entries", **hyper)
    assert_paths(one, path_of("adamw", setting.gradients(), setting.start(), **hyper), 1e-13)


@pytest.mark.parametrize(
    ("name", "shape", "blocks"),
    [
        ("layers.0.attn.q_proj.weight", (8, 6), 4),
        ("layers.0.attn.wq.weight", (8, 6), 4),
        ("bert.attention.self.Query.weight", (8, 6), 4),
        ("layers.0.attn.k_proj.weight", (8, 6), 2),
        ("layers.0.attn.wk.weight", (8, 6), 2),
        ("bert.attention.self.key.weight", (8, 6), 2),
        ("layers.0.attn.v_proj.weight", (8, 6), "rows"),
        ("wte.weight", (8, 6), "rows"),
        ("conv.weight", (8, 3, 2, 2), "rows"),
        ("layers.0.norm.weight", (8,), "whole"),
        ("scale", (), "whole"),
        ("layers.0.attn.q_proj.bias", (8,), "entries"),
        ("", (8,), "entries"),
    ],
)
def test_adam_mini_blocks_by_name(name: str, shape: tuple[int, ...], blocks: Any) -> None:
    p = torch.zeros(shape)
    assert blocks_of(name, p, 4, 2) == blocks
    if blocks == 2:
        assert blocks_of(name, p, 4) == 4
    if isinstance(blocks, int):
        assert blocks_of(name, p) == "rows"


def _attention() -> list[tuple[str, torch.nn.Parameter]]:
    shapes = {
        "q_proj.weight": (8, 4),
        "k_proj.weight": (4, 4),
        "up.weight": (6, 4),
        "up.bias": (6,),
    }
    return [(name, torch.nn.Parameter(torch.ones(shape))) for name, shape in shapes.items()]


def test_adam_mini_keeps_one_mean_square_a_head_a_row_or_an_entry() -> None:
    named = _attention()
    optimizer = optim.create("adam-mini", named, n_heads=4, n_kv_heads=2)
    random = torch.Generator().manual_seed(0)
    for _, p in named:
        p.grad = torch.randn(p.shape, generator=random)
    optimizer.step()
    assert {name: len(optimizer.state[p]["exp_avg_sq"]) for name, p in named} == {
        "q_proj.weight": 4,
        "k_proj.weight": 2,
        "up.weight": 6,
        "up.bias": 6,
    }
    q = named[0][1]
    assert q.grad is not None
    heads = (1 - q.detach()).reshape(4, -1) / q.grad.reshape(4, -1)
    torch.testing.assert_close(heads, heads[:, :1].expand(4, 8))
    expected = 1e-3 / q.grad.reshape(4, -1).square().mean(1).sqrt()
    torch.testing.assert_close(heads[:, 0], expected, rtol=1e-3, atol=0)


def test_adam_mini_groups_stand_in_one_order_and_take_later_ones() -> None:
    optimizer = optim.create("adam-mini", _attention(), n_heads=4, n_kv_heads=2)
    assert [group["blocks"] for group in optimizer.param_groups] == [2, 4, "entries", "rows"]
    backwards = optim.create("adam-mini", _attention()[::-1], n_heads=4, n_kv_heads=2)
    assert [group["blocks"] for group in backwards.param_groups] == [2, 4, "entries", "rows"]
    later = [("later", torch.nn.Parameter(torch.ones(9)))]
    optimizer.add_param_group({"params": later, "blocks": 3, "lr": 0.5})
    assert (optimizer.param_groups[-1]["blocks"], optimizer.param_groups[-1]["lr"]) == (3, 0.5)


def test_adam_mini_refuses_rows_that_heads_do_not_divide() -> None:
    for hyper in ({"n_heads": 3}, {"blocks": 5}):
        with pytest.raises(UsageError, match="n_heads"):
            optim.create("adam-mini", _attention(), **hyper)
    with pytest.raises(UsageError, match="at least 1"):
        optim.create("adam-mini", _attention(), n_heads=0)


def test_adam_mini_state_of_empty_tensors_is_finite() -> None:
    own = Run("adam-mini", [np.zeros((3, 0)), np.zeros((0, 3)), np.zeros(0)])
    own.step(own.points)
    for index in range(3):
        assert all(np.isfinite(x).all() for x in own.state(index))


def test_adam_mini_state_bytes() -> None:
    """m is as large as the parameter; a matrix of a x b has a second moments, or one a head."""
    assert numbers_kept("adam-mini", (8, 5)) == 40 + 8
    assert numbers_kept("adam-mini", (8, 5), blocks=2) == 40 + 2
    assert numbers_kept("adam-mini", (8, 5), blocks="whole") == 40 + 1
    assert numbers_kept("adam-mini", (8, 5), blocks="entries") == 40 + 40
