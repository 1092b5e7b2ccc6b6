"""What neighbors say to each other: hellos, offers, wants, refusals. Sans-IO, like the engine.

The dialog decides whether a frame holds and answers it; when a round ends is the engine's.
"""

from collections.abc import Callable
from typing import ClassVar, TypeAlias

from gossipfl.agreement import check_agreement
from gossipfl.effects import (
    Drop,
    Effect,
    Equivocated,
    MembersDiffer,
    PeerDown,
    PeerUp,
    RefusedBy,
    Rejected,
    Send,
    SendData,
    UpdateAccepted,
)
from gossipfl.errors import PeerFault, Refusal
from gossipfl.inbox import AHEAD_MAX, BEHIND_MAX, EquivocationFault, Inbox
from gossipfl.membership import Accepted, Link, Membership, Peer, jump_target
from gossipfl.outbox import Outbox
from gossipfl.replica import Assembly
from gossipfl.roster import roster_bodies, take_roster
from gossipfl.setup import Setup, Standing
from gossipfl.types import LinkId, PeerId, Round, Seconds
from gossipfl.wire.chunks import CREDIT_BYTES, DATA_TAG, parse_data
from gossipfl.wire.frame import (
    Body,
    Done,
    Frame,
    Hello,
    Leave,
    Offer,
    Part,
    Refused,
    Roster,
    Sealer,
    Want,
)

__all__ = ["Dialog"]

_SERVED_MAX = 16  # pieces one want may ask for: twice an honest receiver's window
_LEAD_MAX = BEHIND_MAX // 2  # rounds; the rows of those who are behind must still count
_FATAL = {Refusal.WRONG_FEDERATION, Refusal.WRONG_LAYOUT, Refusal.STALE_INCARNATION}

_Answer: TypeAlias = "Callable[[Dialog, Link, Frame, Seconds], list[Effect]]"


