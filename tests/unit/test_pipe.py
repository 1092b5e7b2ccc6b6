"""Messages between a node's two processes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.pipe import LENGTH_BYTES, MESSAGE_BYTES_MAX, pack, unpack

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_a_message_comes_back_as_it_was(message: dict[str, object]) -> None:
    whole = pack(message)
    length = int.from_bytes(whole[:LENGTH_BYTES], "little")
    assert length == len(whole) - LENGTH_BYTES
    assert unpack(whole[LENGTH_BYTES:]) == message


def test_a_message_over_the_cap_is_not_sent() -> None:
    assert len(pack({"text": "x" * (MESSAGE_BYTES_MAX - 100)})) < MESSAGE_BYTES_MAX + LENGTH_BYTES
    with pytest.raises(ValueError, match="bytes between daemon and worker"):
        pack({"text": "x" * MESSAGE_BYTES_MAX})


@pytest.mark.parametrize("body", [b"\x90", b"\x01", b"\xc1", b"", b"\x80\x80"])
def test_what_is_no_map_is_no_message(body: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(body)
