"""Learning by gradients: the loop of one local pass, and the plainest optimizer."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn

from gossipfl.errors import TaskError
from gossipfl.learning.samples import Samples
from gossipfl.streams import stream

__all__ = ["GradientDescent", "Learner", "Optimizer", "batches", "descend"]


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


class Learner(Protocol):
    """What the loop needs of a task."""

    @property
    def epochs(self) -> int:
        """Passes over the samples."""

    @property
    def batch_size(self) -> int:
        """Samples per step; 0 = all."""

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of a batch."""

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer of this pass."""


def descend(learner: Learner, model: nn.Module, samples: Samples, *, seed: int) -> float:
    """Train a model in place by gradient steps; return the mean training loss over all samples.

    Args:
        learner: gives loss, optimizer, epochs and batch size.
        model: changed in place.
        samples: on the model's device.
        seed: decides the order of the batches.

    Raises:
        TaskError: the loss is no scalar or has no gradient, or there is no optimizer.
    """
    losses: list[Tensor] = []
    model.train()
    optimizer = learner.optimizer(model)
    if not hasattr(optimizer, "zero_grad") or not hasattr(optimizer, "step"):
        raise TaskError(
            f"`optimizer` returned {type(optimizer).__name__}, not an optimizer",
            fix="Return one: torch.optim.Adam(model.parameters(), lr=self.learning_rate).",
        )
    for epoch in range(learner.epochs):
        for inputs, targets in batches(samples, learner.batch_size, seed, epoch):
            optimizer.zero_grad()
            loss = learner.loss(model, inputs, targets)
            _check(loss)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach() * len(inputs))
    optimizer.zero_grad()  # a model between rounds holds no gradients: memory
    return float(torch.stack(losses).sum()) / (learner.epochs * len(samples))


def batches(samples: Samples, size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches, cut from one shuffled copy: cheaper than a loader.

    Args:
        samples: all of them, each in one batch.
        size: rows per batch, 0 for all in one. A single row that would be left joins the batch
            before it: batch normalization cannot tell the spread of one row, and raises.
        seed: of this member and round.
        epoch: from 0; each has an order of its own.
    """
    count = len(samples)
    if size == 0 or size >= count:
        yield samples.inputs, samples.targets
        return
    permutation = stream(seed, "", "batches", epoch).permutation(count)
    order = torch.from_numpy(permutation).to(samples.inputs.device)
    sizes = [size] * (count // size)
    match count % size:
        case 1:
            sizes[-1] += 1
        case rest if rest:
            sizes.append(rest)
    yield from zip(
        torch.split(samples.inputs[order], sizes),
        torch.split(samples.targets[order], sizes),
        strict=True,
    )


def _check(loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.ndim != 0 or not loss.requires_grad:
        shown = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TaskError(
            f"`loss` returned {shown}, not a scalar with a gradient",
            fix="Return the mean over the batch, computed from `model(inputs)`.",
        )
