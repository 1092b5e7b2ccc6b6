"""How one data set is dealt to the members of a test federation."""

import numpy as np
import numpy.typing as npt

from gossipfl.errors import TaskError
from gossipfl.streams import stream

__all__ = ["iid"]


def iid(count: int, members: int, index: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the rows of one member: shards are disjoint, cover all, and differ by at most one row.

    Args:
        count: rows to deal.
        members: how many members there are.
        index: this member's place, from 0.
        seed: the same on all members.

    Returns:
        Row numbers in [0, count), shape (about count / members,), in no order.

    Raises:
        TaskError: there are fewer rows than members.
    """
    if not 0 <= index < members:
        raise ValueError(f"index {index} is not in [0, {members})")
    if count < members:
        raise TaskError(
            f"{count} samples cannot be dealt to {members} members",
            fix="Use fewer members or more data.",
        )
    return stream(seed, "", "iid").permutation(count)[index::members]
