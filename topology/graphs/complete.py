"""Everybody is everybody's neighbor."""

from collections.abc import Sequence
from typing import ClassVar

import networkx as nx

from topology.graphs.graph import Graph, check_size

__all__ = ["Complete"]


class Complete(Graph):
    """Every pair of nodes is joined: degree size - 1."""

    kind: ClassVar[str] = "complete"
    symmetric: ClassVar[bool] = True

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the complete graph; see Graph."""
        size = len(names)
        check_size(self.kind, size, size * (size - 1) / 2)
        graph: nx.Graph[int] = nx.complete_graph(size)
        return graph
