"""A trained model as safetensors, for whoever uses it: the whole state_dict, or not there.

Written here rather than by the library: that cannot take bfloat16 from numpy, and it would hold
two more copies of the model in memory. A file is the length of the header (8 bytes, little
endian), the header (JSON: name, type, shape and place of each tensor), and the tensors' bytes one
after the other (https://github.com/huggingface/safetensors, "Format").
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from gossipfl.errors import StoreError
from gossipfl.types import Round, Vector

__all__ = ["MODEL_NAME", "ModelFile", "Parts"]

MODEL_NAME: Final = "model.safetensors"

Parts: TypeAlias = Sequence[tuple[str, str, Sequence[int], bool, int, int]]
"""Name, type, shape, whether local, and first and last byte of each tensor: `params.SavedPart`."""

_LENGTH_BYTES: Final = 8
_ALIGNMENT: Final = 8  # of the first tensor: readers map the file and take float64 in place
_WIDTHS: Final = {"F64": 8, "I64": 8, "U64": 8, "C64": 8, "F32": 4, "I32": 4, "U32": 4}
_HALF: Final = {"F16": 2, "BF16": 2, "I16": 2, "U16": 2}  # all others take one byte


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Where a node's model goes, and how.

    Attributes:
        path: of the file.
        parts: every entry of the model's state_dict.
        about: whose model it is, for its metadata: texts by name.
    """

    path: Path
    parts: Parts
    about: Mapping[str, str]

    def write(self, vector: Vector, local: memoryview | bytes, rounds: Round) -> None:
        """Write a model to a file beside `path` first, then in its place; durable on return.

        Args:
            vector: what members share, shape (size,).
            local: the bytes of what stays at home.
            rounds: how many were closed on the way to this model.

        Raises:
            StoreError: the disk refuses.
        """
        beside = self.path.with_name(self.path.name + ".tmp")
        try:
            with beside.open("wb") as file:
                for piece in self._pieces(vector, memoryview(local), rounds):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())  # before the new name: it must never stand for half a file
            beside.replace(self.path)
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise StoreError(
                f"the model cannot be written to {self.path}: {error.strerror or error}",
                fix="Make room there and start the node again; the state beside it has the model "
                "too.",
            ) from error

    def _pieces(
        self, vector: Vector, local: memoryview, rounds: Round
    ) -> Iterator[bytes | memoryview]:
        # "pt": what tools that ask a file for its framework expect of a torch state_dict
        metadata = {"format": "pt", **self.about, "rounds": str(rounds)}
        header: dict[str, Any] = {"__metadata__": metadata}
        # The widest first, so that each tensor begins at a multiple of its width
        parts = sorted(self.parts, key=lambda part: -_width(part[1]))
        end = 0
        for name, dtype, shape, _, start, stop in parts:
            offsets = [end, end + stop - start]
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": offsets}
            end = offsets[1]
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        yield len(text).to_bytes(_LENGTH_BYTES, "little") + text
        shared = vector.astype("<f4", copy=False).data.cast("B")
        for _, _, _, is_local, start, stop in parts:
            yield (local if is_local else shared)[start:stop]


def _width(dtype: str) -> int:
    return _WIDTHS.get(dtype) or _HALF.get(dtype, 1)
