"""What every average has to pass because it is registered."""

import copy
import dataclasses
import inspect
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from thalweg.average import Average, RunningAverage
from thalweg.core import registry
from thalweg.core.errors import UsageError
from thalweg.recipe import Recipe
from thalweg.testing.scripted import STEPS, VALLEY, Following, net, scripted, tensors
from thalweg.testing.subject import assert_close, assert_same, raises


def check_leaves_the_model_alone(settings: Average) -> None:
    """Change neither weights (unless it says so) nor gradients, and no flag."""
    whole = Following(settings)
    for p in whole.model.parameters():
        p.grad = torch.ones_like(p)
    for step in range(STEPS):
        whole.advance(range(step, step + 1))
        if not whole.average.writes_back:
            for name, x in tensors(whole.model).items():
                same = torch.equal(x, scripted(name, step, x).to(x.dtype))
                assert same, f'"{name}" changed in the update of step {step}'
    for name, p in whole.model.named_parameters():
        assert p.grad is not None, f'"{name}" lost its gradient'
        assert bool((p.grad == 1).all()), f'the gradient of "{name}" changed'
        assert p.requires_grad, f'"{name}" no longer requires a gradient'


def check_is_a_mean(settings: Average) -> None:
    """Leave constant weights as they are; move by as much as all points move."""
    constant = Following(settings)
    before = {name: x.clone() for name, x in tensors(constant.model).items()}
    constant.advance(range(STEPS), lambda name, step, x: before[name])
    assert_close(constant.result(), before, 1e-12, "the average of constant weights")
    if constant.average.writes_back:
        return

    def shifted(name: str, step: int, x: Tensor) -> Tensor:
        return scripted(name, step, x) + (3.0 if x.is_floating_point() else 0)

    plain, moved = Following(settings), Following(settings)
    with torch.no_grad():
        for x in tensors(moved.model).values():
            if x.is_floating_point():
                x.add_(3.0)
    moved.average = settings.attach(moved.model)
    plain.advance(range(STEPS))
    moved.advance(range(STEPS), shifted)
    expected = {n: x + 3 if x.is_floating_point() else x for n, x in plain.result().items()}
    assert_close(moved.result(), expected, 1e-10, "the average of points moved by 3")


def check_resume(settings: Average) -> None:
    """Save to a file, load with ``weights_only=True``, continue: bit for bit the same."""
    for dtype in (torch.float64, torch.bfloat16):
        whole = Following(settings, dtype)
        whole.advance(range(STEPS))
        for stop in (1, 50, 95, 119):
            first = Following(settings, dtype)
            first.advance(range(stop))
            file = io.BytesIO()
            torch.save([first.average.state_dict(), first.model.state_dict()], file)
            file.seek(0)
            state, weights = torch.load(file, weights_only=True)
            second = Following(settings, dtype, start=1)
            second.model.load_state_dict(weights)
            second.average.load_state_dict(state)
            again = second.average.state_dict()
            assert_same(again, state, f"the state loaded after {stop} steps")
            second.advance(range(stop, STEPS))
            assert second.average.count == whole.average.count, "the number of points differs"
            assert_same(
                second.average.state_dict(),
                whole.average.state_dict(),
                f"the state of a run that went on after {stop} steps",
            )
            assert_same(second.result(), whole.result(), f"a run that went on after {stop} steps")


def check_restores(settings: Average) -> None:
    """Put the model's own weights back bit for bit, after an error too, NaN and -0 included."""
    whole = Following(settings)
    whole.advance(range(STEPS))
    with torch.no_grad():
        whole.model[0].weight[0, 0] = float("nan")  # type: ignore[index,operator]
        whole.model[0].weight[0, 1] = -0.0  # type: ignore[index,operator]
    before = {name: x.numpy(force=True).tobytes() for name, x in tensors(whole.model).items()}
    expected = whole.average.weights()
    try:
        with whole.average.applied(whole.model) as inside:
            assert inside is whole.model, "applied gives another model"
            found = {name: x.clone() for name, x in tensors(whole.model).items()}
            raise KeyError
    except KeyError:
        pass
    after = {name: x.numpy(force=True).tobytes() for name, x in tensors(whole.model).items()}
    assert after == before, "the model's own weights are not what they were"
    for name, x in expected.items():
        same = torch.equal(found[name], x.to(found[name].dtype)) or x.isnan().any()
        assert same, f'applied and weights() disagree about "{name}"'


