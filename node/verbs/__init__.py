"""The verbs of the command line, one module each.

A verb is a function whose parameters are its arguments and flags and whose docstring is its help.
It returns a `node.output.Result` or raises a `GossipError`, writes its progress to stderr and
nothing to stdout, and takes `as_json: AsJson` so that `--json` is in its help. Whatever is slow to
import is imported inside the function, so that no other verb waits for it.

One line in `node/cli.py` adds it to the command line.
"""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

__all__ = ["NODE_FILE", "AsJson", "AsStarted", "NodeFile"]

AsJson: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Write the result as one JSON object to stdout.")
]

NODE_FILE: Final = Path("node.toml")  # in the working directory: one machine runs one node

NodeFile: TypeAlias = Annotated[
    Path, typer.Argument(metavar="[NODE.TOML]", help="This machine's file.")
]

AsStarted: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="As the node was started: --set store=elsewhere"
    ),
]
