"""Each class falls to the members in random proportions."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from gossipfl.partitions.partition import Labels, Partition, Rows, never_empty, shares
from gossipfl.streams import stream

__all__ = ["Dirichlet"]


class Dirichlet(Partition):
    """Each class is cut by proportions drawn from Dirichlet(alpha, …, alpha).

    With alpha = 0.1 most members hold one to three classes, with 100 nearly equal shares of all.
    Who would have no row at all gets one of whoever has most.

    Source: Hsu, Qi and Brown, "Measuring the effects of non-identical data distribution for
    federated visual classification", 2019; by class as in Yurochkin et al., ICML 2019.
    """

    kind: ClassVar[str] = "dirichlet"

    alpha: float = Field(gt=0, allow_inf_nan=False)
    """The smaller, the more unequal."""

    def deal(self, labels: Labels, members: int, seed: int) -> Sequence[Rows]:
        """Return each member's rows; see Partition."""
        draw = stream(seed, "", "dirichlet")
        parts: list[list[Rows]] = [[] for _ in range(members)]
        for rows in self.classes(labels):
            wanted = draw.gamma(self.alpha, size=members)
            total = wanted.sum()
            if not total > 0:  # every draw was too small for a float: one takes all
                wanted[draw.integers(members)] = total = 1.0
            counts = shares(len(rows), wanted / total)
            ends = np.cumsum(counts)
            for part, cut in zip(parts, np.split(draw.permutation(rows), ends[:-1]), strict=True):
                part.append(cut)
        return never_empty([np.concatenate(part) for part in parts])
