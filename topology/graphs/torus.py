"""A grid whose borders are joined: left to right and top to bottom."""

import math
from collections.abc import Sequence
from typing import ClassVar

import networkx as nx

from topology.graphs.graph import Graph, check_size

__all__ = ["Torus", "sides"]


def sides(size: int) -> tuple[int, int]:
    """Return the rows and columns of the most square grid of a size: rows <= columns."""
    rows = next(rows for rows in range(math.isqrt(size), 0, -1) if size % rows == 0)
    return rows, size // rows


class Torus(Graph):
    """The most square grid of so many nodes, row by row in member order, with joined borders.

    Degree 4 where both sides are at least 3. Two rows are joined once, not twice: degree 3. A
    prime number of members has only one row, and a torus of one row is a ring.
    """

    kind: ClassVar[str] = "torus"
    symmetric: ClassVar[bool] = True

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the torus; see Graph."""
        check_size(self.kind, len(names), 2 * len(names))
        rows, columns = sides(len(names))
        graph: nx.Graph[int] = nx.Graph()
        graph.add_nodes_from(range(rows * columns))
        for row in range(rows):
            for column in range(columns):
                node = row * columns + column
                right = row * columns + (column + 1) % columns
                below = (row + 1) % rows * columns + column
                graph.add_edges_from((node, other) for other in (right, below) if other != node)
        return graph
