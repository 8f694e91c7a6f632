import random

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.core.batch_norm import recalibrate_batch_norm
from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, connect, find_pattern, sharpness
from thalweg.landscape.curvature import Hessian, sample_gradients


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Vector(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.w = nn.Parameter(torch.as_tensor(value, dtype=torch.float64).clone())


def fit_error(model, batch):
    x, y = batch
    return ((x @ model.w - y) ** 2).mean()


def normed(seed=0):
    """A linear layer whose outputs a batch-norm layer without an affine map standardises."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=False)).double()
    recalibrate_batch_norm(model, [draw(40, 3, seed=9)], lambda model, batch: model(batch))
    return model


def output_size(model, batch):
    return (model(batch[0]) ** 2).mean()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_the_loss_is_the_mean_over_all_samples():
    x, y, w = draw(10, 3), draw(10, seed=1), draw(3, seed=2)
    objective = Objective(Vector(w), fit_error, zip(x.split(4), y.split(4), strict=True))
    assert objective.value() == pytest.approx(float(((x @ w - y) ** 2).mean()), abs=1e-14)


def test_affine_mixes_of_points_equal_the_closed_form():
    x, y = draw(10, 3), draw(10, seed=1)
    points = {name: {"w": draw(3, seed=seed)} for name, seed in (("a", 2), ("b", 3), ("c", 4))}
    objective = Objective(Vector(torch.zeros(3)), fit_error, [(x, y)])
    with objective.span(points) as loss_at:
        for mix in ((0.2, 0.3, 0.5), (1.7, -0.4, -0.3), (0.0, 0.5, 0.5)):
            w = sum(c * point["w"] for c, point in zip(mix, points.values(), strict=True))
            expected = float(((x @ w - y) ** 2).mean())
            assert loss_at(mix) == pytest.approx(expected, abs=1e-12)


def test_a_unit_vector_gives_stored_weights_bit_for_bit():
    points = {"a": state(normed(1).float()), "b": state(normed(2).float())}
    seen = {}

    def keep(model, batch):
        seen.update(state(model))
        return output_size(model, batch)

    objective = Objective(normed(3).float(), keep, [(draw(8, 3).float(),)])
    with objective.span(points, batch_norm="interpolate") as loss_at:
        for name, mix in (("a", (1.0, 0.0)), ("b", (0.0, 1.0))):
            loss_at(mix)
            for key, value in points[name].items():
                assert torch.equal(seen[key], value), key


def test_the_model_is_bitwise_as_it_was():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=0.2), nn.Dropout(), nn.Linear(4, 1)
    ).double()
    model[0].weight.requires_grad_(False)
    model.train()
    model[1].eval()
    x = draw(6, 3)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    before = state(model)
    modes = [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()

    def noisy_elsewhere(model, batch):
        torch.rand(3), random.random(), np.random.rand()
        loss = output_size(model, batch)
        if torch.allclose(model[0].weight, before["0.weight"] - 0.5):
            raise RuntimeError("interrupted")
        return loss

    objective = Objective(model, noisy_elsewhere, [(x,)])
    points = {"a": before, "b": {k: v + 1 for k, v in before.items()}}
    for policy in ("recalibrate", "interpolate"):
        with objective.span(points, batch_norm=policy) as loss_at:
            loss_at((0.5, 0.5))
            with pytest.raises(RuntimeError, match="interrupted"):
                loss_at((1.5, -0.5))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 5
    assert torch.equal(model[3].weight.grad, torch.ones_like(model[3].weight))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])
    assert model[1].momentum == 0.2


def test_buffers_that_forward_replaces_are_put_back():
    class Counting(Vector):
        def __init__(self):
            super().__init__([1.0, 2.0])
            self.register_buffer("calls", torch.tensor(0))

        def forward(self, x):
            self.calls = self.calls + 1
            return x @ self.w

    model = Counting()
    calls = model.calls
    objective = Objective(model, lambda model, x: model(x).mean(), [draw(3, 2)])
    objective.value()
    assert model.calls is calls
    assert int(calls) == 0


def test_reading_batches_moves_no_random_generator():
    loader = torch.utils.data.DataLoader(draw(10, 3), batch_size=4, shuffle=True)
    first = torch.get_rng_state()
    one, other = (Objective(Vector(draw(3)), lambda m, x: (x @ m.w).mean(), loader) for _ in "ab")
    assert torch.equal(torch.get_rng_state(), first)
    assert all(torch.equal(a, b) for a, b in zip(one.batches, other.batches, strict=True))


def test_sparse_embeddings_are_as_others():
    def measured(sparse):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Embedding(5, 3, sparse=sparse), nn.Tanh(), nn.Linear(3, 1))
        batch = torch.tensor([[0, 1], [3, 1]])
        ends = [{n: x + k for n, x in model.state_dict().items()} for k in range(2)]

        def loss(model, batch):
            return model(batch).square().mean()

        objective = Objective(model, loss, [batch])
        curve = connect(model, loss, tuple(ends), lambda step: batch, steps=2)
        pattern = find_pattern(model, loss, [[True]], lambda step: batch, steps=1)
        assert model[0].sparse == sparse
        return [
            Hessian(objective).dense(),
            sample_gradients(objective),
            sharpness(objective, 0.1).displacement,
            curve.points[1]["0.weight"],
            pattern.origin[0],
        ]

    for dense, sparse in zip(measured(False), measured(True), strict=True):
        assert torch.equal(dense, sparse)


def test_a_graph_that_the_caller_holds_stays_usable():
    model, x, y = Vector(draw(3)), draw(6, 3), draw(6)
    loss = fit_error(model, (x, y)) ** 2
    objective = Objective(model, fit_error, [(x, y)])
    with objective.span({"a": {"w": draw(3, seed=1)}}) as loss_at:
        loss_at((1.0,))
    loss.backward()
    assert model.w.grad.isfinite().all()


def test_dropout_is_off_and_a_random_loss_is_refused():
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)).double()
    batch = (draw(6, 3),)
    assert Objective(model, output_size, [batch]).value() > 0
    with pytest.raises(UsageError, match="not deterministic"):
        Objective(model, lambda m, b: output_size(m, b) + torch.rand(()), [batch])
    with pytest.raises(UsageError, match="not deterministic"):
        Objective(model, lambda m, b: output_size(m, b) + random.random(), [batch])


def test_recalibration_gives_standardised_outputs_everywhere():
    # With its own statistics the outputs have variance s^2 / (s^2 + eps), s^2 biased over unbiased.
    x = draw(50, 3)
    points = {"a": state(normed(1)), "b": state(normed(2))}
    objective = Objective(normed(3), output_size, [(x,)])
    with objective.span(points, batch_norm="recalibrate") as loss_at:
        for t in (-0.5, 0.0, 0.3, 1.0):
            weight = (1 - t) * points["a"]["0.weight"] + t * points["b"]["0.weight"]
            spread = (x @ weight.T).var(0)
            expected = float((spread * 49 / 50 / (spread + 1e-5)).mean())
            assert loss_at((1 - t, t)) == pytest.approx(expected, abs=1e-12)


def test_calibration_batches_are_other_batches_when_given():
    x, other = draw(50, 3), 3 * draw(20, 3, seed=5)
    a = state(normed(1))
    objective = Objective(normed(3), output_size, [(x,)], calibration=[(other,)])
    with objective.span({"a": a}, batch_norm="recalibrate") as loss_at:
        out, seen = (batch @ a["0.weight"].T + a["0.bias"] for batch in (x, other))
        expected = float(((out - seen.mean(0)) ** 2 / (seen.var(0) + 1e-5)).mean())
        assert loss_at((1.0,)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("policy", ["frozen", "interpolate"])
def test_stored_statistics_are_kept_or_mixed(policy):
    x = draw(50, 3)
    a, b = state(normed(1)), state(normed(2))
    objective = Objective(normed(3), output_size, [(x,)])
    frozen_at = "b" if policy == "frozen" else None
    with objective.span({"a": a, "b": b}, batch_norm=policy, frozen_at=frozen_at) as loss_at:
        for t in (0.0, 0.25, 1.0):
            mixed = {k: (1 - t) * a[k] + t * b[k] for k in a}
            given = mixed if policy == "interpolate" else b
            out = x @ mixed["0.weight"].T + mixed["0.bias"]
            scaled = (out - given["1.running_mean"]) / (given["1.running_var"] + 1e-5).sqrt()
            assert loss_at((1 - t, t)) == pytest.approx(float((scaled**2).mean()), abs=1e-12)


def test_recalibration_needs_no_stored_statistics_and_the_others_do():
    weights = {k: v for k, v in state(normed(1)).items() if k.startswith("0.")}
    objective = Objective(normed(3), output_size, [(draw(9, 3),)])
    with objective.span({"a": weights}, batch_norm="recalibrate") as loss_at:
        assert loss_at((1.0,)) > 0
    for policy, frozen_at in (("interpolate", None), ("frozen", "a")):
        with (
            pytest.raises(UsageError, match=r'weights of "a" lack "1.running_mean"'),
            objective.span({"a": weights}, batch_norm=policy, frozen_at=frozen_at),
        ):
            pass


def test_integer_buffers_are_those_of_the_nearest_point():
    class Shifted(Vector):
        def __init__(self, value, shift):
            super().__init__(value)
            self.register_buffer("shift", torch.tensor(shift))

    objective = Objective(Shifted([0.0], 0), lambda m, b: m.w.sum() + m.shift, [draw(1)])
    points = {"a": state(Shifted([1.0], 10)), "b": state(Shifted([2.0], 20))}
    with objective.span(points) as loss_at:
        assert [loss_at(c) for c in ((1, 0), (0.6, 0.4), (0.4, 0.6))] == [11.0, 11.4, 21.6]


def test_tied_weights_are_mixed_once_and_found_under_any_name():
    model = nn.Module()
    model.one = Vector([1.0])
    model.two = nn.Module()
    model.two.w = model.one.w
    objective = Objective(model, lambda m, b: (m.one.w + m.two.w).sum(), [draw(1)])
    points = {"a": {"one.w": torch.tensor([3.0])}, "b": {"two.w": torch.tensor([5.0])}}
    with objective.span(points) as loss_at:
        assert loss_at((0.5, 0.5)) == 8.0


def test_dict_batches_with_the_models_own_loss():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(2.0))

        def forward(self, x, labels):
            loss = ((self.w * x - labels) ** 2).mean()
            return type("Output", (), {"loss": loss})()

    batches = [
        {"x": torch.tensor([1.0, 2.0, 3.0]), "labels": torch.zeros(3)},
        {"x": torch.tensor([4.0]), "labels": torch.zeros(1)},
    ]
    assert Objective(Own(), None, batches).value() == pytest.approx(4 * (1 + 4 + 9 + 16) / 4)
    with pytest.raises(UsageError, match=r"batches must be dicts .* found tuple"):
        Objective(Own(), None, [(torch.ones(2),)])


def test_a_nan_loss_stays_nan():
    objective = Objective(Vector([1.0]), lambda m, b: m.w.sum().log(), [draw(2)])
    with objective.span({"a": {"w": torch.tensor([-1.0])}}) as loss_at:
        assert np.isnan(loss_at((1.0,)))


def test_points_are_copies_even_of_the_models_own_weights():
    model = Vector([2.0])
    objective = Objective(model, lambda m, b: m.w.sum(), [draw(1)])
    points = {"here": model.state_dict(), "there": {"w": torch.tensor([4.0])}}
    with objective.span(points) as loss_at:
        assert [loss_at(c) for c in ((0.0, 1.0), (1.0, 0.0), (0.5, 0.5))] == [4.0, 2.0, 3.0]
    with pytest.raises(UsageError, match="closed"):
        loss_at((1.0, 0.0))
    assert model.w.item() == 2.0


def test_bad_input_is_refused_with_what_to_do():
    x = (draw(6, 3),)
    good = state(normed())
    with pytest.raises(UsageError, match="at least one batch"):
        Objective(normed(), output_size, [])
    with pytest.raises(UsageError, match=r"tensor of one number.*found \(6, 2\)"):
        Objective(normed(), lambda m, b: m(b[0]), [x])
    with pytest.raises(UsageError, match=r"first dimension counts samples; found str"):
        Objective(normed(), output_size, ["text"])
    objective = Objective(normed(), output_size, [x])
    cases = [
        ({"a": good}, {"batch_norm": "interpolated"}, 'Did you mean "interpolate"'),
        ({"a": good}, {"batch_norm": "frozen"}, "frozen_at names a point"),
        ({"a": good}, {"frozen_at": "a"}, "frozen_at names a point"),
        ({"a": good}, {"batch_norm": "frozen", "frozen_at": "z"}, "none of: a"),
        ({}, {"batch_norm": "recalibrate"}, "no points were given"),
        ({"a": {**good, "extra": x[0]}}, {"batch_norm": "recalibrate"}, 'hold "extra"'),
        ({"a": {"0.weight": good["0.weight"]}}, {"batch_norm": "recalibrate"}, 'lack "0.bias"'),
        (
            {"a": {**good, "0.bias": x[0]}},
            {"batch_norm": "recalibrate"},
            r"of shape \(6, 3\), the model has \(2,\)",
        ),
    ]
    for points, options, message in cases:
        with (
            pytest.raises(UsageError, match=message),
            objective.span(points, **options),
        ):
            pass
    with objective.span({"a": good}, batch_norm="recalibrate") as loss_at:
        with pytest.raises(UsageError, match="add up to 1"):
            loss_at((0.5,))
        with pytest.raises(UsageError, match="expected 1 coefficients, found 2"):
            loss_at((0.5, 0.5))
