"""Control frames: what is sealed is what is opened, and nothing else opens."""

from dataclasses import replace

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipfl.errors import PeerFault, Refusal
from gossipfl.wire.frame import (
    CONTROL_BYTES_MAX,
    ROSTER_ROWS_MAX,
    Body,
    Done,
    Hello,
    Kind,
    Leave,
    Offer,
    Part,
    Refused,
    Roster,
    Sealer,
    Want,
    kind_of,
    open_frame,
)
from tests.harness import LAYOUT, identity, sign

ME, YOU = identity("a"), identity("b")
FEDERATION = bytes(range(32, 64))

BODIES: list[Body] = [
    Hello('{"name":"test"}', bytes(32)),
    Offer(1, b"", b"m" * 32, 20, b"r" * 32),
    Offer(2, b"b" * 32, b"m" * 32, 0, b"r" * 32),
    Want(Part.SNAPSHOT),
    Want(Part.PIECES, b"r" * 32, -1, 16),
    Refused("stale-round", "round 3 offered in round 9"),
    Roster(0, 2, (("a", bytes(32), "host:1"), ("b", bytes(32), ""))),
    Leave(),
    Done(),
]


def sealer(incarnation: int = 7) -> Sealer:
    return Sealer(ME, FEDERATION, LAYOUT, incarnation)


def recipient(body: Body) -> bytes:
    return b"" if isinstance(body, Offer) else YOU.public


def refusal(message: bytes) -> Refusal:
    with pytest.raises(PeerFault) as caught:
        open_frame(message, ME.public, YOU.public)
    return caught.value.refusal


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_what_is_sealed_is_what_is_opened(body: Body) -> None:
    message = sealer().seal(body, 3, recipient(body))
    frame = open_frame(message, ME.public, YOU.public)
    assert frame.body == body
    assert (frame.sender, frame.incarnation, frame.sequence) == (ME.public, 7, 1)
    assert (frame.round, frame.federation, frame.layout) == (3, FEDERATION, LAYOUT)
    assert frame.raw == message


def test_every_frame_takes_the_next_number() -> None:
    ours = sealer()
    frames = [open_frame(ours.seal(Done(), 0, YOU.public), ME.public, YOU.public) for _ in "abc"]
    assert [frame.sequence for frame in frames] == [1, 2, 3]


def test_the_largest_frames_fit() -> None:
    rows = tuple(("n" * 64, bytes(32), "h" * 500) for _ in range(ROSTER_ROWS_MAX))
    for body in (
        Roster(4095, 4096, rows),
        Hello("x" * 8192, bytes(32)),
        Refused("wrong-federation", "\U0001f40d" * 1000),
    ):
        message = sealer(2**62 - 1).seal(body, 2**62 - 1, YOU.public)
        assert len(message) <= CONTROL_BYTES_MAX
        open_frame(message, ME.public, YOU.public)


def test_an_address_or_a_reason_that_is_too_long_is_cut() -> None:
    message = sealer().seal(Roster(0, 1, (("a", bytes(32), "h" * 500),)), 0, YOU.public)
    roster = open_frame(message, ME.public, YOU.public).body
    assert isinstance(roster, Roster)
    assert len(roster.rows[0][2]) == 260
    message = sealer().seal(Refused("flood", "x" * 500), 0, YOU.public)
    refused = open_frame(message, ME.public, YOU.public).body
    assert isinstance(refused, Refused)
    assert len(refused.detail) == 400


def packed(tag: Kind, /, *body: object, **changes: object) -> bytes:
    header = {
        "version": 1,
        "kind": int(tag),
        "federation": FEDERATION,
        "sender": ME.public,
        "recipient": b"" if tag is Kind.OFFER else YOU.public,
        "incarnation": 1,
        "sequence": 1,
        "round": 0,
        "layout": LAYOUT,
        **changes,
    }
    return sign("a", tag, msgpack.packb([*header.values(), *body]))


