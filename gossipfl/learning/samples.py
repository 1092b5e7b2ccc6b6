"""Where a task runs, and the examples it runs on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gossipfl.errors import TaskError

__all__ = ["Array", "Place", "Samples", "Split"]

Array: TypeAlias = npt.NDArray[Any]


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


@dataclass(frozen=True, slots=True, init=False, eq=False)
class Samples:
    """Examples with their targets; row i of one belongs to row i of the other.

    Tensors are kept as they are, without a gradient. Numpy arrays become tensors that models take:
    float arrays of any width float32, as models are, and integers int64, as class codes are.

    Args:
        inputs: shape (n, …), a tensor or a numpy array.
        targets: shape (n,) or (n, …), a tensor or a numpy array.

    Raises:
        TaskError: neither dense tensors nor numeric arrays, no rows, unequal lengths, or NaN or
            infinity among the values.
    """

    inputs: Tensor
    targets: Tensor

    def __init__(self, inputs: Tensor | Array, targets: Tensor | Array) -> None:
        object.__setattr__(self, "inputs", _checked("inputs", inputs))
        object.__setattr__(self, "targets", _checked("targets", targets))
        if len(self.inputs) != len(self.targets):
            raise TaskError(
                f"{len(self.inputs)} inputs but {len(self.targets)} targets",
                fix="Return one target per input.",
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: str) -> Self:
        """Return the same samples on a device."""
        return type(self)(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True, slots=True)
class Split:
    """One member's samples: what it trains on, and what it holds out to measure itself.

    Raises:
        TaskError: one of them is something else, such as a loader or a bare tensor.
    """

    train: Samples
    held_out: Samples

    def __post_init__(self) -> None:
        """Refuse what is no Samples before somebody takes it for one."""
        for name in ("train", "held_out"):
            if not isinstance(part := getattr(self, name), Samples):
                raise TaskError(
                    f"`{name}` of the Split is {type(part).__name__}, not Samples",
                    fix="Give it all rows at once: Split(train=Samples(inputs, targets), "
                    "held_out=Samples(…)); steps and batches are cut from them.",
                )

    def to(self, device: str) -> Self:
        """Return the same samples on a device."""
        return type(self)(self.train.to(device), self.held_out.to(device))


def _checked(name: str, values: object) -> Tensor:
    tensor = _tensor(name, values)
    if tensor.ndim == 0 or len(tensor) == 0:
        raise TaskError(f"{name} are empty", fix="Check the data file and the split.")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise TaskError(
            f"{name} hold NaN or infinity",
            fix="Fill or drop missing values in `data` before they become a tensor.",
        )
    return tensor


def _tensor(name: str, values: object) -> Tensor:
    if isinstance(values, Tensor):
        if values.layout is not torch.strided:
            raise TaskError(
                f"{name} are a sparse tensor, which cannot be cut into batches",
                fix="Return .to_dense() of it from `data`.",
            )
        # With a gradient, all batches would share one graph, which the first step uses up
        return values.detach() if values.requires_grad else values
    if not isinstance(values, np.ndarray):
        raise TaskError(
            f"{name} are {type(values).__name__}, neither a tensor nor a numpy array",
            fix="Return torch tensors or numpy arrays from `data`: torch.tensor, np.asarray.",
        )
    match values.dtype.kind:
        case "f":
            with np.errstate(over="ignore"):  # what is too large for float32 is refused as infinite
                return torch.from_numpy(np.array(values, np.float32, order="C"))
        case "i" | "u":
            return torch.from_numpy(np.array(values, np.int64, order="C"))
        case "b":
            return torch.from_numpy(np.array(values, np.bool_, order="C"))
    raise TaskError(
        f"{name} are an array of {values.dtype}, not of numbers",
        fix="Turn texts and dates into numbers first, for instance one column per category.",
    )
