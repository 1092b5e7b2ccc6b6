"""Numpy arrays as the tensors of a model: what learns without torch mixes like everything else."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from gossipfl.errors import TaskError
from gossipfl.learning.samples import Array

__all__ = ["ArrayModel"]


class ArrayModel(nn.Module):
    """Holds named arrays: floats as float32 parameters, integers and booleans as local buffers.

    Args:
        arrays: by name; a dot in a name makes a part of it, as in a state_dict.

    Raises:
        TaskError: a name or a value that a model cannot hold.
    """

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        super().__init__()
        self.names = tuple(arrays)
        for name, values in arrays.items():
            try:
                self._hold(name, np.asarray(values))
            except (KeyError, TypeError) as error:
                raise TaskError(
                    f"an array cannot be held as {name!r}: {error.args[0]}",
                    fix="Give it another name, of letters, digits and _.",
                ) from error

    def arrays(self) -> dict[str, Array]:
        """Return copies of all arrays by name; floats are float32."""
        return {name: self._tensor(name).detach().cpu().numpy().copy() for name in self.names}

    def put(self, arrays: Mapping[str, Array]) -> None:
        """Take new values of all arrays.

        Raises:
            TaskError: one is missing, new, of another shape, no number, or not finite.
        """
        if set(arrays) != set(self.names):
            odd = ", ".join(sorted(set(arrays) ^ set(self.names)))
            raise TaskError(
                f"training added or removed arrays: {odd}",
                fix="Keep the names that the model began with.",
            )
        for name in self.names:
            tensor, values = self._tensor(name).detach(), np.asarray(arrays[name])
            if values.shape != tuple(tensor.shape) or values.dtype.kind not in "fiub":
                raise TaskError(
                    f"the array {name} has changed: it was {tuple(tensor.shape)}, now "
                    f"{values.shape} of {values.dtype}",
                    fix="Keep each array's shape while training.",
                )
            if not np.isfinite(values).all():
                raise TaskError(
                    f"training has diverged: {name} is not finite",
                    fix="Lower the learning rate, scale the columns, and look for a division by "
                    "zero, for instance by the count of a class that this member has no row of.",
                )
            tensor.copy_(torch.from_numpy(values.astype(_kept_as(tensor), copy=False)))

    def _hold(self, name: str, values: Array) -> None:
        *path, last = name.split(".")
        owner: nn.Module = self
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        match values.dtype.kind:
            case "f":
                tensor = torch.from_numpy(np.array(values, np.float32))
                owner.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
            case "i" | "u":
                owner.register_buffer(last, torch.from_numpy(np.array(values, np.int64)))
            case "b":
                owner.register_buffer(last, torch.from_numpy(np.array(values, np.bool_)))
            case _:
                raise TypeError(f"{values.dtype} is no number")

    def _tensor(self, name: str) -> torch.Tensor:
        *path, last = name.split(".")
        tensor: torch.Tensor = getattr(self.get_submodule(".".join(path)), last)
        return tensor


def _kept_as(tensor: torch.Tensor) -> type[np.generic]:
    if tensor.is_floating_point():
        return np.float32
    return np.bool_ if tensor.dtype == torch.bool else np.int64
