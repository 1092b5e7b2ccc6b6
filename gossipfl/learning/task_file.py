"""A user's task file: read once, held against the pinned digest, run as a module of its own.

The bytes that were hashed are the bytes that run. Nothing is left behind: no entry in `sys.path`,
no compiled file. Whatever the file raises becomes a sentence with its line.
"""

import inspect
import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from pydantic import ValidationError
from pydantic.errors import PydanticUserError

from gossipfl.errors import ConfigError, TaskError
from gossipfl.learning.isolation import isolated
from gossipfl.learning.task import Task
from gossipfl.learning.task_source import digest_of, read_source, spelled
from gossipfl.user_code import line_in, retold, run_file, said

__all__ = ["load"]

IMPORT_SEED: Final = 0  # what a file draws while it is read is the same on every member
METHODS: Final = {
    "model": (),
    "data": ("place",),
    "loss": ("model", "inputs", "targets"),
    "measures": ("model", "inputs", "targets"),
    "optimizer": ("model",),
    "fit": ("model", "samples", "seed"),
}
"""What a task's methods are called with; `seed` by its name."""
ELSEWHERE: Final = {
    "configure_optimizers": "optimizer",
    "training_step": "loss",
    "validation_step": "measures",
    "optimiser": "optimizer",
}
"""What other frameworks call a method: left as it is, it would never be called."""
_UNTYPED: Final = re.compile(r"Field '(\w+)'|attribute was detected: `(\w+)")  # pydantic's words


def load(choice: object, folder: Path | None = None) -> Task:
    """Build the task of a user's file.

    Args:
        choice: `task.py`, `task.py:Patients`, or a table with that as `kind`, the class's fields,
            and `source`, the digest that the file must have, if it is pinned.
        folder: where the file is; by default, relative to the working directory.

    Raises:
        ConfigError: there is no such file or class, or wrong fields.
        TaskError: the file is no longer what was pinned, or it cannot be run.
    """
    fields: dict[str, Any] = {"kind": choice} if isinstance(choice, str) else _table(choice)
    kind, pinned = str(fields.pop("kind")), fields.pop("source", None)
    file, name = spelled(kind)
    path = ((folder or Path()) / file).absolute()
    content = read_source(path)
    digest = digest_of(content)
    if pinned is not None and digest != pinned:
        raise TaskError(
            f"{path} has changed since the node started",
            fix="All members must run the same code: put the file back as it was, or give every "
            "member the new one and start all nodes again with it.",
        )
    chosen = _chosen(_module(path, content, digest), path, name)
    _check_class(chosen, path)
    chosen.kind = kind
    task = _built(chosen, fields, path)
    _check_methods(task, path)
    return task


def _table(choice: object) -> dict[str, Any]:
    if not isinstance(choice, Mapping) or not isinstance(choice.get("kind"), str):
        raise ConfigError(
            f"task: expected a file or a table with `kind`, got {choice!r}",
            fix='Write task = "task.py".',
        )
    return dict(choice)


def _module(path: Path, content: bytes, digest: str) -> ModuleType:
    """Run a file, once per process, under a name that no other module can have."""
    with retold(lambda error: _explained(error, path, content.decode())), isolated(IMPORT_SEED):
        return run_file(path, content, f"gossipfl_task_{digest[:16]}")


def _explained(error: BaseException, path: Path, text: str) -> TaskError:
    """Say what a file's own code did wrong, where, and what to do."""
    line, what = line_in(str(path), error), said(error)
    fix = "Mend the file at that line."
    match error:
        case SyntaxError() if error.filename == str(path):
            line, what = error.lineno, f"{error.msg}: {(error.text or '').strip()}"
        case ModuleNotFoundError():
            fix = _missing_module(error.name or "", path)
        case PydanticUserError():
            if found := _UNTYPED.search(str(error)):
                return _untyped(found.group(1) or found.group(2), path, text, line)
            what = str(error).partition(". ")[0]
            fix = (
                "A field is a setting that federation.toml can hold: a number, a text, true or "
                "false, or a list of such. Move all else out of the class."
            )
    where = str(path) if line is None else f"{path}, line {line}"
    return TaskError(f"{where}: {what}", fix=fix)


def _missing_module(name: str, path: Path) -> str:
    top = name.partition(".")[0]
    if (path.parent / f"{top}.py").exists() or (path.parent / top).is_dir():
        return f"A task is one file: put what it needs of {top} into it, or install {top}."
    return f"Install {top} on every member's machine, or do without it."


def _untyped(name: str, path: Path, text: str, line: int | None) -> TaskError:
    """Say that an assignment in the class needs a type, with the line as it should be."""
    known = Task.model_fields.get(name)
    given = re.search(rf"^[ \t]+{name}\s*=\s*(.+?)\s*$", text, re.MULTILINE)
    value = given.group(1) if given else "…"
    if given:
        line = text.count("\n", 0, given.start()) + 1
    if known is None:
        fix = (
            f"Write `{name}: int = {value}` with its own type if federation.toml may set it, or "
            "move the line above the class."
        )
    else:
        of = getattr(known.annotation, "__name__", str(known.annotation))
        of = of if not str(known.annotation).startswith("tuple") else str(known.annotation)
        fix = f"Write `{name}: {of} = {value}`."
    return TaskError(f"{path}, line {line}: `{name}` in the class has no type", fix=fix)


