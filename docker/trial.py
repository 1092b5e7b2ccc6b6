"""`make docker-test`: four hospitals on the engine that `docker info` reaches, one killed midway.

Builds the image, deploys what `gossipfl new stack` writes, kills one node in mid-training, waits
for the trained models, measures them, looks at how the containers are locked up, and removes
everything, also when it fails or is interrupted. Exit status 0 only if every step went well.
"""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from swarm import (
    Trouble,
    build,
    containers,
    deploy,
    docker,
    engine,
    ensure_swarm,
    leave_swarm,
    leftovers,
    remove_stack,
    said,
    say,
    status,
    step,
    until,
    write_stack,
)

from gossipfl.learning.task import Place, initial, load_task
from gossipfl.tasks.heart_disease import HOSPITALS

STACK: Final = "gossipfl-trial"
IMAGE: Final = "gossipfl:trial"
BASE: Final = "python:3.11-slim-bookworm"
VICTIM: Final = "switzerland"  # the smallest; the others learn without it while it is away
ROUNDS: Final = 3000  # at 10 ms each on a fast machine still 30 s, and 15 s bring a node back
UNDERWAY: Final = 20  # rounds closed by every node: it is training, not starting

START_S: Final = 180.0  # four nodes that import torch on a crowded machine
RETURN_S: Final = 60.0  # what is claimed: a killed node is heard again in this time
FINISH_S: Final = 400.0  # all rounds at 130 ms, three times what they take on two busy cores
GRACE_S: Final = 30.0  # stop_grace_period in stack.yaml

# Right of all hospitals' held-out patients. `make demo` gives 0.810 in the mean of five splits and
# 0.807 for the worst hospital; a hospital alone has 0.736 in the mean, and 0.571 at worst. With 307
# held-out patients one standard error is 0.022.
MEAN_MIN: Final = 0.79
WORST_MIN: Final = 0.78


def trial() -> None:
    """Run every step; the first that goes wrong raises."""
    with step("an engine answers") as figures:
        info = engine()
        figures.append(f"Docker {info['ServerVersion']} on {info['OperatingSystem']}")
    with _everything_removed(), tempfile.TemporaryDirectory(prefix="gossipfl-trial-") as home:
        with step(f"build {IMAGE}") as figures:
            build(IMAGE)
            figures.append(_size())
        with step("a swarm") as figures:
            figures.append(ensure_swarm())
        folder = Path(home) / "stack"
        with step("write and deploy the four hospitals") as figures:
            written = write_stack(folder, "--image", IMAGE, "--rounds", str(ROUNDS))
            deploy(folder, STACK)
            figures.append(f"{written['mixing']}, {written['topology']}, {ROUNDS} rounds")
        _start()
        _kill_and_return()
        _finish()
        _measure(Path(home))
        _locked_up()
        _stop_and_return()


def _size() -> str:
    size = int(docker("image", "inspect", IMAGE, "--format", "{{.Size}}"))
    code, base, _ = said("image", "inspect", BASE, "--format", "{{.Size}}")
    if code != 0:  # a builder with a store of its own need not have it here
        return f"{size / 1e6:.0f} MB with its base image"
    return f"{size / 1e6:.0f} MB, {(size - int(base)) / 1e6:.0f} MB of it on top of its base image"


def _start() -> None:
    with step("every HEALTHCHECK says healthy") as figures:
        until("four healthy containers", START_S, _all_healthy)
        figures.append(", ".join(sorted(containers(STACK))))
    with step(f"every node has closed {UNDERWAY} rounds") as figures:
        seen = until("training is under way", START_S, _all_under_way)
        figures += [_where(name, found) for name, found in seen.items()]


def _kill_and_return() -> None:
    """Kill one node; two neighbors must accept an update that it signed after its new start."""
    container = containers(STACK)[VICTIM]
    before = _asked(container)
    with step(f"kill {VICTIM}; two neighbors accept an update of its next start") as figures:
        docker("kill", "--signal", "KILL", container)
        killed = time.monotonic()
        figures.append(
            f"killed in round {before['round']} of {ROUNDS}, start {before['incarnation']}, "
            f"container {container[:12]}"
        )
        heard = until(
            f"two neighbors accept an update of {VICTIM}'s next start",
            RETURN_S,
            lambda: _heard_again(before["incarnation"]),
        )
        took = time.monotonic() - killed
        for name, (row, round_) in heard.items():
            figures.append(
                f"{name} in its round {round_}: accepted {VICTIM}'s round {row['accepted_round']} "
                f"of start {row['accepted_incarnation']}, {row['accepted_s']:.1f} s ago"
            )
        figures.append(f"{took:.1f} s after the kill")
        returned = containers(STACK)[VICTIM]
        _must(returned != container, "the same container is still there")
        figures.append(f"container {returned[:12]}")


