"""Golden frames: bytes that every release writes and reads, or its protocol version is another.

A file holds one message in hex. To make them anew after a change of VERSION, print what
`written()` returns.
"""

from pathlib import Path

import numpy as np
import pytest

from gossipfl.wire.chunks import Payload, data_message, parse_data
from gossipfl.wire.frame import (
    VERSION,
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
    open_frame,
)
from gossipfl.wire.identity import Identity

FRAMES = Path(__file__).parents[1] / "vectors" / "frames"
SENDER, RECIPIENT = Identity(bytes(range(32))), Identity(bytes(range(32, 64)))
FEDERATION, LAYOUT = b"\xf0" * 32, b"\x1a" * 32
MODEL, BASE, ROOT = b"\xaa" * 32, b"\xbb" * 32, b"\xcc" * 32
INCARNATION, ROUND = 3, 41

BODIES: dict[str, Body] = {
    "hello": Hello('{"name":"heart","rounds":60}', b"\xdd" * 32),
    "offer-delta": Offer(1, BASE, MODEL, 4_321, ROOT),
    "offer-snapshot": Offer(1, b"", MODEL, 2**33, ROOT),
    "want-snapshot": Want(Part.SNAPSHOT),
    "want-list": Want(Part.PIECES, ROOT, -1, 1),
    "want-chunks": Want(Part.PIECES, ROOT, 8, 4),
    "refused": Refused("stale-round", "round 3 offered in round 9"),
    "roster": Roster(0, 2, (("cleveland", BASE, "cleveland.example.org:7400"), ("va", MODEL, ""))),
    "leave": Leave(),
    "done": Done(),
}


def written() -> dict[str, bytes]:
    """What this release writes, by file name."""
    frames = {}
    for name, body in BODIES.items():
        sealer = Sealer(SENDER, FEDERATION, LAYOUT, INCARNATION)
        recipient = b"" if isinstance(body, Offer) else RECIPIENT.public
        frames[name] = sealer.seal(body, ROUND, recipient)
    payload = Payload.of(np.arange(200, dtype=np.uint8))
    frames["data-chunk"] = b"".join(data_message(payload, 0))
    frames["data-list"] = b"".join(data_message(payload, -1))
    return frames


def golden(name: str) -> bytes:
    return bytes.fromhex((FRAMES / f"{name}.hex").read_text())


@pytest.mark.parametrize("name", written())
def test_this_release_writes_the_golden_bytes(name: str) -> None:
    assert written()[name] == golden(name)


@pytest.mark.parametrize("name", BODIES)
def test_this_release_reads_the_golden_frames(name: str) -> None:
    frame = open_frame(golden(name), SENDER.public, RECIPIENT.public)
    assert frame.body == BODIES[name]
    assert (frame.incarnation, frame.sequence, frame.round) == (INCARNATION, 1, ROUND)
    assert (frame.federation, frame.layout) == (FEDERATION, LAYOUT)


@pytest.mark.parametrize(("name", "index"), [("data-chunk", 0), ("data-list", -1)])
def test_this_release_reads_the_golden_data(name: str, index: int) -> None:
    piece = parse_data(golden(name))
    assert piece.index == index
    assert golden(name).endswith(piece.body)


def test_there_is_a_vector_of_every_kind_and_none_besides() -> None:
    assert {golden(name)[0] for name in BODIES} == set(Kind)
    assert {path.stem for path in FRAMES.iterdir()} == set(written())
    assert VERSION == 1
