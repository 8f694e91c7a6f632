"""Batches of graphs."""

import torch

from thalweg.workload.batch import move, sample_count, split
from thalweg.workload.graphs import Graph, GraphBatch, join, pack, sum_by, unpack


def graph(nodes, edges, label):
    return Graph(
        nodes=torch.arange(2 * nodes).view(nodes, 2),
        edges=torch.ones(len(edges), 1),
        ends=torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T.contiguous(),
        label=torch.tensor(label),
    )


GRAPHS = [
    graph(3, [(0, 1), (1, 0), (1, 2), (2, 1)], 1.0),
    graph(1, [], 2.0),
    graph(2, [(0, 1)], 3.0),
]


def test_join_moves_the_ends():
    batch = join(GRAPHS)
    assert batch.graph.tolist() == [0, 0, 0, 1, 2, 2]
    assert batch.ends.tolist() == [[0, 1, 1, 2, 4], [1, 0, 2, 1, 5]]
    assert batch.nodes[4].tolist() == [0, 1]
    assert batch.labels.tolist() == [1.0, 2.0, 3.0]
    assert sample_count(batch) == 3
    assert isinstance(move(batch, torch.device("cpu")), GraphBatch)


def test_pack_and_unpack():
    again = unpack(pack(GRAPHS))
    for one, other in zip(GRAPHS, again, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_sum_by_group():
    values = torch.tensor([[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]])
    assert sum_by(values, torch.tensor([2, 0, 2]), 3).tolist() == [[2, 20], [0, 0], [5, 50]]


def test_a_batch_is_cut_between_graphs():
    found = split(join(GRAPHS), 2)
    wanted = [join(GRAPHS[:1]), join(GRAPHS[1:])]
    for one, other in zip(found, wanted, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert [sample_count(part) for part in split(join(GRAPHS), 9)] == [1, 1, 1]
