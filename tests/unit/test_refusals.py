"""What bad input gets: one typed refusal, and no change of any weight.

`d` is the hostile member: it signs with its own key, beside its honest node, which goes on. Each
refusal is shown in one world with its positive twin: `d`'s honest updates count before and after.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipfl.effects import (
    Drop,
    Equivocated,
    MembersDiffer,
    RefusedBy,
    Rejected,
    RoundClosed,
    SendData,
    UpdateAccepted,
)
from gossipfl.engine import Phase
from gossipfl.errors import Refusal
from gossipfl.federation import Federation, MemberEntry
from gossipfl.inbox import AHEAD_MAX, BEHIND_MAX
from gossipfl.types import PeerId
from gossipfl.update import digest_of
from gossipfl.wire.chunks import (
    CHUNK_BYTES,
    DATA_BYTES_MAX,
    DATA_TAG,
    Payload,
    data_message,
)
from gossipfl.wire.frame import (
    CONTROL_BYTES_MAX,
    Hello,
    Kind,
    Leave,
    Offer,
    Part,
    Refused,
    Roster,
    Want,
    kind_of,
    open_frame,
)
from tests.harness import LAYOUT, Options, World, federation, identity, models, sign, weights

A, D = PeerId("a"), PeerId("d")
SIZE = 5


def started(at: float = 0.33, size: int = SIZE, **changes: Any) -> World:
    """Four nodes in the middle of a round's training."""
    world = World(federation("abcd", **{"rounds": 40, **changes}), Options(size=size))
    world.start_all()
    world.run(at)
    return world


def key(world: World, name: str) -> bytes:
    return world.federation.member(name).key


def payload(values: np.ndarray) -> Payload:
    return Payload.of(values.astype("<f4").view(np.uint8))


@dataclass
class Case:
    """What `d` says to `a`, message by message, and what it gets for it."""

    refusal: Refusal
    messages: Callable[[World], list[bytes]]


def base(world: World) -> bytes:
    return world.nodes[A].engine.inbox.replica(D).digest


def ahead(world: World) -> int:
    """A round that `d` may offer, and its honest node will not before a test ends."""
    return world.nodes[A].engine.inbox.replica(D).round + 8


def offered(world: World, values: np.ndarray, **changes: Any) -> list[bytes]:
    """A snapshot offer and its chunk, with single fields replaced."""
    said = payload(values)
    fields = {
        "codec": 1,
        "base": b"",
        "model": digest_of(values.astype(np.float32)),
        "length": len(said),
        "root": said.root,
        **changes,
    }
    round_ = fields.pop("round", ahead(world))
    chunk = fields.pop("chunk", b"".join(data_message(said, 0)))
    return [world.sealer("d").seal(Offer(**fields), round_), chunk]


def row(world: World, value: float = 1.0) -> np.ndarray:
    return np.full(world.options.size, value, np.float32)


def bomb() -> bytes:
    return sign("d", Kind.OFFER, b"\x91" * (CONTROL_BYTES_MAX - 65))


def wide_bomb() -> bytes:
    return sign("d", Kind.OFFER, b"\xdd\x00\xff\xff\xff" + b"\x91\xc0" * 8000)


def twice(world: World) -> list[bytes]:
    frame = world.sealer("d").seal(Want(Part.PIECES, bytes(32)), 0, key(world, "a"))
    return [frame, frame]


def own_offer(world: World, change: int) -> bytes:
    """The newest offer of `d`, with another model."""
    offer = world.nodes[D].engine.outbox.offer
    assert offer is not None
    return world.sealer("d").seal(
        replace(offer, model=bytes([change]) * 32), world.nodes[D].engine.outbox.round
    )


def said_before(world: World) -> bytes:
    """The last but one offer of `d`, said again."""
    engine = world.nodes[A].engine
    round_ = engine.inbox.replica(D).round - 1
    model = engine.inbox._slots[D].signed[round_].model
    return world.sealer("d").seal(Offer(1, b"", model, 20, bytes(32)), round_)


