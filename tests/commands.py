"""The command line as a test types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from node.cli import main

__all__ = ["Run", "run_cli", "runner", "told"]

Run: TypeAlias = Callable[..., tuple[int, str, str]]


def runner(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Return what runs one command line in a directory: exit code, stdout and stderr."""
    monkeypatch.chdir(directory)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def run_cli(*words: str) -> int:
    """Run one command line; return its exit code."""
    return main(words)


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the one object that a command with --json wrote."""
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found
