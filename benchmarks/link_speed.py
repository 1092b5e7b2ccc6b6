"""How fast one loopback link between two processes is, each way, TLS included.

    python -m benchmarks.link_speed [--json] [--megabytes 100] [--repeats 5]

`bare` is a WebSocket loop of aiohttp alone; `links` is the same through node.links with a BLAKE3
digest of each message on both ends. The ends are pinned to a core each. A message is 1 MiB, MB is
10^6 bytes, each figure is the median of its repeats; `lag` is the 99th percentile of how late the
receiver's event loop woke meanwhile.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import socket
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from multiprocessing.connection import Connection as Pipe
from typing import Final

import aiohttp
import blake3
from aiohttp import web

from gossipfl.errors import Refusal
from gossipfl.types import LinkId, PeerId
from gossipfl.wire.identity import Identity
from node.certificates import make_certificate
from node.heap import keep_message_memory
from node.links import LinkOptions, Links, MemberAddress
from node.tls import client_context, server_context

MESSAGE: Final = 1 << 20  # one chunk
LISTENER, DIALER = Identity(b"l" * 32), Identity(b"d" * 32)
NAMES: Final = {LISTENER.public: PeerId("listener"), DIALER.public: PeerId("dialer")}
LAG_EVERY: Final = 0.002  # seconds between two looks at the clock

Figures = dict[str, float]
Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]


@contextlib.asynccontextmanager
async def lag(found: list[float]) -> AsyncIterator[None]:
    """Collect how late this event loop wakes, in seconds."""

    async def watch() -> None:
        while True:
            due = time.perf_counter() + LAG_EVERY
            await asyncio.sleep(LAG_EVERY)
            found.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(watch())
        yield
        watcher.cancel()


async def give(send: Send, receive: Receive, messages: int, repeats: int) -> None:
    """Send `repeats` runs, each when the other end asks for it."""
    payload = random.Random(0).randbytes(MESSAGE)
    for _ in range(repeats):
        assert await receive() == b"ready"
        for _ in range(messages):
            await send(payload)


async def take(send: Send, receive: Receive, messages: int, repeats: int) -> Figures:
    """Receive `repeats` runs and time them, the request for each run included."""
    rates, late = [], list[float]()
    async with lag(late):
        for _ in range(repeats):
            began = time.perf_counter()
            await send(b"ready")
            for _ in range(messages):
                assert len(await receive()) == MESSAGE
            rates.append(messages * MESSAGE / 1e6 / (time.perf_counter() - began))
    late.sort()
    return {
        "mb_per_s": statistics.median(rates),
        "mb_per_s_min": min(rates),
        "lag_p99_ms": late[int(0.99 * len(late))] * 1e3 if late else 0.0,
    }


async def both_ways(
    listens: bool, send: Send, receive: Receive, messages: int, repeats: int
) -> Figures:
    """The listener sends first, then the dialer; each end returns what it received."""
    if listens:
        await give(send, receive, messages, repeats)
        return await take(send, receive, messages, repeats)
    figures = await take(send, receive, messages, repeats)
    await give(send, receive, messages, repeats)
    assert await receive() == b"bye"
    return figures


# --- bare: aiohttp alone ----------------------------------------------------------------------


async def bare_listener(port: int, messages: int, repeats: int) -> Figures:
    done: asyncio.Future[Figures] = asyncio.get_running_loop().create_future()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        websocket: web.WebSocketResponse[bool] = web.WebSocketResponse(
            compress=False, max_msg_size=MESSAGE + 1
        )
        await websocket.prepare(request)
        done.set_result(
            await both_ways(True, websocket.send_bytes, websocket.receive_bytes, messages, repeats)
        )
        await websocket.send_bytes(b"bye")
        await websocket.close()
        return websocket

    certificate = make_certificate(LISTENER)
    context = server_context(LISTENER, certificate, [make_certificate(DIALER)])
    server = web.Server(answer)
    listener = await asyncio.get_running_loop().create_server(
        server, "127.0.0.1", port, ssl=context
    )
    figures = await done
    listener.close()
    await server.shutdown(1)
    return figures


async def bare_dialer(port: int, messages: int, repeats: int) -> Figures:
    context = client_context(DIALER, make_certificate(DIALER), make_certificate(LISTENER))
    url = f"https://127.0.0.1:{port}/gossip"
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                websocket = await session.ws_connect(
                    url, ssl=context, compress=0, max_msg_size=MESSAGE + 1
                )
                break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.05)  # the listener's process is starting
        async with websocket:
            return await both_ways(
                False, websocket.send_bytes, websocket.receive_bytes, messages, repeats
            )


# --- links: the same through node.links, with digests ------------------------------------------


class Ends:
    """One end's events as a pair of coroutines, send and receive; at most 8 messages wait."""

    def __init__(self) -> None:
        self.links: Links | None = None
        self.link: asyncio.Future[LinkId] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue(8)
        self._room = asyncio.Semaphore(8)

    async def opened(self, link: LinkId, peer: PeerId, dialed: bool) -> None:
        self.link.set_result(link)

    async def received(self, link: LinkId, message: bytes) -> None:
        await self._arrived.put(message)

    async def closed(self, link: LinkId) -> None:
        self.over.set()

    def refused(self, origin: str, refusal: Refusal, detail: str) -> None:
        print(origin, refusal, detail)

    async def send(self, message: bytes) -> None:
        await self._room.acquire()
        assert self.links is not None

        def make() -> list[bytes]:
            self._room.release()
            return [b"\0" * 8, blake3.blake3(message).digest(), message]

        self.links.send_data(await self.link, make)

    async def receive(self) -> bytes:
        message = memoryview(await self._arrived.get())
        assert blake3.blake3(message[40:]).digest() == message[8:40]
        return bytes(message[40:]) if len(message) < 100 else message[40:]  # type: ignore[return-value]


