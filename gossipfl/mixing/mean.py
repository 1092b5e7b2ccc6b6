"""The weighted mean. It trims nothing: one liar moves it as far as it likes."""

from typing import ClassVar

import numpy as np

from gossipfl.mixing.rule import BLOCK, MixingRule, Row
from gossipfl.mixing.trimmed_mean import mean_of_middle

__all__ = ["Mean"]


class Mean(MixingRule):
    """Average one's own model with the neighbors', by weights from the federation's graph.

    y = (1 - sum of w_j) own + sum of w_j x_j. The weights are Metropolis-Hastings weights,
    w_ij = 1 / (1 + max(degree_i, degree_j)), computed from the graph all members agree on, never
    from a degree that a neighbor declares. A neighbor that did not answer leaves its weight to
    one's own model. Without weights all models weigh the same.

    Source: Xiao, Boyd and Lall, "A scheme for robust distributed sensor fusion based on average
    consensus", IPSN 2005.
    """

    kind: ClassVar[str] = "mean"

    uses_weights: ClassVar[bool] = True
    coordinatewise: ClassVar[bool] = True

    @property
    def byzantine(self) -> int:
        """None: a single liar moves the mean anywhere."""
        return 0

    def mix(self, own: Row, rows: list[Row], weights: list[float] | None, out: Row) -> None:
        """Write the weighted mean of `own` and `rows` into `out`."""
        if weights is None:
            mean_of_middle(rows, 0, own, out)  # nothing dropped: everything is in the middle
            return
        rest = max(0.0, 1 - sum(weights))
        block = min(BLOCK, max(1, out.size))
        total, part = np.empty((2, block), dtype=out.dtype)
        for start in range(0, out.size, block):
            stop = min(start + block, out.size)
            so_far, term = total[: stop - start], part[: stop - start]
            np.multiply(own[start:stop], rest, out=so_far)
            for row, share in zip(rows, weights, strict=True):
                np.multiply(row[start:stop], share, out=term)
                np.add(so_far, term, out=so_far)
            out[start:stop] = so_far
