"""A model as one flat float32 vector that travels and raw bytes that stay, and back.

A layout says which tensors of a model travel, in which order. Two members exchange models only
where their layouts have the same digest. A local layout says the same of all other tensors: what
no pattern of `share` names, and every counter. No layout holds a tensor or a model.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Final, NamedTuple, Self, TypeAlias

import blake3
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from gossipfl.errors import TaskError
from gossipfl.types import Digest, Vector

__all__ = [
    "EVERYTHING",
    "Layout",
    "LocalLayout",
    "LocalPart",
    "Part",
    "Raw",
    "SavedPart",
    "saved_parts",
]

Raw: TypeAlias = npt.NDArray[np.uint8]
"""The bytes of a model's local tensors, one after the other: shape (nbytes,)."""


EVERYTHING: Final = ("*",)  # the default of `share`: what a model learns is what members mix

_NAMES_SHOWN: Final = 5  # in a sentence; enough to see how a model's names look

SAVED_AS: Final = {  # torch's name of a type: safetensors' name of it
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "bool": "BOOL"},
    **{"uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8"},
    **{"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64"},
}


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
        has two names, because two layers share it, counts once, under the first.

        Args:
            model: the model, as `Task.model` built it.
            share: shell-style patterns of names: `("*",)` is all, `("body.*",)` one part.

        Raises:
            TaskError: a shared tensor is not float32 or has no shape yet, nothing is shared, a
                pattern matches nothing, or `share` names one of a tensor's two names only.
        """
        parts: list[Part] = []
        start = 0
        aliases = _aliases(model)
        for name, tensor in _named(model):
            if not _is_shared(aliases[id(tensor)], share):
                continue
            _check_shape(name, tensor)
            _check_type(name, tensor)
            parts.append(Part(name, tuple(tensor.shape), start, start + tensor.numel()))
            start += tensor.numel()
        if start == 0:
            raise TaskError(
                f"the model shares no parameters: no name matches {', '.join(share) or 'nothing'}",
                fix="Let `model()` return a module with parameters, or widen `share`.",
            )
        _check_patterns(share, [name for part in _named(model) for name in aliases[id(part[1])]])
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
            yield _unchanged(tensors.get(part.name), part.name, "float32", part.shape), part


@dataclass(frozen=True, slots=True)
class LocalPart:
    """One tensor that stays: its name, its type and shape, and which bytes are its."""

    name: str
    dtype: str
    """Torch's name of it: `int64`."""
    shape: tuple[int, ...]
    start: int
    stop: int


@dataclass(frozen=True)
class LocalLayout:
    """The tensors of a model that never leave this machine, in the order of its state_dict.

    Buffers that a checkpoint leaves out (`persistent=False`) are in neither layout: a model must
    be able to make them anew.
    """

    parts: tuple[LocalPart, ...]

    @classmethod
    def of(cls, model: nn.Module, shared: Layout) -> Self:
        """Describe what a model keeps for itself: all that `shared` does not name.

        Raises:
            TaskError: a tensor has no shape yet or a type that no file can hold, or the state_dict
                holds what is neither a parameter nor a buffer.
        """
        parts: list[LocalPart] = []
        start = 0
        travels = set(shared.names)
        for name, tensor in _kept(model):
            if name in travels:
                continue
            _check_shape(name, tensor)
            dtype = str(tensor.dtype).removeprefix("torch.")
            if dtype not in SAVED_AS:
                raise TaskError(
                    f"the model's {name} is {dtype}, which cannot be saved",
                    fix="Use a common type: " + ", ".join(SAVED_AS) + ".",
                )
            stop = start + tensor.numel() * tensor.element_size()
            parts.append(LocalPart(name, dtype, tuple(tensor.shape), start, stop))
            start = stop
        return cls(tuple(parts))

    @property
    def nbytes(self) -> int:
        """Bytes of all parts together; 0 if everything travels."""
        return self.parts[-1].stop if self.parts else 0

    @cached_property
    def digest(self) -> Digest:
        """BLAKE3 of names, shapes and types as canonical JSON."""
        rows = [[part.name, list(part.shape), part.dtype] for part in self.parts]
        return blake3.blake3(json.dumps(rows, separators=(",", ":")).encode()).digest()

    def write(self, model: nn.Module, raw: Raw) -> None:
        """Copy raw bytes into a model; the model keeps no reference to them.

        Args:
            model: a model with this layout.
            raw: shape (nbytes,), uint8; may be read-only.

        Raises:
            TaskError: the model no longer has this layout.
        """
        for tensor, part in self._pairs(model, raw):
            values = torch.from_numpy(raw[part.start : part.stop].copy())
            tensor.copy_(values.view(tensor.dtype).reshape(part.shape))

    def read(self, model: nn.Module, out: Raw) -> None:
        """Copy a model's local tensors into raw bytes that the caller owns.

        Args:
            model: a model with this layout.
            out: shape (nbytes,), uint8, writable.

        Raises:
            TaskError: the model no longer has this layout.
        """
        for tensor, part in self._pairs(model, out):
            flat = tensor.cpu().contiguous().reshape(-1)
            out[part.start : part.stop] = flat.view(torch.uint8).numpy()  # numpy has no bfloat16

    def _pairs(self, model: nn.Module, raw: Raw) -> Iterator[tuple[torch.Tensor, LocalPart]]:
        if raw.shape != (self.nbytes,) or raw.dtype != np.uint8:
            raise TypeError(
                f"expected {self.nbytes} bytes of local state, got {raw.dtype} of {raw.shape}"
            )
        tensors = dict(_kept(model)) if self.parts else {}
        for part in self.parts:
            tensor = _unchanged(tensors.get(part.name), part.name, part.dtype, part.shape)
            if tensor.numel():  # torch views no empty tensor as bytes
                yield tensor, part


