"""Where a node is at home: node.toml as a table with its overrides, and the store it names.

Light: what only asks a running node reads no more of its configuration than this.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from gossipfl.federation import NAME
from node.tables import Problems, anchor, override, read_toml, validated

__all__ = ["PATHS", "node_table", "store_of"]

PATHS: Final = ("key", "federation", "data", "store")
"""Keys of node.toml that name files; relative ones are relative to node.toml."""


class _Home(BaseModel):
    """The part of node.toml that says where a running node is found."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    member: str = Field(pattern=NAME, description="this machine's name in the member list")
    store: Path = Field(description="directory of this node's state, a path in quotes")


def store_of(
    path: Path, overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Path:
    """Return where the node of a node.toml keeps its state; all else in the file may be wrong.

    Args:
        path: of node.toml.
        overrides: `a.b=value` each, as `--set` takes them.
        environment: where `GOSSIPFL_…` variables are looked up, by default the process's own.

    Raises:
        ConfigError: the file cannot be read, an override is none, or no store can be told from it.
    """
    problems = Problems()
    table, origins = node_table(path, overrides, environment, problems)
    fields = {key: table[key] for key in _Home.model_fields if key in table}
    home = validated(_Home, fields, str(path), problems, origins)
    problems.tell()
    assert home is not None
    return home.store


def node_table(
    path: Path,
    overrides: Sequence[str],
    environment: Mapping[str, str] | None,
    problems: Problems,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read node.toml with its overrides; return also where each overridden key comes from.

    Raises:
        ConfigError: there is no such table.
    """
    table = read_toml(path, problems)
    if table is None:
        problems.tell()
    assert table is not None
    here = path.absolute().parent
    anchor(table, PATHS, here)
    given = os.environ if environment is None else environment
    origins = override(table, overrides, given, PATHS, problems)
    # Without a member, any path will do: the missing member is what is told.
    table.setdefault("store", here / f"{table.get('member', '')}.state")
    return table, origins
