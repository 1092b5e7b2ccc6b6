"""The liar drowns its neighbors' average in noise."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from gossipfl.attacks.attack import Attack
from gossipfl.types import Vector

__all__ = ["Gaussian"]


class Gaussian(Attack):
    """Publish the mean of the neighbors' models plus independent noise N(0, std^2) per coordinate.

    One that knows of no neighbor yet puts the noise on its own model.

    Source: Wu, Chen and Ling, "Byzantine-resilient decentralized stochastic optimization with
    robust aggregation rules", IEEE Transactions on Signal Processing, 2023; the default of 30 is
    what their published experiments use.
    """

    kind: ClassVar[str] = "gaussian"

    std: float = Field(default=30.0, ge=0, allow_inf_nan=False)

    def __call__(self, own: Vector, received: Sequence[Vector], rng: np.random.Generator) -> Vector:
        """Return the mean of received plus noise; see Attack for the arguments."""
        lie = rng.standard_normal(own.size, dtype=np.float32)
        lie *= np.float32(self.std)
        if not received:
            lie += own
            return lie
        mean = np.zeros_like(own)
        for model in received:
            mean += model / np.float32(len(received))
        lie += mean
        return lie
