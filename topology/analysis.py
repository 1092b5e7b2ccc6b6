"""What a graph can carry: weights for the mean, how fast it mixes, how many liars it withstands."""

import json
import math
from collections.abc import Collection, Sequence
from typing import Final

import networkx as nx
import numpy as np
from blake3 import blake3

from gossipfl.errors import ConfigError
from gossipfl.types import Digest
from topology.spectrum import Floats, Places, Sparse, extremes

__all__ = [
    "MIXED",
    "algebraic_connectivity",
    "bound_of",
    "byzantine_bound",
    "check_connected",
    "diameter",
    "graph_digest",
    "metropolis_weights",
    "mixing_matrix",
    "neighbors",
    "parts",
    "rounds_to_mix",
    "spectral_gap",
    "tolerance",
]

ROUNDING: Final = 1e-9  # per node: an eigenvalue that is a whole number comes out this near to it
MIXED: Final = 1e-3  # of the disagreement is left when models count as mixed
WORDS_MAX: Final = 2_000_000_000  # read for an exact diameter: some six seconds
BLOCK_WORDS: Final = 32  # of 64 sources each, searched at once: a step stays in the cache
NAMES_SHOWN: Final = 8  # of one part; enough to see which part it is
PARTS_SHOWN: Final = 6


def neighbors(graph: "nx.Graph[int]", index: int) -> list[int]:
    """Return a node's neighbors in member order."""
    return sorted(graph.neighbors(index))


def tolerance(graph: "nx.Graph[int]", index: int) -> int:
    """Return how many lying neighbors a node can withstand by its own degree.

    floor((degree - 1) / 2), the largest b with 2b + 1 neighbors; -1 for a node that has none.
    """
    return (len(neighbors(graph, index)) - 1) // 2


def parts(graph: "nx.Graph[int]") -> list[list[int]]:
    """Return the parts no edge joins, largest first, each in member order; one if connected."""
    found = [sorted(part) for part in nx.connected_components(graph)]
    return sorted(found, key=lambda part: (-len(part), part[0]))


def check_connected(graph: "nx.Graph[int]", names: Sequence[str]) -> None:
    """Refuse a graph in parts: nothing one part learns ever reaches another.

    Raises:
        ConfigError: naming the parts.
    """
    found = parts(graph)
    if len(found) < 2:
        return
    shown = [_some([names[place] for place in part]) for part in found[:PARTS_SHOWN]]
    left_out = len(found) - len(shown)
    raise ConfigError(
        f"topology: the graph falls into {len(found)} parts that never become one model: "
        + " | ".join(shown)
        + (f" | and {left_out} more" if left_out else ""),
        fix="Join the parts by edges; with a random graph try another seed or more edges.",
    )


def _some(names: Sequence[str]) -> str:
    left_out = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {left_out} more" if left_out > 0 else "")


def graph_digest(graph: "nx.Graph[int]", names: Sequence[str]) -> Digest:
    """Return BLAKE3 of the edges by member names, whatever the order of members is.

    Two members with one digest have one graph: the same edges between the same names.
    """
    edges = sorted(sorted((names[one], names[other])) for one, other in graph.edges)
    return blake3(json.dumps(edges, separators=(",", ":")).encode()).digest()


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


def mixing_matrix(graph: "nx.Graph[int]") -> Floats:
    """Return the Metropolis-Hastings weights as a matrix, shape (nodes, nodes).

    Symmetric, non-negative, every row and column sums to 1; rows in ascending node order.
    """
    return _mixing(graph).dense()


def _mixing(graph: "nx.Graph[int]") -> Sparse:
    rows, columns, degrees = _edges(graph)
    weights = 1 / (1 + np.maximum(degrees[rows], degrees[columns]))
    own: Floats = 1.0 - np.bincount(rows, weights, minlength=degrees.size).astype(np.float64)
    return Sparse(own, rows, columns, weights)


def _laplacian(graph: "nx.Graph[int]") -> Sparse:
    rows, columns, degrees = _edges(graph)
    return Sparse(degrees, rows, columns, np.full(rows.size, -1.0))


def _edges(graph: "nx.Graph[int]") -> tuple[Places, Places, Floats]:
    """Return each edge in both directions, by rows in ascending node order, and the degrees."""
    place = {node: row for row, node in enumerate(sorted(graph))}
    pairs = [(place[one], place[other]) for one, other in graph.edges]
    ends = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    both = np.concatenate((ends, ends[:, ::-1]))
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    degrees = np.bincount(both[:, 0], minlength=len(place)).astype(np.float64)
    return both[:, 0], both[:, 1], degrees


