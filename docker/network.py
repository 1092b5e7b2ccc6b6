"""A network to look at and to break on purpose: `make docker-up`, `make docker-down`.

    python docker/network.py up --nodes 8 --topology ring
    python docker/network.py down

Each network is a folder docker/stack-N with its keys, deployed as the stack gossipfl-N.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from swarm import (
    Trouble,
    build,
    containers,
    deploy,
    engine,
    ensure_swarm,
    leave_swarm,
    leftovers,
    remove_stack,
    say,
    status,
    step,
    until,
    write_stack,
)

IMAGE: Final = "gossipfl:latest"
HERE: Final = Path(__file__).resolve().parent
ASKED: Final = "up.json"  # what a folder was asked to be; also marks it as ours to remove
EXCHANGE_S: Final = 300.0  # many nodes on few cores start one after the other


def up(nodes: int, options: dict[str, str]) -> None:
    """Build, write, deploy, and wait until every member has accepted an update of another."""
    engine()
    folder, stack = HERE / f"stack-{nodes}", f"gossipfl-{nodes}"
    asked = json.dumps({"nodes": nodes, **options}, sort_keys=True)
    made = folder / ASKED
    if folder.exists() and (not made.exists() or made.read_text() != asked):
        raise Trouble(f"{folder} is of another network; `make docker-down` ends that one first")
    with step(f"build {IMAGE}"):
        build(IMAGE)
    with step("a swarm") as figures:
        figures.append(ensure_swarm())
    if not folder.exists():
        if leftovers(stack):
            raise Trouble(f"there is a stack {stack} that this did not make; it is left alone")
        with step(f"write {folder}"):
            flags = [part for name, text in options.items() for part in (f"--{name}", text)]
            write_stack(folder, "--nodes", str(nodes), "--image", IMAGE, *flags)
            made.write_text(asked)
    with step(f"deploy the stack {stack}"):
        deploy(folder, stack)
    with step("every member has accepted an update of a neighbor") as figures:
        seen = until("updates are exchanged", EXCHANGE_S, lambda: _exchanged(stack, nodes))
        figures += [
            f"{name}: round {found['round']} of {found['rounds']}" for name, found in seen.items()
        ]
    first = next(iter(seen))
    say(
        f"\nLook inside:  docker exec $(docker ps -qf name={stack}_{first}.1) gossipfl status\n"
        f"The services: docker stack services {stack}\n"
        f"Its log:      docker service logs {stack}_{first}\n"
        f"Break one:    docker kill -s KILL $(docker ps -qf name={stack}_{first}.1)\n"
        "End it all:   make docker-down"
    )


def _exchanged(stack: str, nodes: int) -> dict[str, dict[str, Any]] | None:
    found = containers(stack)
    if len(found) < nodes:
        return None
    seen = {}
    for name, container in sorted(found.items()):
        answer = status(container)
        if answer is None or answer["exchanged_s"] is None:
            return None
        seen[name] = answer
    return seen


def down() -> None:
    """Remove every network that `up` made, and the swarm if it was made for that."""
    folders = sorted(path.parent for path in HERE.glob(f"stack-*/{ASKED}"))
    for folder in folders:
        stack = f"gossipfl-{folder.name.removeprefix('stack-')}"
        with step(f"remove the stack {stack} with its volumes, and {folder}"):
            remove_stack(stack)
            shutil.rmtree(folder)
    left = leave_swarm()
    say(left or ("nothing is left to remove" if not folders else "the swarm was there before"))
    say(f"The image stays, for the next time; `docker image rm {IMAGE}` removes it.")


def main() -> int:
    """Run one of the two commands; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    parser.add_argument("--nodes", type=int, default=4)
    for name in ("topology", "b", "mixing", "task", "data", "rounds"):
        parser.add_argument(f"--{name}", default="", help="as of `gossipfl new stack`")
    given = vars(parser.parse_args())
    command, nodes = given.pop("command"), given.pop("nodes")
    try:
        if command == "up":
            up(nodes, {name: text for name, text in given.items() if text})
        else:
            down()
    except Trouble as trouble:
        sys.stderr.write(f"docker-{command}: {trouble}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; `make docker-down` removes what is there\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
