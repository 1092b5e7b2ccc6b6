"""Puts one node together, supervises it, and takes it down whole.

Order of start: store, status, worker, engine, links. A failure anywhere cancels the rest; what
surfaces is the first error, with a sentence for the operator.
"""

import asyncio
import logging
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gossipfl.engine import Engine
from gossipfl.errors import GossipError, StoreError
from gossipfl.setup import Setup
from gossipfl.types import Digest, PeerId
from gossipfl.wire.chunks import DATA_BYTES_MAX
from node.certificates import read_key
from node.config import NodeConfig
from node.connection import LinkOptions
from node.driver import Driver
from node.links import Links, MemberAddress
from node.model_file import MODEL_NAME, Parts, write_model
from node.records import RECORDS_NAME, recording, recount
from node.status import SOCKET_NAME, StatusServer, describe, starting
from node.store import Origin, Store
from node.worker import Worker
from topology.analysis import metropolis_weights

__all__ = ["Outcome", "serve"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended.

    Attributes:
        participation: in how many of the rounds that this node closed each member took part.
        members: how many of them took part in at least half, this one included.
        rounds: that this node closed, at earlier starts too.
        status: the node's last.
        model: where it was written; None if the node left before it had one.
        failure: what could not be kept.
    """

    participation: dict[PeerId, int]
    members: int
    rounds: int
    status: dict[str, Any]
    model: Path | None
    failure: StoreError | None = None


async def serve(config: NodeConfig, *, exit_when_done: bool) -> Outcome:
    """Run a node until it is told to leave, or is done and was to exit then.

    Args:
        config: all that the node is told.
        exit_when_done: leave after the last round, once every live neighbor is done too.

    Raises:
        GossipError: what stopped the node; its `fix` is for the operator.
    """
    settings = config.settings
    for warning in config.warnings():
        logger.warning("%s", warning)
    try:
        with _signals() as told, Store(settings.store, durable=settings.durable) as store:
            return await _serve(config, store, told, exit_when_done=exit_when_done)
    except BaseExceptionGroup as group:
        error = _first(group)
        if error is group:
            raise
        raise error from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the operator's error of a group if it holds nothing but such errors."""
    known, bugs = group.split(GossipError)
    if known is None or bugs is not None:
        return group
    error: BaseException = known
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _serve(
    config: NodeConfig, store: Store, told: asyncio.Event, *, exit_when_done: bool
) -> Outcome:
    directory = config.settings.store
    incarnation = store.next_incarnation()
    worker = Worker(_beginning(config))
    try:
        async with StatusServer(
            directory / SOCKET_NAME, lambda: starting(config, worker, incarnation)
        ) as server:
            begun = await _begin(worker, told)
            if begun is None:
                return Outcome({}, 1, 0, server.report(), None)
            origin = Origin(config.federation.digest, begun["layout"])
            restored = store.load(origin)
            setup = _setup(config, begun["layout"], incarnation, exit_when_done=exit_when_done)
            arena = worker.arena(begun["size"])
            engine = Engine(setup, arena.vector(0), begun["norm"], arena.allocate, restored)
            with recording(directory / RECORDS_NAME, anew=restored is None) as record:
                driver = Driver(
                    engine,
                    worker,
                    (store, origin),
                    evaluate_every=config.settings.evaluate_every,
                    record=record,
                    keep=lambda model: write_model(directory / MODEL_NAME, model, begun["parts"]),
                )
                recount(directory / RECORDS_NAME, driver.seen.participation)
                links = _links(config, driver)
                clock = asyncio.get_running_loop().time
                server.report = lambda: describe(config, driver, links, worker, clock())
                await _drive(driver, links, told, server)
            return _outcome(driver, directory / MODEL_NAME, begun["parts"], server.report())
    finally:
        await worker.close()


async def _begin(worker: Worker, told: asyncio.Event) -> dict[str, Any] | None:
    """Start the worker, None if the node is told to leave before it is up."""
    async with asyncio.TaskGroup() as tasks:
        start = tasks.create_task(worker.start(), name="start")
        leaving = tasks.create_task(told.wait(), name="told to leave")
        await asyncio.wait((start, leaving), return_when=asyncio.FIRST_COMPLETED)
        start.cancel()
        leaving.cancel()
    return None if start.cancelled() else start.result()


async def _drive(driver: Driver, links: Links, told: asyncio.Event, server: StatusServer) -> None:
    """Run links and driver until the node has left."""

    async def leave() -> None:
        await told.wait()
        driver.leave()

    async with asyncio.TaskGroup() as tasks:
        beside = [
            tasks.create_task(links.run(), name="links"),
            tasks.create_task(leave(), name="told to leave"),
        ]
        await driver.run(links, tasks)
        last = server.report()  # with the links as they were
        server.report = lambda: last
        for task in beside:
            task.cancel()


def _outcome(driver: Driver, path: Path, parts: Parts, status: dict[str, Any]) -> Outcome:
    """Write the model and sum up."""
    engine, seen = driver.engine, driver.seen
    failure = None
    if seen.degraded:
        failure = StoreError(
            f"{seen.degraded}; what was learned since is not in it",
            fix="Make the disk right and start the node again: it goes on from the older state.",
        )
    model: Path | None = path
    try:
        write_model(path, engine.own if driver.half_mixed else engine.model, parts)
    except StoreError as error:
        model, failure = None, failure or error
    taken = seen.participation
    return Outcome(taken.counts, taken.members, taken.rounds, status, model, failure)


def _beginning(config: NodeConfig) -> dict[str, Any]:
    settings, federation = config.settings, config.federation
    constitution = federation.constitution
    return {
        "task": constitution.task,
        "mixing": constitution.mixing,
        "place": {
            "data": None if settings.data is None else str(settings.data),
            "member": settings.member,
            "index": federation.index(settings.member),
            "members": len(federation.members),
            "seed": constitution.seed,
        },
    }


def _setup(config: NodeConfig, layout: Digest, incarnation: int, *, exit_when_done: bool) -> Setup:
    federation = config.federation
    me = PeerId(config.settings.member)
    weights = None
    if config.rule.uses_weights:
        own = metropolis_weights(config.graph)[federation.index(me)]
        weights = {name: own[federation.index(name)] for name in config.neighbors}
    return Setup(
        federation=federation,
        me=me,
        neighbors=config.neighbors,
        rule=config.rule,
        identity=read_key(config.settings.key),
        layout=layout,
        incarnation=incarnation,
        codec=config.codec,
        attack=config.attack,
        weights=weights,
        limits=replace(config.limits, exit_when_done=exit_when_done),
    )


def _links(config: NodeConfig, driver: Driver) -> Links:
    settings, federation = config.settings, config.federation
    members = {
        PeerId(entry.name): MemberAddress(entry.certificate, entry.address)
        for entry in federation.members
    }
    return Links(
        identity=read_key(settings.key),
        certificate=config.entry.certificate,
        members=members,
        neighbors=config.neighbors,
        events=driver,
        options=LinkOptions(
            listen=settings.listen,
            message_bytes_max=DATA_BYTES_MAX,
            rng=random.Random(),  # jitter: nodes that start together must not dial together
            links_per_address=settings.limits.links_per_address,
            links_total=settings.limits.links_total,
        ),
    )


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Yield what SIGTERM and Ctrl-C set; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT)
    told = asyncio.Event()

    def tell() -> None:
        told.set()
        for kind in kinds:
            loop.remove_signal_handler(kind)
            signal.signal(kind, signal.SIG_DFL)

    for kind in kinds:
        loop.add_signal_handler(kind, tell)
    try:
        yield told
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
        signal.signal(signal.SIGINT, signal.default_int_handler)
