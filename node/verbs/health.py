"""`gossipfl health`: whether a node works, as an exit code, for machines that watch it."""

from typing import Annotated, Any

import typer

from gossipfl.errors import REMEDY, ConfigError, GossipError, Refusal
from node.output import Result
from node.verbs import NODE_FILE, AsJson, AsStarted, NodeFile

__all__ = ["Unhealthy", "cut_off", "health", "judge"]

_SAYS = {  # why a neighbor takes nothing of this node, by `cut_off`
    Refusal.STALE_INCARNATION: "has seen a later start of this member",
    Refusal.REPLAYED: "has had these frames of this member before",
    Refusal.WRONG_FEDERATION: "has another federation.toml",
    Refusal.WRONG_LAYOUT: "has another model",
    Refusal.WRONG_VERSION: "runs another release of gossipfl",
    Refusal.MEMBERS_DIFFER: "has another member list",
    Refusal.UNKNOWN_CERTIFICATE: "does not list this member",
}
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
    waits for others and an update of a neighbor was verified lately. A node that still starts,
    whose state cannot be kept, or that every neighbor in reach refuses, does not.

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
    alone = cut_off(answer)
    fix = alone[1] if alone else "`gossipfl status` says more."
    failure = None if healthy else Unhealthy(why, fix=fix)
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
    if alone := cut_off(answer):
        return False, alone[0]
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


def cut_off(answer: dict[str, Any]) -> tuple[str, str] | None:
    """Tell whether no neighbor in reach exchanges updates with a node: why, and what to do.

    Args:
        answer: as `judge` takes it. None if there is no neighbor in reach, or one that does.
    """
    reached = [row for row in answer["neighbors"] if row["up"] or row["cut_off"]]
    if not reached or not all(row["cut_off"] for row in reached):
        return None
    whys = ", ".join(f"{row['name']} {_SAYS[row['cut_off']]}" for row in reached)
    codes = dict.fromkeys(row["cut_off"] for row in reached)
    return (
        f"no neighbor in reach exchanges updates with this node: {whys}",
        " ".join(dict.fromkeys(REMEDY[code] for code in codes)),
    )
