"""The round state machine of one node. Sans-IO: messages, finished jobs and `now` in; effects out.

    WAITING ──quorum──> TRAINING ──trained──> CLOSING ──durable──> COLLECTING ──all or due──> MIXING
       │                   ^                                                                    │
       └──behind──> CATCHING_UP ──all or due──> MIXING ──────────> next round, or DONE <────────┘

Rule 1: this file knows nothing of sockets, asyncio, clocks, disks or global randomness.
Rule 2: every public method that can move the machine takes `now` and returns effects.
Rule 3: nothing a neighbor sends raises past it; a bug of ours is an AssertionError.
"""

from collections.abc import Callable

from gossipfl.codecs.dense import Dense
from gossipfl.deadline import Deadline
from gossipfl.dialog import Dialog
from gossipfl.effects import (
    Drop,
    DurableState,
    Effect,
    Encode,
    Failed,
    Finished,
    Left,
    Mix,
    PeerSilent,
    Persist,
    RoundClosed,
    Snapshot,
    Train,
)
from gossipfl.errors import PeerFault, Refusal
from gossipfl.inbox import Inbox
from gossipfl.membership import Membership
from gossipfl.outbox import Outbox
from gossipfl.setup import Phase, Setup, Standing
from gossipfl.types import LinkId, PeerId, Round, Seconds, Vector
from gossipfl.update import Update, digest_of
from gossipfl.wire.frame import Done, Leave

__all__ = ["Engine", "Phase"]