def check_owns_its_memory(settings: Average) -> None:
    """Keep copies: what happens to the model later does not reach back."""
    whole = Following(settings)
    whole.advance(range(STEPS))
    state = whole.average.state_dict()
    kept = copy.deepcopy(state)
    with torch.no_grad():
        for x in tensors(whole.model).values():
            x.add_(5)
    assert_same(whole.average.state_dict(), kept, "the average after the model changed")
    ours = {x.data_ptr() for x in tensors(whole.model).values()}
    for name, x in state.items():
        assert x.data_ptr() not in ours or not x.numel(), f'"{name}" is the model\'s own memory'


def check_nan_stays(settings: Average) -> None:
    """Show a NaN of the points that it averages."""
    whole = Following(settings, losses=VALLEY)

    def bad(name: str, step: int, x: Tensor) -> Tensor:
        point = scripted(name, step, x)
        if step >= 80 and name == "0.bias":
            point[1] = float("nan")
        return point

    whole.advance(range(STEPS), bad)
    found = whole.result()["0.bias"]
    assert bool(found[1].isnan()), "a NaN in the last third of the points does not show"


def check_precision(settings: Average) -> None:
    """Keep bfloat16 on request, on a device on request; be near the exact average."""
    exact = Following(settings)
    exact.advance(range(STEPS))
    low = Following(dataclasses.replace(settings, precision="bfloat16", device="cpu"))
    low.advance(range(STEPS))
    names = tensors(low.model).keys()
    for key, x in low.average.state_dict().items():
        if key.partition(".")[2] in names and x.is_floating_point():
            assert x.dtype == torch.bfloat16, f'"{key}" is {x.dtype} with precision="bfloat16"'
    assert_close(low.result(), exact.result(), 0.1, "the average in bfloat16")
    again = Following(dataclasses.replace(settings, precision="bfloat16"))
    again.advance(range(60))
    resumed = Following(dataclasses.replace(settings, precision="bfloat16"), start=1)
    resumed.model.load_state_dict(again.model.state_dict())
    resumed.average.load_state_dict(again.average.state_dict())
    resumed.advance(range(60, STEPS))
    assert_same(resumed.result(), low.result(), "a run in bfloat16 that went on")


def check_half_weights(settings: Average) -> None:
    """Average weights of 16 bits in float32."""
    for dtype in (torch.bfloat16, torch.float16):
        whole = Following(settings, dtype)
        whole.advance(range(STEPS))
        names = tensors(whole.model).keys()
        for key, x in whole.average.state_dict().items():
            if key.partition(".")[2] in names and x.is_floating_point():
                assert x.dtype == torch.float32, f'"{key}" is {x.dtype} for weights in {dtype}'
        assert whole.model[0].weight.dtype == dtype  # type: ignore[index]


def check_frozen(settings: Average) -> None:
    """Leave a frozen parameter as it is to the bit, in any precision."""
    for precision in (None, "bfloat16"):
        whole = Following(dataclasses.replace(settings, precision=precision))
        frozen: Any = whole.model[0].weight.requires_grad_(False)  # type: ignore[union-attr]
        before = frozen.clone()

        def point(name: str, step: int, x: Tensor, before: Tensor = before) -> Tensor:
            return before if name == "0.weight" else scripted(name, step, x)

        whole.advance(range(STEPS), point)
        assert torch.equal(frozen, before), f"a frozen weight changed with precision={precision}"
        found = {"0.weight": whole.result()["0.weight"]}
        bound = 1e-12 if precision is None else 0.1
        assert_close(found, {"0.weight": before}, bound, "the average of a frozen weight")


