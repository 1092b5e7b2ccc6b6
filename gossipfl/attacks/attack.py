"""The parent of all attacks: what a liar knows, and what it makes of it."""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

import gossipfl.attacks
from gossipfl.family import Member, parse
from gossipfl.types import Vector

__all__ = ["Attack", "load_attack"]


class Attack(Member):
    """What a liar publishes in place of the model it trained."""

    @abstractmethod
    def __call__(self, own: Vector, received: Sequence[Vector], rng: np.random.Generator) -> Vector:
        """Return the lie, shape (size,), float32; the inputs stay as they are.

        Args:
            own: the model that the liar trained as an honest member would, shape (size,).
            received: its neighbors' models as it knows them, each of shape (size,).
            rng: the stream of this liar and round.
        """


def load_attack(choice: object, *, key: str = "attack") -> Attack:
    """Build the attack that a configuration names: `"bit-flip"` or a table with `kind`.

    Raises:
        ConfigError: unknown attack, unknown field, value out of range.
    """
    # mypy: an abstract parent stands for its members here
    return parse(gossipfl.attacks, Attack, choice, key=key)  # type: ignore[type-abstract]
