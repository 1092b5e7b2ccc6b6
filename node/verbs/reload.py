"""`gossipfl reload`: a running node reads its files again."""

import sys

from node.output import Result
from node.verbs import NODE_FILE, AsJson, AsStarted, NodeFile

__all__ = ["reload"]


def reload(
    config: NodeFile = NODE_FILE, changes: AsStarted = None, as_json: AsJson = False
) -> Result:
    """Make a running node read federation.toml and node.toml again.

    For members that join, leave or move, and for what this machine decides for itself. The files
    are checked first: if anything is wrong, or more than members has changed in federation.toml,
    the node goes on as it was, and what is wrong is said here. It goes on in the round it is in;
    until all members have the same list, those that differ exchange nothing and tell the
    difference. Returns once the node runs with the new files.

    Example: gossipfl reload cleveland.toml
    """
    from node.client import ask_reload
    from node.home import store_of

    store = store_of(config, changes or [])
    sys.stderr.write("The node checks its files; if they have changed, it starts a new worker …\n")
    sys.stderr.flush()
    answer = ask_reload(store)
    if not answer["changed"]:
        return Result(answer, "Nothing has changed; the node goes on as it was.")
    last = f"The node runs with these files now, as its start {answer['incarnation']}."
    return Result(answer, "\n".join([*answer["lines"], last]))
