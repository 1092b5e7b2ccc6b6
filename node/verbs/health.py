"""`gossipfl health`: whether a node works, as an exit code, for machines that watch it."""

from typing import Annotated, Any

import typer

from gossipfl.errors import ConfigError, GossipError
from node.output import Result
from node.verbs import NODE_FILE, AsJson, AsStarted, NodeFile

__all__ = ["Unhealthy", "health", "judge"]

_BUSY = ("training", "closing", "mixing")  # its own work, which takes as long as the task does


class Unhealthy(GossipError):
    """The node does not run, or does not get on."""

    code = "unhealthy"


def health(
    config: NodeFile = NODE_FILE,
    within: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds that a node which waits may go without a neighbor's update."
        ),
    ] = 120.0,
    grace: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds after its start that a node may wait for its first update."
        ),
    ] = 0.0,
    changes: AsStarted = None,
    as_json: AsJson = False,
) -> Result:
    """Say whether this machine's node works: exit 0 if so, 1 if not.

    It works if it has closed its last round and serves its model, if it trains or mixes, or if it
    waits for others and an update of a neighbor was verified lately. A node that still starts, or
    whose state cannot be kept, does not.

    Where others find a node only once it is healthy, as in Docker Swarm, none would ever hear the
    first update: there, --grace lets a node that has just opened its links count as healthy.

    Example: gossipfl health node.toml --within 120
    """
    from node.client import ask
    from node.home import store_of

    store = store_of(config, changes or [])
    try:
        answer = ask(store)
    except ConfigError as error:
        raise Unhealthy(error.message, fix=error.fix) from error
    healthy, why = judge(answer, within, grace)
    keys = ("member", "phase", "round", "rounds", "open_s", "exchanged_s", "degraded", "waits_for")
    data = {"healthy": healthy, "why": why, **{key: answer[key] for key in keys}}
    failure = None if healthy else Unhealthy(why, fix="`gossipfl status` says more.")
    return Result(data, f"healthy: {why}" if healthy else "", failure)


def judge(answer: dict[str, Any], within: float, grace: float = 0.0) -> tuple[bool, str]:
    """Tell from a node's status whether it works, and why.

    Args:
        answer: what `node.status.ask` returned.
        within: seconds that a node which waits may go without a neighbor's update.
        grace: seconds after its links opened that it may wait for the first.
    """
    phase, since = answer["phase"], answer["exchanged_s"]
    if phase == "starting":
        return False, "the node is starting"
    if answer["degraded"]:
        return False, f"nothing is offered: {answer['degraded']}"
    if phase == "left":
        return False, "the node is leaving"
    if phase == "done":
        return True, f"all {answer['rounds']} rounds are closed, the model is served"
    where = f"round {answer['round']} of {answer['rounds']}, {phase}"
    if phase in _BUSY:
        return True, where
    waits = ", ".join(answer["waits_for"]) or "neighbors"
    if since is None and grace > 0 and answer["open_s"] < grace:
        return True, f"{where}: open for {answer['open_s']:.0f} s, waits for {waits}"
    if since is None:
        return False, f"{where}: no neighbor's update came yet, waits for {waits}"
    if since > within:
        return False, (
            f"{where}: the last update of a neighbor came {since:.0f} s ago, "
            f"more than {within:g} s; waits for {waits}"
        )
    return True, f"{where}; the last update of a neighbor came {since:.1f} s ago"
