"""The parent of all graph builders."""

from abc import abstractmethod

import networkx as nx

import topology.graphs
from gossipfl.family import Member, parse

__all__ = ["Graph", "load_graph"]


class Graph(Member):
    """Who is whose neighbor, for any number of members."""

    @abstractmethod
    def build(self, size: int) -> "nx.Graph[int]":
        """Return the graph on the nodes 0 to size - 1 (places in the member list).

        It is undirected and connected, and no node is its own neighbor. All members build the same
        graph from the same size.

        Raises:
            ValueError: size is below 1.
        """


def load_graph(choice: object, *, key: str = "topology") -> Graph:
    """Build the graph builder that a configuration names: `"ring"` or a table with `kind`.

    Raises:
        ConfigError: unknown graph, unknown field, value out of range.
    """
    # mypy: an abstract parent stands for its members here
    return parse(topology.graphs, Graph, choice, key=key)  # type: ignore[type-abstract]
