"""Results survive their files to the bit."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from landscape_results import everything

from thalweg.core.errors import UsageError
from thalweg.landscape import (
    Curve,
    Line,
    Surface,
    load,
)

EVERYTHING = everything()


def same(one, other) -> bool:
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one)
        )
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


@pytest.mark.parametrize("kind", EVERYTHING, ids=lambda kind: kind.__name__)
def test_a_result_comes_back_as_it_was(kind, tmp_path):
    result = EVERYTHING[kind]
    assert isinstance(result, kind)
    path = result.save(tmp_path / "new" / "result")
    assert path == tmp_path / "new" / "result.npz"
    assert same(kind.load(path), result)
    assert same(load(path), result)
    document = json.loads(path.with_suffix(".json").read_text())
    assert document["result"]["kind"] == kind.__name__
    with np.load(path, allow_pickle=False) as arrays:
        assert {name: list(arrays[name].shape) for name in document["arrays"]} == document["arrays"]
    assert sorted(one.name for one in path.parent.iterdir()) == ["result.json", "result.npz"]


def test_numbers_that_are_not_finite_and_half_precision_survive(tmp_path):
    result = dataclasses.replace(
        EVERYTHING[Line], losses=(math.nan, math.inf, -math.inf, -0.0), barrier=math.nan
    )
    found = Line.load(result.save(tmp_path / "x.npz"))
    assert same(found, result)
    assert math.copysign(1, found.losses[3]) == -1
    half = Curve("chain", ({"w": torch.randn(3).bfloat16()}, {"w": torch.randn(3).half()}))
    assert same(Curve.load(half.save(tmp_path / "half")), half)


def test_unusable_files_are_refused(tmp_path):
    path = EVERYTHING[Line].save(tmp_path / "line.npz")
    with pytest.raises(UsageError, match="holds a Line, not a Surface"):
        Surface.load(path)
    with pytest.raises(UsageError, match="there is no result"):
        Line.load(tmp_path / "none")
    with pytest.raises(UsageError, match="name it line"):
        EVERYTHING[Line].save(tmp_path / "line.pkl")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UsageError, match="damaged"):
        Line.load(path)
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(UsageError, match="no result that Thalweg saved"):
        load(tmp_path / "other.npz")
    np.savez(tmp_path / "later.npz", document=np.array('{"format": 99, "thalweg": "9.0"}'))
    with pytest.raises(UsageError, match="is of Thalweg 9"):
        load(tmp_path / "later.npz")
    np.savez(tmp_path / "evil.npz", document=np.array([print], dtype=object))
    with pytest.raises(UsageError, match="no result that Thalweg saved"):
        load(tmp_path / "evil.npz")
