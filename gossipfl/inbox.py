"""One vote per member: each neighbor's replica, what is being fetched, and what was signed.

Nothing here is trusted: an offer is held against the rounds and the base known, every chunk
against the offer, the whole model against its signed digest. Only then does a replica advance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from gossipfl.codecs.codec import codec_of
from gossipfl.errors import PeerFault, Refusal
from gossipfl.replica import Assembly, Replica
from gossipfl.types import Digest, PeerId, Round, Seconds, Vector
from gossipfl.wire.chunks import CREDIT_BYTES, Piece, chunk_count
from gossipfl.wire.frame import Frame, Offer

__all__ = ["AHEAD_MAX", "BEHIND_MAX", "EquivocationFault", "Inbox"]

BEHIND_MAX = 8  # rounds: a machine eight times slower than its neighbors still counts
AHEAD_MAX = 8  # rounds beyond what b + 1 neighbors claim: room for a fast neighbor, not for a leap
_SIGNED_KEPT = BEHIND_MAX + AHEAD_MAX + 1  # signed rounds remembered: all the window admits
_PASSING_KEPT = 8  # payloads given up of which pieces are still on their way


class EquivocationFault(PeerFault):
    """Two models signed for one (sender, round); the two frames are the proof, given once."""

    def __init__(self, round_: Round, first: bytes, second: bytes) -> None:
        super().__init__(Refusal.EQUIVOCATION, f"two models signed for round {round_}")
        self.round = round_
        self.first = first
        self.second = second


@dataclass(slots=True)
class _Held:
    """An offer that waits until the one before it is installed."""

    round: Round
    offer: Offer
    incarnation: int  # the start that signed it
    body: bytes | None = None  # its only chunk, if that followed unasked


@dataclass(slots=True)
class _Signed:
    """The first offer of a round."""

    model: Digest
    raw: bytes
    proven: bool = False  # a second one came, and was told


@dataclass(slots=True)
class _Slot:
    replica: Replica
    signed: dict[Round, _Signed] = field(default_factory=dict)
    held: _Held | None = None
    passing: dict[Digest, int] = field(default_factory=dict)  # pieces on their way for nothing

    def pass_by(self, root: Digest, pieces: int) -> None:
        """Let pieces of a payload that is not taken come without a fault of their sender."""
        if pieces:
            self.passing[root] = self.passing.pop(root, 0) + pieces
        while len(self.passing) > _PASSING_KEPT:
            del self.passing[next(iter(self.passing))]

    def abandon(self) -> None:
        """Drop what is being built; the pieces that were asked for still come."""
        if self.replica.assembly is not None:
            download = self.replica.assembly.download
            self.pass_by(download.root, download.outstanding)
        self.replica.abandon()

    def unhold(self) -> _Held | None:
        """Take the offer that waits; without its chunk that chunk still comes."""
        held, self.held = self.held, None
        if held is not None and held.body is None and held.offer.length <= CREDIT_BYTES:
            self.pass_by(held.offer.root, 1)
        return held


class Inbox:
    """What came from the neighbors.

    Args:
        neighbors: in the member list's order, which is the order of votes.
        initial: the model all members start from, shape (size,).
        digest: of `initial`.
        allocate: returns a new vector of that shape; the host decides where it lives.
        exact: whether a round takes rows of that very round only, as lock-step promises.
    """

    def __init__(
        self,
        neighbors: Sequence[PeerId],
        initial: Vector,
        digest: Digest,
        allocate: Callable[[], Vector],
        *,
        exact: bool = False,
    ) -> None:
        self._exact = exact
        self._slots: dict[PeerId, _Slot] = {}
        for name in neighbors:
            vector = allocate()
            vector[:] = initial
            self._slots[name] = _Slot(Replica(vector, allocate(), digest))

    KEPT_MAX: ClassVar = _SIGNED_KEPT + _PASSING_KEPT + 2
    """The most that `kept` ever returns: a neighbor cannot fill this node's memory."""

    def replica(self, peer: PeerId) -> Replica:
        """Return a neighbor's replica."""
        return self._slots[peer].replica

    def kept(self, peer: PeerId) -> int:
        """Return how many offers and transfers of a neighbor are remembered."""
        slot = self._slots[peer]
        building = slot.replica.assembly is not None
        return len(slot.signed) + len(slot.passing) + (slot.held is not None) + building

    def rows(self) -> tuple[Vector, ...]:
        """Return every neighbor's last known model, in order."""
        return tuple(slot.replica.vector for slot in self._slots.values())

    def offer(self, peer: PeerId, frame: Frame, now: Seconds) -> Assembly | None:
        """Take an offer; return what is to be fetched for it, None if nothing is now.

        Raises:
            PeerFault: stale, equivocating, of an unknown codec or base, or of a wrong length.
        """
        offer = frame.body
        assert isinstance(offer, Offer)
        slot = self._slots[peer]
        round_, replica = frame.round, slot.replica
        first = slot.signed.get(round_)
        if first is not None and first.model != offer.model:
            if first.proven:
                raise PeerFault(Refusal.EQUIVOCATION, f"another model signed for round {round_}")
            first.proven = True
            raise EquivocationFault(round_, first.raw, frame.raw)
        if round_ < replica.round:
            raise PeerFault(
                Refusal.STALE_ROUND, f"round {round_} offered, {replica.round} is known already"
            )
        if first is None:
            slot.signed[round_] = _Signed(offer.model, frame.raw)
            while len(slot.signed) > _SIGNED_KEPT:
                del slot.signed[min(slot.signed)]
        if round_ == replica.round and offer.model == replica.digest:
            self.ignore(peer, offer)  # said again after a new link
            return None
        return self._take(peer, _Held(round_, offer, frame.incarnation), now)

    def _take(self, peer: PeerId, held: _Held, now: Seconds) -> Assembly | None:
        slot = self._slots[peer]
        replica, offer = slot.replica, held.offer
        assembly = replica.assembly
        if assembly is not None and (assembly.round, assembly.offer) == (held.round, offer):
            self.ignore(peer, offer)  # on its way already
            return None
        if assembly is not None and not offer.snapshot:
            slot.unhold()
            slot.held = held
            return None
        begun = replica.begin(offer, held.round, codec_of(offer.codec), now)
        begun.incarnation = held.incarnation
        if assembly is not None:
            slot.pass_by(assembly.download.root, assembly.download.outstanding)
        if offer.length <= CREDIT_BYTES:
            begun.download.grant()
        return begun

    def ignore(self, peer: PeerId, offer: Offer) -> None:
        """Let the only chunk of an offer that is not taken, which follows unasked, pass by."""
        self._slots[peer].pass_by(offer.root, int(0 < offer.length <= CREDIT_BYTES))

    def abandon(self, peer: PeerId) -> None:
        """Drop an update that is not whole yet; what is whole and waits for its turn stays."""
        if not self._slots[peer].replica.ready:
            self._slots[peer].abandon()

    def restarted(self, peer: PeerId) -> None:
        """Drop what only an earlier start of a neighbor could have served."""
        self.abandon(peer)
        self._slots[peer].unhold()

    def resume(self, peer: PeerId) -> Assembly | None:
        """Return what is still to be fetched after a new link came up.

        A small payload comes again with its offer; of a large one, what arrived is kept.
        """
        replica = self._slots[peer].replica
        assembly = replica.assembly
        if assembly is None or replica.ready:
            return None
        if assembly.download.length <= CREDIT_BYTES:
            self._slots[peer].abandon()
            return None
        assembly.download.restart()
        return assembly

    def piece(self, peer: PeerId, piece: Piece, norm_max: float, now: Seconds) -> Assembly | None:
        """Take a piece of a payload; return its assembly, None if it was put aside.

        Raises:
            PeerFault: unrequested, altered, or the whole model does not hold; the assembly is
                dropped and the replica is what it was.
        """
        slot = self._slots[peer]
        replica, assembly = slot.replica, slot.replica.assembly
        if assembly is not None and assembly.download.root == piece.root and not replica.ready:
            try:
                assembly.take(piece)
                assembly.progress_at = now
                if assembly.download.complete:
                    assembly.verify(norm_max)
                    replica.ready = True
                    slot.pass_by(piece.root, assembly.download.outstanding)
            except PeerFault as fault:
                if fault.refusal is not Refusal.UNREQUESTED:
                    slot.abandon()
                raise
            return assembly
        held = slot.held
        small = held is not None and held.offer.length <= CREDIT_BYTES
        if held is not None and small and held.offer.root == piece.root and held.body is None:
            if held.offer.length != len(piece.body):
                raise PeerFault(Refusal.WRONG_LENGTH, "the chunk is not as long as was offered")
            held.body = bytes(piece.body)
            return None
        if slot.passing.get(piece.root, 0) > 0:
            slot.passing[piece.root] -= 1
            return None
        raise PeerFault(Refusal.UNREQUESTED, f"piece {piece.index} of a payload nobody asked for")

    def install(self, peer: PeerId, own_round: Round) -> Assembly | None:
        """Let a finished model become the neighbor's row, unless a row still waits to be mixed.

        A row of a later round waits for its turn, so that every round mixes its own rows; where
        an earlier one is lost, only lock-step lets the later one wait.
        """
        replica = self._slots[peer].replica
        assembly = replica.assembly
        if assembly is None or not replica.ready:
            return None
        waits = replica.votes and replica.round >= own_round - BEHIND_MAX  # else it never counts
        if assembly.round > own_round and (waits or self._exact):
            return None
        return replica.install()

    def release(self, peer: PeerId, norm_max: float, now: Seconds) -> Assembly | None:
        """Take up the offer that waited behind the one installed last; like `offer`."""
        slot = self._slots[peer]
        if slot.replica.assembly is not None:
            return None
        held = slot.unhold()
        if held is None or held.round <= slot.replica.round:
            return None
        assembly = self._take(peer, held, now)
        if assembly is not None and held.body is not None:
            self.piece(peer, Piece(held.offer.root, 0, memoryview(held.body)), norm_max, now)
        return assembly

    def answered(self, peer: PeerId, round_: Round) -> bool:
        """Whether a neighbor's model of `round_` or later is here, verified; if exact, of it."""
        replica = self._slots[peer].replica
        if self._exact:
            return replica.round == round_
        if replica.round >= round_:
            return True
        return replica.ready and replica.assembly is not None and replica.assembly.round >= round_

    def votes(self, own_round: Round) -> list[PeerId]:
        """Return the members whose newest row counts now, in order; each row counts once."""
        behind_max = 0 if self._exact else BEHIND_MAX
        return [
            peer
            for peer, slot in self._slots.items()
            if slot.replica.votes and slot.replica.round >= own_round - behind_max
        ]

    def stalled(self, now: Seconds, patience: Seconds) -> list[PeerId]:
        """Return the neighbors whose transfer has stood still for `patience` seconds."""
        return [
            peer
            for peer, slot in self._slots.items()
            if (assembly := slot.replica.assembly) is not None
            and not slot.replica.ready
            and now >= assembly.progress_at + patience  # as `next_stall`, to the last bit
        ]

    def next_stall(self, patience: Seconds) -> Seconds | None:
        """Return when the first transfer under way will have stalled."""
        oldest: Seconds | None = None
        for slot in self._slots.values():
            replica = slot.replica
            if replica.assembly is not None and not replica.ready:
                at = replica.assembly.progress_at
                oldest = at if oldest is None or at < oldest else oldest
        return None if oldest is None else oldest + patience

    def chunks_missing(self, peer: PeerId) -> int:
        """Return how many chunks of the current transfer are still to come."""
        assembly = self._slots[peer].replica.assembly
        if assembly is None:
            return 0
        return chunk_count(assembly.download.length) - assembly.download.arrived
