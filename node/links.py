"""Links to the neighbors: dialed or accepted, each proved by its certificate.

Either side may dial and one link carries both directions. Which of two links between one pair
stays is the engine's decision; here a neighbor that has a link is not dialed again.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

import aiohttp
from aiohttp import web

from gossipfl.errors import ConfigError, Refusal
from gossipfl.types import LinkId, PeerId, Seconds
from gossipfl.wire.identity import Identity
from node.connection import Connection, Frame, LinkEvents, LinkInfo, LinkOptions, WebSocket
from node.listener import PATH, Listener
from node.tls import client_context, peer_certificate, server_context
from node.trouble import trouble_of

__all__ = ["LinkEvents", "LinkInfo", "LinkOptions", "Links", "MemberAddress"]

logger = logging.getLogger(__name__)

_LIVED: Final[Seconds] = 5.0  # a link that lasted so long shows that dialing works
_UPGRADED: Final = 101  # HTTP's Switching Protocols
_BACKOFF_GROWTH: Final = 2.0  # of the longest wait between two dials, per failure


@dataclass(frozen=True)
class MemberAddress:
    """A member as the member list has it: its certificate in DER, where it listens if it does."""

    certificate: bytes
    address: str | None


@dataclass
class _Neighbor:
    """What is known of dialing one neighbor."""

    member: MemberAddress
    wait: Seconds
    head_start: Seconds
    links: int = 0
    trouble: str = ""
    free: asyncio.Event = field(default_factory=asyncio.Event)


class Links:
    """All links of one node.

    Args:
        identity: this node's key.
        certificate: this node's certificate, DER.
        members: every member by name; certificates as `read_certificate` accepts them.
        neighbors: the members that are dialed and accepted; all others are refused.
        events: who hears of links, messages and refusals.
        options: bounds and times.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        certificate: bytes,
        members: Mapping[PeerId, MemberAddress],
        neighbors: Collection[PeerId],
        events: LinkEvents,
        options: LinkOptions,
    ) -> None:
        self._identity = identity
        self._certificate = certificate
        self._events = events
        self._options = options
        self._open: dict[LinkId, Connection] = {}
        self._made = 0
        self._closed_in = self._closed_out = 0  # bytes of links that are gone
        self._ended: dict[PeerId, LinkInfo] = {}  # each neighbor's last link that is gone
        self._tasks: asyncio.TaskGroup | None = None
        self._port: int | None = None
        self._bound = asyncio.Event()
        known = {member.certificate: peer for peer, member in members.items()}
        self._neighbors = {
            peer: self._neighbor(members[peer], members.get(known.get(certificate, PeerId(""))))
            for peer in neighbors
        }
        self._listener = Listener(
            server_context(identity, certificate, known),
            known,
            frozenset(neighbors),
            upgrade=self._upgrade,
            events=events,
            options=options,
        )

    def _neighbor(self, member: MemberAddress, own: MemberAddress | None) -> _Neighbor:
        # Certificates of one template differ first in the key's hex digits: they sort as keys do.
        # Whoever cannot be dialed has nobody to wait for.
        waits = own is not None and own.address is not None
        larger = self._certificate > member.certificate
        neighbor = _Neighbor(
            member,
            wait=self._options.backoff_min,
            head_start=self._options.head_start if waits and larger else 0.0,
        )
        neighbor.free.set()
        return neighbor

    async def run(self) -> None:
        """Listen and dial until cancelled; then close everything.

        Raises:
            ConfigError: the listen address cannot be had.
        """
        try:
            if self._options.listen is not None:
                self._port = await self._listener.bind()
            connector = aiohttp.TCPConnector(use_dns_cache=False, force_close=True, limit=0)
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    auto_decompress=False,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    middlewares=(_no_redirects,),
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as session,
                asyncio.TaskGroup() as tasks,
            ):
                self._tasks = tasks
                if self._port is not None:
                    await self._listener.serve(tasks)
                    self._bound.set()
                for peer, neighbor in self._neighbors.items():
                    if neighbor.member.address is not None:
                        tasks.create_task(self._dial(session, peer, neighbor), name=f"dial {peer}")
                try:
                    await asyncio.Event().wait()  # until cancelled
                finally:
                    self._tasks = None  # whoever comes now finds nobody
                    self._listener.stop()
        finally:
            await self._listener.close()

    async def listening(self) -> int:
        """Wait until this node accepts connections; return the port.

        Raises:
            ConfigError: this node does not listen.
        """
        if self._options.listen is None:
            raise ConfigError("this node does not listen", fix="Give it a listen address.")
        await self._bound.wait()
        assert self._port is not None
        return self._port

    def send(self, link: LinkId, message: bytes) -> None:
        """Queue a control frame; it goes before all data. A link that is gone takes nothing."""
        if (connection := self._open.get(link)) is not None:
            connection.send(message)

    def send_data(self, link: LinkId, make: Callable[[], Frame]) -> None:
        """Queue a data message, built by `make` when its turn comes."""
        if (connection := self._open.get(link)) is not None:
            connection.send_data(make)

    def drop(self, link: LinkId, reason: str) -> None:
        """Close a link after its control frames; `closed` follows, no further message does."""
        if (connection := self._open.get(link)) is not None:
            connection.drop(reason)

    def info(self) -> list[LinkInfo]:
        """Return every open link, oldest first."""
        return [connection.info() for connection in self._open.values()]

    def last(self) -> dict[PeerId, LinkInfo]:
        """Return the newest link to each neighbor that ever had one, open or not."""
        return self._ended | {link.peer: link for link in self.info()}

    @property
    def bytes_in(self) -> int:
        """Bytes of messages received on all links, closed ones included."""
        return self._closed_in + sum(link.bytes_in for link in self.info())

    @property
    def bytes_out(self) -> int:
        """Bytes of messages sent on all links, closed ones included."""
        return self._closed_out + sum(link.bytes_out for link in self.info())

    def trouble(self) -> dict[PeerId, str]:
        """Return why the last dial to each neighbor without a link failed."""
        return {
            peer: neighbor.trouble
            for peer, neighbor in self._neighbors.items()
            if neighbor.trouble and not neighbor.links
        }

    async def _upgrade(self, request: web.BaseRequest, peer: PeerId) -> web.StreamResponse:
        """Run an accepted link; its task is ours, so that a bug in it stops the node."""
        websocket: web.WebSocketResponse[bool] = web.WebSocketResponse(
            timeout=self._options.close_timeout,
            autoping=False,
            compress=False,
            max_msg_size=self._options.message_bytes_max + 1,  # aiohttp refuses at it, not above
        )
        try:
            await websocket.prepare(request)
        except ConnectionError:  # it left between the handshake and the answer
            return web.Response(status=503)
        if self._tasks is None:
            await websocket.close()
            return websocket
        connection = self._connection(peer, websocket)
        self._tasks.create_task(self._live(connection), name=f"link {peer}")
        await connection.finished.wait()
        return websocket

    def _connection(self, peer: PeerId, websocket: WebSocket) -> Connection:
        self._made += 1
        link = LinkId(self._made)
        return Connection(link, peer, websocket, events=self._events, options=self._options)

    async def _live(self, connection: Connection) -> None:
        """Run one link and keep the books of its neighbor."""
        neighbor = self._neighbors[connection.peer]
        clock = asyncio.get_running_loop()
        began = clock.time()
        neighbor.links += 1
        neighbor.free.clear()
        self._open[connection.link] = connection
        try:
            await connection.run()
        finally:
            self._open.pop(connection.link, None)
            last = connection.info()
            self._closed_in += last.bytes_in
            self._closed_out += last.bytes_out
            self._ended[connection.peer] = last
            neighbor.links -= 1
            if clock.time() - began >= _LIVED:
                neighbor.wait = self._options.backoff_min
            if not neighbor.links:
                neighbor.free.set()

    async def _dial(
        self, session: aiohttp.ClientSession, peer: PeerId, neighbor: _Neighbor
    ) -> NoReturn:
        """Dial one neighbor whenever it has no link, for ever."""
        context = client_context(self._identity, self._certificate, neighbor.member.certificate)
        proxy = self._options.proxy
        handshakes = 2 if proxy is None else 3  # TLS and upgrade; CONNECT before them
        await asyncio.sleep(neighbor.head_start)
        while True:
            await neighbor.free.wait()
            url = f"https://{neighbor.member.address}{PATH}"
            websocket: WebSocket | None = None
            try:
                async with asyncio.timeout(handshakes * self._options.handshake_timeout):
                    websocket = await session.ws_connect(
                        url,
                        ssl=context,
                        proxy=proxy.url if proxy else None,
                        proxy_headers=proxy.headers if proxy else None,
                        compress=0,
                        autoping=False,
                        timeout=aiohttp.ClientWSTimeout(ws_close=self._options.close_timeout),
                        max_msg_size=self._options.message_bytes_max + 1,
                    )
            # a timeout is an OSError; UnicodeError: a host that is no name at all
            except (aiohttp.ClientError, OSError, UnicodeError) as error:
                self._failed(peer, neighbor, error)
            if websocket is not None:
                await self._dialed(peer, neighbor, websocket)
            wait = neighbor.wait
            neighbor.wait = min(wait * _BACKOFF_GROWTH, self._options.backoff_max)
            await asyncio.sleep(wait * self._options.rng.uniform(0.5, 1.0))

    async def _dialed(self, peer: PeerId, neighbor: _Neighbor, websocket: WebSocket) -> None:
        leaf = peer_certificate(websocket.get_extra_info("ssl_object"))
        if leaf == neighbor.member.certificate:
            neighbor.trouble = ""
            await self._live(self._connection(peer, websocket))
            return
        neighbor.trouble = f"{neighbor.member.address} shows another certificate than {peer}'s"
        self._events.refused(peer, Refusal.WRONG_CERTIFICATE, neighbor.trouble)
        await websocket.close()

    def _failed(self, peer: PeerId, neighbor: _Neighbor, error: Exception) -> None:
        """Note why a dial failed; what the other end showed and should not have is a refusal."""
        proxy = self._options.proxy
        refusal, trouble = trouble_of(
            error, peer, neighbor.member.address, proxy.address if proxy else None
        )
        if refusal is not None:
            self._events.refused(peer, refusal, trouble)
        elif trouble != neighbor.trouble:  # once, not at every dial
            level = logging.INFO if proxy is None else logging.WARNING
            logger.log(level, "%s: %s", peer, trouble)
        neighbor.trouble = trouble


async def _no_redirects(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Take the upgrade or nothing: a neighbor must not send this node to other addresses."""
    response = await handler(request)
    if response.status != _UPGRADED:
        response.close()
        raise aiohttp.ClientPayloadError(f"it answered {response.status}, not with an upgrade")
    return response
