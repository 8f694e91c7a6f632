"""Merges weighted by data or by geometry, against closed forms."""

import math

import pytest
import torch
from one_vector import F64, tensor, values
from torch import nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective
from thalweg.merge import (
    FisherMerge,
    GradientMatching,
    RegMean,
    fisher_diagonal,
    input_grams,
    merge,
)


def test_fisher_merge_by_hand():
    models, fishers = [tensor(0, 4), tensor(2, 8)], [tensor(3, 1), tensor(1, 1)]
    plain = FisherMerge(normalise=False)
    assert values(merge(plain, models, statistics=fishers)) == pytest.approx([0.5, 6])
    weighted = FisherMerge((1, 3), normalise=False)
    assert values(merge(weighted, models, statistics=fishers)) == pytest.approx([1, 7])
    # Normalised: divided by sqrt(10) and sqrt(2).
    a, b = 10**-0.5, 2**-0.5
    expected = [2 * b / (3 * a + b), (4 * a + 8 * b) / (a + b)]
    assert values(merge("fisher-merge", models, statistics=fishers)) == pytest.approx(expected)


def test_identities_of_fisher_merging():
    models = [tensor(0, 4), tensor(2, 8)]
    equal = [tensor(3, 1), tensor(3, 1)]
    assert values(merge("fisher-merge", models, statistics=equal)) == pytest.approx([1, 6])
    scaled = [tensor(3, 1), tensor(300, 100)]
    assert values(merge("fisher-merge", models, statistics=scaled)) == pytest.approx([1, 6])
    none = [tensor(3, 1), tensor(0, 0)]
    assert values(merge("fisher-merge", models, statistics=none)) == values(models[0])
    # Nobody knows the first entry: the mean, or with the authors' floor the first model.
    blind = [tensor(0, 1), tensor(0, 1)]
    assert values(merge("fisher-merge", models, statistics=blind)) == [1, 6]
    floor = FisherMerge(floor=1e-6)
    assert values(merge(floor, models, statistics=blind)) == pytest.approx([0, 6])


def test_fisher_merging_is_the_joint_posterior_of_a_linear_gaussian_model():
    """A diagonal design X'X, flat prior: posterior precision and mean by hand."""
    random = torch.Generator().manual_seed(0)
    estimates, precisions = [], []
    for scale in (1.0, 3.0):
        design = torch.diag(torch.rand(5, generator=random, dtype=F64) + scale)
        y = torch.randn(5, generator=random, dtype=F64)
        precisions.append((design.T @ design).diagonal())
        estimates.append(torch.linalg.solve(design, y))
    both = sum(precisions)
    mean = sum(p * w for p, w in zip(precisions, estimates, strict=True)) / both
    found = merge(
        FisherMerge(normalise=False),
        [{"w": w} for w in estimates],
        statistics=[{"w": p} for p in precisions],
    )
    torch.testing.assert_close(found["w"], mean)


def test_tensors_without_statistics_are_averaged_and_bad_ones_refused():
    models = [{"w": torch.zeros(2), "b": torch.zeros(1)}, {"w": torch.ones(2), "b": torch.ones(1)}]
    fishers = [{"w": torch.ones(2)}, {"w": torch.zeros(2)}]
    found = merge("fisher-merge", models, statistics=fishers)
    assert found["w"].tolist() == [0, 0]
    assert found["b"].tolist() == [0.5]
    for bad, message in (
        ({"v": torch.ones(2)}, "no tensor that is merged"),
        ({"w": torch.ones(3)}, "has the shape 3, not 2"),
        ({"w": torch.ones(2), "b": torch.ones(1)}, "not in all the others"),
        ({"w": -torch.ones(2)}, "is negative"),
        ({"w": torch.tensor([1.0, math.nan])}, "are NaN"),
    ):
        with pytest.raises(UsageError, match=message):
            merge("fisher-merge", models, statistics=[fishers[0], bad])


def test_gradient_matching_by_hand():
    base, a, b = tensor(1.0), tensor(3.0), tensor(0.0)
    given = {"statistics": [tensor(2.0), tensor(4.0)], "base_statistics": tensor(1.0)}
    # Hbar = 1 + 2 + 4; 1 + (3 * 2 - 5 * 1) / 7.
    found = merge(GradientMatching(delta=0.0), [a, b], base, **given)
    assert values(found) == pytest.approx([1 + 1 / 7])
    # Hbar = 1 + 0.5 * 2 - 4 < 0 would be no curvature: task arithmetic.
    removed = merge(GradientMatching((0.5, -1.0), 0.0), [a, b], base, **given)
    assert values(removed) == pytest.approx([1 + 0.5 * 2 + 1])
    scaled = GradientMatching(delta=0.0, scales=(10, 20, 5))
    assert values(merge(scaled, [a, b], base, **given)) == pytest.approx([1 + (25 * 2 - 85) / 105])
    with pytest.raises(UsageError, match="3 in all; found 2"):
        merge(GradientMatching(scales=(1, 2)), [a, b], base, **given)


