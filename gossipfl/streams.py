"""Counter-based random streams: the same key gives the same numbers on every host.

A stream is keyed by (seed, member, purpose, round), so a draw added in one place shifts no other.
"""

import blake3
import numpy as np

from gossipfl.types import Round

__all__ = ["seed_of", "stream"]


def seed_of(seed: int, member: str, purpose: str, round_: Round = -1) -> int:
    """Return a 63-bit seed for one (seed, member, purpose, round).

    63 bits because that is what torch's generators take as a non-negative integer.
    """
    key = f"{seed}\0{member}\0{purpose}\0{round_}".encode()
    return int.from_bytes(blake3.blake3(key).digest(8), "little") >> 1


def stream(seed: int, member: str, purpose: str, round_: Round = -1) -> np.random.Generator:
    """Return numpy's counter-based Philox generator for one key."""
    return np.random.Generator(np.random.Philox(key=seed_of(seed, member, purpose, round_)))
