"""Every pair is joined by the toss of a coin."""

from collections.abc import Sequence
from typing import ClassVar

import networkx as nx
from pydantic import Field

from topology.graphs.graph import Graph, check_size

__all__ = ["ErdosRenyi"]


class ErdosRenyi(Graph):
    """Each pair is joined with probability `p`; below p = ln(size) / size expect several parts.

    Source: Batagelj and Brandes, "Efficient generation of large random networks", Phys. Rev. E 71,
    2005, as networkx has it: the time grows with the edges, not with the pairs.
    """

    kind: ClassVar[str] = "erdos-renyi"

    p: float = Field(ge=0, le=1, description="probability of each edge, from 0 to 1")
    seed: int = Field(0, ge=0, description="another seed gives another graph")

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the random graph; see Graph."""
        size = len(names)
        check_size(self.kind, size, self.p * size * (size - 1) / 2)
        graph: nx.Graph[int] = nx.fast_gnp_random_graph(size, self.p, seed=self.seed)
        return graph