def test_limits_of_gradient_matching():
    base, models = tensor(1, 1), [tensor(3, 2), tensor(0, 1)]
    zero, ones = tensor(0, 0), tensor(5, 5)
    soup = values(merge("model-soups", models))
    same = merge(
        "gradient-matching-merge", models, base, statistics=[ones, ones], base_statistics=zero
    )
    assert values(same) == pytest.approx(soup)
    flat = merge(
        "gradient-matching-merge", models, base, statistics=[zero, zero], base_statistics=ones
    )
    assert values(flat) == pytest.approx(values(merge("task-arithmetic", models, base)))
    fishers = [tensor(1, 2), tensor(3, 1)]
    found = merge(
        GradientMatching(delta=0.0), models, base, statistics=fishers, base_statistics=zero
    )
    fisher = merge(FisherMerge(normalise=False), models, statistics=fishers)
    assert values(found) == pytest.approx(values(fisher))


def test_gradient_matching_is_exact_for_quadratics():
    """Each task: H_t (w - c_t)^2 / 2 from the prior H_0 (w - w_0)^2 / 2; then all jointly."""
    random = torch.Generator().manual_seed(0)
    prior, w0 = torch.rand(6, generator=random, dtype=F64) + 0.5, torch.zeros(6, dtype=F64)
    curvatures = [torch.rand(6, generator=random, dtype=F64) for _ in range(3)]
    centres = [torch.randn(6, generator=random, dtype=F64) for _ in range(3)]
    tasks = list(zip(curvatures, centres, strict=True))
    models = [{"w": (h * c + prior * w0) / (h + prior)} for h, c in tasks]
    joint = (prior * w0 + sum(h * c for h, c in tasks)) / (prior + sum(curvatures))
    found = merge(
        GradientMatching(delta=0.0),
        models,
        {"w": w0},
        statistics=[{"w": h} for h in curvatures],
        base_statistics={"w": prior},
    )
    torch.testing.assert_close(found["w"], joint)


def layer(weight):
    return {"weight": weight, "bias": weight.sum(1)}


def test_regmean_solves_the_normal_equations():
    random = torch.Generator().manual_seed(0)
    models = [layer(torch.randn(3, 4, generator=random, dtype=F64)) for _ in range(2)]
    inputs = [torch.randn(n, 4, generator=random, dtype=F64) for n in (9, 15)]
    grams = [{"weight": x.mT @ x / len(x)} for x in inputs]
    found = merge("regmean(shrink=1.0)", models, statistics=grams)["weight"]
    residual = sum(
        g["weight"] @ (found - m["weight"]).mT for g, m in zip(grams, models, strict=True)
    )
    assert residual.abs().max() < 1e-12
    stacked = torch.cat([x / len(x) ** 0.5 for x in inputs])
    targets = torch.cat(
        [x @ m["weight"].mT / len(x) ** 0.5 for x, m in zip(inputs, models, strict=True)]
    )
    torch.testing.assert_close(found.mT, torch.linalg.lstsq(stacked, targets).solution)
    bias = merge("regmean", models, statistics=grams)["bias"]
    torch.testing.assert_close(bias, (models[0]["bias"] + models[1]["bias"]) / 2)


def test_identities_of_regmean():
    random = torch.Generator().manual_seed(1)
    models = [layer(torch.randn(3, 4, generator=random, dtype=F64)) for _ in range(2)]
    mean = (models[0]["weight"] + models[1]["weight"]) / 2
    x = torch.randn(9, 4, generator=random, dtype=F64)
    same = [{"weight": x.mT @ x / 9}] * 2
    torch.testing.assert_close(merge("regmean", models, statistics=same)["weight"], mean)
    scales = [torch.rand(4, generator=random, dtype=F64) + 0.1 for _ in range(2)]
    dense = [{"weight": torch.diag(s) + 0.01} for s in scales]
    found = merge(RegMean(0.0), models, statistics=dense)["weight"]
    a, b = (s + 0.01 for s in scales)
    torch.testing.assert_close(found, (models[0]["weight"] * a + models[1]["weight"] * b) / (a + b))
    # A direction that no input has keeps the mean.
    blind = [{"weight": torch.diag(torch.tensor([s, 1.0, 1.0, 0.0], dtype=F64))} for s in (1, 3)]
    found = merge("regmean(shrink=1.0)", models, statistics=blind)["weight"]
    torch.testing.assert_close(found[:, 1:], mean[:, 1:])
    torch.testing.assert_close(
        found[:, 0], (models[0]["weight"] + 3 * models[1]["weight"])[:, 0] / 4
    )


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_statistics_are_what_their_definitions_say():
    model, other = net(), {n: x + 0.1 for n, x in net().state_dict().items()}
    x, y = torch.randn(7, 4, dtype=F64), torch.arange(7) % 3
    objective = Objective(model, cross_entropy, [(x[:4], y[:4]), (x[4:], y[4:])])
    found = fisher_diagonal(objective, other)
    moved = net()
    moved.load_state_dict(other)
    expected = {n: torch.zeros_like(p) for n, p in moved.named_parameters()}
    for one in x:
        log = moved(one).log_softmax(0)
        for c in range(3):
            grads = torch.autograd.grad(log[c], list(moved.parameters()), retain_graph=True)
            for name, g in zip(expected, grads, strict=True):
                expected[name] += log[c].exp().detach() * g.square() / 7
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)
    grams = input_grams(objective)
    hidden = model[1](model[0](x)).detach()
    torch.testing.assert_close(grams["0.weight"], x.mT @ x / 7)
    torch.testing.assert_close(grams["2.weight"], hidden.mT @ hidden / 7)
    assert all(torch.equal(net().state_dict()[n], v) for n, v in model.state_dict().items())
    with pytest.raises(UsageError, match="not the model's weights"):
        fisher_diagonal(objective, {"x": torch.zeros(1)})