async def through_links(listens: bool, port: int, messages: int, repeats: int) -> Figures:
    ends = Ends()
    own, other = (LISTENER, DIALER) if listens else (DIALER, LISTENER)
    members = {
        NAMES[LISTENER.public]: MemberAddress(make_certificate(LISTENER), f"127.0.0.1:{port}"),
        NAMES[DIALER.public]: MemberAddress(make_certificate(DIALER), None),
    }
    ends.links = Links(
        identity=own,
        certificate=make_certificate(own),
        members=members,
        neighbors=[NAMES[other.public]],
        events=ends,
        options=LinkOptions(
            listen=("127.0.0.1", port) if listens else None,
            message_bytes_max=MESSAGE + 100,
            rng=random.Random(0),
            backoff_max=0.25,
        ),
    )
    async with asyncio.TaskGroup() as tasks:
        run = tasks.create_task(ends.links.run())
        await ends.link  # dialing is not part of the figures
        figures = await both_ways(listens, ends.send, ends.receive, messages, repeats)
        if listens:
            await ends.send(b"bye")
            await ends.over.wait()
        run.cancel()
    return figures


async def links_listener(port: int, messages: int, repeats: int) -> Figures:
    return await through_links(True, port, messages, repeats)


async def links_dialer(port: int, messages: int, repeats: int) -> Figures:
    return await through_links(False, port, messages, repeats)


LOOPS: Final = {  # name: (listener, dialer)
    "bare": (bare_listener, bare_dialer),
    "links": (links_listener, links_dialer),
}


def one_end(name: str, end: int, port: int, sizes: tuple[int, int], pipe: Pipe) -> None:
    """Run one end in a process of its own and report through the pipe."""
    if hasattr(os, "sched_setaffinity"):  # else Linux may put two ends that take turns on one core
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[end % len(cores)]})
    keep_message_memory()
    pipe.send(asyncio.run(LOOPS[name][end](port, *sizes)))


def free_port() -> int:
    """Return a loopback port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def measure(name: str, sizes: tuple[int, int]) -> dict[str, Figures]:
    """Run one loop in two processes; what the dialer received is what the listener sent."""
    port = free_port()
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for end in range(2):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=one_end, args=(name, end, port, sizes, theirs))
        process.start()
        theirs.close()
        pipes.append(ours)
        processes.append(process)
    received_by_listener, received_by_dialer = [pipe.recv() for pipe in pipes]
    for process in processes:
        process.join()
    return {"listener_sends": received_by_dialer, "dialer_sends": received_by_listener}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--megabytes", type=int, default=100, help="per run (default 100)")
    parser.add_argument("--repeats", type=int, default=5, help="runs per figure (default 5)")
    options = parser.parse_args()
    sizes = (max(1, options.megabytes * 10**6 // MESSAGE), options.repeats)
    found = {name: measure(name, sizes) for name in LOOPS}
    if options.json:
        print(json.dumps({"schema": 1, "command": "link-speed", "ok": True, "data": found}))
        return
    for name, ways in found.items():
        for way, figures in ways.items():
            print(
                f"{name:6} {way.replace('_', ' '):15} {figures['mb_per_s']:6.0f} MB/s"
                f"   slowest {figures['mb_per_s_min']:6.0f}   lag {figures['lag_p99_ms']:5.1f} ms"
            )


if __name__ == "__main__":
    main()
