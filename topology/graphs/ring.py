"""Everybody has two neighbors, the next and the one before."""

from collections.abc import Sequence
from typing import ClassVar

import networkx as nx

from topology.graphs.graph import Graph, check_size

__all__ = ["Ring"]


class Ring(Graph):
    """A cycle in member order: degree 2. Two nodes share one edge, one node has none."""

    kind: ClassVar[str] = "ring"
    symmetric: ClassVar[bool] = True

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the cycle; see Graph."""
        size = len(names)
        check_size(self.kind, size, size)
        # a cycle of fewer than three nodes would join a node to itself or a pair twice
        graph: nx.Graph[int] = nx.cycle_graph(size) if size > 2 else nx.path_graph(size)
        return graph