def _heard_again(incarnation: int) -> dict[str, tuple[dict[str, Any], int]] | None:
    """Return what neighbors accepted of the victim's later starts, None if fewer than two did."""
    heard = {}
    for name, container in sorted(containers(STACK).items()):
        answer = None if name == VICTIM else status(container)
        if answer is None:
            continue
        _must(not answer["finished"], f"{name} closed all rounds before {VICTIM} was back")
        row = next(row for row in answer["neighbors"] if row["name"] == VICTIM)
        if (row["accepted_incarnation"] or 0) > incarnation:
            heard[name] = row, answer["round"]
    return heard if len(heard) >= 2 else None


def _finish() -> None:
    with step("every node has closed all rounds") as figures:
        seen = until("the trained models", FINISH_S, _all_finished)
        figures += [
            f"{name}: {ROUNDS} rounds, took part: {found['participation']}"
            for name, found in seen.items()
        ]


def _measure(home: Path) -> None:
    """Score each node's model.safetensors, copied out, on all hospitals' held-out patients."""
    task = load_task("heart-disease")
    splits = [
        task.data(Place(None, name, index, len(HOSPITALS), 0))
        for index, name in enumerate(HOSPITALS)
    ]
    inputs = torch.cat([split.held_out.inputs for split in splits])
    targets = torch.cat([split.held_out.targets for split in splits])
    accuracies = {}
    with step("the models are right where nobody trained") as figures:
        for name, container in sorted(containers(STACK).items()):
            file = home / f"{name}.safetensors"
            docker("cp", f"{container}:/var/lib/gossipfl/model.safetensors", str(file))
            model = initial(task, 0)
            model.load_state_dict(load_file(file))
            with torch.no_grad():
                accuracy = task.measures(model, inputs, targets)["accuracy"]
            _must(accuracy is not None, "there is no accuracy")
            accuracies[name] = float(accuracy or 0.0)
        mean, worst = sum(accuracies.values()) / len(accuracies), min(accuracies.values())
        figures.append(f"accuracy on the {len(targets)} held-out patients of all four hospitals:")
        figures += [f"  {name} {accuracy:.3f}" for name, accuracy in accuracies.items()]
        figures.append(f"  mean {mean:.3f} (at least {MEAN_MIN}), worst {worst:.3f} ({WORST_MIN})")
        _must(len(accuracies) == len(HOSPITALS), "a model is missing")
        _must(mean >= MEAN_MIN and worst >= WORST_MIN, "\n".join(figures))


def _locked_up() -> None:
    """Look at one container from inside and outside."""
    with step("the containers are locked up") as figures:
        container = containers(STACK)["cleveland"]
        for path in ("/", "/etc/gossipfl/", "/opt/gossipfl/"):
            code, _, errors = said("exec", container, "touch", f"{path}trial")
            _must(code != 0 and "Read-only file system" in errors, f"{path} can be written")
        for path in ("/tmp", "/var/lib/gossipfl"):  # the twin: these may change
            docker("exec", container, "sh", "-c", f"touch {path}/trial && rm {path}/trial")
        figures.append("read-only but for /tmp and /var/lib/gossipfl")
        key = docker("exec", container, "stat", "-c", "%a %u %g", "/run/secrets/gossipfl.key")
        _must(key == "400 10001 10001", f"the key is {key}")
        user = docker("exec", container, "id", "-u")
        _must(user == "10001", f"the user is {user}")
        figures.append(f"user {user}, the key's mode and owner {key}")
        rights = docker("exec", container, "grep", "CapEff", "/proc/1/status").split()[-1]
        _must(int(rights, 16) == 0, f"process 1 has capabilities {rights}")
        found = json.loads(docker("inspect", container))[0]
        _must(not found["HostConfig"]["PortBindings"], "a port is published")
        figures.append("no capabilities, no published port")
        page = docker("exec", container, "gossipfl", "status")
        figures.append("`gossipfl status` in the container begins:")
        figures += [f"  {line}" for line in page.splitlines()[:3]]
        figures.append(docker("exec", container, "gossipfl", "health", "--within", "120"))
        used = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
        figures += [f"memory {row}" for row in used.splitlines() if row.startswith(STACK)]


