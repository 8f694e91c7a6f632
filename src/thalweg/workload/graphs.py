"""Graphs of any size in one batch, and sums over their nodes and edges."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Graph(NamedTuple):
    """One graph; an edge is listed in each direction.

    Attributes:
        nodes: features of the nodes (n, a).
        edges: features of the edges (e, b).
        ends: the nodes that each edge leads from and to (2, e), int64.
        label: what is to be learnt, (tasks,) or 0-d.
    """

    nodes: Tensor
    edges: Tensor
    ends: Tensor
    label: Tensor


class GraphBatch(NamedTuple):
    """Several graphs as one that is not connected.

    Attributes:
        labels: those of the graphs, (graphs,) or (graphs, tasks); first, as it counts the samples.
        nodes: features of all nodes (n, a).
        edges: features of all edges (e, b).
        ends: the nodes, among all, that each edge leads from and to (2, e), int64.
        graph: which graph each node is of (n,), int64.
    """

    labels: Tensor
    nodes: Tensor
    edges: Tensor
    ends: Tensor
    graph: Tensor

    def split_samples(self, parts: int) -> "list[GraphBatch]":
        """Return the batch as near-equal batches of fewer whole graphs."""
        count = len(self.labels)
        of_edge = self.graph[self.ends[0]]
        pieces = []
        for part in range(parts):
            first, last = count * part // parts, count * (part + 1) // parts
            nodes = (self.graph >= first) & (self.graph < last)
            edges = (of_edge >= first) & (of_edge < last)
            place = nodes.cumsum(0) - 1
            pieces.append(
                GraphBatch(
                    labels=self.labels[first:last],
                    nodes=self.nodes[nodes],
                    edges=self.edges[edges],
                    ends=place[self.ends[:, edges]],
                    graph=self.graph[nodes] - first,
                )
            )
        return pieces


def join(graphs: Sequence[Graph]) -> GraphBatch:
    """Return the graphs as a batch."""
    counts = torch.tensor([len(graph.nodes) for graph in graphs])
    starts = (counts.cumsum(0) - counts).tolist()
    return GraphBatch(
        labels=torch.stack([graph.label for graph in graphs]),
        nodes=torch.cat([graph.nodes for graph in graphs]),
        edges=torch.cat([graph.edges for graph in graphs]),
        ends=torch.cat(
            [graph.ends + start for graph, start in zip(graphs, starts, strict=True)], 1
        ),
        graph=torch.arange(len(graphs)).repeat_interleave(counts),
    )


def sum_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Return the sums (groups, d) of the rows (n, d) that share a group's number (n,)."""
    return values.new_zeros(groups, values.shape[1]).index_add(0, group, values)


PACKED = ("nodes", "edges", "ends", "labels", "node_counts", "edge_counts")


def pack(graphs: Sequence[Graph]) -> dict[str, Tensor]:
    """Return graphs as a few tensors, those of `PACKED`, for a file."""
    return {
        "nodes": torch.cat([graph.nodes for graph in graphs]),
        "edges": torch.cat([graph.edges for graph in graphs]),
        "ends": torch.cat([graph.ends for graph in graphs], 1),
        "labels": torch.stack([graph.label for graph in graphs]),
        "node_counts": torch.tensor([len(graph.nodes) for graph in graphs]),
        "edge_counts": torch.tensor([len(graph.edges) for graph in graphs]),
    }


def unpack(tensors: Mapping[str, Tensor]) -> list[Graph]:
    """Return the graphs that were packed, as views."""
    nodes, edges = tensors["node_counts"].tolist(), tensors["edge_counts"].tolist()
    parts = zip(
        tensors["nodes"].split(nodes),
        tensors["edges"].split(edges),
        tensors["ends"].split(edges, 1),
        tensors["labels"].unbind(),
        strict=True,
    )
    return [Graph(*part) for part in parts]