class SavedPart(NamedTuple):
    """One entry of a model's state_dict, as a file of the whole model holds it."""

    name: str
    dtype: str
    """Safetensors' name of it: `F32`."""
    shape: tuple[int, ...]
    local: bool
    """Whether its bytes are among the local ones or in the vector."""
    start: int
    stop: int
    """In bytes, from the start of the vector or of the local bytes."""


def saved_parts(model: nn.Module, shared: Layout, local: LocalLayout) -> list[SavedPart]:
    """Return where every entry of the state_dict lies: what two names share, under both."""
    places: dict[str, SavedPart] = {}
    for part in shared.parts:
        places[part.name] = SavedPart(
            part.name, "F32", part.shape, False, 4 * part.start, 4 * part.stop
        )
    for own in local.parts:
        dtype = SAVED_AS[own.dtype]
        places[own.name] = SavedPart(own.name, dtype, own.shape, True, own.start, own.stop)
    aliases = _aliases(model)
    found = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        place = next(places[alias] for alias in aliases[id(tensor)] if alias in places)
        found.append(place._replace(name=name))
    return found


def _named(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield parameters, then the float buffers that a checkpoint would hold."""
    yield from model.named_parameters()
    buffers = [item for item in model.named_buffers() if item[1].is_floating_point()]
    if buffers:
        saved = model.state_dict(keep_vars=True)
        yield from (item for item in buffers if item[0] in saved)


def _aliases(model: nn.Module) -> dict[int, list[str]]:
    """Return all names of each tensor, by its identity: tied layers have one tensor."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    for name, buffer in model.named_buffers(remove_duplicate=False):
        names.setdefault(id(buffer), []).append(name)
    return names


def _kept(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield what a checkpoint holds, then parameters it leaves out; each tensor once."""
    names = _aliases(model)
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in names:
            raise TaskError(
                f"the model's state_dict holds {name}, which is neither a parameter nor a buffer",
                fix="Keep it in a tensor: `self.register_buffer(name, tensor)`.",
            )
        if id(tensor) not in seen:
            seen.add(id(tensor))
            yield names[id(tensor)][0], tensor
    for name, parameter in model.named_parameters():
        if id(parameter) not in seen:
            yield name, parameter


def _is_shared(names: Sequence[str], share: Sequence[str]) -> bool:
    matched = [any(fnmatchcase(name, pattern) for pattern in share) for name in names]
    if any(matched) and not all(matched):
        raise TaskError(
            f"{' and '.join(names)} are one tensor, but `share` names only "
            f"{names[matched.index(True)]}",
            fix="Let the patterns of `share` match all of its names, or none.",
        )
    return any(matched)


def _check_patterns(share: Sequence[str], names: Sequence[str]) -> None:
    for pattern in share:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, n=1)
            raise TaskError(
                f"share: no parameter or float buffer of the model matches {pattern!r}",
                fix=(f"Did you mean {near[0]!r}? " if near else "")
                + f"The names begin with {', '.join(names[:_NAMES_SHOWN])}.",
            )


def _check_shape(name: str, tensor: torch.Tensor) -> None:
    if nn.parameter.is_lazy(tensor):
        raise TaskError(
            f"the model's {name} has no shape yet",
            fix="Give the layer its input size, or run one batch through it in `model()`.",
        )


def _check_type(name: str, tensor: torch.Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise TaskError(
            f"the model's {name} is {str(tensor.dtype).removeprefix('torch.')}; "
            "members exchange float32",
            fix="Call `.float()` on the model in `model()`, or keep the tensor local by `share`.",
        )
    assert tensor.numel() == math.prod(tensor.shape)


def _unchanged(
    tensor: torch.Tensor | None, name: str, dtype: str, shape: tuple[int, ...]
) -> torch.Tensor:
    """Return a tensor without its gradient, if it is still what the layout says."""
    if tensor is None:
        found = "gone"
    else:
        found = f"{str(tensor.dtype).removeprefix('torch.')} of {tuple(tensor.shape)}"
    if tensor is None or found != f"{dtype} of {shape}":
        raise TaskError(
            f"the model's {name} has changed: it was {dtype} of {shape}, now {found}",
            fix="Build the same tensors each time and keep them while training.",
        )
    return tensor.detach()
