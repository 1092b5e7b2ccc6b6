"""Tasks whose data is one data set that a partition deals to the members."""

from functools import lru_cache
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator, SerializeAsAny

from gossipfl.learning.samples import Place, Samples, Split
from gossipfl.partitions.iid import held_out_rows
from gossipfl.partitions.partition import Partition, Rows, load_partition
from gossipfl.streams import seed_of

__all__ = ["HELD_OUT_MIN", "Dealt", "dealt_split"]

HELD_OUT_MIN: Final = 20  # samples that a member is measured on: one more right is five percent

Dealt: TypeAlias = Annotated[SerializeAsAny[Partition], BeforeValidator(load_partition)]
"""A task's field that says how its data is dealt: a name, a table, or a partition."""


def dealt_split(whole: Split, partition: Partition, place: Place) -> Split:
    """Return one member's part of a data set.

    Training samples follow the partition. Held-out samples are equal random shares, so that
    everybody is measured on samples of all kinds; small shares overlap.

    Args:
        whole: all samples; the same object each time, so that they are dealt once.
        partition: how they are dealt.
        place: whose part.

    Raises:
        TaskError: the partition cannot deal these samples to so many.
    """
    train, held_out = _dealt(whole, partition, place.members, place.seed)
    return Split(
        train=_rows(whole.train, train[place.index]),
        held_out=_rows(whole.held_out, held_out[place.index]),
    )


@lru_cache(maxsize=2)  # a simulation asks once for every member; a split is known by identity
def _dealt(
    whole: Split, partition: Partition, members: int, seed: int
) -> tuple[list[Rows], list[Rows]]:
    labels = whole.train.targets.cpu().numpy()
    train = partition(labels, members, seed_of(seed, "", "train"))
    count = len(whole.held_out)
    return train, held_out_rows(count, members, HELD_OUT_MIN, seed_of(seed, "", "held-out"))


def _rows(samples: Samples, rows: Rows) -> Samples:
    return Samples(samples.inputs[rows], samples.targets[rows])
