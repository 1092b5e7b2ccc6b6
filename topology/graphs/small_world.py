"""A ring of near neighbors with some edges thrown far away."""

from collections.abc import Sequence
from typing import ClassVar

import networkx as nx
from pydantic import Field

from gossipfl.errors import ConfigError
from topology.graphs.graph import Graph, check_size

__all__ = ["SmallWorld"]


class SmallWorld(Graph):
    """Each node is joined to the `k` nearest on a ring; each edge moves with probability `p`.

    Source: Watts and Strogatz, "Collective dynamics of 'small-world' networks", Nature 393, 1998.
    """

    kind: ClassVar[str] = "small-world"

    k: int = Field(ge=0, multiple_of=2, description="neighbors on the ring, an even number")
    p: float = Field(ge=0, le=1, description="probability that an edge is moved, from 0 to 1")
    seed: int = Field(0, ge=0, description="another seed gives another graph")

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the small world; see Graph."""
        size = len(names)
        check_size(self.kind, size, size * self.k / 2)
        if self.k >= size:
            raise ConfigError(
                f"topology.k: {size} members cannot have {self.k} others beside them on a ring",
                fix=f"With {size} members k can be an even number from 0 to {(size - 1) // 2 * 2}.",
            )
        graph: nx.Graph[int] = nx.watts_strogatz_graph(size, self.k, self.p, seed=self.seed)
        return graph
