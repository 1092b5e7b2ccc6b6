"""A trained model as safetensors, for whoever uses it: tensors by name, whole or not there."""

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
    """Write a model to a file beside `path` first, then in its place.

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
        beside.write_bytes(save(tensors))
        beside.replace(path)
    except OSError as error:
        raise StoreError(
            f"the model cannot be written to {path}: {error.strerror or error}",
            fix="Make room there and start the node again; the state beside it has the model too.",
        ) from error
