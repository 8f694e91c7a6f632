"""Modifiers: their formulas against closed forms and torch, in every execution, with any rule."""

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from thalweg import optim
from thalweg.core import registry
from thalweg.core.errors import UsageError
from thalweg.engine import Modifier, execution
from thalweg.modifier import (
    AdaptiveClip,
    Cautious,
    CautiousDecay,
    CentralizeGradient,
    ClipLayer,
    ClipNorm,
    ClipUpdate,
    ClipValue,
    DecoupledDecay,
    IndependentDecay,
    L2Decay,
    MedianGradient,
    ProjectRadial,
)
from thalweg.testing import check_sharding
from thalweg.testing.subject import (
    SHAPES,
    Subject,
    Trial,
    assert_close,
    assert_same,
    gradient,
    parameters,
    set_gradients,
)

ALL: list[tuple[Modifier, ...]] = [
    (CentralizeGradient(),),
    (AdaptiveClip(clipping=0.3),),
    (ClipValue(limit=0.3),),
    (ClipNorm(max_norm=0.7),),
    (ClipNorm(max_norm=2.0, norm_type=1.5),),
    (ClipLayer(max_norm=0.7),),
    (MedianGradient(tau=0.5),),
    (MedianGradient(tau=0.2, norm="l1"),),
    (MedianGradient(tau=0.5, mu=0.3),),
    (MedianGradient(tau=0.2, norm="l1", mu=0.4),),
    (L2Decay(),),
    (Cautious(),),
    (Cautious(scaling="count"),),
    (ProjectRadial(),),
    (ClipUpdate(limit=0.4),),
    (DecoupledDecay(),),
    (IndependentDecay(),),
    (CautiousDecay(),),
]
TOGETHER = (
    CentralizeGradient(),
    AdaptiveClip(clipping=2.0),
    ClipValue(limit=2.0),
    ClipNorm(max_norm=3.0),
    ClipLayer(max_norm=1.0),
    MedianGradient(tau=0.9),
    Cautious(),
    ProjectRadial(),
    ClipUpdate(limit=0.5),
    CautiousDecay(),
)
RULES = ("sgd", "adamw", "prodigy", "muon", "soap")
WAYS = ("loop", "foreach", "compiled")


def name_of(modifiers: tuple[Modifier, ...]) -> str:
    return "+".join(map(str, modifiers)) if len(modifiers) < 4 else "together"


EVERY = pytest.mark.parametrize("modifiers", [*ALL, TOGETHER], ids=name_of)


def test_every_registered_modifier_is_tried() -> None:
    tried = {modifier.slug for modifiers in ALL for modifier in modifiers}
    assert sorted(tried) == registry.slugs("modifier")


# One step of plain gradient descent shows what a modifier made of the gradient


def moved(modifier: Modifier, g: list[Tensor], p: list[Tensor], way: str, **hyper: Any) -> list:
    """Return how far one step of SGD with lr = 1 moves tensors."""
    params = [torch.nn.Parameter(x.clone()) for x in p]
    optimizer = optim.SGD(params, lr=1.0, modifiers=[modifier], execution=way, **hyper)
    for one, gradient_ in zip(params, g, strict=True):
        one.grad = gradient_.clone()
    optimizer.step()
    for one, gradient_ in zip(params, g, strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, gradient_)
    return [before - after.detach() for before, after in zip(p, params, strict=True)]


def tensors(seed: int = 0) -> list[Tensor]:
    random = torch.Generator().manual_seed(seed)
    shapes = ((4, 3), (5,), (2, 3, 2, 2), ())
    return [torch.randn(shape, generator=random, dtype=torch.float64) for shape in shapes]