@pytest.mark.parametrize(
    "message",
    [
        packed(Kind.HELLO, "x", bytes(31)),
        packed(Kind.HELLO, b"x", bytes(32)),
        packed(Kind.OFFER, 1, bytes(31), bytes(32), 1, bytes(32)),
        packed(Kind.OFFER, 1, b"", bytes(32), -1, bytes(32)),
        packed(Kind.OFFER, 1, b"", bytes(33), 1, bytes(32)),
        packed(Kind.OFFER, True, b"", bytes(32), 1, bytes(32)),
        packed(Kind.WANT, 2, bytes(32), 0, 1),
        packed(Kind.WANT, 1.0, bytes(32), 0, 1),
        packed(Kind.WANT, 1, bytes(32), -2, 1),
        packed(Kind.WANT, 1, bytes(32), 0, 2**32),
        packed(Kind.REFUSED, "stale-round", "x" * 401),
        packed(Kind.REFUSED, "stale-round", "two\nlines"),
        packed(Kind.REFUSED, "made-up", "x"),
        packed(Kind.ROSTER, 0, 1, [["a", bytes(32)]]),
        packed(Kind.ROSTER, 0, 1, [["a", bytes(31), ""]]),
        packed(Kind.ROSTER, 0, 1, [["a" * 65, bytes(32), ""]]),
        packed(Kind.ROSTER, 0, 1, [["a", bytes(32), "h" * 261]]),
        packed(Kind.ROSTER, 0, 99, [["a", bytes(32), ""]] * 33),
        packed(Kind.ROSTER, 0, 1, []),
        packed(Kind.ROSTER, 1, 1, [["a", bytes(32), ""]]),
        packed(Kind.LEAVE, 1),
        packed(Kind.DONE, 1),
        packed(Kind.DONE, incarnation=0),
        packed(Kind.DONE, sequence=2**62),
        packed(Kind.DONE, round=-2),
        packed(Kind.DONE, round=2**62),
        packed(Kind.DONE, layout=b"short"),
        packed(Kind.DONE, federation=b"short"),
    ],
)
def test_positions_that_are_not_as_fixed_are_malformed(message: bytes) -> None:
    assert refusal(message) is Refusal.MALFORMED


def test_the_same_positions_in_their_ranges_open() -> None:
    for message in (
        packed(Kind.HELLO, "x", bytes(32)),
        packed(Kind.OFFER, 1, b"", bytes(32), 0, bytes(32)),
        packed(Kind.WANT, 1, bytes(32), -1, 2**32 - 1),
        packed(Kind.REFUSED, "stale-round", "x" * 400),
        packed(Kind.ROSTER, 0, 1, [["a" * 64, bytes(32), "h" * 260]]),
        packed(Kind.DONE, incarnation=2**62 - 1, sequence=2**62 - 1, round=-1),
    ):
        open_frame(message, ME.public, YOU.public)


def test_each_part_of_the_envelope_is_held() -> None:
    assert refusal(packed(Kind.DONE, version=2)) is Refusal.WRONG_VERSION
    assert refusal(packed(Kind.DONE, sender=YOU.public)) is Refusal.UNKNOWN_SENDER
    assert refusal(packed(Kind.DONE, recipient=b"")) is Refusal.WRONG_RECIPIENT
    assert refusal(packed(Kind.DONE, kind=6)) is Refusal.MALFORMED
    assert refusal(b"\x02" * (CONTROL_BYTES_MAX + 1)) is Refusal.OVERSIZE
    with pytest.raises(PeerFault) as caught:
        open_frame(packed(Kind.DONE), YOU.public, YOU.public)
    assert caught.value.refusal is Refusal.BAD_SIGNATURE


def test_the_kind_is_the_first_byte() -> None:
    assert [kind_of(bytes([kind])) for kind in Kind] == list(Kind)
    assert (kind_of(b""), kind_of(b"\x40"), kind_of(b"\x00")) == (None, None, None)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(list(Kind)))
def test_any_bytes_open_or_are_refused(data: bytes, kind: Kind) -> None:
    for message in (data, bytes([kind]) + data, sign("a", kind, data)):
        try:
            frame = open_frame(message, ME.public, YOU.public)
        except PeerFault:
            continue
        assert frame.raw == message


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Offer,
        st.integers(0, 2**16),
        st.sampled_from([b"", bytes(32)]),
        st.binary(min_size=32, max_size=32),
        st.integers(0, 2**62 - 1),
        st.binary(min_size=32, max_size=32),
    ),
    st.integers(0, 2**62 - 1),
)
def test_any_offer_survives_the_wire(offer: Offer, round_: int) -> None:
    frame = open_frame(sealer().seal(offer, round_), ME.public, YOU.public)
    assert (frame.body, frame.round) == (offer, round_)
    assert isinstance(frame.body, Offer)
    assert frame.body.snapshot is (offer.base == b"")
    assert replace(offer, base=b"").snapshot
