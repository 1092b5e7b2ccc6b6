"""MB/s of one model update over one loopback link, everything on; and what a signature costs.

    python -m benchmarks.transfer_speed [--json] [--parameters 25000000] [--repeats 3]

Two processes, each with the real engine, driver, links and TLS; only the worker is a stand-in that
changes every parameter at once. Timed at the receiver, from the signed offer to the replica that
has advanced: chunks asked for, digest list, every chunk digested, decoded, added, the model's
digest and norm checked. MB is 10^6 bytes. `lag` is the 99th percentile of how late the receiver's
event loop woke meanwhile. A bare WebSocket loop of aiohttp over the same TLS is printed beside it.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, cast

import numpy as np

from benchmarks import link_speed
from gossipfl.effects import Effect, UpdateAccepted
from gossipfl.engine import Engine
from gossipfl.federation import Constitution, Federation, MemberEntry
from gossipfl.mixing.mean import Mean
from gossipfl.setup import Limits, Setup
from gossipfl.types import LinkId, PeerId, Seconds, Vector
from gossipfl.update import digest_of
from gossipfl.wire.chunks import DATA_BYTES_MAX
from gossipfl.wire.frame import Kind, Offer, Sealer, kind_of, open_frame
from gossipfl.wire.identity import Identity
from node.arena import LocalState
from node.certificates import make_certificate
from node.driver import Driver
from node.heap import keep_message_memory
from node.links import LinkOptions, Links, MemberAddress
from node.store import Origin, Store
from node.worker import Worker

LISTENER, DIALER = PeerId("listener"), PeerId("dialer")
KEYS = {LISTENER: Identity(b"l" * 32), DIALER: Identity(b"d" * 32)}
LAYOUT = bytes(32)
LAG_STEP = 0.005  # seconds between two looks at the clock


class StandIn:
    """A worker that changes every parameter in an instant, once it is its turn.

    The dialer's turn in a round comes when the listener's update is there, so that the two
    transfers of a round never share the link.
    """

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(0)
        self.local = LocalState(-1, 0)  # all of its model travels

    async def train(self, round_: int, model: Vector, out: Vector) -> dict[str, Any]:
        await self.turns.acquire()
        np.add(model, np.float32(1e-3), out=out)
        return {"loss": 0.0, "norm": 1.0}

    async def mix(
        self, own: Vector, received: tuple[Vector, ...], weights: object, out: Vector
    ) -> dict[str, Any]:
        out[:] = own
        return {"norm": 1.0, "digest": digest_of(out)}


class Stopwatch:
    """Times offers to replicas on a receiving engine by listening at `receive`."""

    def __init__(self, engine: Engine, accepted: Callable[[], None]) -> None:
        self.seconds: list[float] = []
        self.late: list[float] = []
        self._accepted = accepted
        self._began: float | None = None
        self._receive = engine.receive
        engine.receive = self.receive  # type: ignore[method-assign]

    def receive(self, link: LinkId, message: bytes, now: Seconds) -> list[Effect]:
        if kind_of(message) is Kind.OFFER:
            self._began = time.perf_counter()
        effects = self._receive(link, message, now)
        if any(isinstance(effect, UpdateAccepted) for effect in effects):
            assert self._began is not None
            self.seconds.append(time.perf_counter() - self._began)
            self._began = None
            self._accepted()
        return effects

    async def watch_lag(self) -> None:
        while True:
            due = time.perf_counter() + LAG_STEP
            await asyncio.sleep(LAG_STEP)
            if self._began is not None:
                self.late.append(time.perf_counter() - due)


def federation(rounds: int) -> Federation:
    constitution = Constitution(
        name="transfer",
        task={"kind": "none"},
        mixing={"kind": "mean"},
        topology={"kind": "complete"},
        rounds=rounds,
        seed=0,
    )
    members = tuple(
        MemberEntry(name=name, certificate=make_certificate(key), address=None, key=key.public)
        for name, key in KEYS.items()
    )
    return Federation(constitution=constitution, members=members)


async def run_end(me: PeerId, port: int, size: int, updates: int) -> dict[str, float]:
    """Run one end to its last round; return how fast the other end's updates came."""
    other = DIALER if me == LISTENER else LISTENER
    fed = federation(updates)
    limits = Limits(exit_when_done=True)
    setup = Setup(fed, me, (other,), Mean(), KEYS[me], LAYOUT, 1, limits=limits)
    engine = Engine(setup, np.zeros(size, np.float32), 1.0, lambda: np.zeros(size, np.float32))
    worker = StandIn()
    watch = Stopwatch(engine, worker.turns.release)
    if me == LISTENER:
        worker.turns.release()  # it begins
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory), durable=False) as store:
        kept = store, Origin(fed.digest, LAYOUT, b"")
        driver = Driver(
            engine, cast("Worker", worker), kept, evaluate_every=0, record=lambda record: None
        )
        links = link_ends(me, other, port, driver)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(links.run()), tasks.create_task(watch.watch_lag())
            await driver.run(links, tasks)
            for task in running:
                task.cancel()
    rate = [size * 4 / 1e6 / seconds for seconds in watch.seconds]
    late = sorted(watch.late)
    return {
        "mb_per_s": statistics.median(rate),
        "mb_per_s_min": min(rate),
        "lag_p99_ms": late[int(0.99 * len(late))] * 1e3,
    }


