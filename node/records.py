"""A node's rounds in a file, one JSON object a line: for people, and for who took part."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from gossipfl.errors import StoreError
from gossipfl.report import Participation, RoundRecord
from gossipfl.types import PeerId

__all__ = ["RECORDS_NAME", "Record", "recording", "recount"]

RECORDS_NAME = "rounds.jsonl"


class Record(Protocol):
    """Writes one round.

    Raises:
        OSError: the disk refuses.
    """

    def __call__(self, record: RoundRecord) -> None:
        """Append a line."""


@contextmanager
def recording(path: Path, *, anew: bool) -> Iterator[Record]:
    """Append every round to a file; `at` is when, in Unix seconds.

    Args:
        path: of the file.
        anew: drop what is there, since it is of an earlier run.

    Raises:
        StoreError: the file cannot be opened.
    """
    try:
        torn = not anew and path.exists() and not path.read_bytes().endswith(b"\n")
        file = path.open("wb" if anew else "ab", buffering=0)
    except OSError as error:
        raise _unusable(path, error) from error
    with file:

        def write(record: RoundRecord) -> None:
            nonlocal torn
            text = json.dumps({"at": time.time(), **record.as_json()}, allow_nan=False)
            line = f"\n{text}\n" if torn else f"{text}\n"  # half a line spoils no other
            torn = True
            torn = file.write(line.encode()) != len(line)

        yield write


def recount(path: Path, participation: Participation) -> None:
    """Count the rounds of a node's earlier starts; lines that a crash cut short do not count.

    Raises:
        StoreError: the file cannot be read.
    """
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unusable(path, error) from error
    for line in text.splitlines():
        try:
            match json.loads(line):
                case {"round": int() as round_, "senders": list() as senders}:
                    participation.add(round_, (PeerId(str(name)) for name in senders))
        except json.JSONDecodeError:
            continue


def _unusable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"the rounds cannot be kept in {path}: {error.strerror or error}",
        fix="Move it away, or let the node's user read and write it.",
    )
