"""The listening side: who may come in, decided before aiohttp sees a byte.

A connection is TCP first. A gate holds it through the TLS handshake, so that a failed one raises
here and can be told apart and counted; only a member's connection reaches the HTTP parser.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, cast

from aiohttp import http_exceptions, web

from gossipfl.errors import ConfigError, Refusal
from gossipfl.types import PeerId
from node.connection import LinkEvents, LinkOptions
from node.tls import classify, peer_certificate

__all__ = ["PATH", "Listener", "check_listen"]

PATH: Final = "/gossip"
_HEADER_BYTES_MAX: Final = 2048  # the upgrade request of our own dialer takes 300
_HEADERS_MAX: Final = 32  # … and 9 headers
_BACKLOG: Final = 128  # connections that wait for accept: a whole federation that starts at once

logger = logging.getLogger(__name__)


class Gate(asyncio.Protocol):
    """Holds one accepted connection, then forwards everything to aiohttp's protocol.

    The other end may send right behind its handshake, before that protocol is in place; what
    comes that early is kept and replayed.
    """

    def __init__(self, listener: "Listener") -> None:
        self.origin = ""  # the address, for the caps
        self.origin_name = ""  # the member, once its key is proved
        self.raw: asyncio.Transport | None = None
        self.peer: PeerId | None = None
        self.lost = False
        self._listener = listener
        self._inner: asyncio.Protocol | None = None
        self._early = bytearray()
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hold the connection until the handshake starts."""
        self.raw = cast("asyncio.Transport", transport)
        self.raw.pause_reading()
        name = transport.get_extra_info("peername")
        self.origin = str(name[0]) if name else "unknown"
        self._listener.arrived(self)

    def hand_over(self, inner: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """Let `inner` have the connection and all that came for it."""
        self._inner = inner
        inner.connection_made(transport)
        if self._early:
            inner.data_received(bytes(self._early))
            self._early.clear()
        if self._ended:
            inner.eof_received()

    def data_received(self, data: bytes) -> None:
        """Forward, or keep for later: at most what one read brings."""
        if self._inner is None:
            self._early += data
        else:
            self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Forward, or remember."""
        self._ended = True
        return None if self._inner is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Give back the place among the caps."""
        self.lost = True
        self._listener.gone(self)
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Forward the other end's back-pressure."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Forward the end of it."""
        if self._inner is not None:
            self._inner.resume_writing()


class Listener:
    """Accepts members' connections and answers one request: the upgrade on PATH.

    Args:
        context: the TLS context that trusts the members.
        known: every member's certificate, with its name.
        neighbors: those of them that may come in.
        upgrade: takes the request of a proven neighbor, runs the link, answers at its end.
        events: where refusals are counted.
        options: caps and times.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        known: Mapping[bytes, PeerId],
        neighbors: frozenset[PeerId],
        *,
        upgrade: Callable[[web.BaseRequest, PeerId], Awaitable[web.StreamResponse]],
        events: LinkEvents,
        options: LinkOptions,
    ) -> None:
        self._context = context
        self._known = known
        self._neighbors = neighbors
        self._upgrade = upgrade
        self._events = events
        self._options = options
        self._gates: set[Gate] = set()
        self._addresses: Counter[str] = Counter()
        self._tasks: asyncio.TaskGroup | None = None
        self._server: asyncio.Server | None = None
        self._http: web.Server | None = None

    async def bind(self) -> int:
        """Take the port and return it; nothing is accepted yet.

        Raises:
            ConfigError: the address cannot be had.
        """
        assert self._options.listen is not None
        host, port = self._options.listen
        self._http = web.Server(
            self._answer,
            keepalive_timeout=self._options.handshake_timeout,
            lingering_time=0,
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
            max_headers=_HEADERS_MAX,
            auto_decompress=False,
            access_log=None,
            logger=_Faults(self._events),
        )
        try:
            self._server = await asyncio.get_running_loop().create_server(
                lambda: Gate(self), host, port, backlog=_BACKLOG, start_serving=False
            )
        except OSError as error:
            raise _cannot_listen(host, port, error) from error
        return int(self._server.sockets[0].getsockname()[1])

    async def serve(self, tasks: asyncio.TaskGroup) -> None:
        """Start accepting; handshakes run in `tasks`."""
        assert self._server is not None
        self._tasks = tasks
        await self._server.start_serving()

    def stop(self) -> None:
        """Accept nobody any more; what is open stays."""
        self._tasks = None
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Stop listening and cut what is left."""
        self.stop()
        if self._http is None:
            return
        await self._http.shutdown(self._options.close_timeout)
        for gate in list(self._gates):
            self._cut(gate)
        await asyncio.sleep(0)  # one turn of the loop: transports report their end

    def arrived(self, gate: Gate) -> None:
        """Count a new connection in, or cut it at once."""
        over = self._over(gate)
        self._gates.add(gate)
        self._addresses[gate.origin] += 1
        if over:
            self._refuse(gate, Refusal.TOO_MANY_LINKS, over)
        elif self._tasks is None:
            self._cut(gate)
        else:
            self._tasks.create_task(self._greet(gate), name=f"greet {gate.origin}")

    def gone(self, gate: Gate) -> None:
        """Count a connection out, once."""
        if gate in self._gates:
            self._gates.discard(gate)
            self._addresses[gate.origin] -= 1
            if not self._addresses[gate.origin]:
                del self._addresses[gate.origin]

    def _over(self, gate: Gate) -> str:
        if len(self._gates) >= self._options.links_total:
            return f"{self._options.links_total} connections are open"
        if self._addresses[gate.origin] >= self._options.links_per_address:
            return f"{self._options.links_per_address} connections from this address are open"
        return ""

    async def _greet(self, gate: Gate) -> None:
        """Take a connection through TLS and its certificate check, then to aiohttp."""
        timeout = self._options.handshake_timeout
        assert gate.raw is not None
        handed = False
        try:
            async with asyncio.timeout(timeout):
                tls = await asyncio.get_running_loop().start_tls(
                    gate.raw, gate, self._context, server_side=True, ssl_handshake_timeout=timeout
                )
            if tls is None or gate.lost:  # CPython 3.11 raises nothing when the peer just leaves
                self._refuse(gate, *classify(None))
                return
            peer = self._admit(gate, peer_certificate(tls.get_extra_info("ssl_object")))
            if peer is not None:
                assert self._http is not None
                gate.peer = peer
                gate.hand_over(self._http(), tls)
                handed = True
        except OSError as error:  # TLS errors, resets and timeouts are all of this kind
            self._refuse(gate, *classify(error))
        finally:
            if not handed:
                self._cut(gate)

    def _admit(self, gate: Gate, leaf: bytes | None) -> PeerId | None:
        """Return the neighbor whose very certificate this is; a chain of trust is not enough."""
        peer = self._known.get(leaf or b"")
        if peer is None:
            detail = "the certificate is trusted but is no member's own"
            self._refuse(gate, Refusal.WRONG_CERTIFICATE, detail)
        elif peer not in self._neighbors:
            gate.origin_name = peer
            detail = "a member, but no neighbor of this node"
            self._refuse(gate, Refusal.UNKNOWN_CERTIFICATE, detail)
        elif sum(other.peer == peer for other in self._gates) >= self._options.links_per_member:
            gate.origin_name = peer
            detail = f"{self._options.links_per_member} connections of this member are open"
            self._refuse(gate, Refusal.TOO_MANY_LINKS, detail)
        else:
            return peer
        return None

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        leaf = peer_certificate(request.get_extra_info("ssl_object"))
        peer = self._known.get(leaf or b"")
        upgrades = request.method == "GET" and request.path == PATH
        if peer in self._neighbors and upgrades and web.WebSocketResponse().can_prepare(request):
            assert peer is not None
            return await self._upgrade(request, peer)
        detail = f"only the WebSocket upgrade of {PATH} is answered"
        self._events.refused(peer or str(request.remote), Refusal.MALFORMED, detail)
        response = web.Response(status=404)
        response.force_close()
        return response

    def _refuse(self, gate: Gate, refusal: Refusal, detail: str) -> None:
        self._events.refused(gate.origin_name or gate.origin, refusal, detail)
        self._cut(gate)

    def _cut(self, gate: Gate) -> None:
        self.gone(gate)
        if gate.raw is not None:
            gate.raw.abort()


def check_listen(now: tuple[str, int] | None, wanted: tuple[str, int] | None) -> None:
    """See that another address can be listened on, before the present one is given up.

    Args:
        now: where this node listens; None if it does not.
        wanted: where it is to listen.

    Raises:
        ConfigError: the address cannot be had.
    """
    if wanted is None or now == wanted:
        return
    try:
        found = socket.getaddrinfo(*wanted, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(address)
                except OSError as error:
                    if error.errno != errno.EADDRINUSE or now is None or now[1] != wanted[1]:
                        raise
                    # The port is this node's own; what remains is whether the host is here.
                    probe.bind((address[0], 0, *address[2:]))
    except OSError as error:
        raise _cannot_listen(*wanted, error) from error


def _cannot_listen(host: str, port: int, error: OSError) -> ConfigError:
    return ConfigError(
        f"cannot listen on {host}:{port}: {error.strerror or error}",
        fix="Stop what uses that port, or give this node another listen address.",
    )


class _Faults(logging.Logger):
    """aiohttp's log: a bad request becomes a counted refusal, all else goes to our own log."""

    def __init__(self, events: LinkEvents) -> None:
        super().__init__(__name__)
        self._events = events

    def handle(self, record: logging.LogRecord) -> None:
        """Count what a peer did, log what we did."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, http_exceptions.HttpProcessingError):
            origin = str(record.args[0]) if isinstance(record.args, tuple) and record.args else "?"
            detail = f"not HTTP as spoken here: {type(error).__name__}"
            self._events.refused(origin, Refusal.MALFORMED, detail)
        else:
            logger.handle(record)
