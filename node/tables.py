"""TOML tables as people write them: overrides put in, every complaint kept and told at once."""

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from gossipfl.errors import ConfigError

__all__ = [
    "ENVIRONMENT",
    "Problems",
    "anchor",
    "look_alike",
    "override",
    "read_toml",
    "validated",
]

ENVIRONMENT: Final = "GOSSIPFL_"
FILE_BYTES_MAX: Final = 16 * 1024 * 1024  # ten thousand members; a wrong path must not fill memory

_SECRET: Final = ("proxy",)  # keys whose texts may hold a password, which no error shows

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass
class Problems:
    """What is wrong, in the order it was found; all of it is told at once."""

    found: list[tuple[str, str]] = field(default_factory=list)

    def add(self, where: str, wrong: str, right: str) -> None:
        """Keep what is wrong where, and what would be right."""
        self.found.append((f"{where}: {wrong}", right))

    def take(self, where: str, error: ConfigError) -> None:
        """Keep an error that was raised."""
        self.add(where, error.message, error.fix)

    def attempt(self, where: str, call: Callable[[], T]) -> T | None:
        """Return what a check gives, or keep its complaint and return None."""
        try:
            return call()
        except ConfigError as error:
            self.take(where, error)
            return None

    def tell(self) -> None:
        """Raise what was found, if anything."""
        if not self.found:
            return
        if len(self.found) == 1:
            ((wrong, right),) = self.found
            raise ConfigError(wrong, fix=right)
        lines = "".join(f"\n  {wrong}\n    {right}" for wrong, right in self.found)
        raise ConfigError(
            f"{len(self.found)} things are wrong:{lines}",
            fix="Mend each of them. Once each file is right, they are checked against each other.",
        )


def read_toml(path: Path, problems: Problems) -> dict[str, Any] | None:
    """Return a file's table, or keep why there is none and return None."""
    if path.is_fifo():  # it would wait for a writer for ever
        problems.add(str(path), "is a pipe", "Name a file.")
        return None
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
        if len(content) > FILE_BYTES_MAX:
            problems.add(str(path), "is far too long for a configuration", "Name the right file.")
            return None
        text = content.decode("utf-8")
        return tomllib.loads(text)
    except FileNotFoundError:
        problems.add(str(path), "there is no such file", _other_toml(path))
    except OSError as error:
        problems.add(
            str(path), f"cannot be read: {error.strerror}", "Name a file that this user may read."
        )
    except UnicodeDecodeError as error:
        problems.add(
            str(path),
            f"is not UTF-8 text: {error.reason} at byte {error.start}",
            "Save it as UTF-8.",
        )
    except tomllib.TOMLDecodeError as error:
        problems.add(str(path), *_not_toml(text, str(error)))
    return None


def _not_toml(text: str, said: str) -> tuple[str, str]:
    """Say what is wrong with a text that the TOML reader refuses, and what would be right."""
    if not re.match(r"Cannot (overwrite|declare|mutate)", said):
        right = 'Mend that line: texts stand in quotes (name = "hearts"), tables in [brackets].'
        return f"is not TOML: {said}", right
    lines = text.rstrip().splitlines()
    found = re.search(r"at line (\d+)", said)  # otherwise it is the end of the document
    number = int(found[1]) if found else len(lines)
    line = lines[number - 1].strip()
    key = line.strip("[] ") if line.startswith("[") else line.partition("=")[0].strip()
    top = key.partition(".")[0]
    return (
        f"line {number}: {key} is set a second time",
        f"Keep one of the two, {top} = … or the table [{top}], and have it once.",
    )


def look_alike(path: Path, pattern: str = "*") -> str:
    """Ask whether a file beside a path that is not there was meant; empty if none is like it."""
    beside = sorted(file.name for file in path.parent.glob(pattern)) if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1, cutoff=0.5)
    return f"Did you mean {path.with_name(near[0])}?" if near else ""


def _other_toml(path: Path) -> str:
    if near := look_alike(path, "*.toml"):
        return near
    return "Name the right file; `gossipfl new federation` writes a federation.toml to start from."


def anchor(table: dict[str, Any], paths: Collection[str], directory: Path) -> None:
    """Make a table's paths absolute: a relative one is relative to the file it stands in."""
    for key in paths:
        if isinstance(table.get(key), str):
            table[key] = directory / Path(table[key]).expanduser()


