"""Puts one node together, supervises it, and takes it down whole.

Order of start: store, worker, engine, status, links. A failure anywhere cancels the rest; what
surfaces is the first error, with a sentence for the operator.
"""

import asyncio
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from gossipfl.engine import Engine
from gossipfl.errors import GossipError
from gossipfl.report import RoundRecord
from gossipfl.setup import Setup
from gossipfl.types import PeerId
from gossipfl.wire.chunks import DATA_BYTES_MAX
from node.certificates import read_key
from node.config import NodeConfig
from node.connection import LinkOptions
from node.driver import Driver
from node.links import Links, MemberAddress
from node.status import SOCKET_NAME, StatusServer, describe
from node.store import Origin, Store
from node.worker import Worker
from topology.analysis import metropolis_weights

__all__ = ["MODEL_NAME", "RECORDS_NAME", "Outcome", "serve"]

MODEL_NAME = "model.safetensors"
RECORDS_NAME = "rounds.jsonl"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: who took part in how many rounds, and the node's last status."""

    participation: dict[PeerId, int]
    members: int
    rounds: int
    status: dict[str, Any]
    model: Path | None


async def serve(
    config: NodeConfig,
    *,
    exit_when_done: bool,
    observe: Callable[[Driver], None] = lambda driver: None,
) -> Outcome:
    """Run a node until it is told to leave, or is done and was to exit then.

    Args:
        config: all that the node is told.
        exit_when_done: leave after the last round, once every live neighbor is done too.
        observe: called once with the driver, before the first round.

    Raises:
        GossipError: what stopped the node; its `fix` is for the operator.
    """
    try:
        with Store(config.settings.store, durable=config.settings.durable) as store:
            return await _serve(config, store, exit_when_done=exit_when_done, observe=observe)
    except BaseExceptionGroup as group:
        raise _first(group) from group


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
    config: NodeConfig,
    store: Store,
    *,
    exit_when_done: bool,
    observe: Callable[[Driver], None],
) -> Outcome:
    settings = config.settings
    incarnation = store.next_incarnation()
    worker = Worker(_beginning(config))
    try:
        async with asyncio.TaskGroup() as tasks:
            begun = await worker.start(tasks)
            engine, origin = _engine(config, store, worker, begun, incarnation, exit_when_done)
            with _records(settings.store / RECORDS_NAME) as record:
                driver = Driver(
                    engine,
                    worker,
                    (store, origin),
                    evaluate_every=settings.evaluate_every,
                    record=record,
                )
                observe(driver)
                links = _links(config, driver)
                clock = asyncio.get_running_loop().time

                def report() -> dict[str, Any]:
                    return describe(driver, links, worker, clock())

                async with StatusServer(settings.store / SOCKET_NAME, report):
                    linking = tasks.create_task(links.run(), name="links")
                    with _signals(driver):
                        await driver.run(links, tasks)
                    status = report()
                    linking.cancel()
                    with suppress(asyncio.CancelledError):
                        await linking
            model = settings.store / MODEL_NAME
            await worker.export(engine.model, model)
            await worker.stop()
        seen = driver.seen.participation
        return Outcome(seen.counts, seen.members, seen.rounds, status, model)
    finally:
        worker.kill()
        worker.close()


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


def _engine(
    config: NodeConfig,
    store: Store,
    worker: Worker,
    begun: dict[str, Any],
    incarnation: int,
    exit_when_done: bool,
) -> tuple[Engine, Origin]:
    federation = config.federation
    me = PeerId(config.settings.member)
    origin = Origin(federation.digest, begun["layout"])
    restored = store.load(origin)
    arena = worker.arena(begun["size"])
    weights = None
    if config.rule.uses_weights:
        own = metropolis_weights(config.graph)[federation.index(me)]
        weights = {name: own[federation.index(name)] for name in config.neighbors}
    setup = Setup(
        federation=federation,
        me=me,
        neighbors=config.neighbors,
        rule=config.rule,
        identity=read_key(config.settings.key),
        layout=begun["layout"],
        incarnation=incarnation,
        codec=config.codec,
        attack=config.attack,
        weights=weights,
        limits=replace(config.limits, exit_when_done=exit_when_done),
    )
    initial = arena.vector(0)
    return Engine(setup, initial, begun["norm"], arena.allocate, restored), origin


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
def _records(path: Path) -> Iterator[Callable[[RoundRecord], None]]:
    """Append every round to a file, a JSON object a line; `at` is when, in Unix seconds."""

    def write(to: TextIO, record: RoundRecord) -> None:
        to.write(json.dumps({"at": time.time(), **record.as_json()}) + "\n")
        to.flush()

    with path.open("a") as file:
        yield lambda record: write(file, record)


@contextmanager
def _signals(driver: Driver) -> Iterator[None]:
    """SIGTERM and Ctrl-C: say goodbye and keep the state; a second one ends at once."""
    loop = asyncio.get_running_loop()
    kinds = (signal.SIGTERM, signal.SIGINT)

    def leave() -> None:
        driver.leave()
        for kind in kinds:
            loop.remove_signal_handler(kind)

    for kind in kinds:
        loop.add_signal_handler(kind, leave)
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
