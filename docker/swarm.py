"""The Docker engine and its swarm, by the docker command line; every call is bounded in time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

__all__ = [
    "ROOT",
    "Trouble",
    "build",
    "containers",
    "deploy",
    "docker",
    "engine",
    "ensure_swarm",
    "leave_swarm",
    "leftovers",
    "remove_stack",
    "said",
    "say",
    "status",
    "step",
    "until",
    "write_stack",
]

ROOT: Final = Path(__file__).resolve().parents[1]
SWARM_MADE: Final = Path(__file__).with_name(".swarm")
"""Holds the ID of a swarm that was made here, and the network that came with it, if it did."""
GATEWAY: Final = "docker_gwbridge"  # Docker makes it with the first swarm, and leaves it behind

BUILD_S: Final = 3600.0  # a slow line takes that long to bring torch
CALL_S: Final = 60.0  # an engine that needs longer for anything else hangs
REMOVE_S: Final = 90.0  # the grace period of 30 s, and what Swarm takes to notice
POLL_S: Final = 1.0  # each look is a process in a container, half a second of a core
NAMESPACE: Final = "com.docker.stack.namespace"  # the label of all that a stack is made of

T = TypeVar("T")


class Trouble(Exception):
    """Something went otherwise than it has to; says what, and what to do if that is known."""


def say(text: str) -> None:
    """Write one line of progress."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@contextmanager
def step(what: str) -> Iterator[list[str]]:
    """Time one step; what the caller puts into the list is said with it, when it went well."""
    figures: list[str] = []
    began = time.monotonic()
    say(f"… {what}")
    yield figures
    say(
        f"  ok  {time.monotonic() - began:6.1f} s  {what}"
        + "".join(f"\n      {f}" for f in figures)
    )


def docker(*arguments: str, seconds: float = CALL_S) -> str:
    """Run one docker command and return what it wrote to stdout.

    Raises:
        Trouble: it failed, took too long, or there is no docker command.
    """
    code, out, errors = said(*arguments, seconds=seconds)
    if code != 0:
        raise Trouble(f"docker {' '.join(arguments)} failed: {errors.strip() or out.strip()}")
    return out.strip()


def said(*arguments: str, seconds: float = CALL_S) -> tuple[int, str, str]:
    """Run one docker command; return its exit status, stdout and stderr.

    Raises:
        Trouble: it took too long, or there is no docker command.
    """
    try:
        done = subprocess.run(
            ["docker", *arguments],
            capture_output=True,
            text=True,
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise Trouble("there is no docker command on this machine; install Docker") from error
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"docker {' '.join(arguments)} took more than {seconds:.0f} s") from error
    return done.returncode, done.stdout, done.stderr


