"""A model's shared parameters as one flat float32 vector, and back.

A layout says which tensors of a model travel, in which order. Two members exchange models only
where their layouts have the same digest. A layout holds no tensor and no model.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Self

import blake3
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gossipfl.errors import TaskError
from gossipfl.types import Digest, Vector

__all__ = ["Layout", "Part"]

EVERYTHING = ("*",)  # the default of `share`: what a model learns is what members mix


@dataclass(frozen=True, slots=True)
class Part:
    """One shared tensor: its name in the model, its shape, and where it lies in the vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """The shared tensors of a model, in the order in which the model names them."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, model: nn.Module, share: Sequence[str] = EVERYTHING) -> Self:
        """Describe what a model shares.

        Parameters and persistent float buffers whose name matches one of the patterns are shared.
        Integer buffers (counters such as `num_batches_tracked`) always stay local. A tensor that
        two layers share counts once.

        Args:
            model: the model, as `Task.model` built it.
            share: shell-style patterns of names: `("*",)` is all, `("body.*",)` one part.

        Raises:
            TaskError: a shared tensor is not float32 or has no shape yet, or nothing is shared.
        """
        parts: list[Part] = []
        start = 0
        for name, tensor in _named(model):
            if not any(fnmatchcase(name, pattern) for pattern in share):
                continue
            _check(name, tensor)
            parts.append(Part(name, tuple(tensor.shape), start, start + tensor.numel()))
            start += tensor.numel()
        if start == 0:
            raise TaskError(
                f"the model shares no parameters: no name matches {', '.join(share) or 'nothing'}",
                fix="Let `model()` return a module with parameters, or widen `share`.",
            )
        return cls(tuple(parts))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the shared tensors, in order."""
        return tuple(part.name for part in self.parts)

    @property
    def size(self) -> int:
        """Length of the vector, in float32 values."""
        return self.parts[-1].stop

    @cached_property
    def digest(self) -> Digest:
        """BLAKE3 of names, shapes and dtype as canonical JSON."""
        rows = [[part.name, list(part.shape), "float32"] for part in self.parts]
        return blake3.blake3(json.dumps(rows, separators=(",", ":")).encode()).digest()

    def write(self, model: nn.Module, vector: Vector) -> None:
        """Copy a vector into a model; the model keeps no reference to it.

        Args:
            model: a model with this layout.
            vector: shape (size,), float32; may be read-only.

        Raises:
            TaskError: the model no longer has this layout.
        """
        self._check_vector(vector)
        for tensor, part in self._pairs(model):
            values = vector[part.start : part.stop].reshape(part.shape)
            if tensor.device.type == "cpu":
                np.copyto(tensor.numpy(), values)
            else:
                tensor.copy_(torch.from_numpy(values.copy()))

    def read(self, model: nn.Module, out: Vector) -> None:
        """Copy a model's shared tensors into a vector that the caller owns.

        Args:
            model: a model with this layout.
            out: shape (size,), float32, writable; for instance a view of shared memory.

        Raises:
            TaskError: the model no longer has this layout.
        """
        self._check_vector(out)
        for tensor, part in self._pairs(model):
            np.copyto(out[part.start : part.stop].reshape(part.shape), tensor.cpu().numpy())

    def to_tensors(self, vector: Vector) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vector's parts by name and in their shapes: views, no copies."""
        self._check_vector(vector)
        return {
            part.name: vector[part.start : part.stop].reshape(part.shape) for part in self.parts
        }

    def _check_vector(self, vector: Vector) -> None:
        if (
            vector.shape != (self.size,)
            or vector.dtype != np.float32
            or not vector.flags.c_contiguous
        ):
            raise TypeError(
                f"expected a contiguous float32 vector of {self.size}, "
                f"got {vector.dtype} of {vector.shape}"
            )

    def _pairs(self, model: nn.Module) -> Iterator[tuple[torch.Tensor, Part]]:
        tensors = dict(_named(model))
        for part in self.parts:
            tensor = tensors.get(part.name)
            if tensor is None or tuple(tensor.shape) != part.shape or tensor.dtype != torch.float32:
                found = "gone" if tensor is None else f"{tensor.dtype} of {tuple(tensor.shape)}"
                raise TaskError(
                    f"the model's {part.name} has changed: "
                    f"it was float32 of {part.shape}, now {found}",
                    fix="Build the same tensors each time and keep them while training.",
                )
            yield tensor.detach(), part


def _named(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters, then the float buffers that a checkpoint would hold."""
    yield from model.named_parameters()
    buffers = [item for item in model.named_buffers() if item[1].is_floating_point()]
    if buffers:
        saved = model.state_dict(keep_vars=True)
        yield from (item for item in buffers if item[0] in saved)


def _check(name: str, tensor: torch.Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        raise TaskError(
            f"the model's {name} has no shape yet",
            fix="Give the layer its input size, or run one batch through it in `model()`.",
        )
    if tensor.dtype != torch.float32:
        raise TaskError(
            f"the model's {name} is {str(tensor.dtype).removeprefix('torch.')}; "
            "members exchange float32",
            fix="Call `.float()` on the model in `model()`, or keep the tensor local by `share`.",
        )
    assert tensor.numel() == math.prod(tensor.shape)
