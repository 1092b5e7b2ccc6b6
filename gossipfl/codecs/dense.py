"""Every coordinate as it is: float32, little-endian, nothing lost."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gossipfl.codecs.codec import Codec, Decoder, FixedWidthDecoder, Payload, check_delta
from gossipfl.types import Vector

__all__ = ["Dense"]

FLOAT32 = np.dtype("<f4")


class Dense(Codec):
    """Four bytes per coordinate, exact."""

    kind: ClassVar[str] = "dense"
    wire_id: ClassVar[int] = 1

    def payload_bytes(self, size: int) -> int:
        """Return 4 * size, exactly what every delta takes."""
        return FLOAT32.itemsize * size

    def encode(self, delta: Vector) -> Payload:
        """Return the delta's own bytes, little-endian; see Codec."""
        check_delta(delta)
        return delta.astype(FLOAT32).view(np.uint8)  # always a copy: deltas are overwritten

    def decoder(self, base: Vector | None, out: Vector) -> Decoder:
        """Return a decoder into `out`; see Codec."""
        return FixedWidthDecoder(base, out, FLOAT32, _widen)


def _widen(coded: npt.NDArray[Any], target: Vector) -> None:
    np.copyto(target, coded)
