"""Random shares of unequal size."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from gossipfl.partitions.partition import Labels, Partition, Rows, shares
from gossipfl.streams import stream

__all__ = ["QuantitySkew"]


class QuantitySkew(Partition):
    """Like `iid`, but the sizes of the shares follow Dirichlet(alpha, …, alpha).

    Every member has one row for sure; the others are dealt by the drawn proportions.

    Source: Li, Diao, Chen and He, "Federated learning on non-IID data silos", ICDE 2022.
    """

    kind: ClassVar[str] = "quantity-skew"

    alpha: float = Field(gt=0, allow_inf_nan=False)
    """The smaller, the more unequal."""

    def deal(self, labels: Labels, members: int, seed: int) -> Sequence[Rows]:
        """Return each member's rows; see Partition."""
        draw = stream(seed, "", "quantity-skew")
        wanted = draw.gamma(self.alpha, size=members)
        total = wanted.sum()
        if not total > 0:  # every draw was too small for a float: one takes all
            wanted[draw.integers(members)] = total = 1.0
        counts = 1 + shares(len(labels) - members, wanted / total)
        return np.split(draw.permutation(len(labels)), np.cumsum(counts)[:-1])
