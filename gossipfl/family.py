"""Families of interchangeable parts: rules, attacks, codecs, graphs.

A family is a package. Each member is one frozen pydantic model in a module of its own: its fields
are its configuration, `kind` is its tag in TOML, on the command line and in JSON. Adding a file
adds a member; nothing else is told.
"""

import importlib
import pkgutil
from functools import lru_cache
from types import ModuleType
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_serializer

from gossipfl.errors import ConfigError

__all__ = ["Member", "kinds", "parse"]


class Member(BaseModel):
    """One part of a family; `kind` is its tag, its fields are its configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: ClassVar[str]

    @model_serializer(mode="wrap")
    def _with_kind(self, serialize: Any) -> dict[str, Any]:  # noqa: ANN401 - pydantic's handler
        fields: dict[str, Any] = serialize(self)
        return {"kind": self.kind, **fields}

    @classmethod
    def of(cls, fields: dict[str, Any]) -> Self:
        """Build a member from its fields, without the tag."""
        return cls.model_validate(fields)


M = TypeVar("M", bound=Member)


@lru_cache
def _members(package: ModuleType, parent: type[Member]) -> dict[str, type[Member]]:
    found: dict[str, type[Member]] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for item in vars(module).values():
            if isinstance(item, type) and issubclass(item, parent) and "kind" in vars(item):
                found[item.kind] = item
    return dict(sorted(found.items()))


def kinds(package: ModuleType, parent: type[M]) -> dict[str, type[M]]:
    """Return every member of a family by its tag, sorted."""
    return _members(package, parent)  # type: ignore[return-value]


def parse(package: ModuleType, parent: type[M], choice: object, *, key: str) -> M:
    """Build the member that a configuration names.

    Args:
        package: the family's package.
        parent: the family's parent class.
        choice: a tag (`"median"`) or a table with `kind` and the member's fields.
        key: where this stands in the configuration, for messages: `mixing`.

    Raises:
        ConfigError: unknown tag, unknown or missing field, value out of range.
    """
    known = kinds(package, parent)
    fields = {"kind": choice} if isinstance(choice, str) else choice
    if not isinstance(fields, dict) or not isinstance(fields.get("kind"), str):
        raise ConfigError(
            f"{key}: expected a name or a table with `kind`, got {choice!r}",
            fix=f'Write {key} = "NAME" or {key} = {{ kind = "NAME", … }} with one of: '
            + ", ".join(known),
        )
    kind = fields["kind"]
    if kind not in known:
        raise ConfigError(f"{key}: there is no {kind!r}", fix="Use one of: " + ", ".join(known))
    try:
        return known[kind].of({name: value for name, value in fields.items() if name != "kind"})
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join([key, *map(str, item['loc'])])}: {item['msg'].lower()}"
            for item in error.errors()
        )
        allowed = ", ".join(known[kind].model_fields) or "none"
        raise ConfigError(problems, fix=f"Fields of {kind}: {allowed}.") from error