def validated(
    model: type[M],
    table: object,
    where: str,
    problems: Problems,
    origins: Mapping[str, str] | None = None,
) -> M | None:
    """Build a model from a table, or keep every complaint with what would be right.

    Args:
        model: its fields' descriptions say what would be right.
        table: what a person wrote.
        where: the file it stands in.
        problems: where complaints go.
        origins: what to name instead of the file, for keys that came from elsewhere.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        items = error.errors()
        typos = _misspelled(model, items)
        for item in items:
            loc = [str(part) for part in item["loc"]]
            owner, description = _field(model, loc)
            key = ".".join(loc)
            if item["type"] == "missing" and key in typos.values():
                continue  # told where it is misspelled
            wrong, right = _complaint(item["type"], item["msg"], item["input"], description)
            if item["type"] == "extra_forbidden":
                known = _keys(owner)
                near = typos.get(key, "").rpartition(".")[2]
                right = f"Did you mean {near}?" if near else f"Known keys: {', '.join(known)}."
            source = (origins or {}).get(key, where)
            problems.add(f"{source}: {key}" if key else source, wrong, right)
        return None


def _keys(model: type[BaseModel]) -> list[str]:
    # a field without description is not for files: a member's key
    return [name for name, info in model.model_fields.items() if info.description]


def _misspelled(model: type[BaseModel], items: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what unknown keys probably mean, both with the tables they stand in."""
    typos = {}
    for item in items:
        loc = [str(part) for part in item["loc"]]
        if item["type"] == "extra_forbidden":
            near = difflib.get_close_matches(loc[-1], _keys(_field(model, loc)[0]), n=1)
            if near:
                typos[".".join(loc)] = ".".join([*loc[:-1], near[0]])
    return typos


def _field(model: type[BaseModel], loc: Sequence[str]) -> tuple[type[BaseModel], str]:
    """Return the table a key stands in and what its field is for."""
    description = ""
    for part in loc:
        info = model.model_fields.get(part)
        if info is None:
            return model, description
        description = info.description or ""
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            model = kind
    return model, description


def _complaint(kind: str, message: str, given: object, description: str) -> tuple[str, str]:
    """Say what is wrong and what would be right, in the words of someone who edits a file."""
    right = f"{description[:1].upper()}{description[1:]}." if description else ""
    match kind:
        case "missing":
            return "is missing", right
        case "extra_forbidden":
            return "there is no such key", right
        case "value_error":
            return message.removeprefix("Value error, "), right
        case "string_pattern_mismatch":
            return f"{given!r} is not allowed", right
        case "is_instance_of":
            return f"{given!r} is no path in quotes", right
    return f"{given!r} is wrong: {message[:1].lower()}{message[1:]}", right


def override(
    table: dict[str, Any],
    overrides: Sequence[str],
    environment: Mapping[str, str],
    paths: Collection[str],
    problems: Problems,
) -> dict[str, str]:
    """Put overrides into a table; return where each overridden key comes from.

    Args:
        table: changed in place.
        overrides: `a.b=value` each, from the command line; stronger than the environment.
        environment: its variables `GOSSIPFL_A__B` mean `a.b`.
        paths: keys whose texts are paths, relative to the working directory.
        problems: where complaints go.
    """
    given = [
        (f"environment {name}", name.removeprefix(ENVIRONMENT).lower().replace("__", "."), text)
        for name, text in sorted(environment.items())
        if name.startswith(ENVIRONMENT)
    ]
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            problems.add(f"--set {override}", "is no setting", "Write --set key=value.")
            continue
        shown = key.strip() if key.strip() in _SECRET else override
        given.append((f"--set {shown}", key.strip(), text))
    origins = {}
    for where, key, text in given:
        *parents, last = key.split(".")
        inner = table
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                problems.add(where, f"{parent} is no table in node.toml", "Set the whole key.")
                break
        else:
            value = _value(text.strip())
            if key in paths and isinstance(value, str):
                value = Path.cwd() / Path(value).expanduser()
            inner[last] = value
            origins[key] = where
    return origins


def _value(text: str) -> object:
    """Read a TOML value; what is none is a bare string."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if list(parsed) == ["value"] else text
