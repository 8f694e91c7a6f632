"""How models agree, by hand."""

import math

import pytest
import torch

from thalweg.core.errors import UsageError
from thalweg.merge import Diagnosis, diagnose

BASE = {"one.weight": torch.tensor([3.0, 4.0]), "two.weight": torch.zeros(3), "n": torch.ones(())}


def moved(one, two):
    return {
        "one.weight": BASE["one.weight"] + torch.tensor(one),
        "two.weight": torch.tensor(two),
        "n": torch.ones(()),
    }


A, B = moved([1.0, 0.0], [1.0, 2.0, 0.0]), moved([0.0, 2.0], [-1.0, 1.0, 5.0])


def test_a_diagnosis_by_hand():
    found = diagnose({"a": A, "b": B}, BASE)
    assert found.pairs == [("a", "b")]
    one, two, still = found.layers
    assert (one.name, one.size, one.base_norm) == ("one", 2, 5.0)
    assert one.norms == pytest.approx((1, 2))
    assert one.cosines == (0.0,)
    assert math.isnan(one.signs[0])  # no entry was moved by both
    assert one.cancelled == 0
    assert two.norms == pytest.approx((5**0.5, 27**0.5))
    assert two.cosines[0] == pytest.approx(1 / (5 * 27) ** 0.5)
    assert two.signs == (0.5,)
    assert two.cancelled == pytest.approx(1 - 8 / 10)
    assert math.isnan(still.cancelled)
    assert math.isnan(still.cosines[0])
    assert found.whole.size == 6
    assert found.whole.cosines[0] == pytest.approx(1 / (6 * 31) ** 0.5)
    assert found.whole.cancelled == pytest.approx(1 - 11 / 13)
    assert [layer.name for layer in found.conflicting()] == ["two", "one"]


def test_extremes_and_many_models():
    same = diagnose({"a": A, "b": A, "c": A}, BASE).whole
    assert same.cosines == pytest.approx((1, 1, 1))
    assert same.signs == (1, 1, 1)
    assert same.cancelled == pytest.approx(0, abs=1e-7)
    opposite = {n: 2 * BASE[n] - x for n, x in A.items()}
    against = diagnose({"a": A, "b": opposite}, BASE).whole
    assert against.cosines == pytest.approx((-1,))
    assert against.signs == (0,)
    assert against.cancelled == 1
    with pytest.raises(UsageError, match="two models or more"):
        diagnose({"a": A}, BASE)


def test_a_diagnosis_is_saved_and_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    found = diagnose({"a": A, "b": B, "c": B}, BASE)
    path = found.save(tmp_path / "diagnosis.npz")
    again = Diagnosis.load(path)
    assert again.models == ("a", "b", "c")
    assert [layer.name for layer in again.layers] == ["one", "two", "n"]
    assert again.whole == found.whole
    found.plot(tmp_path / "x.svg", layers=1)
    text = (tmp_path / "x.svg").read_text()
    assert "the 1 most conflicting of 3 layers" in text
    assert ">two<" in text
