"""One link: a WebSocket whose other end is known, with its reader and its writer."""

import asyncio
import contextlib
import random
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import aiohttp
import blake3
from aiohttp import web

from gossipfl.errors import Refusal
from gossipfl.types import LinkId, PeerId, Seconds
from node.proxy import Proxy
from node.tls import peer_certificate

__all__ = ["Connection", "Frame", "LinkEvents", "LinkInfo", "LinkOptions", "WebSocket"]

WebSocket = web.WebSocketResponse[bool] | aiohttp.ClientWebSocketResponse[bool]
Frame = bytes | Sequence[bytes | memoryview]
"""One message, whole or in parts that are joined as it leaves."""

_CONTROL_FRAMES_MAX: Final = 1024  # 16 MiB of the largest control frames
_DATA_PIECES_MAX: Final = 256  # pieces are built as they leave, so these cost nothing but a call
# A ping waits behind a data message in the other end's buffers and nothing is heard until that is
# whole: with 3, 1 MiB may take 40 s (0.2 Mbit/s) before a slow line is taken for a dead one
_PINGS_UNANSWERED_MAX: Final = 3
# Pings, pongs and empty messages within one heartbeat. An honest end sends two at most, and three
# pings may have waited behind a message that was long being dealt with.
_IDLE_FRAMES_MAX: Final = 16
_REASON_BYTES_MAX: Final = 123  # RFC 6455 §5.5: 125 bytes less the code


@dataclass(frozen=True, kw_only=True)
class LinkOptions:
    """Bounds and times of one node's links; the defaults suit a LAN and a WAN alike."""

    listen: tuple[str, int] | None
    """Host and port to listen on, port 0 for any free one; None only dials."""
    message_bytes_max: int
    """Largest message, in bytes: one chunk and its header."""
    rng: random.Random = field(repr=False)
    """Jitter for the waits between dials."""
    handshake_timeout: Seconds = 5.0  # TLS and upgrade each: 25 round trips of 200 ms
    heartbeat: Seconds = 10.0  # a ping after so long a silence; after the fourth the link ends
    stall_timeout: Seconds = 30.0  # a write that does not move for so long ends the link
    close_timeout: Seconds = 1.0  # to say goodbye in; a close must not hold up a shutdown
    backoff_min: Seconds = 0.25
    backoff_max: Seconds = 30.0  # a machine that is back after a night is found within this
    head_start: Seconds = 1.0  # the larger key lets the smaller one dial first
    proxy: Proxy | None = None  # all dialing goes through it
    links_per_address: int = 64  # a demo runs many nodes behind one address
    links_total: int = 256
    links_per_member: int = 4  # two dials that cross, twice: a restart may overlap its predecessor


@dataclass(frozen=True)
class LinkInfo:
    """What `status` shows of one link."""

    link: LinkId
    peer: PeerId
    dialed: bool
    tls_version: str
    certificate: str
    """BLAKE3 of the certificate the other end showed, hex."""
    bytes_in: int
    bytes_out: int


class LinkEvents(Protocol):
    """What the owner of the links hears from them."""

    async def opened(self, link: LinkId, peer: PeerId, dialed: bool) -> None:
        """Take note of a link whose other end has proved its key."""

    async def received(self, link: LinkId, message: bytes) -> None:
        """Take one message; nothing more is read from this link until this returns.

        Pings go unanswered meanwhile: return within two heartbeats.
        """

    async def closed(self, link: LinkId) -> None:
        """Take note that a link is gone; comes exactly once for each `opened`."""

    def refused(self, origin: str, refusal: Refusal, detail: str) -> None:
        """Count a refusal.

        Args:
            origin: the member's name where its key is proved, else the address it came from.
            refusal: the stable code.
            detail: one sentence for the operator.
        """


