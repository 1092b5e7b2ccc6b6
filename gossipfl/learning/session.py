"""One member's work on a task: its model, its data, and flat vectors in and out."""

from pathlib import Path
from typing import Any

from safetensors.numpy import save

from gossipfl.learning.local import evaluate, local_pass
from gossipfl.learning.task import Place, Split, Task, initial, load_task
from gossipfl.params import Layout
from gossipfl.types import Vector

__all__ = ["Session"]


class Session:
    """What a worker keeps of a task between rounds.

    Args:
        task: what is learned.
        place: whose data.
    """

    def __init__(self, task: Task, place: Place) -> None:
        self.task = task
        self.split: Split = task.data(place)
        self.model = initial(task, place.seed)
        self.layout = Layout.of(self.model)

    @classmethod
    def open(cls, choice: object, place: dict[str, Any]) -> "Session":
        """Load the task a configuration names, for the place a configuration names.

        Raises:
            ConfigError, TaskError: the task, its data or its fields are wrong.
        """
        data = place["data"]
        where = Place(
            data=None if data is None else Path(data),
            member=place["member"],
            index=place["index"],
            members=place["members"],
            seed=place["seed"],
        )
        return cls(load_task(choice), where)

    def initial(self, out: Vector) -> None:
        """Write the model all members start from."""
        self.layout.read(self.model, out)

    def train(self, model: Vector, out: Vector, seed: int) -> float:
        """Run one local pass from `model` into `out`; return the mean training loss."""
        self.layout.write(self.model, model)
        loss = local_pass(self.task, self.model, self.split.train, seed=seed)
        self.layout.read(self.model, out)
        return loss

    def evaluate(self, model: Vector) -> dict[str, float | None]:
        """Return the task's measures of a model on this member's held-out data."""
        self.layout.write(self.model, model)
        return dict(evaluate(self.task, self.model, self.split.held_out))

    def export(self, model: Vector, path: Path) -> None:
        """Write a model as safetensors: to a file beside it first, then in its place."""
        beside = path.with_name(path.name + ".tmp")
        beside.write_bytes(save(self.layout.to_tensors(model)))
        beside.replace(path)
