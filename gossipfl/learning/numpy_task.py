"""A task in plain numpy: a few arrays and a function that improves them."""

from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from gossipfl.errors import TaskError
from gossipfl.learning.array_model import ArrayModel
from gossipfl.learning.descent import batches
from gossipfl.learning.measures import accuracy, mean_absolute_error, r2
from gossipfl.learning.samples import Array, Samples
from gossipfl.learning.task import Task

__all__ = ["NumpyTask"]


class NumpyTask(Task):
    """What is learned by functions of numpy arrays; torch does not show in it.

    Float arrays travel as float32 and are shared by the names that `parameters` gives them;
    integers stay at home. `epochs`, `batch_size`, `learning_rate` and `share` are fields as in
    every task.

    Example:
        import numpy as np
        from gossipfl.learning import NumpyTask, hold_out, read_table


        class Prices(NumpyTask):
            def data(self, place):
                return hold_out(read_table(place.data, target="price"), place)

            def parameters(self):
                return {"w": np.zeros(3), "b": np.zeros(1)}

            def step(self, parameters, inputs, targets):
                off = self.predict(parameters, inputs) - targets
                parameters["w"] -= self.learning_rate * inputs.T @ off / len(off)
                parameters["b"] -= self.learning_rate * off.mean()
                return np.mean(off**2)

            def predict(self, parameters, inputs):
                return inputs @ parameters["w"] + parameters["b"]
    """

    @abstractmethod
    def parameters(self) -> dict[str, Array]:
        """Return new parameters by name; they may be drawn from numpy's global generator."""

    @abstractmethod
    def step(self, parameters: dict[str, Array], inputs: Array, targets: Array) -> float:
        """Improve the parameters on one batch, in place or by new arrays in the dictionary.

        Args:
            parameters: by name; floats are float32.
            inputs: shape (rows, …), as `data` gave them.
            targets: shape (rows, …).

        Returns:
            The mean loss of the batch before the change.
        """

    @abstractmethod
    def predict(self, parameters: dict[str, Array], inputs: Array) -> Array:
        """Return what the parameters say of inputs: classes or figures, shape as the targets."""

    def scores(self, predicted: Array, targets: Array) -> dict[str, float | None]:
        """Return figures of what `predict` said of held-out rows.

        By default accuracy where targets are integers or true and false, else r2 and the mean
        absolute error.
        """
        said, true = torch.as_tensor(predicted), torch.as_tensor(targets)
        if true.is_floating_point():
            return {"r2": r2(said, true), "mean_absolute_error": mean_absolute_error(said, true)}
        return {"accuracy": accuracy(said, true)}

    def model(self) -> ArrayModel:
        """Return the parameters as a model."""
        return ArrayModel(self.parameters())

    def fit(self, model: nn.Module, samples: Samples, *, seed: int) -> float:
        """Take a step on every batch of every epoch; return the mean loss."""
        arrays = _held(model).arrays()
        total = 0.0
        for epoch in range(self.epochs):
            for inputs, targets in batches(samples, self.batch_size, seed, epoch):
                total += self._step(arrays, inputs, targets) * len(inputs)
        _held(model).put(arrays)
        return total / (self.epochs * len(samples))

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return what a step on these samples says before it changes anything; no gradient."""
        return torch.tensor(self._step(_held(model).arrays(), inputs, targets))

    def measures(
        self, model: nn.Module, inputs: Tensor, targets: Tensor
    ) -> dict[str, float | None]:
        """Return the scores of what the model predicts."""
        predicted = np.asarray(self.predict(_held(model).arrays(), inputs.cpu().numpy()))
        if predicted.shape != tuple(targets.shape):
            raise TaskError(
                f"`predict` returned shape {predicted.shape} for targets of {tuple(targets.shape)}",
                fix="Return one prediction per row.",
            )
        return self.scores(predicted, targets.cpu().numpy())

    def _step(self, arrays: dict[str, Array], inputs: Tensor, targets: Tensor) -> float:
        loss = np.asarray(self.step(arrays, inputs.cpu().numpy(), targets.cpu().numpy()))
        if loss.shape != () or loss.dtype.kind not in "fiu":
            raise TaskError(
                f"`step` returned {loss.dtype} of shape {loss.shape}, not a number",
                fix="Return the mean loss of the batch, for instance np.mean(errors**2).",
            )
        return float(loss)


def _held(model: nn.Module) -> ArrayModel:
    assert isinstance(model, ArrayModel)
    return model
