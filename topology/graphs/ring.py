"""Everybody has two neighbors, the next and the one before."""

from typing import ClassVar

import networkx as nx

from topology.graphs.graph import Graph

__all__ = ["Ring"]


class Ring(Graph):
    """A cycle in member order: degree 2. Two nodes share one edge, one node has none."""

    kind: ClassVar[str] = "ring"

    def build(self, size: int) -> "nx.Graph[int]":
        """Return the cycle; see Graph."""
        if size < 1:
            raise ValueError(f"a graph needs at least 1 node, got {size}")
        # a cycle of fewer than three nodes would join a node to itself or a pair twice
        graph: nx.Graph[int] = nx.cycle_graph(size) if size > 2 else nx.path_graph(size)
        return graph
