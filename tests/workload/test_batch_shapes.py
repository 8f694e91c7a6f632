"""Moving, counting and cutting batches of every shape."""

from collections import UserDict, namedtuple
from types import MappingProxyType

import pytest
import torch

from thalweg.core.errors import UsageError
from thalweg.workload.batch import move, sample_count, split

Pair = namedtuple("Pair", "x y")


class Encoding(UserDict):
    """As a Hugging Face tokeniser's batch: a mapping with attributes and ``to``."""

    def __getattr__(self, name):
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device):
        self.data = {key: value.to(device) for key, value in self.data.items()}
        return self


def shapes():
    x, y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
    return {
        "tensor": x,
        "tuple": (x, y),
        "list": [x, y],
        "named": Pair(x, y),
        "dict": {"x": x, "y": y},
        "nested": {"inputs": (x, {"y": y}), "scale": torch.tensor(2.0), "names": list("abcdef")},
        "encoding": Encoding(x=x, y=y),
        "frozen": MappingProxyType({"x": x, "y": y}),
    }


@pytest.mark.parametrize("shape", shapes())
def test_move_keeps_the_shape(shape):
    batch = shapes()[shape]
    moved = move(batch, torch.device("meta"))
    tensors = []
    torch.utils._pytree.tree_map(tensors.append, dict(moved) if hasattr(moved, "keys") else moved)
    assert any(isinstance(part, torch.Tensor) for part in tensors)
    assert all(part.device.type == "meta" for part in tensors if isinstance(part, torch.Tensor))
    if shape != "frozen":
        assert type(moved) is type(batch)


@pytest.mark.parametrize("shape", shapes())
def test_count(shape):
    assert sample_count(shapes()[shape]) == 6


def test_count_without_tensors():
    assert sample_count(["a", "b"]) == 2
    assert sample_count(object()) == 1


@pytest.mark.parametrize("shape", shapes())
@pytest.mark.parametrize("parts", [2, 3, 4, 6])
def test_split_covers_every_sample_once(shape, parts):
    batch = shapes()[shape]
    pieces = split(batch, parts)
    assert len(pieces) == parts
    counts = [sample_count(piece) for piece in pieces]
    assert sum(counts) == 6
    assert max(counts) - min(counts) <= 1
    assert torch.equal(torch.cat([labels(piece) for piece in pieces]), labels(batch))
    if shape != "frozen":
        assert all(type(piece) is type(batch) for piece in pieces)


def labels(batch):
    if isinstance(batch, torch.Tensor):
        return batch
    if isinstance(batch, (tuple, list)):
        return batch[1]
    return batch["y"] if "y" in batch else batch["inputs"][1]["y"]


def test_split_cuts_lists_of_samples_and_keeps_the_rest():
    first, second = split(shapes()["nested"], 2)
    assert (first["names"], second["names"]) == (list("abc"), list("def"))
    assert first["scale"] == second["scale"] == 2


def test_split_leaves_the_batch_alone():
    batch = shapes()["encoding"]
    split(batch, 2)
    assert len(batch.y) == 6


def test_split_makes_at_most_one_part_per_sample():
    assert len(split(torch.zeros(3, 1), 8)) == 3


def test_split_of_nothing_to_cut():
    with pytest.raises(UsageError, match="accumulate=1"):
        split(object(), 2)
