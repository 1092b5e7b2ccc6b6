"""A real node under attack, and members played by the test: real keys, real links, any bytes."""

import asyncio
import base64
import contextlib
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import aiohttp
import msgpack
import numpy as np

from gossipfl.codecs.dense import Dense
from gossipfl.errors import ConfigError
from gossipfl.types import Digest, Round, Vector
from gossipfl.update import digest_of
from gossipfl.wire.chunks import DATA_TAG, Payload, data_message
from gossipfl.wire.frame import Body, Hello, Kind, Offer, Part, Refused, Sealer, Want, open_frame
from gossipfl.wire.identity import Identity
from node.certificates import make_certificate, write_key
from node.client import ask
from node.config import load_federation
from node.tls import client_context
from tests.live.linking import free_ports

VICTIM, MALLORY, QUIET, CAROL = "victim", "mallory", "quiet", "carol"
PATIENCE_S = 30.0
_POLL_S = 0.01  # between two questions to a node that has no way to call

Status: TypeAlias = dict[str, Any]

# A model of three chunks, so that there is a digest list and a transfer can stop half-way; the
# node finds it as it finds every task, by its being in the package.
TASK = """
from typing import ClassVar
import torch
from torch import nn
from gossipfl.learning.task import Place, Samples, Split, Task


class Slab(Task):
    kind: ClassVar[str] = "slab"
    epochs: int = 1
    batch_size: int = 0
    learning_rate: float = 0.01

    def model(self) -> nn.Module:
        return nn.Linear(1024, 640)

    def data(self, place: Place) -> Split:
        samples = Samples(torch.eye(4, 1024), torch.zeros(4, 640))
        return Split(samples, samples)

    def loss(self, model, inputs, targets):
        return ((model(inputs) - targets) ** 2).mean()

    def measures(self, model, inputs, targets):
        return {}
"""
SITE = """
import asyncio
import os
import threading
import time

import gossipfl.tasks

gossipfl.tasks.__path__.append({folder!r})
turn = asyncio.base_events.BaseEventLoop._run_once


def measured(loop):
    began = time.thread_time()
    turn(loop)
    if (took := time.thread_time() - began) > {shortest}:
        with open({turns!r}, "a") as file:
            file.write(f"{{os.getpid()}} {{took}}\\n")


asyncio.base_events.BaseEventLoop._run_once = measured
"""
"""What both processes of the victim do as they start: add a folder to the package of tasks, and
write down each turn of the event loop that keeps the processor; waiting does not count."""
_SHORTEST_TURN_S = 0.001  # that is written down

FEDERATION = """
name = "besieged"
task = "slab"
rounds = 100000
seed = 0
topology = "complete"
mixing = { kind = "trimmed-mean", b = 1 }
"""
# A round waits for its neighbors however long an attack takes, but a transfer for two seconds
NODE = """
member = "victim"
key = "victim.key"
federation = "federation.toml"
durable = false
evaluate_every = 0
start_quorum = 2
deadline = { min_s = 600.0, max_s = 600.0 }
limits = { stall_s = 2.0 }
"""


@dataclass
class Player:
    """What is known of a member between two of its links."""

    name: str
    identity: Identity
    incarnations: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    model: Vector | None = None  # what the victim has of it; None before its first update
    signed: Round = -1  # newest round it has offered
    offers: dict[Round, Offer] = field(default_factory=dict)  # the honest ones


