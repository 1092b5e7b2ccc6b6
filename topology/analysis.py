"""What a graph can carry: weights for the mean, how fast it mixes, how many liars it withstands."""

import math
from collections.abc import Collection

import networkx as nx
import numpy as np
import numpy.typing as npt

__all__ = [
    "algebraic_connectivity",
    "byzantine_bound",
    "metropolis_weights",
    "mixing_matrix",
    "neighbors",
    "spectral_gap",
    "tolerance",
]

Matrix = npt.NDArray[np.float64]

ROUNDING = 1e-9  # per node: an eigenvalue that is a whole number comes out this near to it


def neighbors(graph: "nx.Graph[int]", index: int) -> list[int]:
    """Return a node's neighbors in member order."""
    return sorted(graph.neighbors(index))


def tolerance(graph: "nx.Graph[int]", index: int) -> int:
    """Return how many lying neighbors a node can withstand by its own degree.

    floor((degree - 1) / 2), the largest b with 2b + 1 neighbors; -1 for a node that has none.
    """
    return (len(neighbors(graph, index)) - 1) // 2


def metropolis_weights(graph: "nx.Graph[int]") -> dict[int, dict[int, float]]:
    """Return each node's Metropolis-Hastings weights: weights[i][j] for each neighbor j of i.

    w_ij = 1 / (1 + max(degree_i, degree_j)); node i's own weight is what is left to 1. They are
    symmetric, so the mean of all models stays where it is.

    Source: Xiao, Boyd and Lall, "A scheme for robust distributed sensor fusion based on average
    consensus", IPSN 2005.
    """
    near = {node: neighbors(graph, node) for node in sorted(graph)}
    return {
        node: {other: 1 / (1 + max(len(others), len(near[other]))) for other in others}
        for node, others in near.items()
    }


def mixing_matrix(graph: "nx.Graph[int]") -> Matrix:
    """Return the Metropolis-Hastings weights as a matrix, shape (nodes, nodes).

    Symmetric, non-negative, every row and column sums to 1; rows in ascending node order.
    """
    place = {node: row for row, node in enumerate(sorted(graph))}
    matrix = np.zeros((len(place), len(place)))
    for node, weights in metropolis_weights(graph).items():
        for other, weight in weights.items():
            matrix[place[node], place[other]] = weight
        matrix[place[node], place[node]] = 1 - math.fsum(weights.values())
    return matrix


def spectral_gap(graph: "nx.Graph[int]") -> float:
    """Return by how much one round of the mean shrinks disagreement, at least: 1 - |lambda_2|.

    lambda_2 is the mixing matrix's eigenvalue of second largest magnitude. 1 means that one round
    is enough, 0 that the graph falls into parts. A single node has nothing to agree on: 1.
    """
    magnitudes = np.sort(np.abs(np.linalg.eigvalsh(mixing_matrix(graph))))
    return float(1 - magnitudes[-2]) if magnitudes.size > 1 else 1.0


def algebraic_connectivity(graph: "nx.Graph[int]") -> float:
    """Return mu_2, the second smallest eigenvalue of the Laplacian with unit weights.

    0 for a graph in parts; infinite for a single node, which nothing can cut.
    """
    nodes = sorted(graph)
    if len(nodes) < 2:
        return math.inf
    place = {node: row for row, node in enumerate(nodes)}
    laplacian = np.zeros((len(nodes), len(nodes)))
    for node in nodes:
        near = neighbors(graph, node)
        laplacian[place[node], place[node]] = len(near)
        laplacian[place[node], [place[other] for other in near]] = -1
    return max(0.0, float(np.linalg.eigvalsh(laplacian)[1]))


def byzantine_bound(graph: "nx.Graph[int]", liars: Collection[int] = ()) -> int:
    """Return the largest b with 2b < mu_2 of the honest part, -1 if there is none.

    With 2b >= mu_2 no mixing rule at all can be guaranteed against b liars beside every node:
    they can keep two halves of the graph apart. The bound is about the honest part. Who lies is
    known in a simulation; without `liars` the graph counts as honest, as if they came on top of
    it. Where they are among its nodes that flatters it: taking k nodes out lowers mu_2 by up to k,
    so any b of all members are only sure to stay within the bound if 3b < mu_2.

    Args:
        graph: who is whose neighbor.
        liars: nodes to leave out.

    Source: Gaucher, Dieuleveut and Hendrikx, "Unified breakdown analysis for Byzantine robust
    gossip", ICML 2025.
    """
    honest = graph.subgraph(set(graph) - set(liars))
    connectivity = algebraic_connectivity(honest)
    if math.isinf(connectivity):
        return 0
    return max(-1, math.ceil((connectivity - ROUNDING * len(honest)) / 2) - 1)
