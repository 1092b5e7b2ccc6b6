"""The liar turns its own model around and blows it up."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from gossipfl.attacks.attack import Attack
from gossipfl.types import Vector

__all__ = ["BitFlip"]


class BitFlip(Attack):
    """Publish one's own model times `factor`.

    With factor -1 this is the attack BF of He, Karimireddy and Jaggi, "Byzantine-robust
    decentralized learning via ClippedGossip", 2022, which flips the sign bit. The default is ten
    times as loud: far enough out to wreck a mean of a handful of models in a few rounds, and still
    a finite model of plausible norm, so only the mixing rule stands against it.
    """

    kind: ClassVar[str] = "bit-flip"

    factor: float = Field(default=-10.0, allow_inf_nan=False)

    def __call__(self, own: Vector, received: Sequence[Vector], rng: np.random.Generator) -> Vector:
        """Return factor times own; see Attack for the arguments."""
        return np.multiply(own, np.float32(self.factor))
