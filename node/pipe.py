"""Messages between a node's two processes: a length, then msgpack. Never pickle."""

from typing import Any

import msgpack

__all__ = ["LENGTH_BYTES", "MESSAGE_BYTES_MAX", "pack", "unpack"]

LENGTH_BYTES = 4
MESSAGE_BYTES_MAX = 2**20  # tensors travel in shared memory; the longest message is a traceback


def pack(message: dict[str, Any]) -> bytes:
    """Return a message with its length in front, little-endian."""
    body: bytes = msgpack.packb(message)
    if len(body) > MESSAGE_BYTES_MAX:
        raise ValueError(f"a message of {len(body)} bytes between daemon and worker")
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


def unpack(body: bytes) -> dict[str, Any]:
    """Return the message of `pack`, without its length."""
    message = msgpack.unpackb(body)
    if not isinstance(message, dict):
        raise ValueError("not a message between daemon and worker")
    return message
