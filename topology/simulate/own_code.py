"""Somebody's own rule or attack in a simulation: what is wrong with it is said of its own line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import numpy as np

from gossipfl.attacks.attack import Attack
from gossipfl.errors import ConfigError
from gossipfl.family import Member
from gossipfl.types import Vector
from gossipfl.user_code import line_in, retold, said

__all__ = ["blamed", "checked"]


@contextmanager
def blamed(member: Member, key: str) -> Iterator[None]:
    """Say of a failure in somebody's own class where it is; one of the library is our own bug.

    Args:
        member: whose code runs.
        key: where it stands in the configuration: `mixing`.

    Raises:
        ConfigError: the class failed.
    """
    module = type(member).__module__
    if module.startswith("gossipfl."):
        yield
        return

    def tell(error: BaseException) -> ConfigError:
        file = getattr(sys.modules.get(module), "__file__", None) or ""
        line = line_in(file, error)
        where = "" if line is None else f" ({file}, line {line})"
        return ConfigError(
            f"{key}: {member.kind} failed: {said(error)}{where}",
            fix="Mend it at that line." if where else "Mend that class.",
        )

    with retold(tell):
        yield


class _Checked(Attack):
    """Somebody's own attack, whose lies are held against what can be sent."""

    kind: ClassVar[str] = "checked"

    inner: Attack

    def __call__(self, own: Vector, received: Sequence[Vector], rng: np.random.Generator) -> Vector:
        with blamed(self.inner, "attack"):
            lie: object = self.inner(own, received, rng)
        if isinstance(lie, np.ndarray) and (lie.shape, lie.dtype) == (own.shape, own.dtype):
            return np.ascontiguousarray(lie)
        found = (
            f"{lie.dtype} of shape {lie.shape}"
            if isinstance(lie, np.ndarray)
            else type(lie).__name__
        )
        raise ConfigError(
            f"attack: {self.inner.kind} returned {found}, not a model",
            fix=f"Return an array of {own.dtype} of shape {own.shape}, as `own` is.",
        )


def checked(attack: Attack) -> Attack:
    """Return an attack that says what is wrong with it; one of the library as it is."""
    if type(attack).__module__.startswith("gossipfl."):
        return attack
    return _Checked(inner=attack)