def check_mismatch(settings: Average) -> None:
    """Refuse another model, and the state of another model; nothing changes then."""
    whole = Following(settings)
    whole.advance(range(STEPS))
    kept = copy.deepcopy(whole.average.state_dict())
    with (
        raises(UsageError, "does not match", "another model"),
        whole.average.applied(nn.Linear(3, 4)),
    ):
        pass
    for change in (lambda key: key.replace("0.weight", "9.weight"), lambda key: key):
        other = {
            change(key): x.new_zeros((7, 7)) if change(key) == key and "0.weight" in key else x
            for key, x in kept.items()
        }
        if any("0.weight" in key for key in kept):
            with raises(UsageError, "does not match", "the state of another model"):
                whole.average.load_state_dict(other)
    with raises(UsageError, "count", "no state at all"):
        whole.average.load_state_dict({"w": torch.zeros(1)})
    assert_same(whole.average.state_dict(), kept, "after refusals")


def check_buffers(settings: Average) -> None:
    """Average batch-norm statistics if it says so, and count batches with the latest point."""
    whole = Following(settings)
    whole.advance(range(STEPS))
    found = whole.result()
    assert found["1.num_batches_tracked"].dtype == torch.int64
    own = scripted("1.running_mean", STEPS - 1, found["1.running_mean"])
    if not whole.average.averages_buffers:
        same = torch.equal(found["1.running_mean"], own)
        assert same, "buffers changed, though averages_buffers is False"


def check_refusals(settings: Average) -> None:
    """Refuse what cannot be meant."""
    kind: Any = type(settings)
    for bad in ({"device": "nowhere"}, {"precision": "float7"}):
        with raises(UsageError, "found", str(bad)):
            kind(**bad)
    running = Following(settings).average
    with raises(UsageError, "found", "a step of -1"):
        running.update(-1, 10)
    with raises(UsageError, "found", "a run of no steps"):
        running.update(0, 0)
    if running.monitors:
        with raises(UsageError, "nan", "a validation loss that is NaN"):
            running.evaluated(float("nan"))
    with raises(UsageError, "no shape", "a lazy parameter"):
        settings.attach(nn.LazyLinear(3))


def check_description(settings: Average) -> None:
    """Look at what people see: docstring, value, recipe."""
    kind: Any = type(settings)
    text = inspect.getdoc(kind) or ""
    for name in inspect.signature(kind).parameters:
        assert f"{name}:" in text, f"the docstring does not explain {name}"
    assert any(mark in text for mark in ("arXiv:", "19", "20")), "the docstring names no paper"
    assert copy.deepcopy(settings) == settings
    assert hash(copy.deepcopy(settings)) == hash(settings)
    average = Following(settings).average
    assert isinstance(average, RunningAverage)
    assert average.monitors == kind.by_validation_loss, "by_validation_loss is not what it does"


AVERAGE_CHECKS: dict[str, Callable[[Average], None]] = {
    "leaves the model alone": check_leaves_the_model_alone,
    "is a mean": check_is_a_mean,
    "resume": check_resume,
    "restores": check_restores,
    "owns its memory": check_owns_its_memory,
    "NaN stays": check_nan_stays,
    "precision": check_precision,
    "half weights": check_half_weights,
    "frozen weights": check_frozen,
    "mismatch": check_mismatch,
    "buffers": check_buffers,
    "refusals": check_refusals,
    "description": check_description,
}


def check_average(slug: str, **hyper: Any) -> None:
    """Run every conformance check on a registered average.

    Covered: updates leave weights and gradients alone (but for what writes back); constant weights
    are their own average, and the average moves with its points; saving, loading and going on, bit
    for bit, in float64 and bfloat16; the model's own weights come back; memory of its own; NaN
    shows; other precisions and devices; models of 16 bits; frozen weights; refusals; buffers;
    docstrings; and that a recipe's text builds it.

    Args:
        slug: of the average; import the module that registers it first.
        **hyper: settings to check with besides the defaults.

    Raises:
        AssertionError: the first check that fails, with what was found.
    """
    settings: Any = registry.get(slug, "average").factory(**hyper)
    for name, check in AVERAGE_CHECKS.items():
        try:
            check(settings)
        except AssertionError as error:
            raise AssertionError(f'{slug} fails "{name}": {error}') from error
    recipe = Recipe.parse(f"sgd(lr=0.1) + {slug}")
    assert Recipe.parse(str(recipe)) == recipe, "the recipe's text does not come back"
    built = recipe.build(net(torch.float32, 0), STEPS).average
    assert isinstance(built, RunningAverage), "the recipe builds no average"
