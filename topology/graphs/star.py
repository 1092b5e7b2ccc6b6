"""Everybody's only neighbor is the first member."""

from collections.abc import Sequence
from typing import ClassVar

import networkx as nx

from topology.graphs.graph import Graph, check_size

__all__ = ["Star"]


class Star(Graph):
    """The first member in the list is the center: degree size - 1 there, 1 everywhere else.

    The only graph where all but one member may lack an address. Its center sees every model and
    without it nothing is learned together, so it is no more than a server with another name.
    """

    kind: ClassVar[str] = "star"

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the star; see Graph."""
        check_size(self.kind, len(names), len(names) - 1)
        graph: nx.Graph[int] = nx.star_graph(len(names) - 1)
        return graph
