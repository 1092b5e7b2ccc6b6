"""Neighbors at the distances 1, 2, 4, 8, …: few edges, few hops."""

from collections.abc import Sequence
from typing import ClassVar

import networkx as nx

from topology.graphs.graph import Graph, check_size

__all__ = ["Exponential"]


class Exponential(Graph):
    """Node i is joined to i ± 2^k modulo the size, for every 2^k below the size.

    The static exponential graph, made undirected: degree at most 2 * ceil(log2 size), and as many
    hops as half the binary digits of the size.

    Source: Ying et al., "Exponential graph is provably efficient for decentralized deep training",
    NeurIPS 2021, section 3.
    """

    kind: ClassVar[str] = "exponential"
    symmetric: ClassVar[bool] = True

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the exponential graph; see Graph."""
        size = len(names)
        steps = [1 << power for power in range((size - 1).bit_length())] if size > 1 else []
        check_size(self.kind, size, size * len(steps))
        graph: nx.Graph[int] = nx.circulant_graph(size, steps)
        return graph
