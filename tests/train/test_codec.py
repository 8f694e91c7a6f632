"""Nested data come back from tensors and JSON as what they were, to the bit."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thalweg.core.errors import UsageError
from thalweg.train.codec import decode, encode

keys = st.one_of(st.text(), st.integers(), st.booleans(), st.floats(allow_nan=False))
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(keys, inner),
        st.tuples(keys, inner),
    ),
    max_leaves=20,
)


def there_and_back(value):
    tensors = {}
    text = json.dumps(encode(value, tensors), allow_nan=False)
    return decode(json.loads(text), tensors)


@given(values)
def test_plain_data(value):
    found = there_and_back(value)
    assert repr(found) == repr(value)  # tells 1 from 1.0 and True, and NaN equals itself


def test_infinities_and_nan():
    assert there_and_back([math.inf, -math.inf]) == [math.inf, -math.inf]
    assert math.isnan(there_and_back({"x": (math.nan,)})["x"][0])
    assert math.copysign(1, there_and_back(-0.0)) == -1


@pytest.mark.parametrize(
    "name", ["float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool"]
)
def test_tensors(name):
    dtype = getattr(torch, name)
    for tensor in (torch.ones((), dtype=dtype), torch.zeros(0, 3, dtype=dtype), torch.eye(3)):
        found = there_and_back({"x": [tensor.to(dtype)]})["x"][0]
        assert found.dtype == dtype
        assert found.shape == tensor.shape
        assert torch.equal(found, tensor.to(dtype))


def test_strides_survive():
    image = torch.randn(2, 3, 4, 5)
    for tensor in (
        image.to(memory_format=torch.channels_last),
        image.mT,
        image.permute(3, 1, 0, 2),
    ):
        found = there_and_back(tensor)
        assert torch.equal(found, tensor)
        assert found.stride() == tensor.stride()


def test_an_optimiser_state():
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    weight.grad = torch.randn(3, 2)
    optimizer.step()
    state = optimizer.state_dict()
    found = there_and_back(state)
    assert list(found["state"]) == [0]
    assert found["param_groups"] == state["param_groups"]
    assert type(found["param_groups"][0]["betas"]) is tuple
    for name, value in state["state"][0].items():
        assert torch.equal(found["state"][0][name], value)


def test_copies_not_views():
    tensor, tensors = torch.zeros(3), {}
    data = encode(tensor, tensors)
    tensor.add_(1)
    assert decode(data, tensors).tolist() == [0, 0, 0]


def test_names_that_collide():
    value = {"a/b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 1: torch.tensor(3)}
    value["1"] = torch.tensor(4)
    found = there_and_back(value)
    assert [int(found["a/b"]), int(found["a"]["b"]), int(found[1]), int(found["1"])] == [1, 2, 3, 4]


def test_numpy():
    array = there_and_back(np.arange(6, dtype=np.int32).reshape(2, 3))
    assert array.dtype == np.int32
    assert array.tolist() == [[0, 1, 2], [3, 4, 5]]
    scalar = there_and_back(np.float32(0.1))
    assert type(scalar) is np.float32
    assert scalar == np.float32(0.1)


def test_dtypes():
    assert there_and_back({"dtype": torch.bfloat16}) == {"dtype": torch.bfloat16}


@pytest.mark.parametrize("odd", [object(), {1, 2}, b"bytes", 1j, lambda: 0])
def test_what_cannot_be_kept_is_named(odd):
    with pytest.raises(UsageError, match=r'hold "/a/1", a \w+'):
        encode({"a": [0, odd]}, {})
