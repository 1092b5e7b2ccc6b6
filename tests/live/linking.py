"""Two ends of real links for tests: what a node hears, and how it is started."""

import asyncio
import contextlib
import random
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from gossipfl.errors import Refusal
from gossipfl.types import LinkId, PeerId
from gossipfl.wire.identity import Identity
from node.certificates import make_certificate
from node.links import LinkOptions, Links, MemberAddress
from node.tls import client_context

ANNA, BERT, CLEO, EVE = (Identity(letter * 32) for letter in (b"a", b"b", b"c", b"e"))
A, B, C = PeerId("anna"), PeerId("bert"), PeerId("cleo")
MESSAGE_BYTES = 1 << 20


class Heard:
    """Everything one node's links reported; tests wait for a state of it, never for a time."""

    def __init__(self) -> None:
        self.links: Links | None = None
        self.open: dict[LinkId, tuple[PeerId, bool]] = {}
        self.opened_ever: list[LinkId] = []
        self.closed_ever: list[LinkId] = []
        self.messages: list[bytes] = []
        self.by_link: list[LinkId] = []
        self.refusals: list[tuple[str, Refusal, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.on_open: Callable[[LinkId, PeerId, bool], None] = lambda *_: None
        self._changed = asyncio.Event()

    async def opened(self, link: LinkId, peer: PeerId, dialed: bool) -> None:
        assert link not in self.opened_ever
        self.open[link] = (peer, dialed)
        self.opened_ever.append(link)
        self.on_open(link, peer, dialed)
        self._changed.set()

    async def received(self, link: LinkId, message: bytes) -> None:
        assert link in self.open
        self.messages.append(message)
        self.by_link.append(link)
        self._changed.set()
        await self.gate.wait()

    async def closed(self, link: LinkId) -> None:
        del self.open[link]
        self.closed_ever.append(link)
        self._changed.set()

    def refused(self, origin: str, refusal: Refusal, detail: str) -> None:
        self.refusals.append((origin, refusal, detail))
        self._changed.set()

    async def until(self, reached: Callable[[], object], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    async def linked(self) -> None:
        await self.until(lambda: self.open)

    def codes(self) -> list[Refusal]:
        return [refusal for _, refusal, _ in self.refusals]

    def only(self) -> LinkId:
        (link,) = self.open
        return link


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in taken]


def members(**addresses: int | None) -> dict[PeerId, MemberAddress]:
    identities = {"anna": ANNA, "bert": BERT, "cleo": CLEO}
    return {
        PeerId(name): MemberAddress(
            make_certificate(identities[name]), None if port is None else f"127.0.0.1:{port}"
        )
        for name, port in addresses.items()
    }


def node(
    identity: Identity,
    known: dict[PeerId, MemberAddress],
    *neighbors: PeerId,
    port: int | None = None,
    **options: Any,
) -> Heard:
    heard = Heard()
    settings: dict[str, Any] = {
        "listen": None if port is None else ("127.0.0.1", port),
        "message_bytes_max": MESSAGE_BYTES,
        "rng": random.Random(identity.public),
        "backoff_min": 0.02,
        "backoff_max": 0.2,
        "head_start": 0.0,
    }
    heard.links = Links(
        identity=identity,
        certificate=make_certificate(identity),
        members=known,
        neighbors=neighbors,
        events=heard,
        options=LinkOptions(**{**settings, **options}),
    )
    return heard


def links(heard: Heard) -> Links:
    assert heard.links is not None
    return heard.links


@contextlib.asynccontextmanager
async def running(*nodes: Heard) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        runs = [tasks.create_task(links(heard).run()) for heard in nodes]
        try:
            yield
        finally:
            for run in runs:
                run.cancel()
    for heard in nodes:
        assert not heard.open
        assert Counter(heard.opened_ever) == Counter(heard.closed_ever)


@contextlib.asynccontextmanager
async def pair(**options: Any) -> AsyncIterator[tuple[Heard, Heard]]:
    """Anna listens, Bert dials; one link each."""
    (port,) = free_ports(1)
    known = members(anna=port, bert=None)
    anna = node(ANNA, known, B, port=port, **options)
    bert = node(BERT, known, A, **options)
    async with running(anna, bert):
        await anna.linked()
        await bert.linked()
        yield anna, bert


@contextlib.asynccontextmanager
async def upgraded(
    port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
    """Bert's key, but not our dialer."""
    context = context or client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"https://127.0.0.1:{port}/gossip", ssl=context) as websocket,
    ):
        yield websocket


@contextlib.asynccontextmanager
async def listening(**options: Any) -> AsyncIterator[tuple[Heard, int]]:
    (port,) = free_ports(1)
    anna = node(ANNA, members(anna=port, bert=None), B, port=port, **options)
    async with running(anna):
        await links(anna).listening()
        yield anna, port


UPGRADE = (
    b"GET /gossip HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n"
)