class Victim:
    """One node, run as a user runs it; all its neighbors are played and only they dial."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = directory / "victim.toml"
        names = (VICTIM, MALLORY, QUIET, CAROL)
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        self.port = ports[VICTIM]
        self.players = {name: Player(name, Identity(name.encode().ljust(32))) for name in names}
        self.layout: Digest = bytes(32)  # the victim's own, once it has said hello
        self.resident_mb = 0.0  # of its daemon, once it has warmed up
        self.size = 0  # coordinates of the model, once it has offered one
        self._write(ports)
        self.federation = load_federation(directory / "federation.toml")
        self._process: subprocess.Popen[bytes] | None = None

    def _write(self, ports: dict[str, int]) -> None:
        write_key(self.directory / "victim.key", self.players[VICTIM].identity)
        folder = self.directory / "tasks"
        folder.mkdir()
        (folder / "slab.py").write_text(TASK)
        site = SITE.format(
            folder=str(folder), turns=str(self.directory / "turns"), shortest=_SHORTEST_TURN_S
        )
        (self.directory / "sitecustomize.py").write_text(site)
        rows = "".join(
            f'\n[[members]]\nname = "{player.name}"\naddress = "127.0.0.1:{ports[player.name]}"\n'
            f'certificate = "{base64.b64encode(make_certificate(player.identity)).decode()}"\n'
            for player in self.players.values()
        )
        (self.directory / "federation.toml").write_text(FEDERATION + rows)
        self.config.write_text(f'{NODE}listen = "127.0.0.1:{self.port}"\n')

    def start(self) -> None:
        path = [str(self.directory), *filter(None, [os.environ.get("PYTHONPATH")])]
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "node.cli", "run", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,
            )

    def stop(self) -> int:
        """End it as an operator would; return its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        return (self.directory / "log").read_text()

    def long_turns(self) -> list[float]:
        """Return the processor time of each long turn of the event loop so far, in seconds."""
        path = self.directory / "turns"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [float(took) for pid, took in rows if int(pid) == self.pid]

    async def status(self) -> Status:
        return await asyncio.to_thread(ask, self.directory / "victim.state")

    async def until(self, reached: Callable[[Status], object]) -> Status:
        """Ask until an answer is as wanted; return it."""
        status: Status = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    with contextlib.suppress(ConfigError):  # not there yet
                        status = await self.status()
                        if reached(status):
                            return status
                    assert self._process is not None
                    assert self._process.poll() is None, self.log()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise AssertionError(f"never so: {status}\n{self.log()}") from None

    @contextlib.asynccontextmanager
    async def link(self, name: str, *, greet: bool = True) -> AsyncIterator["HostileMember"]:
        """Dial as a member; if it greets, return once the link is up."""
        player = self.players[name]
        context = client_context(
            player.identity,
            make_certificate(player.identity),
            make_certificate(self.players[VICTIM].identity),
        )
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"https://127.0.0.1:{self.port}/gossip", ssl=context) as websocket,
            asyncio.TaskGroup() as tasks,
        ):
            member = HostileMember(self, player, websocket)
            reader = tasks.create_task(member.read())
            transport = member.transport
            try:
                await member.hears(lambda: member.greeted)
                if greet:
                    await member.greet()
                yield member
            finally:
                reader.cancel()
                transport.abort()
                await asyncio.sleep(0)  # one turn of the loop: the socket is closed


def row(status: Status, name: str) -> dict[str, Any]:
    """What a status says of one neighbor."""
    found: dict[str, Any] = next(row for row in status["neighbors"] if row["name"] == name)
    return found


