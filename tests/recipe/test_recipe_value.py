import dataclasses
import inspect

import numpy as np
import pytest
import torch
from torch import nn

from thalweg.around import SAM, Lookahead
from thalweg.core import registry
from thalweg.core.errors import UnknownNameError, UsageError
from thalweg.core.registry import Part
from thalweg.core.space import Choice, Linear, Log
from thalweg.engine import ClosureOptimizer
from thalweg.optim import AdamW, Muon
from thalweg.recipe import Recipe, Use, parse


def plain_sgd(model, lr=0.1, momentum=0.0):
    """A rule that is a function."""
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


@pytest.fixture
def test_rules():
    """Register rules for one test."""
    before = dict(registry._parts)
    space = {"momentum": Linear(0.0, 0.99), "lr": Log(1e-3, 1.0)}
    registry.register(Part("test-sgd", "rule", "SGD", "", plain_sgd, space))
    yield
    registry._parts.clear()
    registry._parts.update(before)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def train(algorithm, model, steps):
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        x = torch.randn(6, 3, generator=generator)

        def closure(x=x):
            algorithm.optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        algorithm.optimizer.step(closure)
        algorithm.learning_rate.step()
        if algorithm.average is not None:
            algorithm.average.update(step, steps)


def test_recipes_are_values():
    recipe = Recipe(
        rule=Use("adamw", lr=1e-3),
        around=[Use("sam", rho=0.1)],
        schedule=Use("linear"),
        average=Use("ema", decay=0.9),
    )
    assert recipe == parse("adamw(lr=1e-3) + sam(rho=0.1) + linear + ema(0.9)")
    assert {recipe: 1}[parse(str(recipe))] == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.rule = Use("sgd")
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.rule.slug = "sgd"
    assert recipe != "adamw"
    assert Use("adamw", lr=1e-3).hyper == {"lr": 1e-3}
    assert repr(Use("cooldown", shape="linear")) == "Use('cooldown', shape='linear')"


def test_values_of_numpy_become_python_s():
    use = Use("sgd", lr=np.float64(0.1), momentum=np.float32(0.5), nesterov=np.bool_(False))
    assert str(use) == "sgd(lr=0.1, momentum=0.5, nesterov=False)"
    assert [type(value) for value in use.hyper.values()] == [float, float, bool]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Use("adamv"), 'unknown part "adamv"'),
        (lambda: Use("adamw", lrr=1), 'adamw has no "lrr". Did you mean "lr"'),
        (lambda: Use("adamw", lr=float("nan")), "lr is NaN"),
        (lambda: Use("adamw", lr=torch.ones(1)), "lr must be a number, a string.*found Tensor"),
        (lambda: Recipe(Use("linear")), '"linear" is no rule but a schedule'),
        (lambda: Recipe(Use("sgd"), schedule=Use("warmup")), '"warmup" is no schedule but a'),
        (lambda: Recipe(Use("sgd"), warmup=Use("linear")), '"linear" is no warmup but a schedule'),
        (lambda: Recipe(Use("sgd"), (Use("sam"), Use("sam"))), '"sam" is there twice'),
        (lambda: Recipe("sgd"), "rule takes parts.*found 'sgd'"),
        (lambda: Recipe(Use("sgd"), (None,)), "around takes parts.*found None"),
    ],
)
def test_impossible_recipes_are_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_unknown_parts_have_their_own_error():
    with pytest.raises(UnknownNameError):
        Use("adamv")


def test_no_rule_has_a_setting_of_the_name_of_what_building_gives() -> None:
    for part in registry.parts("rule"):
        if "params" in inspect.signature(part.factory).parameters:
            assert "model" not in part.parameters, part.slug
    assert Recipe.parse('prox-linear(local_model="truncated")')


@pytest.mark.usefixtures("test_rules")
def test_the_space_is_what_the_text_leaves_open_with_the_learning_rate_first():
    space = parse("test-sgd + lookahead + sam + warmup + linear + ema").space()
    assert list(space) == [
        "test-sgd.lr",
        "test-sgd.momentum",
        "lookahead.alpha",
        "lookahead.k",
        "sam.rho",
        "ema.decay",
    ]
    assert space["lookahead.k"] == Choice((5, 10))
    fixed = parse("test-sgd(lr=0.1) + lookahead(k=3, alpha=0.5) + sam(0.1) + ema(0.9)")
    assert list(fixed.space()) == ["test-sgd.momentum"]


@pytest.mark.parametrize("slug", registry.slugs("rule"))
def test_every_rule_tunes_its_learning_rate_first(slug):
    recipe = parse(f"{slug} + lookahead + warmup + linear + ema")
    space = recipe.space()
    if "lr" in registry.get(slug).space:
        assert next(iter(space)).endswith(".lr")
    for u in (0.0, 0.5, 0.999):
        filled = recipe.filled({key: one.at(u) for key, one in space.items()})
        assert filled.space() == {}
        assert parse(str(filled)) == filled