def link_ends(me: PeerId, other: PeerId, port: int, driver: Driver) -> Links:
    addresses = {LISTENER: f"127.0.0.1:{port}", DIALER: None}
    return Links(
        identity=KEYS[me],
        certificate=make_certificate(KEYS[me]),
        members={
            name: MemberAddress(make_certificate(key), addresses[name])
            for name, key in KEYS.items()
        },
        neighbors=[other],
        events=driver,
        options=LinkOptions(
            listen=("127.0.0.1", port) if me == LISTENER else None,
            message_bytes_max=DATA_BYTES_MAX,
            rng=random.Random(0),
            backoff_max=0.25,
        ),
    )


def one_end(me: PeerId, core: int, sizes: tuple[int, int, int], pipe: Pipe) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})  # one end each: neither moves about
    keep_message_memory()
    pipe.send(asyncio.run(run_end(me, *sizes)))


def transfer(size: int, updates: int) -> dict[str, dict[str, float]]:
    """Run both ends; what the dialer received is what the listener sent."""
    port = link_speed.free_port()
    context = multiprocessing.get_context("spawn")
    pipes, ends = [], []
    for core, me in enumerate((LISTENER, DIALER)):
        ours, theirs = context.Pipe(duplex=False)
        end = context.Process(target=one_end, args=(me, core, (port, size, updates), theirs))
        end.start()
        theirs.close()
        pipes.append(ours)
        ends.append(end)
    by_listener, by_dialer = [pipe.recv() for pipe in pipes]
    for end in ends:
        end.join()
    return {"listener_sends": by_dialer, "dialer_sends": by_listener}


def signatures(count: int = 500) -> dict[str, float]:
    """Return milliseconds to seal an offer and to open it."""
    key, other = KEYS[LISTENER], KEYS[DIALER]
    sealer = Sealer(key, bytes(32), LAYOUT, 1)
    offer = Offer(1, bytes(32), bytes(32), 4096, bytes(32))
    began = time.perf_counter()
    frames = [sealer.seal(offer, 0) for _ in range(count)]
    sealed = time.perf_counter()
    for frame in frames:
        open_frame(frame, key.public, other.public)
    opened = time.perf_counter()
    return {
        "seal_ms": (sealed - began) * 1e3 / count,
        "open_ms": (opened - sealed) * 1e3 / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--parameters", type=int, default=25_000_000)
    parser.add_argument("--repeats", type=int, default=5, help="updates each way")
    options = parser.parse_args()
    megabytes = (max(1, options.parameters * 4 // link_speed.MESSAGE), options.repeats)
    found: dict[str, Any] = {
        "bare": link_speed.measure("bare", megabytes),
        "engine": transfer(options.parameters, options.repeats),
    }
    for loop in ("bare", "engine"):
        for way, row in found[loop].items():
            print(
                f"{loop:6} {way.replace('_', ' '):15} {row['mb_per_s']:6.0f} MB/s"
                f"   slowest {row['mb_per_s_min']:6.0f}   lag p99 {row['lag_p99_ms']:5.1f} ms",
                file=sys.stderr,
            )
    found["offer"] = signatures()
    print(
        "offer: seal {seal_ms:.3f} ms, open {open_ms:.3f} ms".format(**found["offer"]),
        file=sys.stderr,
    )
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
