"""Same seed, same history; the smallest change is another one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.plans import plan, ran
from topology.simulate.fuzz import Size, plan_of
from topology.simulate.world import World

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
from topology.simulate.fuzz import Size, run_seed
world = run_seed(11, Size(nodes=8, rounds=8))
print(json.dumps([world.history.digest.hex(), world.events]))
"""


def in_process(hash_seed: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )
    return json.loads(done.stdout)


def test_the_same_seed_gives_the_same_history_in_two_processes_under_two_hash_seeds() -> None:
    one, other = in_process("1"), in_process("2")
    assert one == other
    world = World(plan_of(11, Size(nodes=8, rounds=8)))
    world.run()
    assert [world.history.digest.hex(), world.events] == one


def test_another_seed_gives_another_history() -> None:
    assert ran(plan()).history.digest != ran(plan(seed=4)).history.digest


@pytest.mark.parametrize("bit", [0, 7, 1000])
def test_one_flipped_bit_in_one_frame_is_another_history(bit: int) -> None:
    def flipped(message: bytes) -> bytes:
        changed = bytearray(message)
        changed[bit // 8 % len(message)] ^= 1 << bit % 8
        return bytes(changed)

    world = World(plan(faults='transport = "datagram"\n[network]\ncorrupt = 1e-9\n'))
    untouched = World(plan(faults='transport = "datagram"\n[network]\ncorrupt = 1e-9\n'))
    deliver, seen = world.network._deliver, 0

    def tamper(channel: Any, message: bytes | None) -> None:
        nonlocal seen
        seen += 1
        deliver(channel, flipped(message) if seen == 100 and message else message)

    world.network._deliver = tamper  # type: ignore[method-assign]
    for one in (world, untouched):
        for _ in range(300):
            if not one._heap:
                for host in one.hosts:
                    one.at(0.0, host.start)
            one.checks.rejected = lambda *_: None  # type: ignore[method-assign]
            one.step()
    assert seen > 100
    assert world.history.digest != untouched.history.digest


def test_two_swapped_deliveries_are_another_history() -> None:
    worlds = World(plan(), keep=True), World(plan(), keep=True)
    for world in worlds:
        for host in world.hosts:
            world.at(0.0, host.start)
        for _ in range(200):
            world.step()
    one, other = worlds
    assert one.history.digest == other.history.digest
    # the next two deliveries to different nodes, in the other order at the same times
    heap = sorted(other._heap)
    deliveries = [entry for entry in heap if entry[2].__name__ == "_deliver"]
    first = deliveries[0]
    second = next(
        entry
        for entry in deliveries[1:]
        if entry[3][0].link.ends[entry[3][0].side] != first[3][0].link.ends[first[3][0].side]
    )
    swapped = {
        first[1]: (first[0], first[1], second[2], second[3]),
        second[1]: (second[0], second[1], first[2], first[3]),
    }
    other._heap = [swapped.get(entry[1], entry) for entry in heap]
    for world in worlds:
        # an honest piece before its offer is refused, which is what a swap does
        world.checks.rejected = lambda *_: None  # type: ignore[method-assign]
        for _ in range(60):
            world.step()
    assert one.history.lines is not None
    assert one.history.lines != other.history.lines
    assert one.history.digest != other.history.digest


def test_keeping_lines_does_not_change_the_digest() -> None:
    assert ran(plan(), keep=True).history.digest == ran(plan()).history.digest
