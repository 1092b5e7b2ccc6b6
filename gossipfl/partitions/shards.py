"""Everybody gets a few pieces of the data sorted by class."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from gossipfl.errors import TaskError
from gossipfl.partitions.partition import Labels, Partition, Rows
from gossipfl.streams import stream

__all__ = ["Shards"]


class Shards(Partition):
    """The rows, sorted by class, are cut into equal pieces; each member draws a few of them.

    Source: McMahan et al., "Communication-efficient learning of deep networks from decentralized
    data", AISTATS 2017, section 3, with two pieces each.
    """

    kind: ClassVar[str] = "shards"

    each: int = Field(2, ge=1)
    """Pieces per member; about as many classes."""

    def deal(self, labels: Labels, members: int, seed: int) -> Sequence[Rows]:
        """Return each member's rows; see Partition."""
        pieces = members * self.each
        if len(labels) < pieces:
            raise TaskError(
                f"{len(labels)} samples cannot be cut into {pieces} shards",
                fix="Use fewer members, fewer shards each, or more data.",
            )
        draw = stream(seed, "", "shards")
        sorted_rows = np.concatenate([draw.permutation(rows) for rows in self.classes(labels)])
        cut = np.array_split(sorted_rows, pieces)
        order = draw.permutation(pieces)
        return [
            np.concatenate([cut[piece] for piece in order[index::members]])
            for index in range(members)
        ]
