"""Code that a user wrote: run from its file, and what it raises told with file and line.

Nobody can say what somebody else's code raises, so here, and only here, everything is caught. It
is always raised again, as a fault of that code.
"""

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType
from typing import Final

from gossipfl.errors import GossipError

__all__ = ["line_in", "retold", "run_file", "said"]

_MESSAGE_CHARS_MAX: Final = 1000  # of somebody's exception; a whole tensor printed is no sentence


@contextmanager
def retold(tell: Callable[[BaseException], GossipError]) -> Iterator[None]:
    """Run a user's code; what it raises is raised as what `tell` makes of it.

    Errors of ours pass as they are, and so does Ctrl-C.
    """
    try:
        yield
    except GossipError:
        raise
    except (Exception, SystemExit) as error:
        raise tell(error) from error


def said(error: BaseException) -> str:
    """Return an exception's type and words, as a sentence's part."""
    message = str(error)[:_MESSAGE_CHARS_MAX]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def line_in(file: str, error: BaseException) -> int | None:
    """Return the line of the innermost call inside a file; None if the error did not pass it."""
    own = [at for at in traceback.extract_tb(error.__traceback__) if at.filename == file]
    if own:
        return own[-1].lineno
    return error.lineno if isinstance(error, SyntaxError) and error.filename == file else None


class _Bytes(SourceLoader):
    """Loads a module from bytes already read; having no file times, Python caches nothing."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = str(path)
        self._content = content

    def get_filename(self, fullname: str) -> str:
        return self._path

    def get_data(self, path: str | bytes) -> bytes:
        return self._content


def run_file(path: Path, content: bytes, name: str) -> ModuleType:
    """Run a file's bytes as a module, once per process; nothing is left in `sys.path` or on disk.

    Args:
        path: where the bytes were read, for messages.
        content: what runs.
        name: of the module; no other module, nor another content, may have it.

    Raises:
        BaseException: whatever the file raises; see `retold`.
    """
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path, loader=_Bytes(path, content))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # as import does: dataclasses and pydantic look classes up there
    whole = False
    try:
        spec.loader.exec_module(module)
        whole = True
    finally:
        if not whole:
            del sys.modules[name]
    return module
