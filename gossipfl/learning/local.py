"""One local pass over a member's own data, and the measures of a model on held-out data."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from gossipfl.errors import TaskError
from gossipfl.learning.isolation import isolated
from gossipfl.learning.task import Samples, Task
from gossipfl.streams import stream

__all__ = ["evaluate", "local_pass"]

EVALUATION_SEED = 0  # measures draw nothing that matters; fixed, so that two calls agree


def local_pass(task: Task, model: nn.Module, samples: Samples, *, seed: int) -> float:
    """Train a model in place for `task.epochs` passes; return the mean training loss.

    Args:
        task: gives loss, optimizer and the training settings.
        model: changed in place.
        samples: the member's training samples.
        seed: of this member and round; decides the order of batches and the task's own draws.

    Raises:
        TaskError: the loss is no scalar, has no gradient, or is not finite.
    """
    losses: list[Tensor] = []
    with isolated(seed):
        model.train()
        optimizer = task.optimizer(model)
        for epoch in range(task.epochs):
            for inputs, targets in _batches(samples, task.batch_size, seed, epoch):
                optimizer.zero_grad()
                loss = task.loss(model, inputs, targets)
                _check(loss)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                losses.append(loss.detach() * len(inputs))
        optimizer.zero_grad()  # a model between rounds holds no gradients: memory
    mean = float(torch.stack(losses).sum()) / (task.epochs * len(samples))
    if not math.isfinite(mean):
        raise TaskError(
            f"the training loss is {mean}",
            fix="Lower learning_rate, or check the loss for a logarithm or division of zero.",
        )
    return mean


def evaluate(task: Task, model: nn.Module, samples: Samples) -> dict[str, float | None]:
    """Return the task's measures and `loss` on samples; None for what is not a finite number."""
    with isolated(EVALUATION_SEED), torch.no_grad():
        training = model.training
        model.eval()
        try:
            loss = float(task.loss(model, samples.inputs, samples.targets))
            found = task.measures(model, samples.inputs, samples.targets)
        finally:
            model.train(training)
    figures: dict[str, float | None] = {"loss": loss, **found}
    return {
        name: float(value) if value is not None and math.isfinite(value) else None
        for name, value in figures.items()
    }


def _batches(samples: Samples, size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled batches, cut from one shuffled copy: cheaper than a loader."""
    if size == 0 or size >= len(samples):
        yield samples.inputs, samples.targets
        return
    order = torch.from_numpy(stream(seed, "", "batches", epoch).permutation(len(samples)))
    yield from zip(
        torch.split(samples.inputs[order], size),
        torch.split(samples.targets[order], size),
        strict=True,
    )


def _check(loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.ndim != 0 or not loss.requires_grad:
        shown = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TaskError(
            f"`loss` returned {shown}, not a scalar with a gradient",
            fix="Return the mean over the batch, computed from `model(inputs)`.",
        )
