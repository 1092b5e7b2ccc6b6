"""The disk as the store sees it: every call it makes, and the operating system's answer."""

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final, Protocol

__all__ = ["OWN_NAMES", "FileSystem", "OsFiles"]

OWN_NAMES: Final = ("lock", "incarnation", "state")
"""What marks a directory as a store: one with only other files in it may be anybody's."""


class FileSystem(Protocol):
    """Every call the store makes of a disk; errors are OSError."""

    def make_directory(self, path: Path) -> None:
        """Make a directory, with its parents, unless it is there; let only this user into it."""

    def create(self, path: Path) -> int:
        """Open a new file (0600) for writing; FileExistsError if there is one."""

    def write(self, file: int, data: memoryview) -> int:
        """Write some of `data`, return how much."""

    def sync(self, file: int) -> None:
        """Return when what was written survives a loss of power."""

    def close(self, file: int) -> None:
        """Close a file."""

    def rename(self, source: Path, target: Path) -> None:
        """Put a file in another's place, in one step."""

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's names survive a loss of power."""

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""

    def read(self, path: Path) -> bytes | None:
        """Return a whole file, None if there is none."""

    def lock(self, path: Path) -> int:
        """Take the lock of a file, made if missing; BlockingIOError if another process has it."""


class OsFiles:
    """The operating system's files."""

    def make_directory(self, path: Path) -> None:
        """Make a directory, with its parents, unless it is there; let only this user into it.

        One that holds other files may be anybody's, and is refused instead of closed to others.
        """
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            names = {each.name for each in path.iterdir()}
            if names and names.isdisjoint(OWN_NAMES):
                raise PermissionError(errno.EPERM, "it is open to others and holds other files")
            path.chmod(0o700)

    def create(self, path: Path) -> int:
        """Open a new file (0600) for writing; FileExistsError if there is one."""
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, file: int, data: memoryview) -> int:
        """Write some of `data`, return how much."""
        return os.write(file, data)

    def sync(self, file: int) -> None:
        """Return when what was written survives a loss of power."""
        os.fsync(file)

    def close(self, file: int) -> None:
        """Close a file."""
        os.close(file)

    def rename(self, source: Path, target: Path) -> None:
        """Put a file in another's place, in one step."""
        source.rename(target)

    def sync_directory(self, path: Path) -> None:
        """Return when the directory's names survive a loss of power."""
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        path.unlink(missing_ok=True)

    def read(self, path: Path) -> bytes | None:
        """Return a whole file, None if there is none."""
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def lock(self, path: Path) -> int:
        """Take the lock of a file, made if missing; BlockingIOError if another process has it."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        return file
