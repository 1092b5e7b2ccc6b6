"""What `check` and `evaluate` are pointed at: a task's file, a packaged task, or a TOML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gossipfl.errors import ConfigError
from gossipfl.learning.task_source import pin
from node.tables import Problems, override, read_toml

__all__ = ["ChosenTask", "choose"]


@dataclass(frozen=True)
class ChosenTask:
    """A task and what is known of the place it runs in; None where nothing is said of it.

    Attributes:
        choice: the pinned choice, as the constitution would hold it.
        folder: where the task's file is; None for a packaged task.
        members: the names of the federation's members, in order.
        federation: the federation's digest.
    """

    choice: object
    folder: Path | None
    data: Path | None = None
    member: str | None = None
    members: tuple[str, ...] = ()
    neighbors: int | None = None
    seed: int | None = None
    federation: str | None = None


def choose(what: str, changes: Sequence[str] = ()) -> ChosenTask:
    """Find out what a command line means by a task.

    Args:
        what: `task.py`, `task.py:Patients`, `heart-disease`, a node.toml or a federation.toml.
        changes: `field=value` each, of the task's own fields.

    Raises:
        ConfigError: no such file, or one that is wrong.
    """
    if what.endswith(".toml"):
        found = _from_toml(Path(what))
    else:
        found = ChosenTask(*pin({"kind": what}, Path.cwd()))
    if not changes:
        return found
    problems = Problems()
    table: dict[str, Any] = dict(found.choice) if isinstance(found.choice, dict) else {}
    override(table, changes, {}, (), problems)
    problems.tell()
    if {"kind", "source"} & {change.partition("=")[0].strip() for change in changes}:
        raise ConfigError(
            "--set changes the fields of a task, not which task it is",
            fix="Name the task itself: task.py:NameOfTheClass.",
        )
    return ChosenTask(**{**vars(found), "choice": table})


def _from_toml(path: Path) -> ChosenTask:
    problems = Problems()
    table = read_toml(path, problems)
    problems.tell()
    assert table is not None
    if "task" not in table and "federation" in table:
        return _from_node(path)
    if "task" not in table:
        raise ConfigError(
            f"{path}: names no task", fix='Write task = "task.py" into federation.toml.'
        )
    found = problems.attempt(f"{path}: task", lambda: pin(table["task"], path.absolute().parent))
    problems.tell()
    assert found is not None
    seed = table.get("seed")
    rows = table.get("members", [])
    names = [row.get("name") for row in rows if isinstance(row, dict)]
    return ChosenTask(
        *found,
        members=tuple(name for name in names if isinstance(name, str)),
        seed=seed if isinstance(seed, int) else None,
    )


def _from_node(path: Path) -> ChosenTask:
    from node.config import load_node

    node = load_node(path)
    return ChosenTask(
        choice=node.federation.constitution.task,
        folder=node.task_folder,
        data=node.settings.data,
        member=node.settings.member,
        members=tuple(node.federation.names),
        neighbors=len(node.neighbors),
        seed=node.federation.constitution.seed,
        federation=node.federation.digest.hex(),
    )