class Engine:
    """One node's protocol state.

    Args:
        setup: who the node is; its neighbors are in the member list's order.
        initial: the model all members start from, shape (size,).
        norm: Euclidean norm of the model the node starts with.
        allocate: returns a new vector of that shape; the host decides where it lives.
        restored: what an earlier start of this node made durable.
    """

    def __init__(
        self,
        setup: Setup,
        initial: Vector,
        norm: float,
        allocate: Callable[[], Vector],
        restored: DurableState | None = None,
    ) -> None:
        self.setup = setup
        self.phase = Phase.WAITING
        self.round: Round = restored.round if restored else 0
        self.opened_at: Seconds = 0.0
        self._last: Round = setup.federation.constitution.rounds - 1
        self._lock_step = setup.federation.constitution.pace == "lock-step"
        self._byzantine = setup.rule.byzantine
        self._closing = self._missing = tuple[PeerId, ...]()  # who was mixed, who did not answer
        self._snapshotting = self._leaving = self._saving = False  # saving: the final model
        self._running = self._alone = False  # the quorum was reached once; nobody to wait for
        self._returns = restored is not None and restored.offered_round >= 0
        self._resumes_offered = restored is not None and restored.stage == "offered"

        self.model, self.own, self.public = allocate(), allocate(), allocate()
        self.model[:] = restored.model if restored else initial
        self.own[:] = self.model
        self.public[:] = restored.public if restored else initial
        self.outbox = Outbox(restored.offered_round if restored else -1, digest_of(self.public))
        self.inbox = Inbox(
            setup.neighbors, initial, digest_of(initial), allocate, exact=self._lock_step
        )
        for name in setup.neighbors:  # what an earlier start has counted does not count again
            self.inbox.replica(name).counted = self.round - 1
        keys = {name: setup.federation.member(name).key for name in setup.neighbors}
        self.membership = Membership(setup.identity.public, keys)
        # In lock-step a liar lies from what the last round left, however fast its neighbors are
        self._keeps_rows = self._lock_step and setup.attack is not None
        self.standing = Standing(self.round, 0.0, setup.limits.norm_max(norm), self._keeps_rows)
        self._dialog = Dialog(setup, (self.membership, self.inbox, self.outbox), self.standing)
        self._deadline = Deadline(setup.limits.bounds, self._byzantine)

    @property
    def start_quorum(self) -> int:
        """How many linked neighbors the node waits for before it begins."""
        return self.setup.quorum(returns=self._returns)

    @property
    def waits_for(self) -> list[PeerId]:
        """Return the neighbors the node cannot go on without, for people to read."""
        match self.phase:
            case Phase.WAITING:
                return [peer.id for peer in self.membership if not peer.linked]
            case Phase.COLLECTING:
                return [p for p in self._asked() if not self.inbox.answered(p, self.round)]
            case Phase.CATCHING_UP:
                return self._dialog.behind()
            case _:
                return []

    # --- inputs --------------------------------------------------------------------------------

    def start(self, now: Seconds) -> list[Effect]:
        """Begin; without neighbors to wait for this opens the first round."""
        return self._advance(now)

    def connected(self, link: LinkId, peer: PeerId, now: Seconds, *, dialed: bool) -> list[Effect]:
        """Take a new link whose certificates hold on both ends."""
        if self.phase is Phase.LEFT:
            return [Drop(link, "this node leaves")]
        return self._dialog.connected(link, peer, dialed=dialed)

    def disconnected(self, link: LinkId, now: Seconds) -> list[Effect]:
        """Take note that a link is gone."""
        return self._dialog.disconnected(link) + self._advance(now)

    def receive(self, link: LinkId, message: bytes, now: Seconds) -> list[Effect]:
        """Take one message from a neighbor."""
        if self.phase is Phase.LEFT:
            return []
        return self._dialog.receive(link, message, now) + self._advance(now)

    def tick(self, now: Seconds) -> list[Effect]:
        """Let time pass; call no later than `next_wakeup`."""
        effects: list[Effect] = []
        for name in self.inbox.stalled(now, self.setup.limits.stall_s):
            missing = self.inbox.chunks_missing(name)
            fault = PeerFault(Refusal.STALLED, f"{missing} chunks outstanding, none comes")
            effects += self._dialog.give_up(self.membership[name], fault, now)
        return effects + self._advance(now)

    def next_wakeup(self) -> Seconds | None:
        """Return when `tick` must be called at the latest, None if only inputs matter."""
        due, stall = self._due(), self.inbox.next_stall(self.setup.limits.stall_s)
        return due if stall is None or (due is not None and due < stall) else stall

    def trained(self, norm: float, now: Seconds) -> list[Effect]:
        """Take the end of `Train`: `out` holds the trained model, `norm` is its norm."""
        if self.phase is Phase.LEFT:
            return []
        assert self.phase is Phase.TRAINING, self.phase
        self.standing.norm_max = self.setup.limits.norm_max(norm)
        self.phase = Phase.CLOSING
        return self._advance(now) if self._snapshotting else self._encode(now)

    def encoded(self, update: Update, now: Seconds) -> list[Effect]:
        """Take the closed update; it must be durable before anybody hears of it."""
        assert self.phase is Phase.CLOSING, self.phase
        self.outbox.push(min(self.round, self._last), self.setup.codec.wire_id, update)
        return [Persist(self.state("offered"))]

    def persisted(self, now: Seconds) -> list[Effect]:
        """Take the end of `Persist`: offer, then collect answers."""
        if self.phase is not Phase.CLOSING:
            return self._saved(now)
        self.outbox.said = self.outbox.round
        self.standing.announced = self.standing.public_stable = True
        effects = [] if self._leaving else self._dialog.announce()
        return effects + self._begin_collecting(now)

    def not_persisted(self, now: Seconds) -> list[Effect]:
        """Take a failed `Persist`: go on learning, but say nothing that a crash could deny."""
        return self._begin_collecting(now) if self.phase is Phase.CLOSING else self._saved(now)

    def snapshotted(self, update: Update, now: Seconds) -> list[Effect]:
        """Take a snapshot of the public replica and answer those who wait for it."""
        if self.phase is Phase.LEFT:
            return []
        self._snapshotting = False
        self.outbox.push_snapshot(Dense.wire_id, update)
        effects = self._dialog.serve_snapshots()
        if self.phase is Phase.CLOSING:
            return effects + self._encode(now)
        return effects + self._advance(now)

    def mixed(self, norm: float, now: Seconds) -> list[Effect]:
        """Take the end of `Mix`: `out` holds the mixed model; close the round."""
        if self.phase is Phase.LEFT:
            return []
        assert self.phase is Phase.MIXING, self.phase
        self.standing.norm_max = self.setup.limits.norm_max(norm)
        closed = RoundClosed(self.round, self._closing, self._missing, now - self.opened_at)
        self.round = self.standing.round = self.round + 1
        self._resumes_offered = False
        self.phase = Phase.WAITING
        thawed = [] if self._keeps_rows else self._dialog.thaw(now)
        return [closed, *thawed, *self._advance(now)]

    def leave(self, now: Seconds) -> list[Effect]:
        """Say goodbye and make the state durable; `Left` follows."""
        self._leaving = True
        return self._advance(now)

    def state(self, stage: str) -> DurableState:
        """Return what a crash must not take: from it the node resumes exactly."""
        return DurableState(
            round=self.round,
            stage=stage,
            offered_round=self.outbox.round,
            offered_digest=self.outbox.digest,
            incarnation=self.setup.incarnation,
            model=self.own if stage == "offered" else self.model,
            public=self.public,
        )

    # --- the machine ---------------------------------------------------------------------------

    def _advance(self, now: Seconds) -> list[Effect]:
        """Move as far as what is known allows; safe to call at any time."""
        effects = self._snapshots()
        if self._leaving and not self._saving and self.phase not in (Phase.CLOSING, Phase.LEFT):
            return effects + self._goodbye()
        match self.phase:
            case Phase.WAITING:
                return effects + self._open(now)
            case Phase.CATCHING_UP:
                return effects + self._catch_up(now)
            case Phase.COLLECTING:
                return effects + self._collect(now)
            case Phase.DONE:
                return effects + self._linger(now)
            case _:
                return effects

    def _open(self, now: Seconds) -> list[Effect]:
        """Open the next round, or catch up with neighbors that are ahead."""
        if self.round > self._last:
            return self._finish(now)
        if not self._quorum_holds():
            return []
        self._running = True
        self.opened_at, self._alone = now, False
        self._deadline.open(now)
        if self._dialog.target() > self.round:
            self.phase = Phase.CATCHING_UP
            return self._catch_up(now)
        if self._resumes_offered:
            self.phase = Phase.COLLECTING
            return self._collect(now)
        self.phase = Phase.TRAINING
        return [Train(self.round, self.model, self.own)]

    def _finish(self, now: Seconds) -> list[Effect]:
        """Begin to serve; who came here by catching up first says the model it ends with.

        Else neighbors that are still behind would never hear how far it is, nor get its model.
        """
        if self.outbox.round < self._last:
            self.phase, self.own[:] = Phase.CLOSING, self.model
            return [] if self._snapshotting else self._encode(now)
        self.phase, self.standing.done, self._saving = Phase.DONE, True, True
        state = self.state("open")
        return [Finished(self._last + 1), Persist(state), *self._dialog.say(Done())]

    def _quorum_holds(self) -> bool:
        """A start takes the quorum; after that, one live neighbor is company enough."""
        if self._running:
            return bool(self.membership.live) or not len(self.membership)
        return len(self.membership.linked) >= self.start_quorum

    def _catch_up(self, now: Seconds) -> list[Effect]:
        """Take the neighbors' models through the rule, then go on where b + 1 of them are."""
        target = self._dialog.target()
        if target <= self.round:  # those who were ahead are gone
            self.phase, self.standing.round = Phase.WAITING, self.round
            return self._open(now)
        self.standing.round = target  # rows of rounds up to there need not wait for their turn
        effects = self._dialog.thaw(now)
        behind = self._dialog.behind()
        for peer in self.membership.live:
            if peer.id not in behind:
                self._deadline.arrived(peer.id, now)
        if behind and now < self._catch_up_due():
            return effects
        self.round = target
        if not self._resumes_offered:
            self.own[:] = self.model  # nothing was trained for this round: what it has counts
        return effects + self._mix(tuple(behind))

    def _catch_up_due(self) -> Seconds:
        """A neighbor that claims a round and does not send its model costs little."""
        return self._deadline.due_first(len(self.membership.live), self.setup.limits.stall_s)

    def _encode(self, now: Seconds) -> list[Effect]:
        self.standing.announced = self.standing.public_stable = False
        self.standing.frozen = self.setup.attack is not None  # a liar reads its neighbors' rows
        codec, attack = self.setup.codec, self.setup.attack
        rows = self.inbox.rows() if attack is not None else ()
        return [Encode(min(self.round, self._last), self.own, self.public, rows, codec, attack)]

    def _begin_collecting(self, now: Seconds) -> list[Effect]:
        self._deadline.ask(now)
        self.phase = Phase.COLLECTING if self.round <= self._last else Phase.WAITING
        return self._dialog.thaw(now) + self._advance(now)

    def _asked(self) -> list[PeerId]:
        """Return whose answers the round waits for; lock-step needs everybody's."""
        asked = self.membership if self._lock_step else self.membership.live
        return [peer.id for peer in asked]

    def _collect(self, now: Seconds) -> list[Effect]:
        """Close the round once every live neighbor answered, or once it is due."""
        asked = self._asked()
        if not asked and len(self.membership):
            self._alone = True
            return []  # with no live neighbor a node does not advance
        if self._alone:  # whoever comes back gets time to answer
            self._alone = False
            self._deadline.ask_again(now)
        missing = []
        for name in asked:
            if self.inbox.answered(name, self.round):
                self._deadline.arrived(name, now)
            else:
                missing.append(name)
        if missing or self._dialog.runs_away(len(asked)):
            due = self._due()
            if due is None or now < due:
                return []
        if missing:
            if self._lock_step:
                self.phase = Phase.LEFT
                reason = f"round {self.round}: no answer from {', '.join(missing)} in lock-step"
                return [*self._dialog.say(Leave()), Failed(reason)]
        else:
            self._deadline.learn()
        silent = self.membership.note_round(
            self.round, lambda name: self.inbox.answered(name, self.round)
        )
        effects: list[Effect] = [PeerSilent(peer.id, peer.missed) for peer in silent]
        if len(missing) == len(asked) > 0 and not self.membership.live:
            return effects
        return effects + self._mix(tuple(missing))

    def _mix(self, missing: tuple[PeerId, ...]) -> list[Effect]:
        self.standing.due = self._deadline.due(len(self.membership.live))
        senders = tuple(self.inbox.votes(self.round))
        rows = tuple(self.inbox.replica(name).vector for name in senders)
        for name in senders:
            replica = self.inbox.replica(name)
            replica.counted = replica.round
        self._closing, self._missing = senders, missing
        self.phase, self.standing.frozen = Phase.MIXING, True
        return [Mix(self.round, self.own, rows, self.setup.weights_of(senders), self.model)]

    def _due(self) -> Seconds | None:
        """Return when the wait of this phase ends, None where only inputs end it."""
        match self.phase:
            case Phase.CATCHING_UP:
                return self._catch_up_due()
            case Phase.COLLECTING:
                expected = len(self.membership.live)
                if self._lock_step or self._dialog.runs_away(expected):
                    return self._deadline.due_last()
                return self._deadline.due(expected) if expected else None
            case Phase.DONE if self.setup.limits.exit_when_done and not self._saving:
                return self.membership.served_until(self.setup.limits.bounds.max_s)
            case _:
                return None

    def _saved(self, now: Seconds) -> list[Effect]:
        """Go on after a `Persist` that no offer waits for."""
        if self.phase is Phase.LEFT:
            return [Left()]
        self._saving = False
        return self._advance(now)

    def _snapshots(self) -> list[Effect]:
        if not self._dialog.snapshot_wanted or self._snapshotting:
            return []
        if not self.standing.public_stable or self.phase is Phase.LEFT:
            return []
        if self.outbox.snapshot is not None:
            return self._dialog.serve_snapshots()
        self._snapshotting = True
        return [Snapshot(self.public)]

    def _linger(self, now: Seconds) -> list[Effect]:
        """After the last round: serve until every live neighbor is done, if that was asked for."""
        if self._saving or not self.setup.limits.exit_when_done:
            return []
        due = self._due()
        return self._goodbye() if due is None or due <= now else []

    def _goodbye(self) -> list[Effect]:
        offered = self._resumes_offered or self.phase in (Phase.COLLECTING, Phase.MIXING)
        self.phase = Phase.LEFT
        state = self.state("offered" if offered else "open")
        return [*self._dialog.say(Leave()), Persist(state)]
