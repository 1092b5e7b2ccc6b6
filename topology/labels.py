"""Where a node's name stands in a picture, so that it lies on no edge where that can be avoided."""

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from topology.layouts import Point

__all__ = ["DIRECTIONS", "Line", "across", "freest"]

Line: TypeAlias = tuple[Point, Point]
"""Both ends."""

Box: TypeAlias = tuple[float, float, float, float]
"""Left, bottom, right and top."""

DIRECTIONS: Final = tuple(
    (math.cos(math.radians(angle)), math.sin(math.radians(angle)))
    for angle in (270, 90, 0, 180, 315, 225, 45, 135)
)
"""From a node to its name, the first that is free wins: a name below its node is read best."""


def freest(node: Point, name: tuple[float, float], away: float, lines: Sequence[Line]) -> Point:
    """Return the direction in which a name crosses the fewest lines.

    Args:
        node: where the node is, in points.
        name: the name's width and height, in points.
        away: from the node's middle to the name, in points.
        lines: what it should not lie on, in points: edges, and lines across nodes and names.
    """

    def crossed(direction: Point) -> int:
        box = _box(node, name, away, direction)
        return sum(_crosses(line, box) for line in near)

    reach = away + max(name)
    near = [line for line in lines if _crosses(line, _around(node, reach))]
    return min(DIRECTIONS, key=crossed)  # of equals the first


def across(node: Point, name: tuple[float, float], away: float, direction: Point) -> Line:
    """Return the line through the middle of a name that stands in a direction of its node."""
    left, low, right, top = _box(node, name, away, direction)
    return (left, (low + top) / 2), (right, (low + top) / 2)


def _box(node: Point, name: tuple[float, float], away: float, direction: Point) -> Box:
    (x, y), (width, height), (dx, dy) = node, name, direction
    x, y = x + away * dx, y + away * dy
    left = x - width / 2 if abs(dx) < 0.2 else x if dx > 0 else x - width
    low = y - height / 2 if abs(dy) < 0.5 else y if dy > 0 else y - height
    return left, low, left + width, low + height


def _around(node: Point, reach: float) -> Box:
    return node[0] - reach, node[1] - reach, node[0] + reach, node[1] + reach


def _crosses(line: Line, box: Box) -> bool:
    """Whether a line between two points passes through a box (Liang and Barsky, 1984)."""
    (x, y), (x2, y2) = line
    begin, end = 0.0, 1.0
    for step, before, behind in (
        _sides(x2 - x, x, box[0], box[2]),
        _sides(y2 - y, y, box[1], box[3]),
    ):
        if step == 0:
            if before > 0 or behind < 0:
                return False
            continue
        enters, leaves = sorted((before / step, behind / step))
        begin, end = max(begin, enters), min(end, leaves)
    return begin <= end


def _sides(step: float, start: float, low: float, high: float) -> tuple[float, float, float]:
    return step, low - start, high - start
