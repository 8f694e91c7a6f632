"""Barriers by layer against mixes that are made by hand."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from thalweg.core.errors import UsageError
from thalweg.landscape import Objective, layer_barriers, layers_of, lines


def net(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))


RANDOM = torch.Generator().manual_seed(0)
X = torch.randn(20, 3, generator=RANDOM)
Y = torch.randint(2, (20,), generator=RANDOM)


def loss(model: Any, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


ONE, OTHER = net(1).double(), net(2).double()
OBJECTIVE = Objective(net(0).double(), loss, [(X.double(), Y)])
POINTS = {"one": ONE.state_dict(), "other": OTHER.state_dict()}


def at(model: nn.Module) -> float:
    with torch.no_grad():
        return float(loss(model, (X.double(), Y)))


def mixed(host: nn.Module, guest: nn.Module, layers: list[str], a: float) -> float:
    model = copy.deepcopy(host)
    with torch.no_grad():
        for layer in layers:
            pairs = zip(
                model.get_submodule(layer).parameters(),
                guest.get_submodule(layer).parameters(),
                strict=True,
            )
            for x, y in pairs:
                x.mul_(1 - a).add_(y, alpha=a)
    return at(model)


def test_layers_are_modules_with_parameters() -> None:
    assert list(layers_of(ONE)) == ["0", "2", "4"]
    assert layers_of(ONE)["2"] == ("2.weight", "2.bias")
    model = nn.Module()
    model.own = nn.Parameter(torch.ones(1))
    assert layers_of(model) == {"own": ("own",)}


def test_single_layers() -> None:
    found = layer_barriers(OBJECTIVE, POINTS, steps=4)
    assert found.ends == pytest.approx((at(ONE), at(OTHER)))
    assert found.positions == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert [(one.layers, one.host) for one in found.barriers] == [
        ((layer,), host) for layer in ("0", "2", "4") for host in ("one", "other")
    ]
    for one in found.barriers:
        host, guest = (ONE, OTHER) if one.host == "one" else (OTHER, ONE)
        expected = [mixed(host, guest, list(one.layers), a) for a in found.positions]
        assert one.losses == pytest.approx(expected)
        assert one.barrier == pytest.approx(max(expected) - (at(ONE) + at(OTHER)) / 2)
    assert found.controls == ()


@pytest.mark.parametrize(
    ("order", "expected"),
    [("shallow-first", ["0", "2", "4"]), ("deep-first", ["4", "2", "0"])],
)
def test_growing_sets_end_with_the_whole_network(order: Any, expected: list[str]) -> None:
    found = layer_barriers(OBJECTIVE, POINTS, order=order)
    assert [list(one.layers) for one in found.barriers[::2]] == [
        expected[: k + 1] for k in range(3)
    ]
    (line,) = lines(OBJECTIVE, POINTS, steps=2)
    for one in found.barriers[-2:]:
        losses = line.losses if one.host == "one" else line.losses[::-1]
        assert one.losses == pytest.approx(losses)


def test_a_random_order_is_some_order() -> None:
    found = layer_barriers(OBJECTIVE, POINTS, order="random", seed=3)
    assert sorted(found.barriers[-1].layers) == ["0", "2", "4"]
    again = layer_barriers(OBJECTIVE, POINTS, order="random", seed=3)
    assert again == found


def test_groups_count_as_one_layer() -> None:
    found = layer_barriers(OBJECTIVE, POINTS, groups={"hidden": ["0", "2"], "head": ["4"]})
    assert [one.layers for one in found.barriers[::2]] == [("hidden",), ("head",)]
    assert found.barriers[0].losses[1] == pytest.approx(mixed(ONE, OTHER, ["0", "2"], 0.5))


def test_controls_go_as_far() -> None:
    """On the loss |w - w_one|^2 of one layer only the distance counts."""
    anchor = [x.clone() for x in ONE.state_dict().values()]

    def far(model: Any, batch: Any) -> Tensor:
        pairs = zip(model.state_dict().values(), anchor, strict=True)
        return torch.stack([(x - y).square().sum() for x, y in pairs]).sum()

    objective = Objective(net(0).double(), far, [X])
    found = layer_barriers(objective, POINTS, controls=True)
    for one, control in zip(found.barriers[::2], found.controls[::2], strict=True):
        assert control.losses == pytest.approx(one.losses)
        assert control.layers == one.layers


def test_nan_is_kept() -> None:
    objective = Objective(
        net(0).double(), lambda m, b: (m[0].weight.sum() * 0 + m[0].bias[0]).sqrt(), [X]
    )
    bent = {**POINTS["one"], "0.bias": torch.full((4,), -1.0, dtype=torch.float64)}
    found = layer_barriers(objective, {"one": {**bent, "0.bias": -bent["0.bias"]}, "other": bent})
    assert math.isnan(found.barriers[0].barrier)


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    layer_barriers(OBJECTIVE, POINTS, controls=True, progress=lambda *one: told.append(one))
    assert told == [(k, 26) for k in range(1, 27)]


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(UsageError, match="single"):
        layer_barriers(OBJECTIVE, POINTS, order="singel")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="two solutions"):
        layer_barriers(OBJECTIVE, {"one": POINTS["one"]})
    with pytest.raises(UsageError, match='no layer "5"'):
        layer_barriers(OBJECTIVE, POINTS, groups={"a": ["5"]})


def test_sets_are_called_by_what_is_new_in_them() -> None:
    kinds = layer_barriers(OBJECTIVE, POINTS, order="deep-first")
    assert list(kinds.labels().values()) == ["4 Linear", "+ 2 Linear", "+ 0 Linear"]
    alone = layer_barriers(OBJECTIVE, POINTS, groups={"ends": ["0", "4"]})
    assert list(alone.labels().values()) == ["ends"]
    worst = kinds.worst("one")
    assert worst is not None
    assert worst.barrier == max(one.barrier for one in kinds.barriers if one.host == "one")