class HostileMember:
    """One end of one link: may keep to the protocol or not."""

    def __init__(
        self,
        victim: Victim,
        player: Player,
        websocket: aiohttp.ClientWebSocketResponse[bool],
    ) -> None:
        self.victim = victim
        self.player = player
        self.name = player.name
        self.websocket = websocket
        self.incarnation = next(player.incarnations)
        self.sequence = 0
        self.greeted = False
        self.closed = False
        self.heard: list[Body] = []
        self.served: dict[Digest, Payload] = {}
        self.alter: Callable[[int, bytes], bytes | None] = lambda index, message: message
        """What becomes of a piece on its way out, by its index; None: it is not sent."""
        self._said = 0
        self._changed = asyncio.Event()

    @property
    def transport(self) -> asyncio.Transport:
        connection = self.websocket._response.connection
        assert connection is not None
        assert connection.transport is not None
        return connection.transport

    # --- as a neighbor -------------------------------------------------------------------------

    async def read(self) -> None:
        """Take what comes and serve what is asked for, until the link ends."""
        key = self.victim.players[VICTIM].identity.public
        async for message in self.websocket:
            if message.data[:1] == bytes([DATA_TAG]):
                continue  # the victim's own update, which this test has no use for
            frame = open_frame(message.data, key, self.player.identity.public)
            self.heard.append(frame.body)
            match frame.body:
                case Hello():
                    self.victim.layout, self.greeted = frame.layout, True
                case Offer(length=length):
                    self.victim.size = length // 4
                case Want(part=Part.PIECES) as want:
                    await self._serve(want)
                case _:
                    pass
            self._changed.set()
        self.closed = True
        self._changed.set()

    async def _serve(self, want: Want) -> None:
        if (payload := self.served.get(want.root)) is None:
            return
        for index in range(want.first, want.first + want.count):
            piece = self.alter(index, b"".join(data_message(payload, index)))
            if piece is not None:
                await self.send(piece)

    async def hears(self, reached: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def greet(self) -> None:
        """Say an honest hello and see it taken."""
        await self.send(self.sealed(self.hello(), -1))
        await self.victim.until(
            lambda status: row(status, self.name)["incarnation"] == self.incarnation
        )

    def hello(self) -> Hello:
        federation = self.victim.federation
        return Hello(federation.constitution.text, federation.members_digest)

    def update(self, vector: Vector | None = None, *, delta: bool = False) -> tuple[Offer, Payload]:
        """Make an update that serves itself once it is offered.

        Args:
            vector: the model to offer; by default a little beside the last one.
            delta: offer the difference from the last one, which must be known.
        """
        known = self.player.model
        if vector is None:
            step = np.random.default_rng(self.player.signed + 2).normal(0, 0.01, self.victim.size)
            vector = step.astype(np.float32) + (0 if known is None else known)
        base = b""
        if delta:
            assert known is not None
            data = Dense().encode(vector - known)
            base, vector = digest_of(known), known + data.view(np.float32)
        else:
            data = vector.view(np.uint8).copy()
        payload = Payload.of(data)
        self.served[payload.root] = payload
        return Offer(Dense.wire_id, base, digest_of(vector), len(payload), payload.root), payload

    async def offer(self, offer: Offer, round_: Round) -> None:
        self.player.signed = max(self.player.signed, round_)
        await self.send(self.sealed(offer, round_, b""))

    async def answer(self, round_: Round) -> None:
        """Send an honest update, a delta where the victim has something to add it to."""
        known = self.player.model
        offer, payload = self.update(delta=known is not None)
        data = payload.data.view(np.float32)
        self.player.model = data.copy() if known is None else known + data
        self.player.offers[round_] = offer
        await self.offer(offer, round_)

    # --- as no neighbor should -----------------------------------------------------------------

    async def send(self, *messages: bytes) -> None:
        """Send any bytes as messages; a link that has ended takes none."""
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            for message in messages:
                await self.websocket.send_bytes(message)

    def cut_off(self, message: bytes, at: int) -> None:
        """Begin a message and never end it: its WebSocket header and its first `at` bytes."""
        # RFC 6455 §5.2: final, binary; masked (with zeros), 64-bit length
        self.transport.write(b"\x82\xff" + len(message).to_bytes(8, "big") + bytes(4))
        self.transport.write(message[:at])

    def sealed(self, body: Body, round_: Round = 0, recipient: bytes | None = None) -> bytes:
        """Return a frame as the protocol wants it; by default for the victim."""
        key = self.victim.players[VICTIM].identity.public if recipient is None else recipient
        return self.sealer().seal(body, round_, key)

    def sealer(
        self,
        *,
        federation: Digest | None = None,
        layout: Digest | None = None,
        identity: Identity | None = None,
    ) -> Sealer:
        """Return a sealer for one frame that lies about something."""
        sealer = Sealer(
            identity or self.player.identity,
            federation or self.victim.federation.digest,
            layout or self.victim.layout,
            self.incarnation,
        )
        self.sequence += 1
        sealer._sequence = self.sequence
        return sealer

    def signed(self, kind: Kind, packed: bytes) -> bytes:
        """Sign any bytes as a control frame."""
        signature = self.player.identity.sign(f"control/{kind.name.lower()}", packed)
        return bytes([kind]) + packed + signature

    def positions(self, kind: Kind, /, *body: object, **header: object) -> bytes:
        """Sign any positions as a frame; `header` replaces single ones."""
        self.sequence += 1
        values = {
            "version": 1,
            "kind": int(kind),
            "federation": self.victim.federation.digest,
            "sender": self.player.identity.public,
            "recipient": self.victim.players[VICTIM].identity.public,
            "incarnation": self.incarnation,
            "sequence": self.sequence,
            "round": 0,
            "layout": self.victim.layout,
            **header,
        }
        return self.signed(kind, msgpack.packb([*values.values(), *body]))

    async def settled(self) -> Status:
        """Return the victim's status once all that was sent on this link has been dealt with."""
        self._said += 1
        mark = f"mark {self.incarnation}.{self._said}"
        await self.send(self.sealed(Refused("flood", mark)))
        return await self.victim.until(
            lambda status: row(status, self.name)["refuses_us"].get("flood") == mark
        )


async def close_rounds(*members: HostileMember) -> Status:
    """Answer honestly until the victim is in a round that no member has offered anything for."""
    victim = members[0].victim
    while True:
        status = await collecting(victim)
        round_ = status["round"]
        if all(member.player.signed < round_ for member in members):
            return status
        await answer_all(round_, *members)


async def answer_all(round_: Round, *members: HostileMember) -> Status:
    """Answer one round honestly; return the status once it is closed."""
    for member in members:
        if row(await member.victim.status(), member.name)["round"] < round_:
            await member.answer(max(round_, member.player.signed + 1))
    return await members[0].victim.until(lambda status: status["round"] > round_)


async def collecting(victim: Victim) -> Status:
    return await victim.until(lambda status: status["phase"] == "collecting")