def expected(modifier: Modifier, g: list[Tensor], p: list[Tensor]) -> list[Tensor]:
    """Return the same by torch's own functions or a plain formula."""
    if isinstance(modifier, ClipNorm | ClipValue) and not isinstance(modifier, ClipLayer):
        params = [torch.nn.Parameter(x.clone()) for x in p]
        for one, x in zip(params, g, strict=True):
            one.grad = x.clone()
        if isinstance(modifier, ClipNorm):
            torch.nn.utils.clip_grad_norm_(params, modifier.max_norm, modifier.norm_type)
        else:
            torch.nn.utils.clip_grad_value_(params, modifier.limit)
        return [one.grad for one in params if one.grad is not None]
    return [_one(modifier, x, w) for x, w in zip(g, p, strict=True)]


def _one(modifier: Modifier, g: Tensor, p: Tensor) -> Tensor:
    match modifier:
        case CentralizeGradient():
            if g.ndim < 2:
                return g
            rows = g.flatten(1)
            return (rows - rows.mean(1, keepdim=True)).reshape(g.shape)
        case AdaptiveClip():
            rows, weights = (x.reshape(x.shape[0] if x.ndim > 1 else 1, -1) for x in (g, p))
            out = rows.clone()
            for i in range(len(rows)):
                largest = modifier.clipping * max(float(weights[i].norm()), modifier.eps)
                if float(rows[i].norm()) > largest:
                    out[i] *= largest / rows[i].norm()
            return out.reshape(g.shape)
        case ClipLayer():
            norm = float(torch.linalg.vector_norm(g, modifier.norm_type))
            return g * min(1.0, modifier.max_norm / (norm + 1e-6))
        case Cautious(scaling="mean") | Cautious(scaling="count"):
            return g * g.numel() / (g.numel() + (modifier.scaling == "count"))
        case ProjectRadial():
            if g.ndim < 2:
                return g
            unit = p / p.norm()
            return g - (g * unit).sum() * unit
        case ClipUpdate():
            return g / max(1.0, float(g.square().mean().sqrt()) / modifier.limit)
    raise AssertionError(modifier)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "modifier",
    [
        ClipValue(limit=0.5),
        ClipNorm(max_norm=1.5),
        ClipNorm(max_norm=100.0),
        ClipNorm(max_norm=3.0, norm_type=1.0),
        ClipNorm(max_norm=1.2, norm_type=2.5),
        ClipNorm(max_norm=0.9, norm_type=4),
        ClipLayer(max_norm=1.1),
        ClipLayer(max_norm=2.0, norm_type=1),
        ClipLayer(max_norm=0.8, norm_type=3),
        CentralizeGradient(),
        AdaptiveClip(clipping=0.2, eps=0.9),
        Cautious(),
        Cautious(scaling="count"),
        ProjectRadial(),
        ClipUpdate(limit=0.8),
    ],
    ids=str,
)
def test_one_step_of_gradient_descent(modifier: Modifier, way: str) -> None:
    g, p = tensors(0), tensors(1)
    for x, y in zip(moved(modifier, g, p, way), expected(modifier, g, p), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-14)