def test_filling_keeps_what_was_set():
    recipe = parse("adamw(weight_decay=0.5) + sam + ema")
    filled = recipe.filled({"adamw.lr": np.float64(0.01), "ema.decay": 0.95})
    assert str(filled) == "adamw(lr=0.01, weight_decay=0.5) + sam + ema(decay=0.95)"
    assert str(recipe) == "adamw(weight_decay=0.5) + sam + ema"
    assert filled.filled({}) == filled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sgd.lr": 0.1}, 'there is no part "sgd" in "adamw'),
        ({"adam.lr": 0.1}, 'Did you mean "adamw"'),
        ({"adamw.lr": 0.1}, 'set already in "adamw'),
        ({"adamw.lrs": 0.1}, 'adamw has no "lrs"'),
        ({"adamw": 0.1}, 'adamw has no ""'),
        ({"ema.decay": 2}, "ema: decay must be a number"),
    ],
)
def test_filling_with_what_does_not_fit(values, message):
    with pytest.raises(UsageError, match=message):
        parse("adamw(lr=1) + ema").filled(values)


def test_building_gives_the_parts_in_place():
    model = net()
    text = "adamw(lr=0.4) + lookahead(k=2) + sam(0.1) + warmup(0.5, initial=0.25) + linear + swa(0)"
    algorithm = parse(text).build(model, steps=8)
    sam = algorithm.optimizer
    assert isinstance(sam, SAM)
    assert sam.model is model
    assert isinstance(sam.base, Lookahead)
    assert isinstance(sam.base.base, AdamW)
    assert sam.param_groups[0]["param_names"][0] == "0.weight"
    rates = []
    for _ in range(9):
        rates += algorithm.learning_rate.get_last_lr()
        algorithm.learning_rate.step()
    expected = [0.1, 0.175, 0.25, 0.325, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert rates == pytest.approx(expected, abs=1e-15)
    assert algorithm.average.needs_recalibration


def test_a_recipe_without_a_schedule_is_constant_and_a_warm_up_alone_stays_at_the_peak():
    constant = parse("sgd(lr=0.5)").build(net(), 3)
    assert constant.average is None
    constant.learning_rate.step()
    assert constant.learning_rate.get_last_lr() == [0.5]
    warm = parse("sgd(lr=0.5) + warmup(0.5)").build(net(), 4)
    warm.learning_rate.step()
    warm.learning_rate.step()
    assert warm.learning_rate.get_last_lr() == [0.5]


@pytest.mark.usefixtures("test_rules")
def test_rules_that_are_functions_are_built_too():
    algorithm = parse("test-sgd(lr=0.25, momentum=0.5)").build(net(), 3)
    assert type(algorithm.optimizer) is torch.optim.SGD
    assert algorithm.optimizer.param_groups[0]["momentum"] == 0.5


EVALUATING = [
    part.slug
    for part in registry.parts("rule")
    if isinstance(part.factory, type) and issubclass(part.factory, ClosureOptimizer)
]


@pytest.mark.parametrize("slug", EVALUATING)
def test_sam_refuses_rules_that_evaluate_the_loss_themselves(slug):
    with pytest.raises(UsageError, match="evaluates the loss itself"):
        parse(f"{slug} + sam").build(net(), 3)


@pytest.mark.parametrize("slug", sorted(set(registry.slugs("rule")) - set(EVALUATING)))
def test_every_rule_trains_with_everything_around_and_along_it(slug):
    model = net()
    algorithm = parse(f"{slug} + lookahead(k=2) + sam + warmup(0.3) + cooldown + ema(0.9)").build(
        model, 6
    )
    before = [p.detach().clone() for p in model.parameters()]
    train(algorithm, model, 6)
    now = [p.detach().clone() for p in model.parameters()]
    with algorithm.average.applied(model):
        averaged = [p.detach().clone() for p in model.parameters()]
    for start, end, mean in zip(before, now, averaged, strict=True):
        assert end.isfinite().all()
        assert mean.isfinite().all()
        if end.dim() == 2:
            assert not torch.equal(end, start)
            assert not torch.equal(mean, end)
    assert algorithm.learning_rate.factor == 0


def test_routing_rules_get_the_model_itself():
    optimizer = (
        parse("muon").build(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))), 3).optimizer
    )
    assert isinstance(optimizer, Muon)
    matrices, rest = (set(group["param_names"]) for group in optimizer.param_groups)
    assert "1.weight" in matrices
    assert "2.weight" in rest  # the output layer, which the shape alone does not tell


def test_building_on_impossible_ground():
    with pytest.raises(UsageError, match="steps must be a whole number of at least 1, found 0"):
        parse("sgd").build(net(), 0)
    with pytest.raises(UsageError, match="built for a model, found list"):
        parse("sgd").build([], 3)
