"""What a user writes: a model, this member's data, a loss and measures. Nothing of the network."""

import math
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, field_validator
from torch import Tensor, nn

import gossipfl.tasks
from gossipfl import family
from gossipfl.errors import TaskError
from gossipfl.learning.descent import GradientDescent, Optimizer, descend
from gossipfl.learning.isolation import isolated
from gossipfl.learning.samples import Place, Samples, Split
from gossipfl.learning.task_source import is_file
from gossipfl.params import EVERYTHING
from gossipfl.streams import seed_of

__all__ = [
    "GradientDescent",
    "Optimizer",
    "Place",
    "Samples",
    "Split",
    "Task",
    "initial",
    "load_task",
]


class Task(family.Member):
    """What is learned, and from what.

    The defaults suit a small model on scaled columns, so that a first task names none of them.
    """

    model_config = ConfigDict(validate_default=True)  # what a user's class sets is checked too

    owners: ClassVar[tuple[str, ...]] = ()
    """The members whose data comes with the task; empty for most."""

    epochs: int = 1  # the shortest time apart: what members learn alone pulls them apart
    """Passes over the member's own data in one round; at least 1."""
    batch_size: int = 32  # many steps a pass, and a gradient that is still no single row's
    """Samples per step; 0 = all of them."""
    learning_rate: float = 0.1  # plain descent on inputs of about [-1, 1]; Adam wants 0.001
    """Step size; positive and finite."""
    share: tuple[str, ...] = EVERYTHING
    """Shell patterns of the names of tensors that members exchange; all others stay at home."""

    # Validators, not Field bounds: a task that gives a field its default would drop the bounds.
    @field_validator("epochs", "learning_rate", check_fields=False)
    @classmethod
    def _positive(cls, value: float) -> float:
        if not 0 < value < math.inf:
            raise ValueError("must be positive and finite")
        return value

    @field_validator("batch_size", check_fields=False)
    @classmethod
    def _not_negative(cls, value: int) -> int:
        if value < 0:
            raise ValueError("must not be negative; 0 means all samples in one step")
        return value

    @field_validator("share", mode="before", check_fields=False)
    @classmethod
    def _patterns(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(f'must be a list of patterns, as ["{value}"]')
        return tuple(value) if isinstance(value, list) else value  # TOML has lists

    @abstractmethod
    def model(self) -> nn.Module:
        """Return a new model; it may draw its start from torch's global generator."""

    @abstractmethod
    def data(self, place: Place) -> Split:
        """Return this member's samples; the same place always gives the same."""

    @abstractmethod
    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch, a scalar with a gradient."""

    @abstractmethod
    def measures(
        self, model: nn.Module, inputs: Tensor, targets: Tensor
    ) -> dict[str, float | None]:
        """Return named figures for held-out samples; None for what cannot be computed."""

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer, made anew for each pass so that a restart resumes exactly."""
        return GradientDescent(model, self.learning_rate)

    def fit(self, model: nn.Module, samples: Samples, *, seed: int) -> float:
        """Train a model in place for one round; return the mean training loss.

        The default takes gradient steps. A task that learns otherwise does so here; all that it
        keeps for the next round must be in the model's tensors.

        Args:
            model: as `model()` built it, with the values this round starts from.
            samples: this member's training samples, on the model's device.
            seed: of this member and round; the global generators are set from it too.
        """
        return descend(self, model, samples, seed=seed)


def load_task(choice: object, folder: Path | None = None) -> Task:
    """Build the task that a configuration names: a tag, a file, or a table with `kind`.

    Args:
        choice: `heart-disease`, `task.py`, `task.py:Patients`, or a table with that as `kind`.
        folder: where a task's file is; by default, relative to the working directory.

    Raises:
        ConfigError: no such task, or wrong fields.
        TaskError: the task's file cannot be run.
    """
    kind = choice.get("kind") if isinstance(choice, dict) else choice
    if is_file(kind):
        from gossipfl.learning import task_file  # here: it imports Task from this module

        return task_file.load(choice, folder)
    return family.parse(gossipfl.tasks, Task, choice, key="task")  # type: ignore[type-abstract]


def initial(task: Task, seed: int) -> nn.Module:
    """Return the model that all members start from: the same for the same seed, on every host.

    Raises:
        TaskError: `model()` returned something else.
    """
    with isolated(seed_of(seed, "", "init")):
        model = task.model()
    if not isinstance(model, nn.Module):
        raise TaskError(
            f"`model()` returned {type(model).__name__}",
            fix="Return a torch.nn.Module, for instance torch.nn.Linear(10, 1).",
        )
    return model