def until(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """Look again and again until there is something to see; return it.

    Raises:
        Trouble: it did not come in time.
    """
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > ends:
            raise Trouble(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_S)


def engine() -> dict[str, Any]:
    """Return what `docker info` says.

    Raises:
        Trouble: no engine answers.
    """
    code, out, errors = said("info", "--format", "{{json .}}")
    try:
        info: dict[str, Any] = json.loads(out)
    except ValueError:
        info = {}
    if code != 0 or not info.get("ServerVersion"):
        reasons = errors.strip() or "; ".join(info.get("ServerErrors") or ())
        raise Trouble(
            f"no Docker engine answers: {reasons}\n"
            "Start one, or name one with DOCKER_HOST; `docker info` has to answer."
        )
    return info


def build(image: str) -> None:
    """Build the image from this working tree, showing what the builder says.

    TORCH_INDEX in the environment names where torch comes from.

    Raises:
        Trouble: it cannot be built.
    """
    command = ["docker", "build", "-f", "docker/Dockerfile", "-t", image]
    if index := os.environ.get("TORCH_INDEX"):
        command += ["--build-arg", f"TORCH_INDEX={index}"]
    try:
        done = subprocess.run([*command, "."], cwd=ROOT, timeout=BUILD_S)
    except subprocess.TimeoutExpired as error:
        raise Trouble(f"the image was not built within {BUILD_S:.0f} s") from error
    if done.returncode != 0:
        raise Trouble("the image cannot be built: see above")


def ensure_swarm() -> str:
    """Make a swarm of this one machine if there is none, and remember that; say what there is.

    Raises:
        Trouble: there is a swarm that cannot be used for this.
    """
    swarm = engine()["Swarm"]
    state = swarm["LocalNodeState"]
    if state == "inactive":
        # on loopback: nobody else is to join, and nobody else sees the port
        fresh = said("network", "inspect", GATEWAY)[0] != 0
        docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")
        made = engine()["Swarm"]["Cluster"]["ID"]
        SWARM_MADE.write_text(f"{made} {GATEWAY}\n" if fresh else f"{made}\n")
        return "made a swarm of this one machine"
    if state != "active" or not swarm["ControlAvailable"]:
        raise Trouble(f"this engine is {state} in a swarm that it does not manage; use a manager")
    if swarm["Nodes"] != 1:
        raise Trouble(
            f"this swarm has {swarm['Nodes']} machines, and the others lack the image built here.\n"
            "Push an image to a registry, and deploy what `gossipfl new stack --image` writes."
        )
    return "there is a swarm"


def leave_swarm() -> str | None:
    """Leave the swarm if it was made here and nothing is left in it; say so, None if not."""
    if not SWARM_MADE.exists():
        return None
    swarm = engine()["Swarm"]
    ours, *networks = SWARM_MADE.read_text().split()
    if swarm["LocalNodeState"] == "active" and (swarm.get("Cluster") or {}).get("ID") == ours:
        if docker("service", "ls", "--quiet"):
            return "the swarm stays: there are other services in it"
        docker("swarm", "leave", "--force")
        for network in networks:
            said("network", "rm", network)  # in use by something else now: then it stays
    SWARM_MADE.unlink()
    return "left the swarm that was made for this"


def write_stack(folder: Path, *options: str) -> dict[str, Any]:
    """Run `gossipfl new stack`; return what it says.

    Raises:
        Trouble: it refused.
    """
    command = [sys.executable, "-m", "node.cli", "new", "stack", "--out", str(folder), "--json"]
    done = subprocess.run(
        [*command, *options], cwd=ROOT, capture_output=True, text=True, timeout=CALL_S
    )
    if done.returncode != 0:
        raise Trouble(done.stderr.strip())
    data: dict[str, Any] = json.loads(done.stdout)["data"]
    return data


def deploy(folder: Path, stack: str) -> None:
    """Deploy a folder's stack."""
    docker(
        *("stack", "deploy", "--resolve-image", "never"),  # the image is here, in no registry
        *("--compose-file", str(folder / "stack.yaml"), stack),
    )


def containers(stack: str) -> dict[str, str]:
    """Return the running container of each member that has one."""
    rows = docker(
        *("ps", "--no-trunc", "--filter", f"label={NAMESPACE}={stack}", "--format"),
        '{{.ID}} {{.Label "com.docker.swarm.service.name"}}',
    )
    found = (row.split() for row in rows.splitlines())
    return {service.removeprefix(f"{stack}_"): container for container, service in found}


def status(container: str) -> dict[str, Any] | None:
    """Ask the node in a container how it is; None while it does not answer."""
    code, out, _ = said("exec", container, "gossipfl", "status", "--json")
    if code != 0:
        return None
    data: dict[str, Any] = json.loads(out)["data"]
    return data


def leftovers(stack: str) -> dict[str, list[str]]:
    """Return what there is of a stack, by kind; kinds of which there is nothing are left out."""
    label = ("--filter", f"label={NAMESPACE}={stack}", "--quiet")
    found = {
        "container": docker("ps", "--all", *label),
        "network": docker("network", "ls", *label),
        "volume": docker("volume", "ls", *label),
    }
    if engine()["Swarm"].get("ControlAvailable"):
        found |= {kind: docker(kind, "ls", *label) for kind in ("service", "secret", "config")}
    return {kind: rows.split() for kind, rows in found.items() if rows}


def remove_stack(stack: str) -> None:
    """Remove all that a stack is made of, volumes too; what is not there is no fault.

    Raises:
        Trouble: something stayed.
    """
    if engine()["Swarm"].get("ControlAvailable"):
        docker("stack", "rm", stack, seconds=REMOVE_S)

    def emptied() -> bool | None:
        left = leftovers(stack)
        if "container" in left or "service" in left:
            return None
        for kind, names in left.items():
            said(kind, "rm", *names)  # one that is just being removed is no fault
        return True if not leftovers(stack) else None

    until(f"everything of the stack {stack} is removed", REMOVE_S, emptied)
