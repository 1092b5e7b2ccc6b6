"""A trained model as safetensors, for whoever uses it: tensors by name, whole or not there."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from safetensors.numpy import save

from gossipfl.errors import StoreError
from gossipfl.types import Vector

__all__ = ["MODEL_NAME", "Parts", "write_model"]

MODEL_NAME = "model.safetensors"

Parts: TypeAlias = Sequence[tuple[str, Sequence[int], int, int]]
"""Name, shape, start and stop of each tensor in the vector."""


def write_model(path: Path, vector: Vector, parts: Parts) -> None:
    """Write a model to a file beside `path` first, then in its place; durable on return.

    Args:
        path: of the file.
        vector: shape (size,).
        parts: where each tensor lies.

    Raises:
        StoreError: the disk refuses.
    """
    tensors = {name: vector[start:stop].reshape(shape) for name, shape, start, stop in parts}
    beside = path.with_name(path.name + ".tmp")
    try:
        with beside.open("wb") as file:
            file.write(save(tensors))
            file.flush()
            os.fsync(file.fileno())  # before the new name: it must never stand for half a file
        beside.replace(path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise StoreError(
            f"the model cannot be written to {path}: {error.strerror or error}",
            fix="Make room there and start the node again; the state beside it has the model too.",
        ) from error
