"""Every member knows one class only."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from gossipfl.errors import TaskError
from gossipfl.partitions.partition import Labels, Partition, Rows, shares
from gossipfl.streams import stream

__all__ = ["OneLabel"]


class OneLabel(Partition):
    """Each member holds rows of a single class; a class has members in proportion to its rows.

    The hardest of all partitions: what a member learns alone is a constant.
    """

    kind: ClassVar[str] = "one-label"

    def deal(self, labels: Labels, members: int, seed: int) -> Sequence[Rows]:
        """Return each member's rows; see Partition."""
        classes = self.classes(labels)
        if members < len(classes):
            raise TaskError(
                f"{len(classes)} classes cannot be dealt to {members} members, one each",
                fix=f"Use at least {len(classes)} members, or the partition shards.",
            )
        draw = stream(seed, "", "one-label")
        sizes = np.array([len(rows) for rows in classes], np.float64)
        # Each class one member for sure; the others where rows are, and never more than those
        counts = 1 + shares(members - len(classes), (sizes - 1) / max(1.0, (sizes - 1).sum()))
        dealt = [
            part
            for rows, count in zip(classes, counts, strict=True)
            for part in np.array_split(draw.permutation(rows), count)
        ]
        return [dealt[place] for place in draw.permutation(members)]