def _chosen(module: ModuleType, path: Path, name: str | None) -> type[Task]:
    """Return the class a configuration means.

    Raises:
        TaskError: there is none, more than one, or one that lacks a method.
    """
    tasks: dict[str, type[Task]] = {
        item.__name__: item
        for item in vars(module).values()
        if isinstance(item, type)
        and issubclass(item, Task)
        and item.__module__ == module.__name__  # not what it imported
    }
    whole = [found for found in tasks.values() if not found.__abstractmethods__]
    if name is not None and name not in tasks:
        near = get_close_matches(name, tasks, n=1)
        listed = f"It has {', '.join(tasks)}." if tasks else "It has no subclass of Task at all."
        raise TaskError(
            f"{path}: there is no task {name} in it",
            fix=f"Did you mean {near[0]}?" if near else listed,
        )
    if name is None and len(whole) > 1:
        raise TaskError(
            f"{path}: there are {len(whole)} tasks in it: {', '.join(t.__name__ for t in whole)}",
            fix=f'Say which: "{path.name}:{whole[0].__name__}".',
        )
    if not tasks:
        raise TaskError(
            f"{path}: there is no task in it",
            fix="Write a class in it: `class Mine(Task):`, with `from gossipfl.learning import "
            "Task`; `gossipfl new task` writes one to start from.",
        )
    found = tasks[name] if name is not None else (whole or list(tasks.values()))[0]
    if missing := sorted(found.__abstractmethods__):
        raise TaskError(
            f"{path}: the class {found.__name__} has no {' and no '.join(missing)}",
            fix=f"Write `def {missing[0]}(self, …)` in it; `gossipfl new task` shows all of them.",
        )
    return found


def _check_class(task: type[Task], path: Path) -> None:
    """Refuse what would stop a class from being built, or from having all of its methods.

    Raises:
        TaskError: there is an `__init__`, or a field where a method must be.
    """
    for parent in task.__mro__:
        if parent.__module__ == task.__module__ and "__init__" in vars(parent):
            raise TaskError(
                f"{path}: the class {parent.__name__} has an __init__ of its own or by @dataclass",
                fix="Leave it out: `hidden: int = 16` in the class is a setting that self.hidden "
                "gives, and layers are built in `model`.",
            )
    for name, right in ELSEWHERE.items():
        if hasattr(task, name) and getattr(task, right) is getattr(Task, right):
            raise TaskError(
                f"{path}: nobody calls `{name}` of the class {task.__name__}",
                fix=f"Write it as `{_signature(right, METHODS[right])}`.",
            )
    for name, arguments in METHODS.items():
        if name in task.model_fields:
            raise TaskError(
                f"{path}: `{name}` in the class {task.__name__} is a field, but must be a method",
                fix=f"Give the field another name, and write `{_signature(name, arguments)}`.",
            )


def _check_methods(task: Task, path: Path) -> None:
    """Refuse a method that cannot be called as it will be.

    Raises:
        TaskError: naming the method and how it must begin.
    """
    for name, arguments in METHODS.items():
        given = [argument for argument in arguments if argument != "seed"]
        named = {"seed": 0} if "seed" in arguments else {}
        try:
            inspect.signature(getattr(task, name)).bind(*given, **named)
        except (TypeError, ValueError) as error:  # the latter where there is no self
            raise TaskError(
                f"{path}: `{name}` of the class {type(task).__name__} cannot be called: {error}",
                fix=f"Let it begin `{_signature(name, arguments)}`.",
            ) from None


def _signature(name: str, arguments: tuple[str, ...]) -> str:
    listed = ", ".join(("self", *arguments)).replace("seed", "*, seed")
    return f"def {name}({listed}):"


def _built(task: type[Task], fields: dict[str, Any], path: Path) -> Task:
    """Build a task from its fields.

    Raises:
        ConfigError: a field is unknown, missing or wrong.
        TaskError: what the class itself sets a field to is wrong, or a check of its own raises.
    """

    def tell(error: BaseException) -> TaskError:
        return TaskError(
            f"the class of {task.kind} cannot be built: {said(error)}",
            fix="Mend the checks of the class in the task's file.",
        )

    with retold(tell):
        try:
            # As JSON: a TOML list may then stand for a tuple, though all else stays strict.
            return task.model_validate_json(json.dumps(fields))
        except ValidationError as error:
            # no cause: it is shown to the user, and this one says no more
            raise _misfit(task, error, fields, path) from None


def _misfit(
    task: type[Task], error: ValidationError, fields: dict[str, Any], path: Path
) -> ConfigError | TaskError:
    """Say which field does not fit, and whether the configuration or the class sets it."""
    known, items = task.model_fields, error.errors()
    own = [item for item in items if item["type"] != "missing" and item["loc"][0] not in fields]
    if own:
        return TaskError(
            f"{path}: "
            + "; ".join(f"{item['loc'][0]} in the class: {_lower(item)}" for item in own),
            fix="Mend what the class sets it to, or its type.",
        )
    problems = "; ".join(
        f"{'.'.join(['task', *map(str, item['loc'])])}: "
        + ("there is no such field" if item["type"] == "extra_forbidden" else _lower(item))
        for item in items
    )
    unknown = [str(i["loc"][-1]) for i in items if i["type"] == "extra_forbidden"]
    near = get_close_matches(unknown[0], known, n=1) if unknown else []
    hint = f"Did you mean {near[0]}? " if near else ""
    return ConfigError(problems, fix=f"{hint}Fields of {task.kind}: {', '.join(known) or 'none'}.")


def _lower(item: Any) -> str:  # noqa: ANN401 - pydantic's details of one error
    message = str(item["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]
