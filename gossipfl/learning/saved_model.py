"""A model from its file, into the model that a task builds: every tensor, or a sentence why not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from blake3 import blake3
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gossipfl.errors import TaskError
from gossipfl.learning.samples import Samples

__all__ = ["SavedModel", "mark_of", "read_model"]

_NAMES_SHOWN: Final = 4  # of tensors in one sentence
_MARK_BYTES: Final = 2  # 65,535 of 65,536 other files are told; nobody guesses a patient from it


@dataclass(frozen=True)
class SavedModel:
    """What a model's file holds.

    Attributes:
        path: of the file.
        tensors: by name, as `state_dict` names them.
        metadata: what the node wrote beside them: member, index, members, seed, rounds, task,
            federation, and the mark of the rows it held out; empty for a file of somebody else's.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def number(self, name: str) -> int | None:
        """Return a whole number of the metadata, None if it is not there."""
        text = self.metadata.get(name, "")
        return int(text) if text.isascii() and text.isdigit() else None

    def load_into(self, model: nn.Module) -> None:
        """Set every entry of a model's state from the file.

        Raises:
            TaskError: the file is of another model.
        """
        wanted = model.state_dict()
        whose = f" (it was learned by {self.metadata['task']})" if "task" in self.metadata else ""
        fix = f"Name the task that this model was learned by{whose}, with the same fields."
        missing = [name for name in wanted if name not in self.tensors]
        if missing:
            raise TaskError(
                f"{self.path}: is not of this model: there is no {_listed(missing)} in it", fix=fix
            )
        if beyond := [name for name in self.tensors if name not in wanted]:
            raise TaskError(
                f"{self.path}: is not of this model: the model has no {_listed(beyond)}", fix=fix
            )
        for name, item in wanted.items():
            given = self.tensors[name]
            if (given.shape, given.dtype) != (item.shape, item.dtype):
                raise TaskError(
                    f"{self.path}: is not of this model: {name} is {_of(given)} in the file and "
                    f"{_of(item)} in the model",
                    fix=fix,
                )
        model.load_state_dict(dict(self.tensors))


def read_model(path: Path) -> SavedModel:
    """Read a safetensors file.

    Raises:
        TaskError: there is none, or it is no whole safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise TaskError(
            f"{path}: there is no such file",
            fix="A node writes it as model.safetensors into its store after the last round.",
        ) from error
    except (SafetensorError, ValueError) as error:
        raise TaskError(
            f"{path}: is no whole safetensors file: {error}",
            fix="Copy it again from the node's store; it must have every byte.",
        ) from error
    except OSError as error:
        raise TaskError(
            f"{path}: cannot be read: {error.strerror or error}",
            fix="Name a file that this user may read.",
        ) from error
    return SavedModel(path, tensors, metadata)


def mark_of(rows: Samples) -> str:
    """Return a mark of held-out rows, hex: the same for the same rows in the same order.

    It goes into a model's file, so that `gossipfl evaluate` can tell rows that were held out from
    others. Two bytes of a digest, since the file is handed on and rows may be few.
    """
    digest = blake3()
    for item in (rows.inputs, rows.targets):
        digest.update(f"{item.dtype} {tuple(item.shape)}\n".encode())
        digest.update(item.cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest(_MARK_BYTES)


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _of(item: Tensor) -> str:
    shape = " by ".join(map(str, item.shape)) or "a single number"
    return f"{str(item.dtype).removeprefix('torch.')} {shape}"
