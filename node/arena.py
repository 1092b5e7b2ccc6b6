"""Memory that the daemon and its worker both map: a tensor crosses without a copy.

The memory is an anonymous file that the worker inherits, so it has no name to leave behind: it is
gone when both processes are, however they end.
"""

import mmap
import os
import sys
import tempfile

import numpy as np
import numpy.typing as npt

from gossipfl.types import Vector

__all__ = ["Arena", "LocalState"]


class Arena:
    """Slots of one vector each, in a file without a name.

    Args:
        file: descriptor of the file; `Arena.create_file` makes one.
        size: coordinates of a vector.
    """

    def __init__(self, file: int, size: int) -> None:
        self.file = file
        self.size = size
        self._stride = -(-max(size * 4, 1) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._vectors: dict[int, Vector] = {}
        self._slots: dict[int, int] = {}  # by the address of the vector

    @staticmethod
    def create_file() -> int:
        """Return the descriptor of a new anonymous file."""
        if sys.platform == "linux":
            return os.memfd_create("gossipfl", os.MFD_CLOEXEC)
        with tempfile.TemporaryFile() as file:  # already unlinked; macOS has no memfd
            return os.dup(file.fileno())

    def allocate(self) -> Vector:
        """Return a new vector of zeros in the next slot."""
        slot = len(self._vectors)
        os.ftruncate(self.file, (slot + 1) * self._stride)
        return self.vector(slot)

    def vector(self, slot: int) -> Vector:
        """Return the vector of a slot, mapped once."""
        if slot not in self._vectors:
            pages = mmap.mmap(self.file, self._stride, offset=slot * self._stride)
            vector: Vector = np.frombuffer(pages, np.float32, count=self.size)
            self._vectors[slot] = vector
            self._slots[vector.ctypes.data] = slot
        return self._vectors[slot]

    def slot(self, vector: Vector) -> int:
        """Return the slot of a vector that `vector` or `allocate` returned."""
        return self._slots[vector.ctypes.data]


class LocalState:
    """What of a model stays at home, as raw bytes in two slots: before a pass and after it.

    A pass reads one slot and writes the other, so a worker that dies half-way spoils nothing.

    Args:
        file: descriptor of an anonymous file of its own.
        nbytes: in one slot; with 0 nothing is mapped and the file stays empty.
    """

    def __init__(self, file: int, nbytes: int) -> None:
        self.nbytes = nbytes
        self.slot = 0
        """The slot that belongs to the node's model."""
        if nbytes:
            os.ftruncate(file, 2 * nbytes)
            pages = np.frombuffer(mmap.mmap(file, 2 * nbytes), np.uint8)
        else:
            pages = np.empty(0, np.uint8)
        self._slots = pages[:nbytes], pages[nbytes:]

    @property
    def other(self) -> int:
        """The slot that the next pass writes."""
        return 1 - self.slot

    def raw(self, slot: int) -> npt.NDArray[np.uint8]:
        """Return the bytes of a slot, shape (nbytes,), writable."""
        return self._slots[slot]

    @property
    def current(self) -> memoryview:
        """The bytes that belong to the node's model; the next pass does not touch them."""
        return self._slots[self.slot].data

    def restore(self, raw: bytes | memoryview) -> None:
        """Put back what an earlier run kept: `current` of then, of the same model."""
        self._slots[self.slot][:] = np.frombuffer(raw, np.uint8)

    def advance(self) -> None:
        """Let what the last pass wrote belong to the node's model."""
        self.slot = self.other
