"""A task that is a file: how a configuration names it, and what all members must have alike.

It needs no torch: the daemon pins a file that only its worker runs.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from blake3 import blake3

from gossipfl.errors import ConfigError

__all__ = ["SOURCE_BYTES_MAX", "digest_of", "is_file", "pin", "read_source", "spelled"]

SOURCE_BYTES_MAX: Final = 1024 * 1024  # far beyond any code; a wrong path must not fill memory


def is_file(kind: object) -> bool:
    """Tell whether a task's `kind` names a file, and not a packaged task."""
    return isinstance(kind, str) and (kind.endswith(".py") or ".py:" in kind)


def spelled(kind: str) -> tuple[Path, str | None]:
    """Split `task.py:Patients` into the file and the class, None if no class is named.

    Raises:
        ConfigError: what follows the colon is no name of a class.
    """
    if kind.endswith(".py"):
        return Path(kind).expanduser(), None
    file, _, name = kind.rpartition(".py:")
    if not name.isidentifier():
        raise ConfigError(
            f"{kind!r} names no class after the colon",
            fix='Write "task.py:NameOfTheClass", or "task.py" alone if the file has one task.',
        )
    return Path(f"{file}.py").expanduser(), name


def read_source(path: Path) -> bytes:
    """Return a task file's bytes, which are UTF-8 text.

    Raises:
        ConfigError: naming the file and why it cannot be had.
    """
    try:
        with path.open("rb") as file:
            content = file.read(SOURCE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file", fix=_look_alike(path)) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", fix="Name a file that this user may read."
        ) from error
    if len(content) > SOURCE_BYTES_MAX:
        raise ConfigError(
            f"{path}: is longer than {SOURCE_BYTES_MAX} bytes, which is far too long for code",
            fix="Name the Python file of the task, not its data.",
        )
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: is not UTF-8 text: {error.reason} at byte {error.start}",
            fix="Save it as UTF-8.",
        ) from error
    return content


def digest_of(content: bytes) -> str:
    """Return the hex BLAKE3 of a task file, by which members tell whether theirs are the same."""
    return blake3(content).hexdigest()


def pin(choice: object, folder: Path) -> tuple[object, Path | None]:
    """Fix which code a configuration's choice of a task stands for.

    A file becomes its name without folders, which differ from machine to machine, and `source`,
    its digest, which may not. Whoever writes `source` himself gets it checked: it must match.

    Args:
        choice: a tag or a table with `kind`; anything else is returned for others to complain.
        folder: what a relative path is relative to.

    Returns:
        The pinned choice, and the folder that the file is in; None for a packaged task.

    Raises:
        ConfigError: no such file, or another one than `source` says.
    """
    table: Mapping[str, object]
    table = {"kind": choice} if isinstance(choice, str) else choice  # type: ignore[assignment]
    if not isinstance(table, Mapping) or not is_file(kind := table.get("kind")):
        return choice, None
    file, name = spelled(str(kind))
    path = folder / file
    found = digest_of(read_source(path))
    if table.get("source", found) != found:
        raise ConfigError(
            f"source: {path} is not the file that was agreed on: its digest is {found}",
            fix="Copy the agreed task file here, or change `source` on every machine; without "
            "`source` it is filled in from the file.",
        )
    tag = path.name if name is None else f"{path.name}:{name}"
    return {**table, "kind": tag, "source": found}, path.parent


def _look_alike(path: Path) -> str:
    beside = sorted(file.name for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {path.with_name(near[0])}?"
    return "Name the task's file; `gossipfl new task` writes one to start from."
