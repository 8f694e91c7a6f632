"""The order of the data: every sample once an epoch, the same for everyone, at any step."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from thalweg.core.errors import UsageError
from thalweg.workload import Batches, in_order

N = 22


class Squares(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return torch.tensor(float(i)), i * i


class Noisy(Squares):
    """Augments with all three global generators."""

    def __getitem__(self, i):
        return (
            torch.stack([torch.tensor(float(i)), torch.rand(())]),
            np.random.rand() + i,
            (random.random()),
        )


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(10.0))


def kinds():
    x = torch.arange(float(N))
    return {
        "tensor": x,
        "numpy": x.numpy(),
        "tuple": (x, x**2),
        "dict": {"x": x, "y": (x**2).numpy()},
        "tensor data set": TensorDataset(x, x**2),
        "data set": Squares(),
        "list": [(float(i), i * i) for i in range(N)],
    }


def values(batch):
    if isinstance(batch, dict):
        assert torch.equal(batch["y"], batch["x"] ** 2)
        return batch["x"]
    if isinstance(batch, (tuple, list)):
        assert torch.equal(batch[1].double(), batch[0].double() ** 2)
        return batch[0]
    return batch


@pytest.mark.parametrize("kind", kinds())
def test_an_epoch_has_every_sample_once_less_the_short_rest(kind):
    batches = Batches(kinds()[kind], 5, seed=3)
    epochs = [[values(batches.at(4 * e + i)) for i in range(4)] for e in range(3)]
    for epoch in epochs:
        assert all(len(batch) == 5 for batch in epoch)
        assert len(set(torch.cat(epoch).tolist())) == 20
    orders = [torch.cat(epoch).tolist() for epoch in epochs]
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("kind", kinds())
def test_any_step_at_any_time(kind):
    batches = Batches(kinds()[kind], 5, seed=3)
    in_turn = [values(batches.at(step)) for step in range(9)]
    for step in (8, 2, 2, 5, 0):
        assert torch.equal(values(batches.at(step)), in_turn[step])
        assert torch.equal(values(Batches(kinds()[kind], 5, seed=3).at(step)), in_turn[step])
    assert not torch.equal(values(Batches(kinds()[kind], 5, seed=4).at(0)), in_turn[0])


def test_all_kinds_of_data_have_the_same_order():
    found = [values(Batches(data, 5, seed=1).at(2)).double() for data in kinds().values()]
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("kind", kinds())
def test_data_smaller_than_a_batch_are_one_batch(kind):
    batches = Batches(kinds()[kind], 100)
    assert sorted(values(batches.at(0)).tolist()) == list(range(N))
    assert not torch.equal(values(batches.at(0)), values(batches.at(1)))


@pytest.mark.parametrize("kind", kinds())
def test_in_order_has_every_sample_once(kind):
    found = list(in_order(kinds()[kind], 5))
    assert [len(values(batch)) for batch in found] == [5, 5, 5, 5, 2]
    assert torch.cat([values(batch) for batch in found]).tolist() == list(range(N))


def global_states():
    return torch.get_rng_state(), repr(np.random.get_state()), random.getstate()


def test_augmentation_depends_on_seed_and_step_alone():
    before = global_states()
    batches = Batches(Noisy(), 4, seed=2)
    in_turn = [batches.at(step) for step in range(12)]
    torch.rand(7), np.random.rand(7), random.random()
    for step in (11, 3):
        again = Batches(Noisy(), 4, seed=2).at(step)
        assert all(torch.equal(a, b) for a, b in zip(again, in_turn[step], strict=True))
    noise = torch.cat([batch[0][:, 1] for batch in in_turn])
    assert len(set(noise.tolist())) == len(noise)
    torch.set_rng_state(before[0])
    middle = global_states()[1:]
    list(in_order(Noisy(), 4))
    Batches(Noisy(), 4).at(0)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert global_states()[1:] == middle


def loader(shuffle=True, generator=None, **settings):
    return DataLoader(Noisy(), batch_size=4, shuffle=shuffle, generator=generator, **settings)


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("generator", [None, torch.Generator()])
def test_a_loader_is_replayed(generator):
    batches = Batches(loader(generator=generator), 4, seed=2)
    in_turn = [batches.at(step) for step in range(14)]
    assert [len(batch[0]) for batch in in_turn[:6]] == [4, 4, 4, 4, 4, 2]
    first, second = (torch.cat([b[0][:, 0] for b in in_turn[e : e + 6]]) for e in (0, 6))
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(N))
    assert not torch.equal(first, second)
    before = global_states()
    assert same(Batches(loader(generator=generator), 4, seed=2).at(9), in_turn[9])
    for step in (13, 4, 5):
        assert same(batches.at(step), in_turn[step])
    after = global_states()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert not same(Batches(loader(generator=generator), 4, seed=3).at(0), in_turn[0])


def test_a_loader_with_workers_is_replayed():
    batches = Batches(loader(num_workers=1), 4, seed=2)
    in_turn = [batches.at(step)[0] for step in range(3)]
    assert torch.equal(Batches(loader(num_workers=1), 4, seed=2).at(2)[0], in_turn[2])


def test_a_loader_in_order_is_the_same_every_time():
    validation = loader(shuffle=False)
    first, second = (list(in_order(validation, 99)) for _ in range(2))
    assert torch.cat([batch[0][:, 0] for batch in first]).tolist() == list(range(N))
    assert all(same(one, two) for one, two in zip(first, second, strict=True))


def test_a_loader_over_a_stream():
    batches = Batches(DataLoader(Stream(), batch_size=4), 4)
    assert [batches.at(step).tolist() for step in (0, 2, 3)] == [
        [0, 1, 2, 3], [8, 9], [0, 1, 2, 3],
    ]  # fmt: skip


def test_collate_is_used():
    batches = Batches([1, 2, 3], 3, collate=lambda samples: ("collated", sorted(samples)))
    assert batches.at(0) == ("collated", [1, 2, 3])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((torch.zeros(3), torch.zeros(4)), "differ in length"),
        ({"x": torch.zeros(3), "y": torch.zeros(4)}, "'x': 3, 'y': 4"),
        (torch.zeros(0, 5), "no sample"),
        ([], "no sample"),
        (torch.tensor(1.0), "no dimension"),
        ((torch.zeros(3), "labels"), "a tuple of Tensor, str"),
        ({}, "a mapping of nothing"),
        (7, "of type int"),
        ("text", "of type str"),
        (Stream(), "of type Stream"),
        (DataLoader(TensorDataset(torch.zeros(3)), batch_size=4, drop_last=True), "no sample"),
    ],
)
def test_data_that_cannot_be_used(data, message):
    with pytest.raises(UsageError, match=message):
        Batches(data, 4)
    with pytest.raises(UsageError, match=message):
        list(in_order(data, 4))


def test_a_batch_of_nothing():
    with pytest.raises(UsageError, match="batch_size"):
        Batches(torch.zeros(3), 0)


def test_a_loader_that_yields_nothing():
    class Empty(IterableDataset):
        def __iter__(self):
            return iter(())

    with pytest.raises(UsageError, match="yields no batch"):
        Batches(DataLoader(Empty()), 4).at(0)
