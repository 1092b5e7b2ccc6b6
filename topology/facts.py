"""All that can be said of one graph before anybody runs on it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

from topology.analysis import (
    algebraic_connectivity,
    bound_of,
    diameter,
    graph_digest,
    neighbors,
    parts,
    rounds_to_mix,
    spectral_gap,
    tolerance,
)

__all__ = ["Facts", "examine"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a graph is like and what it withstands; nodes are places in `names`.

    Attributes:
        graph: who is whose neighbor.
        names: of the nodes.
        parts: the nodes of each part, largest first.
        degrees: of each node.
        tolerances: of each node, -1 for one without a neighbor.
        diameter: the most hops between two nodes; None for a graph in parts.
        diameter_exact: whether it is exactly that, or at least that.
        gap: the mixing matrix's spectral gap, from 0 to 1.
        rounds: of the mean until a thousandth of the disagreement is left; None if never.
        connectivity: mu_2; infinite for one node.
        bound: the largest b with 2b < mu_2, -1 if there is none.
        digest: of the edges by names, hex.
    """

    graph: "nx.Graph[int]"
    names: Sequence[str]
    parts: list[list[int]]
    degrees: list[int]
    tolerances: list[int]
    diameter: int | None
    diameter_exact: bool
    gap: float
    rounds: int | None
    connectivity: float
    bound: int
    digest: str

    @property
    def connected(self) -> bool:
        """Whether all nodes are in one part."""
        return len(self.parts) == 1

    @property
    def withstands(self) -> int:
        """The b that both each node's degree and the graph as a whole allow, -1 for none."""
        return min(min(self.tolerances), self.bound)

    @property
    def degree_mean(self) -> float:
        """How many neighbors a node has on average."""
        return math.fsum(self.degrees) / len(self.degrees)

    def too_few(self, degree_min: int) -> list[int]:
        """Return the nodes with fewer neighbors than a rule needs."""
        return [node for node, degree in enumerate(self.degrees) if degree < degree_min]

    def as_json(self) -> dict[str, Any]:
        """Return everything for `--json`, members in order; null for what cannot be computed."""
        return {
            "nodes": len(self.names),
            "edges": self.graph.number_of_edges(),
            "connected": self.connected,
            "parts": [[self.names[node] for node in part] for part in self.parts],
            "degree_min": min(self.degrees),
            "degree_mean": self.degree_mean,
            "degree_max": max(self.degrees),
            "diameter": self.diameter if self.diameter_exact else None,
            "diameter_at_least": self.diameter,
            "spectral_gap": self.gap,
            "rounds_to_mix": self.rounds,
            "algebraic_connectivity": self.connectivity,
            "graph_bound": self.bound,
            "tolerance_min": min(self.tolerances),
            "withstands": self.withstands,
            "digest": self.digest,
            "members": [
                {
                    "name": name,
                    "degree": self.degrees[node],
                    "tolerance": self.tolerances[node],
                    "neighbors": [self.names[other] for other in neighbors(self.graph, node)],
                }
                for node, name in enumerate(self.names)
            ],
        }


def examine(graph: "nx.Graph[int]", names: Sequence[str], *, symmetric: bool = False) -> Facts:
    """Compute what can be said of a graph; seconds for ten thousand nodes.

    Args:
        graph: on the nodes 0 to n - 1, in parts or not.
        names: of the nodes.
        symmetric: every node looks like every other.
    """
    found = parts(graph)
    hops, exact = diameter(graph, symmetric=symmetric) if len(found) == 1 else (None, True)
    gap = spectral_gap(graph)
    connectivity = algebraic_connectivity(graph)
    nodes = range(len(names))
    return Facts(
        graph=graph,
        names=names,
        parts=found,
        degrees=[graph.degree(node) for node in nodes],
        tolerances=[tolerance(graph, node) for node in nodes],
        diameter=hops,
        diameter_exact=exact,
        gap=gap,
        rounds=rounds_to_mix(gap) if len(names) > 1 else 0,
        connectivity=connectivity,
        bound=bound_of(connectivity, len(names)),
        digest=graph_digest(graph, names).hex(),
    )
