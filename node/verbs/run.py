"""`gossipfl run`: one node on this machine."""

from typing import TYPE_CHECKING, Annotated

import typer

from node.output import Result
from node.verbs import NODE_FILE, AsJson, NodeFile

if TYPE_CHECKING:
    from node.daemon import Outcome

__all__ = ["run"]


def run(
    config: NodeFile = NODE_FILE,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key: --set deadline.max_s=30"),
    ] = None,
    exit_when_done: Annotated[
        bool,
        typer.Option(help="End after the last round, once every live neighbor is done too."),
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Log warnings and errors only.")] = False,
    as_json: AsJson = False,
) -> Result:
    """Run this machine's node: train here, exchange signed updates with the neighbors, mix.

    After the last round the node keeps serving its model until SIGTERM or Ctrl-C. It can be
    stopped and started at any time; it goes on where it was. SIGHUP, as `gossipfl reload`, makes
    it read its files again.

    Example: gossipfl run cleveland.toml
    """
    import asyncio
    from functools import partial

    from node import logs
    from node.config import load_node
    from node.daemon import serve
    from node.heap import keep_message_memory, settle

    keep_message_memory()
    settle()
    logs.set_up(quiet=quiet)
    read = partial(load_node, config, changes or [])
    return _result(asyncio.run(serve(read, exit_when_done=exit_when_done)))


def _result(outcome: "Outcome") -> Result:
    from gossipfl.errors import FederationFailed, GossipError

    late = f"; it came in at round {outcome.first}" if outcome.first else ""
    of = outcome.status["rounds"]
    lines = [f"{outcome.rounds} of {of} rounds closed here{late}. Took part in:"]
    lines += [f"  {name}: {count} rounds" for name, count in outcome.participation.items()]
    if outcome.model is not None:
        lines.append(f"The model is in {outcome.model}")
    failure: GossipError | None = outcome.failure
    if failure is None and outcome.members < outcome.required:
        failure = FederationFailed(
            f"{outcome.members} members took part in at least half of the rounds, "
            f"{outcome.required} are required",
            fix="Look at the links of the missing members, or lower require_members.",
        )
    data = {
        "rounds": outcome.rounds,
        "first_round": outcome.first,
        "participation": outcome.participation,
        "members": outcome.members,
        "model": outcome.model,
        "status": outcome.status,
    }
    return Result(data, "\n".join(lines), failure)
