"""A task around a scikit-learn model with `partial_fit`.

Nothing here imports scikit-learn: the user's `estimator` does. What an estimator has learned are
the attributes that end in an underscore. Float arrays among them, and lists of such, travel;
counters stay at home, bit by bit. All else an estimator keeps to itself, such as an optimizer's
memory, is made anew each round, as every task's optimizer is.
"""

import inspect
import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from pydantic import field_validator
from torch import Tensor, nn

from gossipfl.errors import TaskError
from gossipfl.learning.array_model import ArrayModel
from gossipfl.learning.descent import batches
from gossipfl.learning.measures import accuracy, auc, mean_absolute_error, r2
from gossipfl.learning.samples import Array, Samples
from gossipfl.learning.task import Task

__all__ = ["SklearnTask"]

PROBABILITY_MIN = 1e-7  # float32 tells no two probabilities nearer to 1 than this apart


class SklearnTask(Task):
    """What a scikit-learn classifier or regressor learns step by step.

    Every member needs arrays of the same shapes, so the number of columns and classes is said,
    not found in one member's data. Linear models and naive Bayes begin at zero, networks at their
    own random start, the same for all. `epochs` and `batch_size` say how often `partial_fit` is
    called in a round and on how many rows.

    Example:
        from sklearn.linear_model import SGDClassifier
        from gossipfl.learning import SklearnTask, hold_out, read_table


        class Patients(SklearnTask):
            features: int = 3
            classes: int = 2

            def estimator(self):
                return SGDClassifier(loss="log_loss", random_state=0)

            def data(self, place):
                return hold_out(read_table(place.data, target="sick"), place)
    """

    features: int
    """Columns of the inputs."""
    classes: int = 0
    """How many classes; the targets are their numbers from 0. For a regressor 0."""
    batch_size: int = 0  # partial_fit goes through rows or batches by itself
    """Rows in one call of `partial_fit`; 0 = all of them."""

    @field_validator("features", check_fields=False)
    @classmethod
    def _one_at_least(cls, value: int) -> int:
        if value < 1:
            raise ValueError("must be at least 1")
        return value

    @field_validator("classes", check_fields=False)
    @classmethod
    def _none_or_two(cls, value: int) -> int:
        if value < 0 or value == 1:
            raise ValueError("must be at least 2, or 0 for a regressor")
        return value

    @abstractmethod
    def estimator(self) -> Any:  # noqa: ANN401 - scikit-learn has no type for "has partial_fit"
        """Return a new estimator that has `partial_fit`."""

    def model(self) -> ArrayModel:
        """Return what the estimator begins with, as a model."""
        learned = _learned(self._allocated())
        # What plain arrays hold after rows of zeros is those rows; lists are a network's start
        begin = {
            name: np.zeros_like(values) if values.dtype.kind == "f" and "." not in name else values
            for name, values in learned.items()
        }
        return ArrayModel(begin)

    def fitted(self, model: nn.Module) -> Any:  # noqa: ANN401
        """Return the estimator with what a model has learned, for instance to `predict`."""
        assert isinstance(model, ArrayModel)
        estimator = self._allocated()
        _place(estimator, model.arrays())
        return estimator

    def fit(self, model: nn.Module, samples: Samples, *, seed: int) -> float:
        """Call `partial_fit` on every batch of every epoch; return the loss after it."""
        assert isinstance(model, ArrayModel)
        estimator = self.fitted(model)
        for epoch in range(self.epochs):
            for inputs, targets in batches(samples, self.batch_size, seed, epoch):
                self._partial_fit(estimator, *self._checked(inputs, targets))
        model.put(_learned(estimator, model.arrays()))
        return float(self.loss(model, samples.inputs, samples.targets))

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss, without a gradient.

        A regressor's is the squared error. A classifier's is the cross entropy if it tells
        probabilities, else the share of wrong answers.
        """
        estimator = self.fitted(model)
        rows, true = self._checked(inputs, targets)
        with np.errstate(all="ignore"):  # a class without rows yet: minus infinity is its log
            if not self.classes:
                return torch.tensor(float(np.mean((estimator.predict(rows) - true) ** 2)))
            if not hasattr(estimator, "predict_proba"):
                return torch.tensor(float(np.mean(estimator.predict(rows) != true)))
            chances = estimator.predict_proba(rows)[np.arange(len(true)), true]
            return torch.tensor(float(-np.log(np.maximum(chances, PROBABILITY_MIN)).mean()))

    def measures(
        self, model: nn.Module, inputs: Tensor, targets: Tensor
    ) -> dict[str, float | None]:
        """Return accuracy, with two classes also AUC; of a regressor r2 and the mean error."""
        estimator = self.fitted(model)
        rows, values = self._checked(inputs, targets)
        true = torch.from_numpy(values)
        with np.errstate(all="ignore"):
            predicted = torch.from_numpy(np.asarray(estimator.predict(rows)))
            if not self.classes:
                error = mean_absolute_error(predicted, true)
                return {"r2": r2(predicted, true), "mean_absolute_error": error}
            found = {"accuracy": accuracy(predicted, true)}
            ranks = _ranks(estimator, rows) if self.classes == 2 else None
            return found if ranks is None else {**found, "auc": auc(torch.from_numpy(ranks), true)}

    def _allocated(self) -> Any:  # noqa: ANN401
        """Return an estimator whose arrays have their shapes, from rows of zeros."""
        estimator = self.estimator()
        if not hasattr(estimator, "partial_fit"):
            raise TaskError(
                f"`estimator` returned {type(estimator).__name__}, which has no partial_fit",
                fix="Use one that learns step by step: SGDClassifier, SGDRegressor, "
                "MLPClassifier, GaussianNB.",
            )
        if getattr(estimator, "average", False):
            raise TaskError(
                f"{type(estimator).__name__} with `average` keeps its model where nobody can mix",
                fix="Leave `average` out: the federation averages.",
            )
        if _takes_classes(estimator) and not self.classes:
            raise TaskError(
                f"{type(estimator).__name__} is a classifier, but `classes` is not set",
                fix="Write `classes: int = 2` in the task, or how many there are.",
            )
        count = max(self.classes, 1)
        targets = np.arange(count) if self.classes else np.zeros(count, np.float32)
        with warnings.catch_warnings():  # of batches larger than these few rows
            warnings.simplefilter("ignore")
            self._partial_fit(estimator, np.zeros((count, self.features), np.float32), targets)
        vars(estimator).pop("_optimizer", None)  # of a network; it remembers the rows of zeros
        return estimator

    def _partial_fit(self, estimator: Any, inputs: Array, targets: Array) -> None:  # noqa: ANN401
        if _takes_classes(estimator):
            estimator.partial_fit(inputs, targets, classes=np.arange(self.classes))
        else:
            estimator.partial_fit(inputs, targets)

    def _checked(self, inputs: Tensor, targets: Tensor) -> tuple[Array, Array]:
        """Return rows and targets as scikit-learn takes them."""
        rows, values = inputs.cpu().numpy(), targets.cpu().numpy()
        if rows.ndim != 2 or rows.shape[1] != self.features:
            raise TaskError(
                f"the inputs have shape {rows.shape}, but `features` is {self.features}",
                fix="Set `features` to the number of columns, and give one row per sample.",
            )
        if values.shape[1:] == (1,):
            values = values[:, 0]
        if not self.classes:
            return rows, values
        codes = values.astype(np.int64)
        if (codes != values).any() or codes.min() < 0 or codes.max() >= self.classes:
            raise TaskError(
                f"the targets are not all among the classes 0 to {self.classes - 1}",
                fix="Number the classes from 0 in `data`, and set `classes` to how many there are.",
            )
        return rows, codes


def _takes_classes(estimator: Any) -> bool:  # noqa: ANN401
    return "classes" in inspect.signature(estimator.partial_fit).parameters


def _ranks(estimator: Any, rows: Array) -> Array | None:  # noqa: ANN401
    if hasattr(estimator, "decision_function"):
        return np.asarray(estimator.decision_function(rows))
    if hasattr(estimator, "predict_proba"):
        return np.ascontiguousarray(estimator.predict_proba(rows)[:, 1])
    return None


def _learned(estimator: Any, before: dict[str, Array] | None = None) -> dict[str, Array]:  # noqa: ANN401
    """Return what an estimator has learned, by name.

    Args:
        estimator: after a first `partial_fit`.
        before: the names that are wanted; what has become something else keeps its value of then.
    """
    found: dict[str, Array] = {}
    for name, value in sorted(vars(estimator).items()):
        if name.startswith("_") or not name.endswith("_"):
            continue
        if _is_float(value):
            found[name] = value
        elif isinstance(value, list) and value and all(map(_is_float, value)):
            found |= {f"{name}.{number}": item for number, item in enumerate(value)}
        elif isinstance(value, int | float | np.number) and not isinstance(value, bool):
            found[name] = _bits(value)
    return found if before is None else {name: found.get(name, before[name]) for name in before}


def _place(estimator: Any, arrays: dict[str, Array]) -> None:  # noqa: ANN401
    """Give an estimator what it has learned; arrays in place, since some have a second name."""
    for name, values in arrays.items():
        attribute, _, number = name.partition(".")
        present = getattr(estimator, attribute)
        if number:
            present[int(number)][...] = values
        elif isinstance(present, np.ndarray):
            present[...] = values
        elif isinstance(present, float | np.floating):
            setattr(estimator, name, float(values.view(np.float64)))
        else:
            setattr(estimator, name, int(values))


def _is_float(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _bits(value: float | np.number[Any]) -> Array:
    """Return a counter as 64 bits that no rounding touches: integers stay local whatever they mean.

    scikit-learn counts some in floats, as SGD's `t_`.
    """
    if isinstance(value, float | np.floating):
        return np.asarray(value, np.float64).reshape(()).view(np.int64)
    return np.asarray(value, np.int64)
