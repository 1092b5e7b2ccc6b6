"""What a user writes: a model, this member's data, a loss and measures. Nothing of the network."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from pydantic import field_validator
from torch import Tensor, nn

import gossipfl.tasks
from gossipfl import family
from gossipfl.errors import TaskError
from gossipfl.learning.isolation import isolated
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task runs.

    Args:
        data: the member's own data, as the operator configured it; None if not configured.
        member: the member's name.
        index: its place in the member list, from 0.
        members: how many members there are.
        seed: the federation's seed.
    """

    data: Path | None
    member: str
    index: int
    members: int
    seed: int


@dataclass(frozen=True, slots=True)
class Samples:
    """Examples with their targets; row i of one belongs to row i of the other.

    Args:
        inputs: shape (n, …).
        targets: shape (n,) or (n, …).

    Raises:
        TaskError: not tensors, no rows, unequal lengths, or NaN or infinity among the values.
    """

    inputs: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        for name, tensor in (("inputs", self.inputs), ("targets", self.targets)):
            if not isinstance(tensor, Tensor):
                raise TaskError(
                    f"{name} are {type(tensor).__name__}, not a tensor",
                    fix="Return torch tensors from `data`: torch.from_numpy, torch.tensor.",
                )
            if tensor.ndim == 0 or len(tensor) == 0:
                raise TaskError(f"{name} are empty", fix="Check the data file and the split.")
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise TaskError(
                    f"{name} hold NaN or infinity",
                    fix="Fill or drop missing values in `data` before they become a tensor.",
                )
        if len(self.inputs) != len(self.targets):
            raise TaskError(
                f"{len(self.inputs)} inputs but {len(self.targets)} targets",
                fix="Return one target per input.",
            )

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, slots=True)
class Split:
    """One member's samples: what it trains on, and what it holds out to measure itself."""

    train: Samples
    held_out: Samples


class Optimizer(Protocol):
    """What a local pass asks of an optimizer; every `torch.optim` class has it."""

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""

    def step(self) -> object:
        """Change the parameters by their gradients."""


class GradientDescent:
    """Plain stochastic gradient descent: w ← w - rate · ∂loss/∂w.

    Making any `torch.optim` optimizer imports torch._dynamo: one second and 70 MB for a step that
    is one line. A task that needs momentum or Adam returns torch's and pays that once.
    """

    def __init__(self, model: nn.Module, rate: float) -> None:
        self._parameters = [item for item in model.parameters() if item.requires_grad]
        self._rate = rate

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters by their gradients."""
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-self._rate)


class Task(family.Member):
    """What is learned, and from what; a concrete task sets defaults for the three fields."""

    epochs: int
    """Passes over the member's own data in one round; at least 1."""
    batch_size: int
    """Samples per step; 0 = all of them."""
    learning_rate: float
    """Step size; positive and finite."""

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


def load_task(choice: object) -> Task:
    """Build the task that a configuration names: a tag, or a table with `kind`.

    Raises:
        ConfigError: no such task, or wrong fields.
    """
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
