"""Asks a running node over its status socket; light, because a health check does so all day."""

import http.client
import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from gossipfl.errors import ConfigError
from gossipfl.types import Seconds

__all__ = ["REFUSED", "SOCKET_NAME", "ask", "ask_reload", "short_path"]

SOCKET_NAME: Final = "status.sock"
REFUSED: Final = 409  # HTTP's Conflict: the files cannot be taken over
_PATH_BYTES_MAX: Final = 100  # AF_UNIX takes 104 to 108 bytes, by system
_ANSWER_S: Final[Seconds] = 5.0  # a node that does not answer its own machine in this time hangs
_RELOAD_S: Final[Seconds] = 600.0  # a task may take long to load its data; the node goes on


def ask(store: Path) -> dict[str, Any]:
    """Return the status of the node whose store this is; blocks until it answers.

    Raises:
        ConfigError: no node runs there, or it does not answer.
    """
    _, answer = _exchange(store, "GET", "status", _ANSWER_S)
    return answer


def ask_reload(store: Path) -> dict[str, Any]:
    """Make the node whose store this is read its files again; return what changed.

    Raises:
        ConfigError: no node runs there, or it goes on as it was; its own words say why.
    """
    status, answer = _exchange(store, "POST", "reload", _RELOAD_S)
    if status == REFUSED:
        raise ConfigError(answer["message"], fix=answer["fix"])
    return answer


class _Local(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, seconds: Seconds) -> None:
        super().__init__("node", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._path) as name:
            self.sock.connect(name)


def _exchange(store: Path, method: str, what: str, seconds: Seconds) -> tuple[int, dict[str, Any]]:
    path = store / SOCKET_NAME
    try:
        with closing(_Local(path, seconds)) as connection:
            connection.request(method, f"/{what}")
            response = connection.getresponse()
            answer: dict[str, Any] = json.load(response)
            return response.status, answer
    except TimeoutError as error:
        raise ConfigError(
            f"the node at {path} did not answer within {seconds:g} s",
            fix="Its log may say what it is busy with; ask it again.",
        ) from error
    # ValueError: it ended in the middle of its answer
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ConfigError(
            f"no node answers at {path}: {error or type(error).__name__}",
            fix="Is it running? Start it with `gossipfl run NODE.TOML`.",
        ) from error


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a name of a socket that is short enough for one, valid while the context lasts.

    Raises:
        ConfigError: the path is longer than a socket's may be, and this system has no other name.
    """
    if len(os.fsencode(path)) <= _PATH_BYTES_MAX:
        yield str(path)
    elif sys.platform == "linux":
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{directory}/{path.name}"
        finally:
            os.close(directory)
    else:
        raise ConfigError(
            f"the path {path} is too long for a socket",
            fix=f"Set `store` so that it has at most {_PATH_BYTES_MAX} bytes with {SOCKET_NAME}.",
        )
