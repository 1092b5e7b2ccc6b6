"""Handwritten digits, 70 000 images of 28 by 28 pixels, from the four IDX files in a folder.

The files are not packaged: LeCun, Cortes and Burges, "The MNIST database", 1998. Compressed (.gz)
or not, they keep their names: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…
"""

import gzip
import struct
import zlib
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gossipfl.errors import TaskError
from gossipfl.learning.dealt import Dealt, dealt_split
from gossipfl.learning.measures import accuracy
from gossipfl.learning.task import Place, Samples, Split, Task
from gossipfl.partitions.iid import Iid

__all__ = ["Mnist", "read_idx"]

SIDE = 28
CLASSES = 10
BRIGHTEST = 255.0
BYTES_MAX = 1 << 28  # no file of this data set comes near; a wrong path must not fill memory
UNSIGNED_BYTE = 8  # IDX's code of the only type these files have

Bytes = npt.NDArray[np.uint8]


class Mnist(Task):
    """A linear classifier, a perceptron or a small convolutional network on MNIST."""

    kind: ClassVar[str] = "mnist"

    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 0.1
    partition: Dealt = Iid()
    """How the training images are dealt."""
    network: Literal["linear", "perceptron", "convolutional"] = "linear"
    """7 850, 101 770 or 31 530 parameters."""
    images: int = Field(0, ge=0)
    """Use only the first so many training images; 0 = all."""

    def model(self) -> nn.Module:
        """Return the network, with torch's usual random start."""
        pixels = SIDE * SIDE
        match self.network:
            case "linear":
                return nn.Linear(pixels, CLASSES)
            case "perceptron":
                return nn.Sequential(nn.Linear(pixels, 128), nn.ReLU(), nn.Linear(128, CLASSES))
        return nn.Sequential(
            nn.Unflatten(1, (1, SIDE, SIDE)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * (SIDE // 2) ** 2, CLASSES),
        )

    def data(self, place: Place) -> Split:
        """Return this member's part of the training images, and of the test images.

        Raises:
            TaskError: no folder is named, a file is missing or broken, or there are more members
                than images.
        """
        if place.data is None:
            raise TaskError(
                "the task mnist reads its images from a folder, and none is named",
                fix="Set `data` to the folder with the four IDX files: --data mnist.",
            )
        return dealt_split(_split(place.data, self.images), self.partition, place)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return cross_entropy(model(inputs), targets)

    def measures(
        self, model: nn.Module, inputs: Tensor, targets: Tensor
    ) -> dict[str, float | None]:
        """Return the accuracy."""
        return {"accuracy": accuracy(model(inputs).argmax(1), targets)}


@lru_cache(maxsize=2)  # a simulation asks once for every member
def _split(folder: Path, images: int) -> Split:
    return Split(train=_samples(folder, "train", images), held_out=_samples(folder, "t10k", 0))


def _samples(folder: Path, part: str, most: int) -> Samples:
    pixels = read_idx(folder / f"{part}-images-idx3-ubyte")
    labels = read_idx(folder / f"{part}-labels-idx1-ubyte")
    if pixels.shape[1:] != (SIDE, SIDE) or labels.shape != pixels.shape[:1]:
        raise TaskError(
            f"{folder}: {part} has images of shape {pixels.shape} and labels {labels.shape}",
            fix=f"Take the files of one data set, {SIDE} by {SIDE} pixels each.",
        )
    if labels.max(initial=0) >= CLASSES:
        raise TaskError(
            f"{folder}: {part} has a label {labels.max()}", fix="Labels are the digits 0 to 9."
        )
    count = min(most or len(labels), len(labels))
    flat = pixels[:count].reshape(count, SIDE * SIDE)
    inputs = torch.from_numpy(flat.astype(np.float32)).div_(BRIGHTEST)
    return Samples(inputs, torch.from_numpy(labels[:count].astype(np.int64)))


def read_idx(path: Path) -> Bytes:
    """Read an IDX file of bytes, or the same name with .gz.

    Raises:
        TaskError: it is missing, too long, or no such file.
    """
    packed = path.with_name(path.name + ".gz")
    found = path if path.exists() else packed
    try:
        with gzip.open(found) if found == packed else found.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise TaskError(
            f"{path}: there is no such file, nor with .gz",
            fix="Point `data` at the folder with the four IDX files of MNIST.",
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise TaskError(f"{found}: cannot be read: {error}", fix="Get the file again.") from error
    header = content[:4]
    if len(content) > BYTES_MAX or len(header) < 4 or header[:2] != b"\0\0":
        raise TaskError(f"{found}: is no IDX file", fix="Get the file again.")
    kind, dimensions = header[2], header[3]
    start = 4 + 4 * dimensions
    if kind != UNSIGNED_BYTE or not dimensions or len(content) < start:
        raise TaskError(f"{found}: is no IDX file of bytes", fix="Get the file again.")
    shape = struct.unpack(f">{dimensions}I", content[4:start])
    if prod(shape) != len(content) - start:
        raise TaskError(
            f"{found}: has {len(content) - start} values where {prod(shape)} are promised",
            fix="Get the file again: it is cut short.",
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
