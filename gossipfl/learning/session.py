"""One member's work on a task: its model, its data, and flat vectors in and out.

What a task's own code raises becomes a `TaskError` that names its file and line.
"""

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gossipfl.errors import GossipError, TaskError
from gossipfl.learning.local import evaluate, local_pass
from gossipfl.learning.task import Place, Split, Task, initial, load_task
from gossipfl.params import Layout
from gossipfl.types import Vector

__all__ = ["Session"]

_MESSAGE_CHARS_MAX = 1000  # of a task's own exception; a whole tensor printed is no sentence


class Session:
    """What a worker keeps of a task between rounds.

    Args:
        task: what is learned.
        place: whose data.

    Raises:
        TaskError: the task's `data` or `model` is wrong, or raises.
    """

    def __init__(self, task: Task, place: Place) -> None:
        self.task = task
        with _blamed(task, "reading this member's data"):
            self.split: Split = task.data(place)
        with _blamed(task, "building the model"):
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
        """Run one local pass from `model` into `out`; return the mean training loss.

        Raises:
            TaskError: the task raises, or its loss is not what it must be.
        """
        self.layout.write(self.model, model)
        with _blamed(self.task, "training"):
            loss = local_pass(self.task, self.model, self.split.train, seed=seed)
        self.layout.read(self.model, out)
        return loss

    def evaluate(self, model: Vector) -> dict[str, float | None]:
        """Return the task's measures of a model on this member's held-out data.

        Raises:
            TaskError: the task raises.
        """
        self.layout.write(self.model, model)
        with _blamed(self.task, "measuring"):
            return dict(evaluate(self.task, self.model, self.split.held_out))


@contextmanager
def _blamed(task: Task, doing: str) -> Iterator[None]:
    """Turn what a task's code raises into an error of the task, with the place it came from."""
    try:
        yield
    except GossipError:
        raise
    except (Exception, SystemExit) as error:
        message = str(error)[:_MESSAGE_CHARS_MAX]
        said = f"{type(error).__name__}: {message}" if message else type(error).__name__
        raise TaskError(
            f"the task {task.kind} failed while {doing}: {said} ({_line_at_fault(task, error)})",
            fix="Mend the task at that line, or the data it reads; the log has the traceback.",
        ) from error


def _line_at_fault(task: Task, error: BaseException) -> str:
    """Return file and line of the innermost call inside the task's own file, else of the error."""
    frames = traceback.extract_tb(error.__traceback__)
    file = inspect.getfile(type(task))
    own = [frame for frame in frames if frame.filename == file]
    frame = (own or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}"
