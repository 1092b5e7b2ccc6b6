"""Everybody gets an equal random share."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from gossipfl.partitions.partition import Labels, Partition, Rows
from gossipfl.streams import stream

__all__ = ["Iid", "held_out_rows"]


class Iid(Partition):
    """Equal random shares: they cover all rows and differ by at most one row."""

    kind: ClassVar[str] = "iid"

    def deal(self, labels: Labels, members: int, seed: int) -> Sequence[Rows]:
        """Return each member's rows; see Partition."""
        order = stream(seed, "", "iid").permutation(len(labels))
        return [order[index::members] for index in range(members)]


def held_out_rows(count: int, members: int, least: int, seed: int) -> list[Rows]:
    """Deal held-out samples: equal random shares, which overlap where they would be too small.

    However the training samples are dealt, every member is measured on samples of all kinds, and
    on enough of them to tell a good model from a bad one.

    Args:
        count: samples held out, at least one.
        members: how many share them.
        least: each gets at least so many, or all there are.
        seed: the same on all members.
    """
    order = stream(seed, "", "iid").permutation(count)
    if count // members >= least:
        return [order[index::members] for index in range(members)]
    least = min(least, count)
    places = np.arange(least)
    return [order[(index * least + places) % count] for index in range(members)]