def test_a_fisher_of_certain_predictions_is_not_negative():
    torch.manual_seed(0)
    model = nn.Linear(4, 10)
    with torch.no_grad():
        model.weight.mul_(12)
    x = torch.randn(300, 4)
    objective = Objective(model, cross_entropy, [(x, torch.arange(300) % 10)])
    assert min(f.min().item() for f in fisher_diagonal(objective).values()) >= 0


def test_statistics_of_models_merge_them():
    models = [net().state_dict(), {n: x + 0.1 for n, x in net().state_dict().items()}]
    x = torch.randn(9, 4, dtype=F64)
    objective = Objective(net(), cross_entropy, [(x, torch.arange(9) % 3)])
    fishers = [fisher_diagonal(objective, w) for w in models]
    merge("fisher-merge", models, statistics=fishers)
    merge("regmean", models, statistics=[input_grams(objective, w) for w in models])


@pytest.mark.parametrize("scope", ["tensor", "global"])
@pytest.mark.parametrize("t", [0.0, 0.25, 1.0])
def test_slerp_walks_the_arc(scope, t):
    one, other = tensor(1, 0), tensor(0, 1)
    found = values(merge(f"slerp(t={t}, scope='{scope}')", [one, other]))
    assert found == pytest.approx([math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)])


def test_slerp_of_other_lengths_and_of_no_arc():
    one, other = tensor(2, 0), tensor(0, 1)
    a = math.sin(math.pi / 4)
    assert values(merge("slerp", [one, other])) == pytest.approx([2 * a, a])
    assert values(merge("slerp", [tensor(1, 1), tensor(3, 3)])) == [2, 2]
    assert values(merge("slerp(t=0.25)", [tensor(1, 1), tensor(-1, -1)])) == [0.5, 0.5]
    assert values(merge("slerp", [tensor(0, 0), tensor(2, 0)])) == [1, 0]


def test_the_scopes_of_slerp_differ():
    one = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0, 0.0])}
    other = {"a": torch.tensor([0.0, 1.0]), "b": torch.tensor([1.0, 0.0])}
    each, overall = (merge(f"slerp(scope='{s}')", [one, other]) for s in ("tensor", "global"))
    assert each["b"].tolist() == [1, 0]
    angle = math.acos(0.5)
    share = 2 * math.sin(angle / 2) / math.sin(angle)
    assert overall["b"].tolist() == pytest.approx([share, 0])


def test_variance_is_kept_where_it_would_vanish():
    random = torch.Generator().manual_seed(0)
    models = [{"w": torch.randn(300, 300, generator=random)} for _ in range(9)]
    plain = merge("model-soups", models)["w"]
    found = merge("vanishing-variance", models)["w"]
    assert plain.var().item() == pytest.approx(1 / 9, rel=0.02)
    each = torch.stack([m["w"].var(correction=0) for m in models]).mean().item()
    assert found.var(correction=0).item() == pytest.approx(each, rel=1e-5)
    assert found.mean().item() == pytest.approx(plain.mean().item(), abs=1e-7)
    # The same directions, only longer.
    assert torch.corrcoef(torch.stack([plain.flatten(), found.flatten()]))[0, 1] > 1 - 1e-5


def test_variance_correction_by_hand():
    a = {"w": torch.tensor([[1.0, 3.0]]), "b": torch.tensor([1.0, 3.0])}
    b = {"w": torch.tensor([[3.0, 1.0]]), "b": torch.tensor([3.0, 5.0])}
    c = {"w": torch.tensor([[0.0, 6.0]]), "b": torch.tensor([2.0, 4.0])}
    # Means 4/3 and 10/3 around 7/3: deviation 1; variances 1, 1 and 9.
    found = merge("vanishing-variance", [a, b, c])
    root = math.sqrt(11 / 3)
    assert found["w"].flatten().tolist() == pytest.approx([7 / 3 - root, 7 / 3 + root])
    assert found["b"].tolist() == [2, 4]
    assert merge("vanishing-variance", [a, b])["w"].tolist() == [[2, 2]]
