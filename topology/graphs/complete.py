"""Everybody is everybody's neighbor."""

from typing import ClassVar

import networkx as nx

from topology.graphs.graph import Graph

__all__ = ["Complete"]


class Complete(Graph):
    """Every pair of nodes is joined: degree size - 1."""

    kind: ClassVar[str] = "complete"

    def build(self, size: int) -> "nx.Graph[int]":
        """Return the complete graph; see Graph."""
        if size < 1:
            raise ValueError(f"a graph needs at least 1 node, got {size}")
        graph: nx.Graph[int] = nx.complete_graph(size)
        return graph