def spectral_gap(graph: "nx.Graph[int]") -> float:
    """Return by how much one round of the mean shrinks disagreement, at least: 1 - |lambda_2|.

    lambda_2 is the mixing matrix's eigenvalue of second largest magnitude. 1 means that one round
    is enough, 0 that the graph falls into parts. A single node has nothing to agree on: 1.
    """
    if len(graph) < 2:
        return 1.0
    if not nx.is_connected(graph):
        return 0.0
    lowest, highest = extremes(_mixing(graph), -1.0, 1.0)
    return 1 - max(abs(lowest), abs(highest))


def rounds_to_mix(gap: float, left: float = MIXED) -> int | None:
    """Return after how many rounds of the mean a share of the disagreement is left, at most.

    ceil(ln(1 / left) / -ln |lambda_2|) with |lambda_2| = 1 - gap: each round of the mean with
    Metropolis-Hastings weights multiplies the distance of all models from their mean,
    sqrt(sum_i ||x_i - mean||^2), by at most |lambda_2|. It holds while nobody trains or lies; a
    rule that trims can be slower. None for a graph in parts, which never agrees.

    Args:
        gap: the spectral gap, from 0 to 1.
        left: share of the disagreement, above 0 and below 1.

    Source: Xiao and Boyd, "Fast linear iterations for distributed averaging", Systems & Control
    Letters 53, 2004, section 3.
    """
    if gap <= 0:
        return None
    if gap >= 1:
        return 1
    return max(1, math.ceil(math.log(left) / math.log1p(-gap)))


def algebraic_connectivity(graph: "nx.Graph[int]") -> float:
    """Return mu_2, the second smallest eigenvalue of the Laplacian with unit weights.

    0 for a graph in parts; infinite for a single node, which nothing can cut.
    """
    if len(graph) < 2:
        return math.inf
    if not nx.is_connected(graph):
        return 0.0
    return max(0.0, extremes(_laplacian(graph), 0.0, math.inf)[0])


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
    honest = graph.subgraph(set(graph) - set(liars)) if liars else graph
    return bound_of(algebraic_connectivity(honest), len(honest))


def bound_of(connectivity: float, size: int) -> int:
    """Return the bound of a graph whose mu_2 is known; see `byzantine_bound`."""
    if math.isinf(connectivity):
        return 0
    if connectivity == 0:
        return -1
    return max(0, math.ceil((connectivity - ROUNDING * size) / 2) - 1)


def diameter(graph: "nx.Graph[int]", *, symmetric: bool = False) -> tuple[int, bool]:
    """Return the most hops between two nodes of a connected graph, and whether that is exact.

    Where searching from every node would take too long, which only large graphs with far ends do,
    it is the length of one shortest path, which is at most the diameter.

    Args:
        graph: connected.
        symmetric: every node looks like every other, so that one search is enough.
    """
    first = min(graph)
    _, far = _farthest(graph, first)
    if symmetric:
        return far, True
    # from the end of a longest path: exact for trees, and mostly close (Magnien et al. 2009)
    end, _ = _farthest(graph, first)
    _, longest = _farthest(graph, end)
    rows, columns, degrees = _edges(graph)
    blocks = math.ceil(degrees.size / (64 * BLOCK_WORDS))
    if rows.size * blocks * BLOCK_WORDS * longest > WORDS_MAX:
        return longest, False
    starts = np.concatenate(([0], np.cumsum(degrees)[:-1])).astype(np.int64)
    return max(
        _depth(columns, starts, range(begin, min(begin + 64 * BLOCK_WORDS, degrees.size)))
        for begin in range(0, degrees.size, 64 * BLOCK_WORDS)
    ), True


def _farthest(graph: "nx.Graph[int]", source: int) -> tuple[int, int]:
    hops = nx.single_source_shortest_path_length(graph, source)
    return max(hops.items(), key=lambda item: (item[1], -item[0]))


def _depth(columns: Places, starts: Places, sources: range) -> int:
    """Return how many hops a breadth-first search takes from the farthest of some sources.

    Each node keeps a bit per source that has reached it; a step takes the bits of all neighbors.
    """
    if starts.size == 1:
        return 0
    bits = np.arange(len(sources))
    reached = np.zeros((starts.size, math.ceil(len(sources) / 64)), dtype=np.uint64)
    reached[sources, bits // 64] = np.uint64(1) << (bits % 64).astype(np.uint64)
    whole = np.bitwise_or.reduce(reached, axis=0)
    hops = 0
    while not (reached == whole).all():
        reached |= np.bitwise_or.reduceat(reached[columns], starts, axis=0)
        hops += 1
    return hops
