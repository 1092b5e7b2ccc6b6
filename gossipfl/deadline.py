"""How long a round waits: learned from answers that came, inside configured bounds."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from gossipfl.types import Seconds

__all__ = ["Bounds", "Deadline"]

_HISTORY = 8  # rounds remembered: follows a change of pace within a few rounds, not one outlier


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the operator allows.

    Attributes:
        min_s: never less, in seconds; below the machine's own hiccups it would miss honest answers.
        max_s: never more, in seconds; also the wait while nothing is known.
        factor: how many typical rounds a neighbor may take.
    """

    min_s: Seconds = 0.4
    max_s: Seconds = 60.0
    factor: float = 3.0


class Deadline:
    """The wait of one node.

    A round's arrival time is that of its slowest answer once the `b` slowest neighbors are left
    out: `b` liars cannot stretch it. Rounds that ended at the deadline teach nothing, or the
    deadline would grow on itself.

    Args:
        bounds: what the operator allows.
        byzantine: `b`, the number of neighbors whose lateness must not matter.
    """

    def __init__(self, bounds: Bounds, byzantine: int) -> None:
        self._bounds = bounds
        self._byzantine = byzantine
        self._typical: deque[Seconds] = deque(maxlen=_HISTORY)

    def wait(self, arrivals: Sequence[Seconds], expected: int) -> Seconds:
        """Return how many seconds after its opening a round is due.

        Args:
            arrivals: seconds after the opening at which this round's answers came so far.
            expected: how many live neighbors there are.
        """
        if self._typical:
            return self._clamp(median(self._typical))
        enough = expected - self._byzantine
        if self._byzantine and enough > 0 and len(arrivals) >= enough:
            return self._clamp(sorted(arrivals)[enough - 1])
        return self._bounds.max_s

    def learn(self, arrivals: Sequence[Seconds]) -> None:
        """Remember a round that every live neighbor answered."""
        counted = len(arrivals) - self._byzantine
        if counted > 0:
            self._typical.append(sorted(arrivals)[counted - 1])

    def _clamp(self, typical: Seconds) -> Seconds:
        bounds = self._bounds
        return min(max(bounds.factor * typical, bounds.min_s), bounds.max_s)
