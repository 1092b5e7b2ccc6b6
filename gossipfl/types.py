"""The words every module shares."""

from typing import NewType, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["DIGEST_BYTES", "Digest", "LinkId", "PeerId", "Round", "Seconds", "Vector"]

PeerId = NewType("PeerId", str)
"""A member's name; unique within a federation."""

LinkId = NewType("LinkId", int)
"""One connection between two members; never reused by a host."""

Round: TypeAlias = int
"""Number of a round; the first is 0, and -1 stands for "before the first"."""

Seconds: TypeAlias = float
"""Seconds on any monotonic clock."""

Digest: TypeAlias = bytes
"""A BLAKE3 digest of DIGEST_BYTES bytes."""

DIGEST_BYTES = 32  # BLAKE3's own output length

Vector: TypeAlias = npt.NDArray[np.float32]
"""All shared parameters of a model, flat: shape (size,), float32, contiguous."""
