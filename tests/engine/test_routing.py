"""Which tensors Muon leaves to AdamW: embeddings, the output layer, biases and norms."""

import warnings

import pytest
import torch
from torch import nn

from thalweg import optim
from thalweg.core.errors import UsageError


class Language(nn.Module):
    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(11, 8)
        self.block = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 8))
        self.out = nn.Linear(8, 11, bias=False)
        if tied:
            self.out.weight = self.tokens.weight


def routed(optimizer: optim.Muon) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for group in optimizer.param_groups:
        groups.setdefault(group["rule"], set()).update(group.get("param_names", ()))
    return groups


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_is_routed_without_a_word(tied: bool) -> None:
    groups = routed(optim.Muon(Language(tied)))
    assert groups["muon"] == {"block.0.weight", "block.2.weight"}
    rest = {"tokens.weight", "block.0.bias", "block.1.weight", "block.1.bias", "block.2.bias"}
    assert groups["adamw"] == rest | (set() if tied else {"out.weight"})


def test_convolutions_are_matrices_and_the_classifier_is_not() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    groups = routed(optim.Muon(model))
    assert groups["muon"] == {"0.weight"}
    assert "3.weight" in groups["adamw"]


def test_names_route_where_there_is_no_model() -> None:
    named = [
        ("wte.weight", torch.zeros(9, 4, requires_grad=True)),
        ("h.0.attention.weight", torch.zeros(4, 4, requires_grad=True)),
        ("lm_head.weight", torch.zeros(9, 4, requires_grad=True)),
        ("overhead.weight", torch.zeros(4, 4, requires_grad=True)),
    ]
    groups = routed(optim.Muon(named))
    assert groups["adamw"] == {"wte.weight", "lm_head.weight"}
    assert groups["muon"] == {"h.0.attention.weight", "overhead.weight"}


def test_nameless_tensors_go_by_shape_with_one_warning() -> None:
    tensors = [torch.zeros(4, 4, requires_grad=True), torch.zeros(4, requires_grad=True)]
    with pytest.warns(UserWarning, match="pass the model itself"):
        optimizer = optim.Muon(tensors)
    assert [group["rule"] for group in optimizer.param_groups] == ["muon", "adamw"]


def test_a_group_may_choose_its_rule() -> None:
    p = torch.zeros(9, 4, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = optim.Muon([{"params": [("wte.weight", p)], "rule": "muon", "lr": 0.5}])
    assert optimizer.param_groups[0]["rule"] == "muon"
    assert optimizer.param_groups[0]["lr"] == 0.5
    with pytest.raises(UsageError, match="cannot take a parameter of shape"):
        optim.Muon([{"params": [("b", torch.zeros(3, requires_grad=True))], "rule": "muon"}])


def test_the_second_rule_has_its_own_hyper_parameters() -> None:
    optimizer = optim.Muon(Language(False), lr=0.05, adamw_lr=0.002, adamw_betas=(0.8, 0.9))
    by_rule = {group["rule"]: group for group in optimizer.param_groups}
    assert by_rule["muon"]["lr"] == 0.05
    assert by_rule["adamw"]["lr"] == 0.002
    assert by_rule["adamw"]["betas"] == (0.8, 0.9)
    assert "momentum" not in by_rule["adamw"]
    with pytest.raises(UsageError, match="adamw_lr"):
        optim.Muon(Language(False), adam_lr=0.1)
