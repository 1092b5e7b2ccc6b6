"""Rows that are both trained on and held out: what is measured on them says nothing."""

from collections.abc import Iterator

import torch

from gossipfl.errors import TaskError
from gossipfl.learning.findings import DryRun
from gossipfl.learning.samples import Samples, Split

__all__ = ["overlap"]


def overlap(split: Split, found: DryRun) -> None:
    """Warn of held-out rows that were trained on."""
    known = set(_rows(split.train))
    doubled = sum(row in known for row in _rows(split.held_out))
    if doubled:
        found.warnings.append(
            TaskError(
                f"{doubled} of {len(split.held_out)} held-out rows are also among the training "
                "rows",
                fix="If they are the same records, drop the doubles or split anew: figures on rows "
                "that were trained on are too good.",
            )
        )


def _rows(samples: Samples) -> Iterator[bytes]:
    raw = (
        item.reshape(len(item), -1).contiguous().view(torch.uint8).numpy()
        for item in (samples.inputs, samples.targets)
    )
    for one, other in zip(*raw, strict=True):
        yield one.tobytes() + other.tobytes()