def _stop_and_return() -> None:
    """End one node as Swarm does; it must end by itself and come back with what it had."""
    container = containers(STACK)["cleveland"]
    before = _asked(container)
    with step("SIGTERM ends a node, and it comes back with its state") as figures:
        began = time.monotonic()
        docker("stop", "--time", str(int(GRACE_S)), container, seconds=2 * GRACE_S)
        took = time.monotonic() - began
        code = docker("inspect", "--format", "{{.State.ExitCode}}", container)
        _must(code == "0" and took < GRACE_S, f"exit status {code} after {took:.1f} s")
        figures.append(f"exit status 0 after {took:.1f} s of {GRACE_S:.0f}")

        def back() -> dict[str, Any] | None:
            answer = status(containers(STACK).get("cleveland", ""))
            return answer if answer is not None and answer["phase"] != "starting" else None

        after = until("cleveland is back", START_S, back)
        _must(after["incarnation"] > before["incarnation"], "its start was not counted")
        for key in ("round", "model_digest"):
            _must(after[key] == before[key], f"{key} was {before[key]} and is {after[key]}")
        figures.append(
            f"start {after['incarnation']} after {before['incarnation']}, round {after['round']}, "
            f"model {after['model_digest'][:16]}… as before"
        )


def _all_healthy() -> bool | None:
    rows = docker("ps", "--filter", f"name={STACK}_", "--filter", "health=healthy", "--quiet")
    return True if len(rows.split()) == len(HOSPITALS) else None


def _all_under_way() -> dict[str, dict[str, Any]] | None:
    return _all(lambda found: found["phase"] != "starting" and found["round"] >= UNDERWAY)


def _all_finished() -> dict[str, dict[str, Any]] | None:
    return _all(lambda found: bool(found["finished"]))


def _all(reached: Callable[[dict[str, Any]], bool]) -> dict[str, dict[str, Any]] | None:
    """Return every node's status, None unless each is as wanted."""
    seen = {}
    for name, container in sorted(containers(STACK).items()):
        answer = status(container)
        if answer is None or not reached(answer):
            return None
        seen[name] = answer
    return seen if len(seen) == len(HOSPITALS) else None


def _asked(container: str) -> dict[str, Any]:
    answer = status(container)
    if answer is None:
        raise Trouble("a node does not say how it is")
    return answer


def _where(name: str, found: dict[str, Any]) -> str:
    return f"{name}: round {found['round']} of {found['rounds']}, start {found['incarnation']}"


def _must(true: bool, otherwise: str) -> None:
    if not true:
        raise Trouble(otherwise)


@contextmanager
def _everything_removed() -> Iterator[None]:
    """Remove what an earlier trial left, and at the end, however it comes, all of this one."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that it cleans up
    remove_stack(STACK)
    try:
        yield
    except BaseException:
        _last_words()
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is begun here is finished
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with step("remove everything") as figures:
            remove_stack(STACK)
            said("image", "rm", IMAGE)
            left = leave_swarm()
            figures.append("no container, service, secret, config, network or volume is left")
            figures.append("the builder's layers stay, for the next time")
            figures += [left] if left else []
            _must(not leftovers(STACK), f"left behind: {leftovers(STACK)}")


def _last_words() -> None:
    """Show what a person needs to see why it failed, before it is removed."""
    say("\nWhat there was when it failed:")
    for arguments in (
        ("stack", "ps", "--no-trunc", STACK),
        ("ps", "--all", "--filter", f"name={STACK}_"),
        *(("logs", "--tail", "30", container) for container in _known()),
    ):
        _, out, errors = said(*arguments)
        say(f"$ docker {' '.join(arguments)}\n{out}{errors}")


def _known() -> list[str]:
    return said("ps", "--all", "--quiet", "--filter", f"name={STACK}_")[1].split()


def main() -> int:
    """Run the trial; return the exit status."""
    began = time.monotonic()
    try:
        trial()
    except Trouble as trouble:
        sys.stderr.write(f"docker-test: {trouble}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("docker-test: interrupted\n")
        return 130
    say(f"docker-test passed in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
