"""What a command says and where: its result on stdout, everything else on stderr, an exit code.

With `--json`, stdout holds exactly one object, also when the command failed:

    {"schema": 1, "command": "keygen", "ok": true, "data": {…}}
    {"schema": 1, "command": "run", "ok": false, "error": {"code": "config", "message", "fix"}}

A run that ended and fell short has both `data` and `error`. What cannot be computed is null.
"""

import enum
import json
import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, Final, TextIO

from gossipfl.errors import (
    ConfigError,
    FederationFailed,
    GossipError,
    StoreError,
    TaskError,
)

__all__ = [
    "SCHEMA",
    "ExitCode",
    "Result",
    "exit_code_of",
    "is_plain",
    "show_error",
    "show_result",
    "write_report",
]

SCHEMA: Final = 1  # raised when a name in the JSON output changes its meaning or goes away


class ExitCode(enum.IntEnum):
    """What the shell is told; what a number means stays so."""

    OK = 0
    FAILED = 1
    USAGE = 2
    FELL_SHORT = 3
    STORE = 4
    TASK = 5
    INTERRUPTED = 130  # 128 + SIGINT, as shells count

    @property
    def meaning(self) -> str:
        """One line for people."""
        return _MEANINGS[self]


_MEANINGS: Final = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "failed, for none of the reasons below",
    ExitCode.USAGE: "the command line, a configuration file or the machine is wrong",
    ExitCode.FELL_SHORT: "the run ended with fewer members than required, or missed a deadline",
    ExitCode.STORE: "the state on disk cannot be read or written",
    ExitCode.TASK: "the task's file or its data is wrong",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C",
}

_EXIT_CODES: Final[tuple[tuple[type[GossipError], ExitCode], ...]] = (
    (ConfigError, ExitCode.USAGE),
    (FederationFailed, ExitCode.FELL_SHORT),
    (StoreError, ExitCode.STORE),
    (TaskError, ExitCode.TASK),
)


@dataclass(frozen=True)
class Result:
    """What a command hands back; the command itself writes nothing to stdout.

    Attributes:
        data: the object for `--json`.
        text: the same for people, without the last newline; or anything rich can draw.
        failure: why the command fell short although it has a result.
    """

    data: Mapping[str, Any] = field(default_factory=dict)
    text: object = ""
    failure: GossipError | None = None


def exit_code_of(error: GossipError) -> ExitCode:
    """Return what the shell is told about an error."""
    for kind, code in _EXIT_CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


def show_result(command: str, result: Result, *, as_json: bool) -> ExitCode:
    """Write a command's result to stdout and why it fell short, if it did, to stderr."""
    failure = result.failure
    if as_json:
        found: dict[str, Any] = {"data": result.data}
        if failure is not None:
            found["error"] = _error(failure)
        _write_object(command, ok=failure is None, found=found)
    elif isinstance(result.text, str):
        if result.text:
            sys.stdout.write(result.text + "\n")
    else:
        from rich.console import Console

        Console().print(result.text)
    if failure is None:
        return ExitCode.OK
    _write_failure(failure)
    return exit_code_of(failure)


def show_error(command: str, error: GossipError, *, as_json: bool) -> ExitCode:
    """Write why a command has no result: to stderr, and with `--json` to stdout too."""
    if as_json:
        _write_object(command, ok=False, found={"error": _error(error)})
    _write_failure(error)
    return exit_code_of(error)


def write_report(path: Path, data: Mapping[str, Any]) -> None:
    """Write what `--json` would show to a file, for people and programs that come later."""
    path.write_text(json.dumps(_plain(data), indent=1, allow_nan=False) + "\n")


def is_plain(stream: TextIO, environment: Mapping[str, str] | None = None) -> bool:
    """Tell whether progress goes to a stream as plain lines, not as a bar that redraws itself."""
    variables = os.environ if environment is None else environment
    if not stream.isatty() or variables.get("TERM", "") in ("", "dumb"):
        return True
    return bool(variables.get("NO_COLOR") or variables.get("CI"))


def _error(error: GossipError) -> dict[str, str]:
    return {"code": error.code, "message": error.message, "fix": error.fix}


def _write_failure(error: GossipError) -> None:
    sys.stderr.write(f"gossipfl: {error.message}\n")
    if error.fix:
        sys.stderr.write(f"  {error.fix}\n")


def _write_object(command: str, *, ok: bool, found: Mapping[str, Any]) -> None:
    envelope = {"schema": SCHEMA, "command": command, "ok": ok, **found}
    sys.stdout.write(json.dumps(_plain(envelope), allow_nan=False) + "\n")


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value goes in and comes out
    """JSON has no NaN and no infinity: what could not be computed is null."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case bytes():
            return value.hex()
        case PurePath():
            return str(value)
    return value