class Dialog:
    """The conversations of one node with its neighbors.

    Args:
        setup: who the node is and what it agreed to.
        parties: its membership, inbox and outbox.
        standing: shared with the engine, which writes it.
    """

    def __init__(
        self,
        setup: Setup,
        parties: tuple[Membership, Inbox, Outbox],
        standing: Standing,
    ) -> None:
        self._federation = federation = setup.federation
        self._layout = setup.layout
        self._sealer = Sealer(setup.identity, federation.digest, setup.layout, setup.incarnation)
        self._membership, self._inbox, self._outbox = parties
        self._byzantine = setup.rule.byzantine
        self._standing = standing
        self._open_frame = setup.open_frame
        self._last: Round = federation.constitution.rounds - 1
        self.snapshot_wanted: list[Link] = []  # answered once the engine has made it

    # --- links ---------------------------------------------------------------------------------

    def connected(self, link: LinkId, peer: PeerId, *, dialed: bool) -> list[Effect]:
        """Greet on a link whose certificates hold on both ends."""
        entry = self._membership.connect(link, peer, dialed=dialed)
        return [self._send(entry, self._hello())]

    def disconnected(self, link: LinkId) -> list[Effect]:
        """Take note that a link is gone."""
        peer = self._membership.disconnect(link)
        self.snapshot_wanted = [entry for entry in self.snapshot_wanted if entry.id != link]
        return [PeerDown(peer.id, peer.left)] if peer is not None else []

    def _hello(self) -> Hello:
        federation = self._federation
        return Hello(federation.constitution.text, federation.members_digest)

    # --- frames in -----------------------------------------------------------------------------

    def receive(self, link_id: LinkId, message: bytes, now: Seconds) -> list[Effect]:
        """Take one message; whatever is wrong with it becomes `Rejected`, never an exception."""
        link = self._membership.link(link_id)
        if link is None:
            return []  # it was closed while this message waited its turn
        link.peer.last_heard = now
        try:
            if message[:1] == bytes([DATA_TAG]):
                return self._piece(link, message, now)
            return self._control(link, message, now)
        except PeerFault as fault:
            return self.refuse(link, fault, now)

    def _control(self, link: Link, message: bytes, now: Seconds) -> list[Effect]:
        peer = link.peer
        frame = self._open_frame(message, peer.key, self._membership.own_key)
        # First: what differs says more than that a member's counters went back, as both do where
        # it comes with another federation and another store
        check_agreement(frame, self._federation.constitution, self._layout)
        newest = peer.window.incarnation
        refusal = peer.window.admit(frame.incarnation, frame.sequence)
        if refusal is not None:
            detail = f"frame {frame.sequence} of start {frame.incarnation} comes again"
            if refusal is Refusal.STALE_INCARNATION:
                detail = f"this is start {frame.incarnation}, and start {newest} was here"
            raise PeerFault(refusal, f"{detail}; is that member's store lost?")
        peer.frames += 1
        if not link.up and not isinstance(frame.body, Hello | Refused):
            raise PeerFault(Refusal.NO_HELLO, "the first frame on a link is a hello")
        return self._answer[type(frame.body)](self, link, frame, now)

    def _on_hello(self, link: Link, frame: Frame, now: Seconds) -> list[Effect]:
        hello, peer = frame.body, link.peer
        assert isinstance(hello, Hello)
        if link.up:
            raise PeerFault(Refusal.FLOOD, "a second hello on one link")
        first = peer.current is None
        if anew := frame.incarnation > peer.incarnation:
            self._inbox.restarted(peer.id)
        peer.greets(anew=anew)
        peer.offered_round = max(peer.offered_round, frame.round)
        differ = hello.members != self._federation.members_digest
        peer.members_differ = differ
        effects: list[Effect] = [
            Drop(extra.id, "another link to this member stays")
            for extra in self._membership.greet(link, frame.incarnation)
        ]
        if first:
            effects.append(PeerUp(peer.id, frame.incarnation))
        if peer.current is not link:
            return effects
        if differ:
            rosters = roster_bodies(self._federation.roster)
            return effects + [self._send(link, roster) for roster in rosters]
        resumed = self._inbox.resume(peer.id)
        return effects + self._announce_to(link) + self._fetch(peer, resumed)

    def _on_offer(self, link: Link, frame: Frame, now: Seconds) -> list[Effect]:
        offer, peer = frame.body, link.peer
        assert isinstance(offer, Offer)
        peer.offered_round = max(peer.offered_round, frame.round)
        try:
            self._check_offer(peer, frame)
            assembly = self._inbox.offer(peer.id, frame, now)
        except PeerFault as fault:
            self._inbox.ignore(peer.id, offer)
            return self._refuse_offer(link, fault, now)
        return self._fetch(peer, assembly)

    def _refuse_offer(self, link: Link, fault: PeerFault, now: Seconds) -> list[Effect]:
        effects = self.refuse(link, fault, now)
        if isinstance(fault, EquivocationFault):
            link.peer.equivocations += 1
            effects.append(Equivocated(link.peer.id, fault.round, fault.first, fault.second))
        elif fault.refusal is Refusal.UNKNOWN_BASE:
            effects += self.say_to(link.peer, Want(Part.SNAPSHOT))
        return effects

    def _check_offer(self, peer: Peer, frame: Frame) -> None:
        if peer.members_differ:
            raise PeerFault(Refusal.MEMBERS_DIFFER, "no update counts while member lists differ")
        own = self._standing.round
        if not own - BEHIND_MAX <= frame.round:
            raise PeerFault(Refusal.STALE_ROUND, f"round {frame.round} offered in round {own}")
        near = frame.round <= min(own + AHEAD_MAX, self._last)  # whatever the others claim
        if not near and frame.round > (horizon := self._horizon()):
            peer.far = True
            detail = f"round {frame.round} offered, at most {horizon} is plausible"
            raise PeerFault(Refusal.FAR_ROUND, detail)

    def target(self) -> Round:
        """Return the round that b + 1 linked neighbors have reached, which is where all belong."""
        rounds = [peer.offered_round for peer in self._membership.linked]
        return min(jump_target(rounds, self._byzantine), self._last)

    def runs_away(self, live: int) -> bool:
        """Whether the node is ahead of what neighbors take, with so few live that nothing is mixed.

        Then those that are silent are waited for, or a few fast nodes would end by themselves.
        """
        if not live <= self._byzantine < len(self._membership.linked):
            return False
        return self._standing.round > self.target() + _LEAD_MAX

    def _horizon(self) -> Round:
        return min(max(self._standing.round, self.target()) + AHEAD_MAX, self._last)

    def behind(self) -> list[PeerId]:
        """Return the live neighbors whose model of the target round is not here yet."""
        target = self.target()
        return [
            peer.id
            for peer in self._membership.live
            if not self._inbox.answered(peer.id, min(peer.offered_round, target))
        ]

    def _fetch(self, peer: Peer, assembly: Assembly | None) -> list[Effect]:
        """Ask for what is missing, on the link that stays: another may be about to close."""
        effects: list[Effect] = []
        while assembly is not None and (asked := assembly.download.wants()) is not None:
            effects += self.say_to(peer, Want(Part.PIECES, assembly.download.root, *asked))
        return effects

    def _piece(self, link: Link, message: bytes, now: Seconds) -> list[Effect]:
        if not link.up:
            raise PeerFault(Refusal.NO_HELLO, "the first frame on a link is a hello")
        piece = parse_data(message)
        assembly = self._inbox.piece(link.peer.id, piece, self._standing.norm_max, now)
        return self._fetch(link.peer, assembly) + self.install(link.peer, now)

    def install(self, peer: Peer, now: Seconds) -> list[Effect]:
        """Advance a neighbor's replica if its next model is whole and its turn has come."""
        effects: list[Effect] = []
        while not self._standing.frozen:
            done = self._inbox.install(peer.id, self._standing.round)
            if done is None:
                break
            if done.offer.snapshot:
                peer.snapshots += 1
            else:
                peer.deltas += 1
            peer.accepted = Accepted(done.round, done.incarnation, now)
            if done.round == self._standing.round - 1 and now <= self._standing.due:
                peer.missed = 0  # in time, though the round has closed without it, and earlier
            effects.append(UpdateAccepted(peer.id, done.round, done.offer.snapshot))
            effects += self._release(peer, now)
        if not self._standing.frozen and self._inbox.answered(peer.id, self._standing.round):
            peer.missed = 0  # also if its answer waits behind a row that has not counted yet
        return effects

    def thaw(self, now: Seconds) -> list[Effect]:
        """Let rows advance again; ask for those that seemed too far ahead when they came."""
        self._standing.frozen = False
        effects: list[Effect] = []
        for peer in self._membership:
            effects += self.install(peer, now)
            if peer.far and peer.offered_round <= self._horizon():
                peer.far = False
                effects += self.say_to(peer, Want(Part.SNAPSHOT))
        return effects

    def _release(self, peer: Peer, now: Seconds) -> list[Effect]:
        link = peer.current
        try:
            assembly = self._inbox.release(peer.id, self._standing.norm_max, now)
        except PeerFault as fault:
            return self._refuse_offer(link, fault, now) if link is not None else []
        return self._fetch(peer, assembly)

    def give_up(self, peer: Peer, fault: PeerFault, now: Seconds) -> list[Effect]:
        """Drop a transfer that stands still, and take up what waited behind it."""
        self._inbox.abandon(peer.id)
        if peer.current is None:
            return []
        return [*self.refuse(peer.current, fault, now), *self._release(peer, now)]

    def _on_want(self, link: Link, frame: Frame, now: Seconds) -> list[Effect]:
        want = frame.body
        assert isinstance(want, Want)
        if want.part is Part.SNAPSHOT:
            return self._want_snapshot(link)
        payload = self._outbox.payload(want.root)
        if payload is None:  # superseded: only the newest model still leads anywhere
            return self._want_snapshot(link)
        if want.count > _SERVED_MAX or want.first + want.count > payload.chunks:
            raise PeerFault(Refusal.FLOOD, f"{want.count} pieces from {want.first} asked for")
        return [
            SendData(link.id, payload, index)
            for index in range(want.first, want.first + want.count)
        ]

    def _want_snapshot(self, link: Link) -> list[Effect]:
        """One snapshot per link and round, and only of a round that this start has offered."""
        if self._outbox.offer is None or link.snapshot_round == self._outbox.round:
            return []
        if link not in self.snapshot_wanted:
            self.snapshot_wanted.append(link)
        return []

    def serve_snapshots(self) -> list[Effect]:
        """Answer those who wait for the snapshot that the outbox now has."""
        effects: list[Effect] = []
        for link in self.snapshot_wanted:
            link.snapshot_round = self._outbox.round
            effects += self._offer_to(link, self._outbox.snapshot)
        self.snapshot_wanted = []
        return effects

    def _on_refused(self, link: Link, frame: Frame, now: Seconds) -> list[Effect]:
        refused = frame.body
        assert isinstance(refused, Refused)
        link.peer.hear_refusal(refused.code, refused.detail, now)
        return [RefusedBy(link.peer.id, refused.code, refused.detail)]

    def _on_roster(self, link: Link, frame: Frame, now: Seconds) -> list[Effect]:
        roster = frame.body
        assert isinstance(roster, Roster)
        lines = take_roster(link, roster, self._federation.roster)
        return [] if lines is None else [MembersDiffer(link.peer.id, lines)]

    def _on_leave(self, link: Link, frame: Frame, now: Seconds) -> list[Effect]:
        link.peer.left = True
        return []

    def _on_done(self, link: Link, frame: Frame, now: Seconds) -> list[Effect]:
        link.peer.done = True
        return []

    _answer: ClassVar[dict[type[Body], _Answer]] = {
        Hello: _on_hello,
        Offer: _on_offer,
        Want: _on_want,
        Refused: _on_refused,
        Roster: _on_roster,
        Leave: _on_leave,
        Done: _on_done,
    }

    # --- frames out ----------------------------------------------------------------------------

    def announce(self) -> list[Effect]:
        """Offer the newest update to every linked neighbor: one frame, signed once."""
        offer = self._outbox.offer
        assert offer is not None
        frame = self._sealer.seal(offer, self._outbox.round)
        effects: list[Effect] = []
        for peer in self._membership.linked:
            assert peer.current is not None
            effects.append(Send(peer.current.id, frame))
            effects += self._credit(peer.current, offer)
        return effects

    def say(self, body: Body) -> list[Effect]:
        """Say something to every neighbor with a link."""
        return [effect for peer in self._membership for effect in self.say_to(peer, body)]

    def say_to(self, peer: Peer, body: Body) -> list[Effect]:
        """Say something to one neighbor, if a link is up."""
        return [self._send(peer.current, body)] if peer.current is not None else []

    def _announce_to(self, link: Link) -> list[Effect]:
        effects: list[Effect] = []
        if self._standing.announced:
            effects += self._offer_to(link, self._outbox.offer)
        if self._standing.done:
            effects.append(self._send(link, Done()))
        return effects

    def _offer_to(self, link: Link, offer: Offer | None) -> list[Effect]:
        if offer is None:
            return []
        frame = self._sealer.seal(offer, self._outbox.round)
        return [Send(link.id, frame), *self._credit(link, offer)]

    def _credit(self, link: Link, offer: Offer) -> list[Effect]:
        payload = self._outbox.payload(offer.root)
        if payload is None or not 0 < offer.length <= CREDIT_BYTES:
            return []
        return [SendData(link.id, payload, 0)]

    def _send(self, link: Link, body: Body) -> Send:
        return Send(link.id, self._sealer.seal(body, self._outbox.said, link.peer.key))

    def refuse(self, link: Link, fault: PeerFault, now: Seconds) -> list[Effect]:
        """Count a refusal, and tell the neighbor where a person there can act on it."""
        peer, refusal = link.peer, fault.refusal
        peer.note_refusal(refusal, fault.message, now)
        effects: list[Effect] = [Rejected(peer.id, refusal, fault.message)]
        greets = not link.up  # who is replayed in its hello would not be heard on this link again
        ends = refusal in _FATAL or (greets and refusal is Refusal.REPLAYED)
        if peer.may_tell(refusal, now, at_once=ends and greets):
            effects.append(self._send(link, Refused(refusal, fault.message)))
        if ends:
            effects.append(Drop(link.id, refusal))
        return effects
