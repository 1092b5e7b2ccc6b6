"""One local pass over a member's own data, and the measures of a model on held-out data."""

import math

import torch
from torch import nn

from gossipfl.errors import TaskError
from gossipfl.learning.isolation import isolated
from gossipfl.learning.samples import Samples
from gossipfl.learning.task import Task

__all__ = ["evaluate", "local_pass"]

EVALUATION_SEED = 0  # measures draw nothing that matters; fixed, so that two calls agree


def local_pass(task: Task, model: nn.Module, samples: Samples, *, seed: int) -> float:
    """Train a model in place for one round, as the task's `fit` does; return the training loss.

    Args:
        task: what is learned, and how.
        model: changed in place.
        samples: the member's training samples, on the model's device.
        seed: of this member and round; decides the order of batches and the task's own draws.

    Raises:
        TaskError: the loss is no scalar, has no gradient, or is not finite.
    """
    with isolated(seed):
        loss = task.fit(model, samples, seed=seed)
    if not isinstance(loss, float | int):
        raise TaskError(
            f"`fit` returned {type(loss).__name__}, not a number",
            fix="Return the mean training loss as a float.",
        )
    if not math.isfinite(loss):
        raise TaskError(
            f"the training loss is {float(loss)}",
            fix="Lower learning_rate, or check the loss for a logarithm or division of zero.",
        )
    return float(loss)


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
