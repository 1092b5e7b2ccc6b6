"""How a node begins, comes back and ends, and which of two links stays."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gossipfl.effects import (
    DurableState,
    Equivocated,
    Finished,
    Left,
    Mix,
    PeerDown,
    PeerUp,
    Persist,
    RefusedBy,
    Rejected,
    RoundClosed,
    Send,
    SendData,
    Train,
    UpdateAccepted,
)
from gossipfl.engine import Phase
from gossipfl.errors import Refusal
from gossipfl.setup import Limits
from gossipfl.types import PeerId
from gossipfl.update import digest_of
from gossipfl.wire.frame import Hello, Kind, Offer, kind_of
from tests.harness import Node, Options, World, federation, models

A, B, C, D = (PeerId(name) for name in "abcd")


def finished(world: World, names: str = "abcd") -> bool:
    return all(world.nodes[PeerId(name)].engine.phase is Phase.DONE for name in names)


def run(world: World, until: float = 600.0, names: str = "abcd") -> World:
    world.run(world.now + until, stop=lambda: finished(world, names))
    assert finished(world, names), {
        name: (node.engine.phase, node.engine.round) for name, node in world.nodes.items()
    }
    return world


def started(**changes: Any) -> World:
    world = World(federation("abcd", **{"rounds": 30, **changes}))
    world.start_all()
    return world


def spread(world: World, names: str) -> float:
    rows = np.stack([world.nodes[PeerId(name)].engine.model for name in names])
    return float(np.abs(rows - rows.mean(0)).max())


def distance(world: World, name: str, others: str) -> float:
    rows = np.stack([world.nodes[PeerId(other)].engine.model for other in others])
    return float(np.abs(world.nodes[PeerId(name)].engine.model - rows.mean(0)).max())


def as_good_as(world: World, name: str, others: str) -> bool:
    return distance(world, name, others) <= 2 * spread(world, others) + 0.02


# --- back after a kill ---------------------------------------------------------------------------


class Restart:
    """A world in which one node is killed at a moment and starts again from what it saved."""

    def __init__(self, world: World, *, back_after: float = 0.3, lose_store: bool = False) -> None:
        self.world = world
        self.back_after = back_after
        self.lose_store = lose_store
        self.killed_at = self.back_at = -1.0
        self.last_offered = -1

    def kill(self) -> None:
        world = self.world
        self.last_offered = world.nodes[A].engine.outbox.said
        state = world.kill("a")
        self.killed_at = world.now
        world.at(self.back_after, lambda: self.start(None if self.lose_store else state))

    def start(self, state: DurableState | None) -> None:
        self.back_at = self.world.now
        self.world.start("a", state)
        self.world.link_to_all("a")

    def offered_again(self) -> list[int]:
        """Rounds that the node offered after its return."""
        rounds = []
        for at, effect in self.world.nodes[B].effects:
            if isinstance(effect, UpdateAccepted) and effect.peer == A and at >= self.back_at:
                rounds.append(effect.round)
        return rounds

    def accepted_after(self) -> float:
        """Seconds from the return to the first update that each other node accepted."""
        return max(
            min(
                at - self.back_at
                for at, effect in self.world.nodes[other].effects
                if isinstance(effect, UpdateAccepted) and effect.peer == A and at >= self.back_at
            )
            for other in (B, C, D)
        )

    def check(self) -> None:
        world = self.world
        assert self.back_at > 0
        for name in (B, C, D):
            assert world.nodes[name].count(Equivocated) == 0
            rounds = [closed.round for closed in world.nodes[name].of(RoundClosed)]
            assert rounds == list(range(world.federation.constitution.rounds))
        assert min(self.offered_again()) > self.last_offered
        assert self.accepted_after() < 15
        assert as_good_as(world, "a", "bcd")


def test_a_kill_between_the_write_and_the_offer_is_survived() -> None:
    world = started(rounds=60)
    restart = Restart(world)

    original = world._persist

    def persist(name: PeerId, state: DurableState) -> None:
        if name != A or state.round != 7 or restart.killed_at >= 0:
            original(name, state)
            return
        node = world.nodes[name]
        node.saved = replace(state, model=state.model.copy(), public=state.public.copy())
        restart.kill()

    world._persist = persist  # type: ignore[method-assign]
    run(world)
    assert restart.last_offered == 6
    assert min(restart.offered_again()) > 7  # 7 was durable, so it is never said again
    restart.check()


def test_a_kill_just_after_the_offer_is_survived() -> None:
    world = started(rounds=60)
    restart = Restart(world)
    said: list[bytes] = []

    def observe(name: PeerId, effect: object) -> None:
        offer = isinstance(effect, Send) and kind_of(effect.frame) is Kind.OFFER
        if name == A and offer and world.nodes[A].engine.round == 7 and restart.killed_at < 0:
            said.append(effect.frame)  # type: ignore[attr-defined]
            if len(said) == 2:  # one neighbor has heard it, the others have not
                restart.kill()

    world.observe = observe
    run(world)
    assert restart.last_offered == 7
    restart.check()


@pytest.mark.parametrize("seed", range(20))
def test_a_kill_at_any_moment_is_survived(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = World(federation("abcd", rounds=60), Options(pause_s=0.003))
    world.latency = lambda one, other, message: float(rng.uniform(0.0005, 0.01))
    world.start_all()
    restart = Restart(world, back_after=float(rng.uniform(0.0, 1.0)))
    world.at(float(rng.uniform(0.06, 1.5)), restart.kill)
    run(world)
    restart.check()


def test_a_node_that_lost_its_store_catches_up() -> None:
    world = started(rounds=60)
    restart = Restart(world, lose_store=True)
    world.at(0.8, restart.kill)
    run(world)
    restart.check()
    assert len(world.nodes[A].of(RoundClosed)) < 60  # it jumped


def test_a_returning_node_does_not_need_the_whole_start_quorum() -> None:
    world = started(rounds=60)
    world.run(0.8)
    state = world.kill("a")
    world.kill("d")
    world.run(1.2)
    world.start("a", state)
    world.link_to_all("a")
    run(world, names="abc")
    assert as_good_as(world, "a", "bc")


def test_a_lower_incarnation_is_refused_and_told() -> None:
    world = started(rounds=60)
    world.run(0.3)
    state = world.kill("a")
    world.start("a", state, incarnation=2)
    world.link("a", "b")
    world.run(0.4)
    assert world.nodes[B].engine.membership[A].linked  # the twin: higher is welcome
    world.kill("a")
    world.start("a", state, incarnation=1)
    world.link("a", "b")
    world.run(0.5)
    assert world.nodes[B].refusals == {Refusal.STALE_INCARNATION: 1}
    told = world.nodes[A].of(RefusedBy)
    assert [(effect.peer, effect.code) for effect in told] == [("b", "stale-incarnation")]
    assert not world.links_between("a", "b")


def test_a_member_whose_store_is_lost_is_told_so_at_each_link_and_knows_it() -> None:
    world = started(rounds=400)
    world.run(0.3)
    state = world.kill("a")
    world.start("a", state)  # start 2
    world.link("a", "b")
    world.run(0.4)
    assert world.nodes[A].engine.membership[B].cut_off(world.now) is None  # the twin: all is well
    world.kill("a")
    world.start("a", None, incarnation=1)
    for count in (1, 2, 3):  # dialed again and again, within the pause between two told refusals
        world.link("a", "b")
        world.run(world.now + 0.05)
        told = [effect.code for effect in world.nodes[A].of(RefusedBy)]
        assert told == ["stale-incarnation"] * count
    assert "start 2 was here" in world.nodes[A].of(RefusedBy)[-1].detail
    known = world.nodes[A].engine.membership[B]
    assert known.cut_off(world.now) == "stale-incarnation"
    assert known.cut_off(world.now + 61.0) is None  # what is not told again has healed
    assert world.nodes[B].engine.membership[A] not in world.nodes[B].engine.membership.live


def test_a_lost_store_that_comes_with_a_number_its_neighbors_know_is_told_too() -> None:
    world = started(rounds=400)
    world.run(0.6)
    world.kill("a")
    world.start("a", None, incarnation=1)
    world.link_to_all("a")
    world.run(0.8)
    told = {(effect.peer, effect.code) for effect in world.nodes[A].of(RefusedBy)}
    assert {(peer, "replayed") for peer in "bcd"} <= told
    for peer in world.nodes[A].engine.membership:
        assert peer.cut_off(world.now) == "replayed"


def test_a_lost_store_with_another_federation_file_hears_what_differs_on_both_sides() -> None:
    world = started(rounds=60)
    world.run(0.3)
    state = world.kill("a")
    world.start("a", state)  # start 2
    world.link("a", "b")
    world.run(0.4)
    world.kill("a")
    world.options.setup["a"] = {"federation": federation("abcd", rounds=80)}
    world.start("a", None, incarnation=1)
    world.link("a", "b")
    world.run(0.5)
    assert world.nodes[B].refusals == {Refusal.WRONG_FEDERATION: 1}
    assert "rounds: 60 here, 80 there" in world.nodes[B].of(Rejected)[-1].detail
    lines = [effect.detail for effect in world.nodes[A].of(Rejected)]
    lines += [effect.detail for effect in world.nodes[A].of(RefusedBy)]
    assert any("80 here, 60 there" in line or "60 here, 80 there" in line for line in lines)
    for name, other in ((A, B), (B, A)):
        assert world.nodes[name].engine.membership[other].cut_off(world.now) == "wrong-federation"


def test_a_restart_replaces_a_half_open_link_at_once() -> None:
    world = started(rounds=40)
    world.run(0.3)
    old = world.links_between("b", "a")
    node = world.nodes[A]
    node.up = False  # no link is closed: the machine is gone
    world.start("a", node.saved)
    world.link_to_all("a")
    world.run(0.32)
    assert world.links_between("b", "a") != old
    assert len(world.links_between("b", "a")) == 1
    run(world)
    assert all(n.count(Equivocated) == 0 for n in world.nodes.values())
    assert as_good_as(world, "a", "bcd")


def test_a_neighbor_that_restarts_amid_a_transfer_is_not_called_stalled() -> None:
    world = World(federation("ab", mixing="mean", rounds=6), Options(size=600_000))
    world.start_all()
    killed: list[float] = []

    def tamper(one: PeerId, other: PeerId, message: bytes) -> list[bytes]:
        if one == A and message[0] == 0x40 and world.nodes[A].engine.round == 2 and not killed:
            killed.append(world.now)
            state = world.nodes[A].saved
            world.at(0.0, lambda: world.kill("a"))
            world.at(0.5, lambda: world.start("a", state))
            world.at(0.5, lambda: world.link("a", "b"))
        return [message]

    world.tamper = tamper
    run(world, names="ab")
    assert killed
    assert Refusal.STALLED not in world.nodes[B].refusals


# --- beginning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["abcd", "dcba", "bdac", "cadb"])
@pytest.mark.parametrize("apart", [0.3, 60.0])
def test_the_order_of_starts_does_not_matter(order: str, apart: float) -> None:
    def begin(names: str, gap: float) -> list[np.ndarray]:
        world = World(federation("abcd"))

        def start(name: str) -> None:
            world.start(name)
            world.link_to_all(name)

        for place, name in enumerate(names):
            world.at(place * gap, lambda name=name: start(name))  # type: ignore[misc]
        world.run(1000, stop=lambda: len(world.nodes) == 4 and finished(world))
        run(world)
        assert not any(node.refusals for node in world.nodes.values())
        return models(world)

    for ours, plain in zip(begin(order, apart), begin("abcd", 0.0), strict=True):
        assert np.allclose(ours, plain, atol=1e-5)


def test_until_the_quorum_is_linked_a_node_waits_and_says_for_whom() -> None:
    world = World(federation("abcd"))
    for name in "abc":
        world.start(name)
    world.link("a", "b")
    world.link("a", "c")
    world.run(100)
    waiting = world.nodes[A].engine
    assert (waiting.phase, waiting.waits_for, waiting.start_quorum) == (Phase.WAITING, ["d"], 3)
    world.start("d")
    world.link("d", "a")
    world.run(world.now + 0.01)
    assert waiting.phase is Phase.TRAINING


def late_joiner(liar: bool) -> World:
    """`e` starts when the others are at round 10; `d` may claim round 10^6 to everybody."""
    world = World(
        federation("abcde", rounds=40),
        Options(limits=Limits(start_quorum=3)),
    )
    for name in "abcd":
        world.start(name)
    for one, other in ("ab", "ac", "ad", "bc", "bd", "cd"):
        world.link(one, other)
    world.run(0.58)
    if liar:
        for other in "abc":
            world.inject("d", other, world.sealer("d").seal(lie(), 10**6))
    world.start("e")
    if liar:
        world.tamper = lambda one, other, message: [] if (one, other) == ("d", "e") else [message]
    for other in "abcd":
        world.link("e", other)
    if liar:
        world.inject("d", "e", world.sealer("d").seal(hello(world), 10**6, key(world, "e")))
    return world


def lie() -> Offer:
    return Offer(1, b"", bytes(32), 20, bytes(32))


def hello(world: World) -> Hello:
    fed = world.federation
    return Hello(fed.constitution.text, fed.members_digest)


def key(world: World, name: str) -> bytes:
    return world.federation.member(name).key


@pytest.mark.parametrize("liar", [False, True])
def test_a_late_joiner_jumps_and_one_liar_neither_rushes_nor_stalls(liar: bool) -> None:
    world = late_joiner(liar)
    joined = world.now
    e = PeerId("e")
    world.run(joined + 0.6)
    first = world.nodes[e].of(RoundClosed)[0]
    assert 9 <= first.round <= (19 if liar else 12)  # the liar costs the shortest wait, 0.4 s
    assert set("abc") <= set(first.senders)
    assert first.seconds < 0.5
    run(world, names="abc" if liar else "abcde")
    honest = "abc" if liar else "abcd"
    for name in honest:
        closed = world.nodes[PeerId(name)].of(RoundClosed)
        assert [record.round for record in closed] == list(range(40))
    run(world, names="e")
    last = [record.round for record in world.nodes[e].of(RoundClosed)]
    assert last == list(range(last[0], 40))  # it jumped once, and then kept up
    if not liar:
        assert as_good_as(world, "e", honest)
    if liar:
        assert world.nodes[A].refusals[Refusal.FAR_ROUND] == 1


def test_a_node_whose_way_ahead_vanishes_does_not_jump() -> None:
    world = started(rounds=40)
    world.run(0.6)
    stood = world.nodes[D].of(RoundClosed)[-1].round
    world.kill("d")
    world.tamper = lambda one, other, message: (
        [] if other == "d" and kind_of(message) in (None, Kind.OFFER) else [message]
    )
    world.start("d")
    world.link_to_all("d")
    world.run(world.now + 0.005)
    d = world.nodes[D].engine
    assert d.phase is Phase.CATCHING_UP
    assert d.waits_for == ["a", "b", "c"]
    world.hang_up("d")
    world.run(world.now + 30)
    assert (d.round, world.nodes[D].of(RoundClosed)[-1].round) == (0, stood)
    world.tamper = lambda one, other, message: [message]
    world.link_to_all("d")
    run(world)


# --- links ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_of_two_links_the_one_dialed_by_the_smaller_key_stays_on_both_ends(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = World(federation("ab", mixing="mean", rounds=20))
    world.latency = lambda one, other, message: float(rng.uniform(0.001, 0.1))
    world.start("a")
    world.start("b")
    kept = {"a": world.link("a", "b"), "b": world.link("b", "a")}
    run(world, names="ab")
    smaller = min("ab", key=lambda name: key(world, name))
    ends = kept[smaller] if smaller == "a" else kept[smaller][::-1]
    assert world.links_between("a", "b") == [ends[0]]
    assert world.links_between("b", "a") == [ends[1]]
    for node in world.nodes.values():
        assert [e.round for e in node.of(UpdateAccepted)] == list(range(20))
        assert not node.refusals
        assert node.count(PeerUp) == node.count(PeerDown) + 1


@pytest.mark.parametrize("seed", range(5))
def test_a_link_that_is_replaced_amid_large_transfers_loses_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    world = World(federation("ab", mixing="mean", rounds=4), Options(size=700_000))
    world.latency = lambda one, other, message: float(rng.uniform(0.001, 0.05))
    world.start_all()
    for delay in rng.uniform(0.05, 0.7, size=4):
        pair = ("a", "b") if rng.random() < 0.5 else ("b", "a")
        world.at(float(delay), lambda pair=pair: world.link(*pair))  # type: ignore[misc]
    run(world, names="ab")
    assert not any(node.refusals for node in world.nodes.values())
    assert all(node.count(UpdateAccepted) == 4 for node in world.nodes.values())


def test_a_hundred_nodes_that_dial_both_ways_end_with_one_link_per_edge() -> None:
    names = [f"n{place:02}" for place in range(100)]
    place = {name: index for index, name in enumerate(names)}
    rng = np.random.default_rng(0)
    world = World(
        federation(names, mixing="mean", topology="ring", rounds=3),
        Options(edges=lambda one, other: (place[one] - place[other]) % 100 in (1, 99)),
    )
    world.latency = lambda one, other, message: float(rng.uniform(0.001, 0.05))
    world.start_all(link=False)
    for one in names:
        for other in world.nodes[PeerId(one)].engine.setup.neighbors:
            world.at(float(rng.uniform(0, 0.05)), lambda o=one, p=other: world.link(o, p))  # type: ignore[misc]
    world.run(60)
    for name, node in world.nodes.items():
        assert node.engine.phase is Phase.DONE
        for other in node.engine.setup.neighbors:
            assert len(world.links_between(name, other)) == 1
    assert not any(node.refusals for node in world.nodes.values())


# --- ending --------------------------------------------------------------------------------------


def test_a_finished_node_still_serves_whoever_comes_late() -> None:
    world = started(rounds=8)
    world.run(0.2)
    world.kill("d")
    run(world, names="abc")
    world.run(world.now + 100)
    world.start("d")
    world.link_to_all("d")
    run(world)
    assert [closed.round for closed in world.nodes[D].of(RoundClosed)[-1:]] == [7]
    assert distance(world, "d", "abc") < 0.5 * float(np.abs(models(world)[0]).max())
    assert all(world.nodes[D].engine.membership[name].done for name in (A, B, C))


def test_a_late_one_that_is_linked_one_by_one_is_served_by_all() -> None:
    """The first offer seems far ahead of round 0 until a second neighbor says the same."""
    world = started(rounds=20)
    world.run(0.2)
    world.kill("d")
    run(world, names="abc")
    world.run(world.now + 10)
    world.start("d")
    for place, other in enumerate("abc"):
        world.at(place * 0.5, lambda other=other: world.link("d", other))  # type: ignore[misc]
    run(world)
    assert world.nodes[D].of(RoundClosed)[-1].senders == ("a", "b", "c")
    assert world.nodes[D].refusals[Refusal.FAR_ROUND] == 1


def test_a_kill_after_the_last_round_takes_nothing() -> None:
    world = run(started(rounds=8))
    world.run(world.now + 0.1)
    model = digest_of(world.nodes[A].engine.model)
    assert model != digest_of(world.nodes[A].engine.own)
    trained = world.nodes[A].count(Train)
    state = world.kill("a")
    for name in (B, C, D):
        world.nodes[name].engine.membership[A].done = False
    world.start("a", state)
    assert world.nodes[A].engine.phase is Phase.DONE
    assert digest_of(world.nodes[A].engine.model) == model
    world.link_to_all("a")
    world.run(world.now + 1.0)
    assert world.nodes[A].count(Train) == trained
    assert all(world.nodes[name].engine.membership[A].done for name in (B, C, D))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("exit_when_done", [False, True])
def test_who_leaves_amid_the_last_write_has_left_after_the_last_one(
    exit_when_done: bool, fails: bool
) -> None:
    world = World(
        federation("a", mixing="mean", rounds=2),
        Options(pause_s=0.01, limits=Limits(exit_when_done=exit_when_done)),
    )
    if fails:
        world.persist_fails.add(A)
    node = world.start("a")
    world.run(5, stop=lambda: node.engine.phase is Phase.DONE)
    writes = node.count(Persist)
    assert isinstance(node.effects[-1][1], Persist)  # in flight
    if not exit_when_done:
        world._carry(A, node.engine.leave(world.now))
    assert node.engine.phase == "done"
    assert node.engine.next_wakeup() is None
    world.run(5)
    assert node.engine.phase is Phase.LEFT
    assert node.count(Persist) == writes + 1
    assert node.count(Left) == 1
    assert isinstance(node.effects[-1][1], Left)


def test_the_end_of_the_last_write_does_nothing_else() -> None:
    world = run(started(rounds=3))
    seen = len(world.nodes[A].effects)
    world.run(world.now + 100)
    assert [type(effect) for _, effect in world.nodes[A].effects[seen:]] == []
    assert world.nodes[A].engine.phase is Phase.DONE


def leaving(**limits: Any) -> World:
    world = World(federation("abcd"), Options(limits=Limits(exit_when_done=True, **limits)))
    world.start_all()
    return world


def test_exit_when_done_leaves_after_the_slowest_neighbor() -> None:
    world = leaving()
    world.train_s = lambda name: 0.12 if name == "d" else 0.05
    world.run(300)
    for node in world.nodes.values():
        assert node.count(Left) == 1
        assert node.count(RoundClosed) == 10
        assert node.engine.phase is Phase.LEFT
    done = [at for at, effect in world.nodes[D].effects if isinstance(effect, Finished)]
    left = [at for at, effect in world.nodes[A].effects if isinstance(effect, Left)]
    assert left[0] >= done[0]


def test_exit_when_done_does_not_wait_for_ever_for_a_neighbor_that_hangs() -> None:
    world = leaving()
    world.at(0.42, lambda: world.silent_jobs.add(D))
    world.run(1000)
    for name in (A, B, C):
        assert world.nodes[name].count(Left) == 1
    assert world.nodes[D].count(Finished) == 0


PHASES = [phase for phase in Phase if phase is not Phase.LEFT]


@pytest.mark.parametrize("phase", PHASES)
def test_a_node_can_leave_in_every_phase_and_come_back_as_it_was(phase: Phase) -> None:
    world = World(federation("abcd", rounds=12), Options(pause_s=0.002))
    world.start_all()
    if phase is Phase.CATCHING_UP:
        world.at(0.2, lambda: world.kill("d"))
        world.at(0.4, lambda: world.start("d"))
        world.at(0.4, lambda: world.link_to_all("d"))
    node: list[Node] = []
    sought = Phase.MIXING if phase is Phase.WAITING else phase

    def reached() -> bool:
        d = world.nodes[D]
        minimum = 0 if phase is Phase.CATCHING_UP else 2
        if d.engine.phase is sought and d.engine.round >= minimum and world.now > 0.15:
            node.append(d)
        return bool(node)

    world.run(30, stop=reached)
    assert node
    if phase is Phase.WAITING:
        world.hang_up("d")
        world.run(world.now + 1.0)
    assert node[0].engine.phase is phase
    offered = node[0].engine.outbox.said
    world._carry(D, node[0].engine.leave(world.now))
    world.run(world.now + 0.3)
    assert node[0].count(Left) == 1
    assert node[0].engine.phase is Phase.LEFT
    if phase is not Phase.WAITING:
        assert all(world.nodes[name].engine.membership[D].left for name in (A, B, C))
    state = node[0].saved
    assert state is not None
    model = node[0].engine.own if state.stage == "offered" else node[0].engine.model
    assert digest_of(state.model) == digest_of(model)
    world.hang_up("d")
    world.start("d", state)
    assert world.nodes[D].engine.round == state.round
    assert digest_of(world.nodes[D].engine.model) == digest_of(state.model)
    world.link_to_all("d")
    run(world)
    assert not any(n.count(Equivocated) for n in world.nodes.values())
    assert min([e.round for e in world.nodes[A].of(UpdateAccepted) if e.peer == D][-1:]) >= offered


def test_a_job_that_ends_after_the_goodbye_is_forgotten() -> None:
    for phase in (Phase.TRAINING, Phase.MIXING):
        world = World(federation("abcd"), Options(pause_s=0.01))
        world.start_all()
        world.run(5, stop=lambda p=phase, w=world: w.nodes[D].engine.phase is p)  # type: ignore[misc]
        world._carry(D, world.nodes[D].engine.leave(world.now))
        engine = world.nodes[D].engine
        assert engine.phase is Phase.LEFT
        assert (engine.trained if phase is Phase.TRAINING else engine.mixed)(1.0, world.now) == []
        assert engine.receive(world.links_between("d", "a")[0], b"?", world.now) == []


def test_one_who_leaves_is_not_waited_for() -> None:
    world = started()
    world.run(0.5)
    world._carry(D, world.nodes[D].engine.leave(world.now))
    run(world, names="abc")
    for name in (A, B, C):
        assert max(closed.seconds for closed in world.nodes[name].of(RoundClosed)) < 0.2
        assert not any(closed.missing for closed in world.nodes[name].of(RoundClosed)[12:])


def test_a_resumed_node_mixes_the_update_that_it_had_offered() -> None:
    world = started(rounds=60)
    world.run(0.4, stop=lambda: world.nodes[A].engine.phase is Phase.COLLECTING and world.now > 0.3)
    state = world.kill("a")
    assert state is not None
    assert state.stage == "offered"
    world.start("a", state)
    world.link_to_all("a")
    world.run(world.now + 0.03)
    mixed = [effect.round for effect in world.nodes[A].of(Mix)]
    assert mixed[-1] == state.round
    assert world.nodes[A].of(Train)[-1].round == state.round + 1  # what was offered is not redone


def test_pieces_of_a_small_model_are_never_asked_for() -> None:
    world = started(rounds=3)
    run(world)
    frames = [e.frame for n in world.nodes.values() for e in n.of(Send)]
    assert not [frame for frame in frames if kind_of(frame) is Kind.WANT]
    assert any(n.count(SendData) for n in world.nodes.values())