def test_cautious_masks_where_momentum_and_gradient_disagree() -> None:
    p = torch.nn.Parameter(torch.zeros(4, dtype=torch.float64))
    optimizer = optim.SGD([p], lr=1.0, momentum=1.0 - 1e-12, modifiers=["cautious"])
    p.grad = torch.tensor([1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    optimizer.step()
    before = p.detach().clone()
    p.grad = torch.tensor([1.0, -0.5, -0.25, 0.0], dtype=torch.float64)
    optimizer.step()
    # d = (2, 0.5, 0.75, 1): only the first entry agrees with the gradient, so scale = 4.
    torch.testing.assert_close(before - p.detach(), torch.tensor([8.0, 0, 0, 0]).double())


def test_cautious_without_agreement_stands_still() -> None:
    p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = optim.SGD([p], lr=1.0, momentum=0.9, modifiers=["cautious"])
    p.grad = torch.ones(3, dtype=torch.float64)
    optimizer.step()
    before = p.detach().clone()
    p.grad = torch.full((3,), -0.1, dtype=torch.float64)
    optimizer.step()
    assert torch.equal(p.detach(), before)


def test_median_follows_the_formula_and_ends_at_the_median() -> None:
    random = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = optim.SGD([p], lr=1e-9, modifiers=[MedianGradient(tau=0.01, norm="l1")])
    m = 0.0
    for _ in range(4000):
        # Gradients 1 + Cauchy noise, whose mean does not exist.
        x = math.tan(math.pi * (float(torch.rand((), generator=random)) - 0.5)) + 1.0
        p.grad = torch.tensor([x], dtype=torch.float64)
        optimizer.step()
        m += min(max(x - m, -0.01), 0.01)
    found = float(optimizer.state[p]["median_gradient__median"])
    assert abs(found - m) < 1e-12
    assert abs(found - 1.0) < 0.2


def test_median_of_all_tensors_together_moves_by_tau() -> None:
    g, p = tensors(2), tensors(3)
    found = moved(MedianGradient(tau=0.3), g, p, "compiled")
    norm = math.sqrt(sum(float(x.square().sum()) for x in g))
    for x, y in zip(found, g, strict=True):
        torch.testing.assert_close(x, y * (0.3 / norm), rtol=0, atol=1e-14)
    wide = moved(MedianGradient(tau=math.inf), g, p, "compiled")
    for x, y in zip(wide, g, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-15)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize(("tau", "mu"), [(0.3, 0.0), (0.3, 0.2), (0.5, 4.0), (0.1, 100.0)])
def test_median_minimises_a_location_loss_near_the_estimate(
    tau: float, mu: float, norm: str, way: str
) -> None:
    # Proximal point: argmin over m of tau huber(g - m) + |m - m_0|^2 / 2, searched along g - m_0.
    def huber(z: np.ndarray) -> np.ndarray:
        return np.where(z <= mu, z**2 / (2 * mu) if mu else 0.0, z - mu / 2)

    modifier = MedianGradient(tau=tau, norm=norm, mu=mu)  # type: ignore[arg-type]
    p = [torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in ((3,), (2, 2))]
    optimizer = optim.SGD(p, lr=1.0, modifiers=[modifier], execution=way)
    m, shares = np.zeros(7), np.linspace(0, 1, 200001)[:, None]
    for seed in range(4):
        random = np.random.default_rng(seed)
        g = random.standard_normal(7) * 10.0 ** random.uniform(-1, 1)
        p[0].grad, p[1].grad = torch.tensor(g[:3]), torch.tensor(g[3:].reshape(2, 2))
        optimizer.step()
        sizes = np.array([np.linalg.norm(g - m)]) if norm == "l2" else np.abs(g - m)
        objective = tau * huber((1 - shares) * sizes) + (shares * sizes) ** 2 / 2
        m = m + shares[objective.argmin(axis=0)][:, 0] * (g - m)
        states = [optimizer.state[x]["median_gradient__median"].numpy().ravel() for x in p]
        np.testing.assert_allclose(np.concatenate(states), m, rtol=0, atol=1e-4)
        m = np.concatenate(states)


def test_median_between_median_and_mean_is_momentum_for_a_wide_mu() -> None:
    g, p = tensors(4), tensors(5)
    for norm in ("l1", "l2"):
        modifier = MedianGradient(tau=0.25 * 1e6, mu=0.75 * 1e6, norm=norm)  # type: ignore[arg-type]
        for x, y in zip(moved(modifier, g, p, "compiled"), g, strict=True):
            torch.testing.assert_close(x, 0.25 * y, rtol=0, atol=1e-14)


def test_geometric_median_tracks_the_centre_of_heavy_tails() -> None:
    # Gradients c + Student-t of 1.2 degrees, whose variance does not exist; the sample mean strays.
    random = np.random.default_rng(3)
    centre = np.array([1.0, -2.0, 0.5])
    p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
    optimizer = optim.SGD([p], lr=1e-9, modifiers=[MedianGradient(tau=0.01)])
    found = []
    for t in range(6000):
        p.grad = torch.tensor(centre + random.standard_t(1.2, 3))
        optimizer.step()
        if t >= 1000:
            found.append(optimizer.state[p]["median_gradient__median"].numpy().copy())
    assert np.abs(np.array(found) - centre).max() < 0.4
    np.testing.assert_allclose(np.mean(found, axis=0), centre, atol=0.1)


@pytest.mark.parametrize("way", WAYS)
def test_decays(way: str) -> None:
    p = torch.tensor([2.0, -4.0], dtype=torch.float64)
    g = torch.tensor([1.0, 1.0], dtype=torch.float64)

    def after(modifier: Modifier, lr: float, initial: float | None = None) -> list[float]:
        x = torch.nn.Parameter(p.clone())
        group: dict[str, Any] = {"params": [x], "weight_decay": 0.5}
        if initial is not None:
            group["initial_lr"] = initial
        optimizer = optim.SGD([group], lr=lr, modifiers=[modifier], execution=way)
        x.grad = g.clone()
        optimizer.step()
        return x.detach().tolist()

    assert after(L2Decay(), 0.1) == pytest.approx([2 - 0.1 * 2, -4 - 0.1 * -1])
    assert after(DecoupledDecay(), 0.1) == pytest.approx([2 - 0.1 - 0.1, -4 - 0.1 + 0.2])
    assert after(IndependentDecay(), 0.1) == pytest.approx([2 - 0.1 - 1.0, -4 - 0.1 + 2.0])
    assert after(IndependentDecay(), 0.1, 0.4) == pytest.approx([2 - 0.1 - 0.25, -4 - 0.1 + 0.5])
    # The step pushes the second entry outwards, so it does not decay.
    assert after(CautiousDecay(), 0.1) == pytest.approx([2 - 0.1 - 0.1, -4 - 0.1])


def test_decay_modifiers_take_the_place_of_the_rule_s_own() -> None:
    kinds = {
        "adamw": DecoupledDecay(),
        "adam": L2Decay(),
        "sgd": L2Decay(),
    }
    for slug, modifier in kinds.items():
        plain = Subject(slug).run(weight_decay=0.3).values()
        changed = Subject(slug, {"modifiers": [modifier]}).run(weight_decay=0.3).values()
        assert_close(changed, plain, 1e-12, slug)
    decoupled = Subject("adam", {"modifiers": ["decoupled-decay"]}).run(weight_decay=0.3)
    assert_close(decoupled.values(), Subject("adamw").run(weight_decay=0.3).values(), 1e-12, "")


# With every rule and in every execution


@pytest.mark.parametrize("rule", RULES)
@EVERY
def test_executions_agree(rule: str, modifiers: tuple[Modifier, ...]) -> None:
    subject = Subject(rule, {"modifiers": modifiers})
    loop = subject.run(weight_decay=0.1, execution="loop").values()
    for way in ("foreach", "compiled"):
        found = subject.run(weight_decay=0.1, execution=way).values()
        assert_close(found, loop, 1e-12, f"{rule} {way}")
    assert subject.optimizer.rule not in execution._uncompiled
    if subject.element_wise:
        single = subject.run(weight_decay=0.1, dtype=torch.float32).values()
        assert_close(single, loop, 1e-2, f"{rule} in float32")


@pytest.mark.parametrize("rule", ["adamw", "muon"])
@EVERY
def test_gradients_stay_and_runs_resume(rule: str, modifiers: tuple[Modifier, ...]) -> None:
    subject = Subject(rule, {"modifiers": modifiers})
    whole = subject.run(3)
    set_gradients(whole.params, 3)
    before = {n: p.grad.clone() for n, p in whole.params.items() if p.grad is not None}
    resumed = Trial.start(subject)
    with torch.no_grad():
        for name, p in resumed.params.items():
            p.copy_(whole.params[name])
    resumed.optimizer.load_state_dict(copy.deepcopy(whole.optimizer.state_dict()))
    resumed.steps = 3
    whole.optimizer.step()
    assert_same({n: p.grad for n, p in whole.params.items()}, before, "p.grad")
    whole.steps += 1
    whole.advance(3)
    resumed.advance(4)
    assert_same(resumed.values(), whole.values(), "resumed")


@EVERY
def test_nan_stays(modifiers: tuple[Modifier, ...]) -> None:
    for way in WAYS:
        trial = Subject("adamw", {"modifiers": modifiers}).run(2, execution=way)
        set_gradients(trial.params, 2)
        trial.params["hidden.weight"].grad[0, 0] = math.nan  # type: ignore[index]
        trial.optimizer.step()
        assert trial.params["hidden.weight"].isnan().any(), way


def test_missing_gradients_rest() -> None:
    trial = Subject("adamw", {"modifiers": TOGETHER}).run(2)
    for name, p in trial.params.items():
        p.grad = gradient(name, 2)
    trial.params["hidden.bias"].grad = None
    before = trial.params["hidden.bias"].detach().clone()
    trial.optimizer.step()
    assert torch.equal(trial.params["hidden.bias"].detach(), before)


def test_sharded_runs_equal_dense_ones() -> None:
    texts = ["clip-norm", "clip-layer", "centralize", "adaptive-clip", "median-gradient"]
    texts += ["cautious", "project-radial", "clip-update", "cautious-decay"]
    check_sharding(
        ["adamw", "muon"], modules=("thalweg.optim", "thalweg.modifier"), modifiers=texts
    )


# Refusals


def test_refusals() -> None:
    params = list(parameters().items())
    with pytest.raises(UsageError, match="twice"):
        optim.AdamW(params, modifiers=["cautious", Cautious()])
    with pytest.raises(UsageError, match='Did you mean "cautious"'):
        optim.AdamW(params, modifiers=["cautius"])
    with pytest.raises(UsageError, match="ClipNorm"):
        optim.AdamW(params, modifiers=[3])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="one way"):
        optim.AdamW(params, modifiers=[L2Decay(), CautiousDecay()])
    for make in (
        lambda: ClipNorm(max_norm=0.0),
        lambda: ClipValue(limit=-1.0),
        lambda: ClipLayer(max_norm="x"),  # type: ignore[arg-type]
        lambda: ClipNorm(norm_type=0.5),
        lambda: ClipLayer(norm_type=math.nan),
        lambda: AdaptiveClip(eps=0.0),
        lambda: AdaptiveClip(clipping=0.0),
        lambda: MedianGradient(tau=0.0),
        lambda: MedianGradient(mu=-0.1),
        lambda: MedianGradient(mu=math.inf),
        lambda: ClipUpdate(limit=0.0),
        lambda: Cautious(scaling="max"),  # type: ignore[arg-type]
    ):
        with pytest.raises(UsageError):
            make()
    for kind in (ClipNorm, ClipLayer):
        with pytest.raises(UsageError, match="clip-value"):
            kind(norm_type=math.inf)


def test_other_modifiers_state_is_refused() -> None:
    saved = Subject("adamw", {"modifiers": ["median-gradient"]}).run(2).optimizer.state_dict()
    plain = Subject("adamw").run(1).optimizer
    with pytest.raises(UsageError, match="median-gradient"):
        plain.load_state_dict(saved)
    with pytest.raises(UsageError, match="modifiers"):
        Subject("adamw", {"modifiers": ["cautious"]}).run(1).optimizer.load_state_dict(saved)


def test_shapes_have_what_modifiers_tell_apart() -> None:
    assert {len(shape) for shape in SHAPES.values()} >= {0, 1, 2, 4}
