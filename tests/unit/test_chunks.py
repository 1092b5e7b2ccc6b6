"""Payloads in chunks: what is asked for, what is taken, what comes twice."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipfl.errors import PeerFault, Refusal
from gossipfl.wire.chunks import (
    CHUNK_BYTES,
    DATA_BYTES_MAX,
    DATA_TAG,
    LIST_INDEX,
    WINDOW_CHUNKS,
    Download,
    Payload,
    Piece,
    chunk_count,
    data_message,
    parse_data,
)

BIG = 20 * CHUNK_BYTES + 5


def payload(length: int) -> Payload:
    return Payload.of(np.arange(length, dtype=np.uint64).astype(np.uint8))


LARGE = payload(BIG)


def piece(said: Payload, index: int) -> Piece:
    return parse_data(b"".join(data_message(said, index)))


def refusal(download: Download, wrong: Piece) -> Refusal:
    with pytest.raises(PeerFault) as caught:
        download.take(wrong)
    return caught.value.refusal


def begun(said: Payload = LARGE) -> Download:
    """A download that has its list and has asked for its first chunks."""
    download = Download(said.root, len(said))
    if said.chunks > 1:
        assert download.wants() == (LIST_INDEX, 1)
        assert download.take(piece(said, LIST_INDEX)) is None
    download.wants()
    return download


@pytest.mark.parametrize(
    ("length", "chunks"), [(0, 0), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (BIG, 21)]
)
def test_a_payload_has_one_digest_per_chunk(length: int, chunks: int) -> None:
    assert chunk_count(length) == chunks
    assert payload(length).chunks == chunks
    assert len(payload(length)) == length


def drain(download: Download, said: Payload) -> Iterator[tuple[int, int]]:
    """Answer every want at once; yield the wants."""
    while (asked := download.wants()) is not None:
        yield asked
        for index in range(asked[0], asked[0] + asked[1]):
            download.take(piece(said, index))


@pytest.mark.parametrize("length", [1, CHUNK_BYTES, CHUNK_BYTES + 1, BIG])
def test_a_download_asks_for_everything_once_and_gets_it(length: int) -> None:
    said = payload(length)
    download = Download(said.root, length)
    asked = [
        index for first, count in drain(download, said) for index in range(first, first + count)
    ]
    expected = list(range(chunk_count(length)))
    assert asked == (expected if len(expected) == 1 else [LIST_INDEX, *expected])
    assert download.complete
    assert download.outstanding == 0


def test_no_more_than_the_window_is_asked_for_ahead() -> None:
    download = begun()
    assert download.wants() is None
    assert download.outstanding == WINDOW_CHUNKS
    for index in range(WINDOW_CHUNKS // 2):
        assert download.wants() is None
        download.take(piece(LARGE, index))
    assert download.wants() == (WINDOW_CHUNKS, WINDOW_CHUNKS // 2)


def test_the_list_is_asked_for_once_and_first() -> None:
    download = Download(LARGE.root, BIG)
    assert download.wants() == (LIST_INDEX, 1)
    assert download.wants() is None
    assert download.outstanding == 1
    assert refusal(download, piece(LARGE, 0)) is Refusal.UNREQUESTED


def test_what_was_not_asked_for_is_refused_and_what_was_is_taken() -> None:
    download = begun()
    for index in (1, 8, 20, 2**31, LIST_INDEX):
        assert refusal(download, Piece(LARGE.root, index, memoryview(b"x"))) is Refusal.UNREQUESTED
    assert download.take(piece(LARGE, 0)) is not None
    assert refusal(download, piece(LARGE, 0)) is Refusal.UNREQUESTED
    assert download.take(piece(LARGE, 1)) is not None


def test_an_altered_list_or_chunk_is_refused() -> None:
    download = Download(LARGE.root, BIG)
    download.wants()
    right = bytearray(piece(LARGE, LIST_INDEX).body)
    for wrong in (right[:-32], right + bytes(32), bytes(len(right))):
        told = refusal(download, Piece(LARGE.root, LIST_INDEX, memoryview(bytes(wrong))))
        assert told is Refusal.WRONG_LIST
    download.take(piece(LARGE, LIST_INDEX))
    download.wants()
    chunk = bytearray(piece(LARGE, 0).body)
    short = Piece(LARGE.root, 0, memoryview(bytes(chunk[:-1])))
    assert refusal(download, short) is Refusal.WRONG_LENGTH
    chunk[77] ^= 1
    altered = Piece(LARGE.root, 0, memoryview(bytes(chunk)))
    assert refusal(download, altered) is Refusal.WRONG_CHUNK
    assert download.arrived == 0
    assert download.take(piece(LARGE, 0)) is not None


def test_a_small_payload_comes_unasked_once_it_is_granted() -> None:
    said = payload(40)
    download = Download(said.root, 40)
    assert refusal(download, piece(said, 0)) is Refusal.UNREQUESTED
    download.grant()
    assert download.wants() is None
    assert download.take(piece(said, 0)) is not None
    assert download.complete


def test_after_a_new_link_only_the_rest_is_asked_for_and_doubles_pass() -> None:
    download = begun()
    for index in range(3):
        download.take(piece(LARGE, index))
    download.restart()
    assert download.wants() == (3, WINDOW_CHUNKS)
    assert download.outstanding == WINDOW_CHUNKS - 3 + WINDOW_CHUNKS
    assert download.take(piece(LARGE, 3)) is not None  # over the old link
    assert download.take(piece(LARGE, 3)) is None  # over the new one
    assert download.arrived == 4


def test_as_many_doubles_pass_as_were_on_their_way() -> None:
    download = begun()
    download.restart()
    download.wants()
    download.take(piece(LARGE, 0))
    for _ in range(WINDOW_CHUNKS):
        assert download.take(piece(LARGE, 0)) is None
    assert refusal(download, piece(LARGE, 0)) is Refusal.UNREQUESTED


def test_a_list_that_comes_over_both_links_is_no_fault() -> None:
    download = Download(LARGE.root, BIG)
    download.wants()
    download.restart()
    assert download.wants() == (LIST_INDEX, 1)
    download.take(piece(LARGE, LIST_INDEX))
    download.take(piece(LARGE, LIST_INDEX))
    assert refusal(download, piece(LARGE, LIST_INDEX)) is Refusal.UNREQUESTED
    assert download.wants() == (0, WINDOW_CHUNKS)


def test_a_list_that_is_here_is_not_asked_for_again() -> None:
    download = begun()
    download.restart()
    assert download.wants() == (0, WINDOW_CHUNKS)


def test_a_data_message_keeps_its_header_and_its_bounds() -> None:
    header, body = data_message(LARGE, 20)
    message = header + bytes(body)
    read = parse_data(message)
    assert (read.root, read.index, bytes(read.body)) == (LARGE.root, 20, bytes(body))
    assert message[0] == DATA_TAG
    assert len(body) == 5
    full = b"".join(data_message(LARGE, 0))
    assert len(full) == DATA_BYTES_MAX
    for wrong, told in ((full + b"x", Refusal.OVERSIZE), (full[:36], Refusal.TRUNCATED)):
        with pytest.raises(PeerFault) as caught:
            parse_data(wrong)
        assert caught.value.refusal is told


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5 * CHUNK_BYTES),
    st.lists(st.sampled_from(["step", "step", "link"]), max_size=12),
)
def test_whatever_links_do_everything_arrives(length: int, happenings: list[str]) -> None:
    said = payload(length)
    download = Download(said.root, length)
    wire: list[int] = []
    for what in [*happenings, "link", *["step"] * 20]:
        if what == "link":
            wire.clear()  # the old link is gone with all that was on it
            download.restart()
        while (asked := download.wants()) is not None:
            wire += range(asked[0], asked[0] + asked[1])
        if wire:
            download.take(piece(said, wire.pop(0)))
    assert download.complete
