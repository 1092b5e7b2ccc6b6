"""Every coordinate as bfloat16: the upper half of a float32, rounded to nearest even."""

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from gossipfl.codecs.codec import BLOCK, Codec, Decoder, FixedWidthDecoder, Payload, check_delta
from gossipfl.types import Vector

__all__ = ["Bf16"]

BFLOAT16 = np.dtype("<u2")  # numpy knows no bfloat16; its bits travel
HALF_BITS = np.uint32(16)  # the half of a float32 that bfloat16 leaves out
JUST_BELOW_HALF = np.uint32(0x7FFF)  # plus the last bit kept: ties go to the even neighbor
QUIET_BIT = np.uint16(0x0040)  # set in every NaN, whose payload might lie in the lost half


class Bf16(Codec):
    """Two bytes per coordinate: 8 bits of exponent, as float32 has, and 7 of fraction.

    A coordinate is off by at most 2^-8 of itself; what rounding loses returns with the next delta.
    NaN stays NaN and Inf stays Inf; what lies nearer to 2^128 than to the largest bfloat16 becomes
    Inf, as IEEE 754 rounds.
    """

    kind: ClassVar[str] = "bf16"
    wire_id: ClassVar[int] = 2

    def payload_bytes(self, size: int) -> int:
        """Return 2 * size, exactly what every delta takes."""
        return BFLOAT16.itemsize * size

    def encode(self, delta: Vector) -> Payload:
        """Return the delta rounded to bfloat16, little-endian; see Codec."""
        check_delta(delta)
        coded = np.empty(delta.size, dtype=BFLOAT16)
        scratch = np.empty(min(BLOCK, delta.size), dtype=np.uint32)
        for start in range(0, delta.size, BLOCK):
            numbers = delta[start : start + BLOCK]
            bits = numbers.view(np.uint32)
            rounded = scratch[: bits.size]
            np.right_shift(bits, HALF_BITS, out=rounded)
            np.bitwise_and(rounded, np.uint32(1), out=rounded)
            np.add(rounded, JUST_BELOW_HALF, out=rounded)
            np.add(rounded, bits, out=rounded)
            np.right_shift(rounded, HALF_BITS, out=rounded)
            target = coded[start : start + BLOCK]
            np.copyto(target, rounded, casting="unsafe")  # fits: the upper half is zero
            unordered = np.isnan(numbers)
            if unordered.any():  # rounding may have carried a NaN over into another number
                upper = np.right_shift(bits[unordered], HALF_BITS).astype(np.uint16)
                target[unordered] = upper | QUIET_BIT
        return coded.view(np.uint8)

    def decoder(self, base: Vector | None, out: Vector) -> Decoder:
        """Return a decoder into `out`; see Codec."""
        return FixedWidthDecoder(base, out, BFLOAT16, _widen)


def _widen(coded: npt.NDArray[Any], target: Vector) -> None:
    np.left_shift(coded, HALF_BITS, out=target.view(np.uint32), dtype=np.uint32)