CASES = {
    "not msgpack": Case(Refusal.NOT_MSGPACK, lambda w: [sign("d", Kind.OFFER, b"\xc1" * 80)]),
    "a msgpack bomb": Case(Refusal.NOT_MSGPACK, lambda w: [bomb()]),
    "a wide msgpack bomb": Case(Refusal.NOT_MSGPACK, lambda w: [wide_bomb()]),
    "a map": Case(Refusal.NOT_MSGPACK, lambda w: [sign("d", Kind.OFFER, msgpack.packb({1: 2}))]),
    "no array": Case(Refusal.MALFORMED, lambda w: [sign("d", Kind.OFFER, msgpack.packb("x" * 99))]),
    "a short array": Case(Refusal.MALFORMED, lambda w: [sign("d", Kind.OFFER, msgpack.packb([1]))]),
    "a bool for a number": Case(
        Refusal.MALFORMED,
        lambda w: [w.sealed("d", Kind.LEAVE, recipient=key(w, "a"), version=True)],
    ),
    "an unknown kind": Case(Refusal.MALFORMED, lambda w: [b"\x0f" + bytes(200)]),
    "another kind inside": Case(
        Refusal.MALFORMED, lambda w: [w.sealed("d", Kind.LEAVE, recipient=key(w, "a"), kind=7)]
    ),
    "too many positions": Case(
        Refusal.MALFORMED, lambda w: [w.sealed("d", Kind.LEAVE, 1, recipient=key(w, "a"))]
    ),
    "a counter out of range": Case(
        Refusal.MALFORMED, lambda w: [w.sealed("d", Kind.LEAVE, recipient=key(w, "a"), sequence=0)]
    ),
    "an offer before round 0": Case(
        Refusal.MALFORMED,
        lambda w: [w.sealed("d", Kind.OFFER, 1, b"", bytes(32), 20, bytes(32), round=-1)],
    ),
    "a refusal nobody knows": Case(
        Refusal.MALFORMED,
        lambda w: [w.sealed("d", Kind.REFUSED, "made-up", "x", recipient=key(w, "a"))],
    ),
    "a refusal that breaks the line": Case(
        Refusal.MALFORMED,
        lambda w: [w.sealed("d", Kind.REFUSED, "stale-round", "\x1b[2J\n", recipient=key(w, "a"))],
    ),
    "oversize": Case(Refusal.OVERSIZE, lambda w: [b"\x02" * (CONTROL_BYTES_MAX + 1)]),
    "oversize data": Case(Refusal.OVERSIZE, lambda w: [bytes([DATA_TAG]) * (DATA_BYTES_MAX + 1)]),
    "truncated": Case(Refusal.TRUNCATED, lambda w: [b"\x02" * 40]),
    "an empty message": Case(Refusal.TRUNCATED, lambda w: [b""]),
    "truncated data": Case(Refusal.TRUNCATED, lambda w: [bytes([DATA_TAG]) * 20]),
    "wrong version": Case(
        Refusal.WRONG_VERSION,
        lambda w: [w.sealed("d", Kind.LEAVE, recipient=key(w, "a"), version=2)],
    ),
    "unknown sender": Case(
        Refusal.UNKNOWN_SENDER, lambda w: [w.sealed("d", Kind.OFFER, sender=identity("x").public)]
    ),
    "another member's offer": Case(
        Refusal.BAD_SIGNATURE,
        lambda w: [w.sealer("b").seal(Offer(1, b"", bytes(32), 20, bytes(32)), 3)],
    ),
    "wrong recipient": Case(
        Refusal.WRONG_RECIPIENT, lambda w: [w.sealer("d").seal(Leave(), 3, key(w, "b"))]
    ),
    "no recipient": Case(Refusal.WRONG_RECIPIENT, lambda w: [w.sealer("d").seal(Leave(), 3)]),
    "an offer to one": Case(
        Refusal.WRONG_RECIPIENT,
        lambda w: [
            w.sealer("d").seal(Offer(1, b"", bytes(32), 20, bytes(32)), ahead(w), key(w, "a"))
        ],
    ),
    "bad signature": Case(
        Refusal.BAD_SIGNATURE,
        lambda w: [w.sealer("d").seal(Leave(), 3, key(w, "a"))[:-1] + b"\0"],
    ),
    "a signature for another kind": Case(
        Refusal.BAD_SIGNATURE,
        lambda w: [bytes([Kind.DONE]) + w.sealer("d").seal(Leave(), 3, key(w, "a"))[1:]],
    ),
    "replayed": Case(Refusal.REPLAYED, twice),
    "a second hello": Case(
        Refusal.FLOOD,
        lambda w: [
            w.sealer("d").seal(
                Hello(w.federation.constitution.text, w.federation.members_digest),
                3,
                key(w, "a"),
            )
        ],
    ),
    "a member list that nobody needs": Case(
        Refusal.FLOOD,
        lambda w: [w.sealer("d").seal(Roster(0, 1, (("x", bytes(32), ""),)), 3, key(w, "a"))],
    ),
    "stale round": Case(Refusal.STALE_ROUND, lambda w: offered(w, row(w), round=0)),
    "a round known already": Case(Refusal.STALE_ROUND, lambda w: [said_before(w)]),
    "far-future round": Case(Refusal.FAR_ROUND, lambda w: offered(w, row(w), round=10**6)),
    "wrong length": Case(Refusal.WRONG_LENGTH, lambda w: offered(w, row(w), length=24)),
    "a length beyond memory": Case(
        Refusal.WRONG_LENGTH, lambda w: offered(w, row(w), length=2**50)[:1]
    ),
    "unknown codec": Case(Refusal.UNKNOWN_CODEC, lambda w: offered(w, row(w), codec=99)),
    "unknown base": Case(Refusal.UNKNOWN_BASE, lambda w: offered(w, row(w), base=b"?" * 32)),
    "NaN": Case(Refusal.NOT_FINITE, lambda w: offered(w, row(w, np.nan))),
    "Inf": Case(Refusal.NOT_FINITE, lambda w: offered(w, row(w, -np.inf))),
    "norm over the cap": Case(Refusal.NORM_CAP, lambda w: offered(w, row(w, 1e6))),
    "a norm that float32 cannot hold": Case(Refusal.NORM_CAP, lambda w: offered(w, row(w, 3e38))),
    "wrong model digest": Case(Refusal.WRONG_MODEL, lambda w: offered(w, row(w), model=b"?" * 32)),
    "wrong chunk": Case(
        Refusal.WRONG_CHUNK,
        lambda w: offered(
            w, row(w), chunk=bytes([DATA_TAG]) + payload(row(w)).root + b"\1\0\0\0" + bytes(20)
        ),
    ),
    "a chunk of the wrong length": Case(
        Refusal.WRONG_LENGTH,
        lambda w: offered(
            w, row(w), chunk=bytes([DATA_TAG]) + payload(row(w)).root + b"\1\0\0\0" + bytes(16)
        ),
    ),
    "an unrequested chunk": Case(
        Refusal.UNREQUESTED, lambda w: [b"".join(data_message(payload(row(w)), 0))]
    ),
    "equivocation": Case(Refusal.EQUIVOCATION, lambda w: [own_offer(w, 1)]),
    "too many pieces": Case(
        Refusal.FLOOD,
        lambda w: [
            w.sealer("d").seal(
                Want(Part.PIECES, w.nodes[A].engine.outbox.offer.root, 0, 2**31),  # type: ignore[union-attr]
                3,
                key(w, "a"),
            )
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_bad_input_gets_its_refusal_and_changes_nothing(name: str) -> None:
    case = CASES[name]
    world, twin = started(0.63), started(0.63)  # round 12: there are rounds too old to count
    a = world.nodes[A]
    known, round_ = weights(world, "a"), a.engine.round
    for message in case.messages(world):
        world.inject("d", "a", message)
    assert a.refusals == {case.refusal: 1}
    assert a.of(Rejected)[0].peer == "d"
    assert a.engine.membership[D].refused == {case.refusal: 1}
    assert (weights(world, "a"), a.engine.round) == (known, round_)
    for each in (world, twin):
        each.run(0.9)
    taken = [(e.round, e.snapshot) for e in a.of(UpdateAccepted) if e.peer == "d"]
    assert taken == [
        (place, False) for place in range(len(taken))
    ]  # d's honest updates still count
    assert len(taken) > round_ + 3
    assert a.refusals == {case.refusal: 1}
    assert [digest_of(m) for m in models(world)] == [digest_of(m) for m in models(twin)]


@pytest.mark.parametrize("index", [-1, 1, 7, 2**31])
def test_another_piece_than_was_asked_for_is_refused_and_the_right_one_taken(index: int) -> None:
    world = started()
    a = world.nodes[A]
    offer, chunk = offered(world, row(world))
    known = weights(world, "a")
    world.inject("d", "a", offer)
    wrong = bytearray(chunk)
    wrong[33:37] = (index + 1).to_bytes(4, "little")
    world.inject("d", "a", bytes(wrong))
    assert a.refusals == {Refusal.UNREQUESTED: 1}
    assert weights(world, "a") == known
    world.inject("d", "a", chunk)
    assert a.refusals == {Refusal.UNREQUESTED: 1}
    assert weights(world, "a") != known


def test_a_delta_that_overflows_is_not_finite() -> None:
    world = started()
    a = world.nodes[A]
    huge = np.full(SIZE, 3e38, np.float32)
    a.engine.inbox.replica(D).vector[:] = huge  # as if the cap had let it in
    said = payload(huge)
    offer = Offer(1, base(world), b"?" * 32, len(said), said.root)
    world.inject("d", "a", world.sealer("d").seal(offer, ahead(world)))
    world.inject("d", "a", b"".join(data_message(said, 0)))
    assert a.refusals == {Refusal.NOT_FINITE: 1}


def test_a_frame_truncated_at_every_byte_is_refused() -> None:
    world = started()
    a = world.nodes[A]
    frame = world.sealer("d").seal(Offer(1, b"", bytes(32), 20, bytes(32)), ahead(world))
    known = weights(world, "a")
    for length in range(len(frame)):
        world.inject("d", "a", frame[:length])
    assert set(a.refusals) == {Refusal.TRUNCATED, Refusal.BAD_SIGNATURE}
    assert sum(a.refusals.values()) == len(frame)
    assert weights(world, "a") == known
    world.inject("d", "a", frame)  # the twin: the whole of it holds
    assert sum(a.refusals.values()) == len(frame)


def test_every_flipped_bit_is_refused() -> None:
    world = started()
    a = world.nodes[A]
    frame = world.sealer("d").seal(Want(Part.SNAPSHOT), 0, key(world, "a"))
    for place in range(len(frame)):
        world.inject("d", "a", frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :])
    assert sum(a.refusals.values()) == len(frame)
    world.inject("d", "a", frame)
    assert sum(a.refusals.values()) == len(frame)


@pytest.mark.parametrize("message", [bomb(), wide_bomb(), sign("d", Kind.HELLO, b"\x9f" * 16000)])
def test_a_bomb_costs_less_than_fifty_milliseconds(message: bytes) -> None:
    world = started()
    fastest = 1.0
    for _ in range(5):
        begun = time.perf_counter()
        world.inject("d", "a", message)
        fastest = min(fastest, time.perf_counter() - begun)
    assert fastest < 0.05
    assert sum(world.nodes[A].refusals.values()) == 5


# --- another federation, another model -----------------------------------------------------------


def said_hello(fed: Federation, layout: bytes = LAYOUT) -> World:
    """`d` links to `a` anew, with another federation file or another model."""
    world = started()
    text, members = fed.constitution.text, fed.members_digest
    world.link("d", "a")
    sealer = world.sealer("d", federation=fed.digest, layout=layout)
    newest = world.links_between("a", "d")[-1]
    frame = sealer.seal(Hello(text, members), 3, key(world, "a"))
    world._carry(A, world.nodes[A].engine.receive(newest, frame, world.now))
    return world


def test_another_federation_is_refused_with_a_readable_difference_and_dropped() -> None:
    world = said_hello(federation("abcd", rounds=80))
    (rejected,) = world.nodes[A].of(Rejected)
    assert rejected.refusal is Refusal.WRONG_FEDERATION
    assert "rounds: 40 here, 80 there" in rejected.detail
    assert world.nodes[A].of(Drop)[-1].reason == Refusal.WRONG_FEDERATION
    world.run(world.now + 0.01)
    (told,) = world.nodes[D].of(RefusedBy)
    assert told.code == Refusal.WRONG_FEDERATION
    assert "rounds: 40 here, 80 there" in told.detail


def test_a_hostile_constitution_is_refused_in_time() -> None:
    for text in ("[" * 8000, '{"a":' * 1300 + "1" + "}" * 1300, "1" * 8000, "\\ud800", "NaN"):
        fed = federation("abcd", rounds=80)
        world = started()
        world.link("d", "a")
        sealer = world.sealer("d", federation=fed.digest)
        frame = sealer.seal(Hello(text, bytes(32)), 3, key(world, "a"))
        begun = time.perf_counter()
        world._carry(
            A, world.nodes[A].engine.receive(world.links_between("a", "d")[-1], frame, world.now)
        )
        assert time.perf_counter() - begun < 0.05
        assert world.nodes[A].refusals == {Refusal.WRONG_FEDERATION: 1}


def test_another_layout_is_refused_and_told() -> None:
    world = said_hello(started().federation, layout=bytes(32))
    assert world.nodes[A].refusals == {Refusal.WRONG_LAYOUT: 1}
    world.run(world.now + 0.01)
    assert [e.code for e in world.nodes[D].of(RefusedBy)] == [Refusal.WRONG_LAYOUT]


def test_the_same_hello_of_the_same_federation_is_welcome() -> None:
    world = said_hello(started().federation)
    assert not world.nodes[A].refusals


def test_the_first_frame_on_a_link_is_a_hello() -> None:
    world = started()
    a = world.nodes[A].engine
    world.tamper = lambda one, other, message: [] if kind_of(message) is Kind.HELLO else [message]
    world.link("d", "a")
    newest = world.links_between("a", "d")[-1]
    known = weights(world, "a")
    early = world.sealer("d").seal(Offer(1, b"", bytes(32), 20, bytes(32)), ahead(world))
    world._carry(A, a.receive(newest, early, world.now))
    world._carry(A, a.receive(newest, bytes([DATA_TAG]) + bytes(60), world.now))
    assert world.nodes[A].refusals == {Refusal.NO_HELLO: 2}
    assert weights(world, "a") == known
    world.run(60)
    assert world.nodes[A].of(UpdateAccepted)[-1].round == 39


def test_two_member_lists_that_differ_are_told_on_both_sides_and_no_update_counts() -> None:
    names = [f"m{place:02}" for place in range(70)]
    fed = federation([*"abcd", *names])
    moved = [
        replace_address(entry, f"host-{entry.name}.example.org:7400")
        if entry.name == "m05"
        else entry
        for entry in fed.members
    ]
    other = Federation(constitution=fed.constitution, members=tuple(moved))
    world = World(fed, Options(edges=lambda one, two: {one, two} <= set("abcd")))
    world.options.setup["d"] = {"federation": other}
    for name in "abcd":
        world.start(name)
    for one, two in ("ab", "ac", "bc", "ad", "bd", "cd"):
        world.link(one, two)
    world.run(2.0)
    for name, peer, here in (("a", "d", "nothing"), ("d", "a", '"host-m05')):
        differ = [e for e in world.nodes[PeerId(name)].of(MembersDiffer) if e.peer == peer]
        assert len(differ) == 1
        (line,) = differ[0].diff
        assert line.startswith("m05: address " + here)
    assert not world.nodes[A].engine.membership[D].linked
    known = weights(world, "a")
    world.inject("d", "a", world.sealer("d").seal(Offer(1, b"", bytes(32), 20, bytes(32)), 0))
    assert world.nodes[A].refusals == {Refusal.MEMBERS_DIFFER: 1}
    assert weights(world, "a") == known
    rows = tuple((name, bytes(32), "") for name in names[:32])
    world.inject("d", "a", world.sealer("d").seal(Roster(0, 99, rows), 0, key(world, "a")))
    assert world.nodes[A].refusals[Refusal.FLOOD] == 1  # one list a link is enough
    assert len(world.nodes[A].of(MembersDiffer)) == 1
    state = world.kill("d")
    world.options.setup.clear()
    world.start("d", state)  # the twin: once the lists agree, updates count
    for name in "abc":
        world.link("d", name)
    world.run(60)
    assert [e.peer for e in world.nodes[A].of(UpdateAccepted)].count("d") > 5


def replace_address(entry: MemberEntry, address: str) -> MemberEntry:
    return entry.model_copy(update={"address": address})


def test_a_round_after_the_last_is_far() -> None:
    world = started(rounds=8)
    for round_, refusals in ((7, 0), (8, 1)):
        world.inject("d", "a", offered(world, row(world), round=round_)[0])
        assert world.nodes[A].refusals == Counter({Refusal.FAR_ROUND: refusals} if refusals else {})


# --- equivocation --------------------------------------------------------------------------------


def test_an_equivocation_keeps_both_frames_as_proof_and_is_told_once_a_round() -> None:
    world = started()
    a = world.nodes[A]
    for change in (1, 2, 3):
        world.inject("d", "a", own_offer(world, change))
    (proof,) = a.of(Equivocated)
    frames = [
        open_frame(raw, key(world, "d"), key(world, "a")) for raw in (proof.first, proof.second)
    ]
    assert {frame.round for frame in frames} == {proof.round}
    assert frames[0].body.model != frames[1].body.model  # type: ignore[union-attr]
    assert a.refusals == {Refusal.EQUIVOCATION: 3}
    assert a.engine.membership[D].equivocations == 1


# --- large payloads ------------------------------------------------------------------------------

LARGE = 600_000  # coordinates: three chunks


def large(model: np.ndarray | None = None) -> tuple[World, Payload]:
    """`d` has offered three chunks of its own beside its node, and `a` has asked for their list."""
    world = started(0.33, size=LARGE)
    said = payload(np.full(LARGE, 0.1, np.float32) if model is None else model)
    offer = Offer(1, b"", digest_of(said.data.view(np.float32)), len(said), said.root)
    world.inject("d", "a", world.sealer("d").seal(offer, ahead(world)))
    return world, said


def message(said: Payload, index: int) -> bytes:
    return b"".join(data_message(said, index))


def test_a_large_payload_of_a_hostile_member_that_holds_is_taken() -> None:
    world, said = large()
    known = weights(world, "a")
    for index in (-1, 0, 1, 2):
        world.inject("d", "a", message(said, index))
    assert not world.nodes[A].refusals
    assert weights(world, "a") != known  # the twin of all below


@pytest.mark.parametrize(
    ("indices", "altered", "refusal"),
    [
        ((-1,), 40, Refusal.WRONG_LIST),
        ((-1, 0, 1), 5000, Refusal.WRONG_CHUNK),
        ((-1, 0, 2), None, Refusal.UNREQUESTED),
        ((-1, 0, 0), None, Refusal.UNREQUESTED),
        ((0,), None, Refusal.UNREQUESTED),
        ((-1, -1), None, Refusal.UNREQUESTED),
    ],
)
def test_a_payload_altered_or_out_of_order_is_refused_once(
    indices: tuple[int, ...], altered: int | None, refusal: Refusal
) -> None:
    world, said = large()
    a = world.nodes[A]
    known = weights(world, "a")
    for index in indices[:-1]:
        world.inject("d", "a", message(said, index))
    assert not a.refusals
    last = bytearray(message(said, indices[-1]))
    if altered is not None:
        last[altered] ^= 1
    world.inject("d", "a", bytes(last))
    assert a.refusals == {refusal: 1}
    if refusal is Refusal.WRONG_CHUNK:  # what was asked for still comes, and is no second fault
        world.inject("d", "a", message(said, 2))
        assert a.refusals == {refusal: 1}
    assert weights(world, "a") == known
    world.run(0.6)
    taken = [e.round for e in a.of(UpdateAccepted) if e.peer == "d"]
    assert taken == sorted(taken)
    assert taken[-1] >= 9  # the twin: `d`'s honest node goes on


def test_a_digest_list_of_the_wrong_length_is_refused() -> None:
    world, said = large()
    world.inject("d", "a", message(said, -1)[:-32])
    assert world.nodes[A].refusals == {Refusal.WRONG_LIST: 1}


def test_a_peer_that_stalls_amid_a_transfer_is_given_up() -> None:
    world, said = large()
    world.inject("d", "a", message(said, -1))
    a = world.nodes[A]
    replica = weights(world, "a")[-1]
    world.tamper = lambda one, other, said: [] if one == "d" else [said]
    world.run(0.33 + 9.9)
    assert Refusal.STALLED not in a.refusals
    world.run(0.33 + 10.1)
    assert a.refusals[Refusal.STALLED] == 1
    assert "3 chunks outstanding" in a.of(Rejected)[-1].detail
    assert weights(world, "a")[-1] == replica
    world.inject("d", "a", message(said, 0))  # comes late: no second fault
    assert sum(a.refusals.values()) == 1


# --- floods and bounds ---------------------------------------------------------------------------


def test_wants_are_bounded_and_a_snapshot_is_given_once_a_round() -> None:
    world = started()
    a = world.nodes[A]
    root = a.engine.outbox.offer.root  # type: ignore[union-attr]
    before = a.count(SendData)
    for _ in range(50):
        world.inject("d", "a", world.sealer("d").seal(Want(Part.SNAPSHOT), 0, key(world, "a")))
        world.inject(
            "d", "a", world.sealer("d").seal(Want(Part.PIECES, bytes(32)), 0, key(world, "a"))
        )
    assert len(a.engine._dialog.snapshot_wanted) == 1
    world.run(world.now + 0.0001)
    assert a.count(SendData) - before == 1
    world.inject(
        "d", "a", world.sealer("d").seal(Want(Part.PIECES, root, 0, 1), 0, key(world, "a"))
    )
    assert a.count(SendData) - before == 2  # the twin: what is asked for properly is served
    assert not a.refusals


def test_what_a_flood_of_offers_leaves_behind_is_bounded() -> None:
    world = started(rounds=1000)
    a = world.nodes[A]
    rng = np.random.default_rng(0)
    sealer = world.sealer("d")
    for _ in range(3000):
        offer = Offer(1, rng.bytes(32), rng.bytes(32), int(rng.integers(1, 70_000)), rng.bytes(32))
        world.inject("d", "a", sealer.seal(offer, int(rng.integers(0, 40))))
    slot = a.engine.inbox._slots[D]
    assert len(slot.signed) <= BEHIND_MAX + AHEAD_MAX + 1
    assert len(slot.passing) <= 8
    assert len(a.engine.membership[D].refused) < 8
    assert set(a.refusals) <= {
        Refusal.EQUIVOCATION,
        Refusal.UNKNOWN_BASE,
        Refusal.STALE_ROUND,
        Refusal.FAR_ROUND,
        Refusal.WRONG_LENGTH,
    }


def test_told_refusals_and_their_reasons_are_bounded() -> None:
    world = started()
    a = world.nodes[A]
    for place in range(200):
        refused = Refused(list(Refusal)[place % len(Refusal)], f"for reason {place}")
        world.inject("d", "a", world.sealer("d").seal(refused, 0, key(world, "a")))
    assert len(a.engine.membership[D].refuses_us(world.now)) == len(Refusal)
    assert not a.refusals


def test_what_a_neighbor_refused_is_forgotten_when_it_greets_again() -> None:
    world = started()
    refused = Refused(Refusal.MEMBERS_DIFFER, "for a reason")
    world.inject("d", "a", world.sealer("d").seal(refused, 0, key(world, "a")))
    known = world.nodes[A].engine.membership[D]
    world.run(world.now + 1.0)
    told = {"members-differ": "for a reason"}
    assert known.refuses_us(world.now) == told  # the twin: nothing else does
    world.cut_between("a", "d")
    world.link("a", "d")
    world.run(world.now + 1.0)
    assert known.linked
    assert known.refuses_us(world.now) == {}


def test_a_refusal_is_told_at_most_once_in_ten_seconds() -> None:
    world = started()
    for _ in range(30):
        for frame in offered(world, row(world), round=10**6):
            world.inject("d", "a", frame)
    world.run(world.now + 0.01)
    assert world.nodes[A].refusals == {Refusal.FAR_ROUND: 30}
    assert world.nodes[D].count(RefusedBy) == 1


def test_a_member_list_from_outside_is_bounded() -> None:
    world = started()
    a = world.nodes[A].engine
    a.membership[D].members_differ = True
    link = next(iter(a.membership[D].links.values()))
    rows = tuple((f"m{place}", bytes(32), "x" * 200) for place in range(32))
    for offset in range(0, 5000, 32):
        frame = world.sealer("d").seal(Roster(offset, 4097, rows), 0, key(world, "a"))
        world.inject("d", "a", frame)
    assert len(link.roster_rows) == 0
    assert set(world.nodes[A].refusals) == {Refusal.MALFORMED}
    for offset in range(0, 64, 32):
        frame = world.sealer("d").seal(Roster(offset, 64, rows), 0, key(world, "a"))
        world.inject("d", "a", frame)
    assert world.nodes[A].count(MembersDiffer) == 1  # the twin: a whole list is read


# --- anything at all -----------------------------------------------------------------------------

ANYTHING = started(rounds=2)
KINDS = st.sampled_from(list(Kind))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=80)
    | st.just(bytes(32)),
    lambda inner: st.lists(inner, max_size=5),
    max_leaves=12,
)


