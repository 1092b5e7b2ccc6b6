"""One's own updates: what was offered last, and the payloads still served."""

from gossipfl.types import Digest, Round
from gossipfl.update import Update
from gossipfl.wire.chunks import Payload
from gossipfl.wire.frame import Offer

__all__ = ["Outbox"]

_KEPT = 2  # a neighbor may still fetch the last update while the next is closed


class Outbox:
    """The newest offer of this node, its snapshot, and what neighbors may still ask for.

    Args:
        round_: last round offered, -1 before the first.
        digest: of the public replica at that round.
    """

    def __init__(self, round_: Round, digest: Digest) -> None:
        self.round = round_
        self.said: Round = round_  # the newest that is durable: neighbors hear of no later one
        self.digest = digest
        self.offer: Offer | None = None  # None until this start has offered something
        self.snapshot: Offer | None = None  # of the newest update, once one was asked for
        self._deltas: dict[Digest, Payload] = {}
        self._snapshots: dict[Digest, Payload] = {}

    def push(self, round_: Round, codec: int, update: Update) -> Offer:
        """Take a closed update as the newest; a round is offered once, and rounds only grow."""
        assert round_ > self.round, f"round {round_} offered after {self.round}"
        payload = update.payload
        self.offer = Offer(codec, self.digest, update.model, len(payload), payload.root)
        self.round, self.digest, self.snapshot = round_, update.model, None
        _keep(self._deltas, payload)
        return self.offer

    def push_snapshot(self, codec: int, update: Update) -> Offer:
        """Take a snapshot of the newest public replica."""
        assert update.model == self.digest
        payload = update.payload
        self.snapshot = Offer(codec, b"", update.model, len(payload), payload.root)
        _keep(self._snapshots, payload)
        return self.snapshot

    def payload(self, root: Digest) -> Payload | None:
        """Return a payload that is still served."""
        return self._deltas.get(root) or self._snapshots.get(root)


def _keep(payloads: dict[Digest, Payload], newest: Payload) -> None:
    payloads[newest.root] = newest
    while len(payloads) > _KEPT:
        del payloads[next(iter(payloads))]
