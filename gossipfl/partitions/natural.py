"""The data comes dealt: hospitals, writers."""

from collections.abc import Sequence
from typing import ClassVar

from gossipfl.errors import TaskError
from gossipfl.partitions.partition import Labels, Partition, Rows

__all__ = ["Natural"]


class Natural(Partition):
    """Each member has data of its own, as `heart-disease` and every real federation do."""

    kind: ClassVar[str] = "natural"
    natural: ClassVar[bool] = True

    def deal(self, labels: Labels, members: int, seed: int) -> Sequence[Rows]:
        """Refuse: one data set in one place has no natural parts.

        Raises:
            TaskError: always.
        """
        raise TaskError(
            "this task's data is one data set, which has no natural parts",
            fix="Use another partition: iid, dirichlet:0.1, one-label, shards, quantity-skew:0.5.",
        )