class Connection:
    """One open link; `run` is its whole life.

    Two queues, control before data: a data message is built only when its turn comes, so control
    frames wait for at most one of them.
    """

    def __init__(
        self,
        link: LinkId,
        peer: PeerId,
        websocket: WebSocket,
        *,
        events: LinkEvents,
        options: LinkOptions,
    ) -> None:
        self.link = link
        self.peer = peer
        self.dialed = isinstance(websocket, aiohttp.ClientWebSocketResponse)
        self.finished = asyncio.Event()
        self._websocket = websocket
        self._events = events
        self._options = options
        self._control: deque[bytes] = deque()
        self._data: deque[Callable[[], Frame]] = deque()
        self._wake = asyncio.Event()
        self._leaving = asyncio.Event()
        self._farewell = "this node stops"  # what the other end is told when we close
        self._healthy = True  # False: nothing more can be written
        self._socket: Any = websocket.get_extra_info("socket")
        tls = websocket.get_extra_info("ssl_object")
        self._certificate = peer_certificate(tls) or b""
        self._tls_version = tls.version() if isinstance(tls, ssl.SSLObject) else None
        self._bytes_in = 0
        self._bytes_out = 0
        self._idle_since: Seconds = 0.0
        self._idle_frames = 0

    def info(self) -> LinkInfo:
        """Return what `status` shows."""
        return LinkInfo(
            link=self.link,
            peer=self.peer,
            dialed=self.dialed,
            tls_version=self._tls_version or "",
            certificate=blake3.blake3(self._certificate).hexdigest(),
            bytes_in=self._bytes_in,
            bytes_out=self._bytes_out,
        )

    def send(self, message: bytes) -> None:
        """Queue a control frame; it goes before all data."""
        if self._leaving.is_set():
            return
        if len(self._control) >= _CONTROL_FRAMES_MAX:
            self._slow(f"{_CONTROL_FRAMES_MAX} control frames wait for it")
            return
        self._control.append(message)
        self._wake.set()

    def send_data(self, make: Callable[[], Frame]) -> None:
        """Queue a data message; `make` is called when its turn comes."""
        if self._leaving.is_set():
            return
        if len(self._data) >= _DATA_PIECES_MAX:
            self._slow(f"{_DATA_PIECES_MAX} data messages wait for it")
            return
        self._data.append(make)
        self._wake.set()

    def drop(self, reason: str) -> None:
        """Close the link: control frames that wait still leave, data and answers do not."""
        if not self._leaving.is_set():
            self._farewell = reason
            self._leaving.set()

    async def run(self) -> None:
        """Report the link, move its messages until it ends, report its end."""
        try:
            await self._events.opened(self.link, self.peer, self.dialed)
            async with asyncio.TaskGroup() as tasks:
                parts = [
                    tasks.create_task(self._read(), name=f"read {self.peer}"),
                    tasks.create_task(self._write(), name=f"write {self.peer}"),
                    tasks.create_task(self._leave(), name=f"leave {self.peer}"),
                ]
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                for part in parts:
                    part.cancel()
        finally:
            try:
                await self._close()
            finally:
                self.finished.set()
                await self._events.closed(self.link)

    def _slow(self, detail: str) -> None:
        self._healthy = False
        self._events.refused(self.peer, Refusal.STALLED, f"it does not read: {detail}")
        self.drop("you do not read")

    async def _read(self) -> None:
        silences = 0  # heartbeats in a row without any message
        while not self._leaving.is_set():
            try:
                message = await self._websocket.receive(timeout=self._options.heartbeat)
            except TimeoutError:
                silences += 1
                if silences > _PINGS_UNANSWERED_MAX:
                    self._healthy = False
                    self._events.refused(self.peer, Refusal.STALLED, "it answers no ping")
                    return
                if not await self._put(self._websocket.ping()):
                    return
                continue
            silences = 0
            if _carries_nothing(message.type, message.data):
                if self._floods(asyncio.get_running_loop().time()):
                    return
                # What is buffered comes without a pause: the loop would see neither the end of
                # the connection nor anybody else.
                await asyncio.sleep(0)
            if message.type is aiohttp.WSMsgType.BINARY:
                self._bytes_in += len(message.data)
                await self._events.received(self.link, message.data)
            elif message.type is aiohttp.WSMsgType.PING:
                if not await self._put(self._websocket.pong(message.data)):
                    return
            elif message.type is not aiohttp.WSMsgType.PONG:
                self._ended(message.type, message.data)
                return

    def _floods(self, now: Seconds) -> bool:
        """Count a frame that carries nothing; True ends the link."""
        if now - self._idle_since >= self._options.heartbeat:
            self._idle_since, self._idle_frames = now, 0
        self._idle_frames += 1
        if self._idle_frames <= _IDLE_FRAMES_MAX:
            return False
        self._healthy = False  # no goodbye: it would have to be waited for behind the flood
        detail = (
            f"more than {_IDLE_FRAMES_MAX} pings, pongs or empty messages "
            f"in {self._options.heartbeat:g} s"
        )
        self._events.refused(self.peer, Refusal.FLOOD, detail)
        return True

    async def _leave(self) -> None:
        await self._leaving.wait()

    def _ended(self, kind: aiohttp.WSMsgType, error: object) -> None:
        """Tell a fault of the other end from a link that just ended."""
        if kind is aiohttp.WSMsgType.TEXT:
            self._events.refused(self.peer, Refusal.MALFORMED, "a text message; all are binary")
            self.drop("all messages are binary")
            return
        self._healthy = False
        if isinstance(error, aiohttp.WebSocketError):
            too_big = error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
            refusal = Refusal.OVERSIZE if too_big else Refusal.MALFORMED
            self._events.refused(self.peer, refusal, str(error))

    async def _write(self) -> None:
        while True:
            if self._control:
                frame: Frame = self._control.popleft()
            elif self._data:
                frame = self._data.popleft()()
            else:
                self._wake.clear()
                await self._wake.wait()
                continue
            if not await self._send(frame if isinstance(frame, bytes) else b"".join(frame)):
                return

    async def _send(self, message: bytes) -> bool:
        self._bytes_out += len(message)
        return await self._put(self._websocket.send_bytes(message))

    async def _put(self, write: Awaitable[None]) -> bool:
        """Let one write through; False: nothing more can be written."""
        try:
            async with asyncio.timeout(self._options.stall_timeout):
                await write
        except TimeoutError:
            self._healthy = False
            seconds = self._options.stall_timeout
            detail = f"it does not read: a write did not move for {seconds:g} s"
            self._events.refused(self.peer, Refusal.STALLED, detail)
        except (ConnectionError, aiohttp.ClientError):
            self._healthy = False
        return self._healthy

    async def _close(self) -> None:
        """Say goodbye while that can work, then cut the connection whatever came of it."""
        reason = self._farewell.encode()[:_REASON_BYTES_MAX]
        try:
            async with asyncio.timeout(self._options.close_timeout):
                while self._healthy and self._control:
                    await self._send(self._control.popleft())
                if not self._healthy:
                    self._cut()
                await self._websocket.close(message=reason)
        except (TimeoutError, ConnectionError, aiohttp.ClientError):
            self._healthy = False
        finally:
            self._control.clear()
            self._data.clear()
            self._cut()

    def _cut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # the other end was faster
                self._socket.shutdown(socket.SHUT_RDWR)


def _carries_nothing(kind: aiohttp.WSMsgType, data: object) -> bool:
    if kind is aiohttp.WSMsgType.BINARY:
        return not data
    return kind in (aiohttp.WSMsgType.PING, aiohttp.WSMsgType.PONG)