def harmless(world: World, message: bytes) -> None:
    a = world.nodes[A].engine
    link = world.links_between("a", "d")[0]
    known = weights(world, "a")
    effects = a.receive(link, message, world.now)
    assert not any(isinstance(e, RoundClosed | UpdateAccepted) for e in effects)
    assert weights(world, "a") == known


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300))
def test_any_bytes_are_refused_and_never_raise(message: bytes) -> None:
    harmless(ANYTHING, message)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(KINDS, st.binary(max_size=300))
def test_any_signed_bytes_are_refused_and_never_raise(kind: Kind, packed: bytes) -> None:
    harmless(ANYTHING, sign("d", kind, packed))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(KINDS, st.lists(VALUES, max_size=6), st.integers(-1, 2**62), st.booleans())
def test_any_signed_positions_are_harmless(
    kind: Kind, body: list[Any], round_: int, to_us: bool
) -> None:
    recipient = key(ANYTHING, "a") if to_us else b""
    try:
        frame = ANYTHING.sealed("d", kind, *body, round=round_, recipient=recipient)
    except (ValueError, OverflowError):
        return  # not packable: a lone surrogate
    if len(frame) <= CONTROL_BYTES_MAX:
        harmless(ANYTHING, frame)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_well_formed_frame_is_harmless(data: st.DataObject) -> None:
    digests = st.sampled_from([bytes(32), base(ANYTHING), b"?" * 32])
    number = st.integers(0, 2**32 - 1)
    body = data.draw(
        st.builds(Offer, number, st.sampled_from([b"", bytes(32)]), digests, number, digests)
        | st.builds(Want, st.sampled_from(list(Part)), digests, number, number)
        | st.builds(Refused, st.sampled_from([str(code) for code in Refusal]), st.just("x"))
        | st.builds(Hello, st.text(st.characters(codec="ascii"), max_size=200), digests)
        | st.builds(
            Roster,
            st.integers(0, 3),
            st.integers(0, 5000),
            st.just((("x", bytes(32), "y:1"),)),
        )
    )
    recipient = b"" if isinstance(body, Offer) else key(ANYTHING, "a")
    round_ = data.draw(st.integers(0, 2**61))
    harmless(ANYTHING, ANYTHING.sealer("d").seal(body, round_, recipient))


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=0, max_size=200), st.integers(0, 2**32 - 1))
def test_any_data_message_is_harmless(body: bytes, index: int) -> None:
    root = world_root(ANYTHING)
    for where in (root, bytes(32)):
        harmless(ANYTHING, bytes([DATA_TAG]) + where + index.to_bytes(4, "little") + body)


def world_root(world: World) -> bytes:
    offer = world.nodes[A].engine.outbox.offer
    assert offer is not None
    return offer.root


def test_after_anything_at_all_the_honest_go_on() -> None:
    """Runs last of the above: the world that took it all still finishes."""
    ANYTHING.run(60)
    assert all(ANYTHING.nodes[PeerId(name)].engine.phase is Phase.DONE for name in "abc")
    assert CHUNK_BYTES == 2**20
