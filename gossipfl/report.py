"""The records that every host of the engine writes, one JSON object a line."""

from dataclasses import dataclass, field
from typing import Any

from gossipfl.effects import RoundClosed
from gossipfl.engine import Engine
from gossipfl.types import PeerId, Round, Seconds

__all__ = ["Participation", "RoundRecord", "neighbor_report"]


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One closed round of one node.

    Attributes:
        seconds: from the round's opening to the end of its mixing.
        loss: mean training loss of the local pass; None where there was none.
        measures: on this node's held-out data after mixing; empty where nothing was evaluated.
    """

    round: Round
    senders: tuple[PeerId, ...]
    missing: tuple[PeerId, ...]
    seconds: Seconds
    loss: float | None
    measures: dict[str, float | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the record as it is written."""
        return {
            "round": self.round,
            "senders": list(self.senders),
            "missing": list(self.missing),
            "seconds": round(self.seconds, 6),
            "loss": self.loss,
            "measures": self.measures,
        }


class Participation:
    """Who took part in how many of the rounds that one node closed."""

    def __init__(self, me: PeerId, neighbors: tuple[PeerId, ...]) -> None:
        self._me = me
        self.rounds = 0
        self._counts: dict[PeerId, int] = dict.fromkeys((me, *neighbors), 0)

    def add(self, closed: RoundClosed) -> None:
        """Count one round."""
        self.rounds += 1
        self._counts[self._me] += 1
        for sender in closed.senders:
            self._counts[sender] += 1

    @property
    def counts(self) -> dict[PeerId, int]:
        """Rounds by member, this one first."""
        return dict(self._counts)

    @property
    def members(self) -> int:
        """How many members, this one included, took part in at least half of the rounds."""
        return sum(2 * count >= self.rounds > 0 for count in self._counts.values())


def neighbor_report(engine: Engine, peer: PeerId, now: Seconds) -> dict[str, Any]:
    """Return what a node knows of one neighbor; times in seconds, null where nothing was heard."""
    known = engine.membership[peer]
    replica = engine.inbox.replica(peer)
    heard = known.last_heard
    return {
        "name": peer,
        "up": known.current is not None,
        "live": known.live,
        "left": known.left,
        "done": known.done,
        "members_differ": known.members_differ,
        "incarnation": known.incarnation,
        "last_heard_s": None if heard is None else round(now - heard, 3),
        "round": replica.round,
        "staleness": max(0, engine.round - 1 - replica.round),
        "missed": known.missed,
        "frames_verified": known.frames,
        "deltas_accepted": known.deltas,
        "snapshots_accepted": known.snapshots,
        "refused": {str(code): count for code, count in sorted(known.refused.items())},
        "refuses_us": dict(known.refuses_us),
        "equivocations": known.equivocations,
    }
