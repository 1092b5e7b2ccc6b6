"""Where log lines go: stderr, one line each, and no neighbor can write more than its share."""

import logging
import sys
from collections.abc import Hashable

from gossipfl.types import Seconds

__all__ = ["RateLimit", "set_up", "speak_as"]

PAUSE = 10.0  # seconds between two lines about one fault of one neighbor


class RateLimit:
    """Lets one line of a kind through every PAUSE seconds and counts the rest.

    The keys are refusals of known members and of addresses; the oldest are forgotten, so that
    strangers from many addresses cannot fill the memory.
    """

    KEYS_MAX = 1024  # some 100 kB of keys

    def __init__(self) -> None:
        self._last: dict[Hashable, Seconds] = {}
        self._held: dict[Hashable, int] = {}

    def admit(self, key: Hashable, now: Seconds) -> int | None:
        """Return how many lines were held back since the last one, None to hold this one too."""
        last = self._last.get(key)
        if last is not None and now - last < PAUSE:
            self._held[key] = self._held.get(key, 0) + 1
            return None
        self._last.pop(key, None)  # it becomes the newest
        if len(self._last) >= self.KEYS_MAX:
            oldest = next(iter(self._last))
            del self._last[oldest]
            self._held.pop(oldest, None)
        self._last[key] = now
        return self._held.pop(key, 0)


class _Lines(logging.Formatter):
    """`12:03:04 north: neighbor up peer=south start=3`: who, the message, then the values."""

    member = ""  # not known before the files are read

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        values = " ".join(
            f"{key}={value}" for key, value in vars(record).items() if key not in self._STANDARD
        )
        said = _harmless(f"{record.getMessage()} {values}".rstrip())
        level = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        who = f"{self.member}: " if self.member else ""
        line = f"{self.formatTime(record, '%H:%M:%S')} {who}{level}{said}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _harmless(text: str) -> str:
    """Escape what is no printable character, indent every line but the first.

    A neighbor's words are in some lines: they must neither steer a terminal nor pass for a line of
    their own.
    """
    return "".join(
        each if each.isprintable() else "\n  " if each == "\n" else ascii(each)[1:-1]
        for each in text
    )


def set_up(*, quiet: bool) -> None:
    """Send this program's log to stderr; `quiet` leaves warnings and errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("aiohttp").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # warns of every write to a dead link


def speak_as(member: str) -> None:
    """Put a member's name before each line: several nodes may share one terminal."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, _Lines):
            handler.formatter.member = member
