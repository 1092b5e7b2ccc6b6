"""What learning alone and what pooling all data in one place would have given.

Only a demonstration can compute the second: it needs everybody's data. Both take the same model,
optimizer and number of passes as a member that takes part in as many rounds. With full batches
that is the same number of steps too.

A flat model holds all float tensors here, those that `share` keeps at home too: nothing travels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gossipfl.errors import TaskError
from gossipfl.learning.local import evaluate, local_pass
from gossipfl.learning.task import Samples, Split, Task, initial
from gossipfl.params import Layout
from gossipfl.streams import seed_of
from gossipfl.types import Vector

__all__ = ["Scores", "pooled_split", "score", "train_alone", "train_pooled"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How well a model does on held-out samples; fractions in [0, 1]."""

    accuracy: float
    auc: float | None


def train_alone(task: Task, split: Split, *, member: str, rounds: int, seed: int) -> Vector:
    """Return what one member learns from its own data, shape (layout.size,)."""
    return _train(task, split.train, member, rounds, seed)


def train_pooled(task: Task, splits: Sequence[Split], *, rounds: int, seed: int) -> Vector:
    """Return what all members' training data in one place would teach, shape (layout.size,)."""
    return _train(task, pooled_split(splits).train, "", rounds, seed)


def score(task: Task, vector: Vector, samples: Samples) -> Scores:
    """Return how well a flat model does on samples; `auc` is None where the task has none.

    Raises:
        TaskError: the task does not measure accuracy.
    """
    model = initial(task, 0)  # its start is overwritten
    Layout.of(model).write(model, vector)
    figures = evaluate(task, model, samples)
    accuracy = figures.get("accuracy")
    if accuracy is None:
        raise TaskError(
            f"the task {task.kind} does not measure accuracy",
            fix='Return {"accuracy": …} from `measures`.',
        )
    return Scores(accuracy, figures.get("auc"))


def pooled_split(splits: Sequence[Split]) -> Split:
    """Return all members' training data in one place, and all their held-out data."""
    return Split(
        train=_joined([split.train for split in splits]),
        held_out=_joined([split.held_out for split in splits]),
    )


def _joined(parts: Sequence[Samples]) -> Samples:
    return Samples(
        torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
    )


def _train(task: Task, samples: Samples, member: str, rounds: int, seed: int) -> Vector:
    model = initial(task, seed)
    for round_ in range(rounds):
        local_pass(task, model, samples, seed=seed_of(seed, member, "train", round_))
    layout = Layout.of(model)
    vector = np.empty(layout.size, np.float32)
    layout.read(model, vector)
    return vector
