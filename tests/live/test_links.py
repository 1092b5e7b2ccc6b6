"""Real links on loopback: what they carry, how they end and return."""

import asyncio
import contextlib
import random
import socket
import ssl
from collections import Counter
from typing import Any

import aiohttp.web
import psutil
import pytest

from gossipfl.errors import Refusal
from gossipfl.types import LinkId, PeerId
from gossipfl.wire.identity import Identity
from node.certificates import make_certificate
from node.links import MemberAddress
from node.tls import client_context, server_context
from tests.live.linking import (
    ANNA,
    BERT,
    MESSAGE_BYTES,
    UPGRADE,
    A,
    B,
    Heard,
    free_ports,
    links,
    listening,
    members,
    node,
    pair,
    running,
)

# --- what a link does -----------------------------------------------------------------------


async def test_two_nodes_link_and_each_proves_its_key_to_the_other() -> None:
    async with pair() as (anna, bert):
        assert list(anna.open.values()) == [(B, False)]
        assert list(bert.open.values()) == [(A, True)]
        links(anna).send(anna.only(), b"from anna")
        links(bert).send(bert.only(), b"from bert")
        links(bert).send_data(bert.only(), lambda: [b"in ", memoryview(b"parts")])
        await anna.until(lambda: len(anna.messages) == 2)
        await bert.until(lambda: bert.messages)
        assert anna.messages == [b"from bert", b"in parts"]
        assert bert.messages == [b"from anna"]
        (seen_by_anna,), (seen_by_bert,) = links(anna).info(), links(bert).info()
        assert seen_by_anna.tls_version == seen_by_bert.tls_version == "TLSv1.3"
        assert seen_by_anna.certificate != seen_by_bert.certificate
        assert seen_by_anna.bytes_in == seen_by_bert.bytes_out == 17
        assert seen_by_anna.bytes_out == seen_by_bert.bytes_in == 9
        assert not anna.refusals
        assert not bert.refusals


async def test_messages_of_all_sizes_arrive_whole_and_in_order() -> None:
    sizes = [0, 1, 125, 126, 65_535, 65_536, MESSAGE_BYTES, 3]
    async with pair() as (anna, bert):
        for number, size in enumerate(sizes):
            data = bytes([number]) * size
            links(anna).send_data(anna.only(), lambda data=data: data)  # type: ignore[misc]
            links(bert).send(bert.only(), data)
        await bert.until(lambda: len(bert.messages) == len(sizes))
        await anna.until(lambda: len(anna.messages) == len(sizes))
        expected = [bytes([number]) * size for number, size in enumerate(sizes)]
        assert anna.messages == expected
        assert bert.messages == expected


async def test_control_goes_before_data_that_was_queued_first() -> None:
    async with pair() as (anna, bert):
        for number in range(5):
            links(anna).send_data(anna.only(), lambda number=number: b"data %d" % number)  # type: ignore[misc]
        links(anna).send(anna.only(), b"control")
        await bert.until(lambda: len(bert.messages) == 6)
        assert bert.messages == [b"control", *(b"data %d" % number for number in range(5))]


async def test_a_reader_that_does_not_return_stops_the_sender_before_all_is_built() -> None:
    built = 0

    def make() -> bytes:
        nonlocal built
        built += 1
        return bytes(MESSAGE_BYTES)

    async with pair() as (anna, bert):
        bert.gate.clear()
        for _ in range(100):
            links(anna).send_data(anna.only(), make)
        await bert.until(lambda: bert.messages)
        assert len(bert.messages) == 1
        assert built < 100
        bert.gate.set()
        await bert.until(lambda: len(bert.messages) == 100)
        assert built == 100


async def test_a_dropped_link_delivers_its_control_frames_and_closes_once_on_both_ends() -> None:
    async with pair() as (anna, bert):
        link = anna.only()
        links(anna).send(link, b"leave")
        links(anna).drop(link, "a reason")
        links(anna).drop(link, "again")
        links(anna).send(link, b"too late")
        await anna.until(lambda: anna.closed_ever)
        await bert.until(lambda: bert.closed_ever)
        assert bert.messages == [b"leave"]
        await anna.linked()  # it is dialed again
        await bert.linked()
        links(anna).send(link, b"to a link that is gone")
        links(anna).send(anna.only(), b"hello")
        await bert.until(lambda: len(bert.messages) == 2)
        assert bert.messages[-1] == b"hello"


async def test_a_stopped_node_sends_its_last_control_frames() -> None:
    (port,) = free_ports(1)
    known = members(anna=port, bert=None)
    anna, bert = node(ANNA, known, B, port=port), node(BERT, known, A)
    async with running(anna):
        async with running(bert):
            await bert.linked()
            links(bert).send(bert.only(), b"leave")
        await anna.until(lambda: anna.closed_ever)
        assert anna.messages == [b"leave"]


async def test_nothing_is_left_after_a_stop() -> None:
    process = psutil.Process()
    before = process.num_fds(), len(asyncio.all_tasks())
    async with pair():
        assert process.num_fds() > before[0]
    assert (process.num_fds(), len(asyncio.all_tasks())) == before


async def test_an_address_that_is_no_name_is_trouble_and_stops_nothing() -> None:
    known = members(anna=1, bert=None)
    for host in ("a..b", "x" * 64 + ".example.org", "[::1::2]"):
        known[A] = MemberAddress(make_certificate(ANNA), f"{host}:7400")
        failed = asyncio.Event()

        class Dice(random.Random):
            def uniform(self, a: float, b: float, failed: asyncio.Event = failed) -> float:
                failed.set()  # dice are thrown for the wait after a dial
                return b

        bert = node(BERT, known, A, rng=Dice(0))
        async with running(bert), asyncio.timeout(20):
            await failed.wait()
            assert host in links(bert).trouble()[A]


async def test_a_name_that_moves_is_looked_up_anew_at_each_dial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (port,) = free_ports(1)
    asked: list[str] = []
    real = socket.getaddrinfo

    def moving(host: str, *rest: Any, **options: Any) -> Any:
        if host != "moving.example":
            return real(host, *rest, **options)
        asked.append(host)
        return real("127.0.0.2" if len(asked) < 3 else "127.0.0.1", *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", moving)
    known = members(anna=port, bert=None)
    known[A] = MemberAddress(make_certificate(ANNA), f"moving.example:{port}")
    anna, bert = node(ANNA, known, B, port=port), node(BERT, known, A)
    async with running(anna, bert):
        await bert.linked()
        await anna.linked()
        assert len(asked) == 3


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []
    twice = asyncio.Event()

    async def redirect(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        asked.append(request.path)
        if len(asked) > 2:
            twice.set()
        return aiohttp.web.Response(status=307, headers={"Location": "/elsewhere"})

    context = server_context(ANNA, make_certificate(ANNA), [make_certificate(BERT)])
    server = aiohttp.web.Server(redirect)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    bert = node(BERT, members(anna=port, bert=None), A)
    async with running(bert):
        await twice.wait()
        assert set(asked) == {"/gossip"}
        assert "307" in links(bert).trouble()[A]
    listener.close()
    await server.shutdown(1)
    await listener.wait_closed()


# --- ends and returns -----------------------------------------------------------------------


async def test_a_peer_that_vanishes_closes_its_link_once() -> None:
    async with listening() as (anna, port):
        context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        await anna.linked()
        writer.transport.abort()
        await anna.until(lambda: anna.closed_ever)
        assert len(anna.closed_ever) == 1
        assert not anna.refusals
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def test_a_peer_that_answers_no_ping_is_gone() -> None:
    async with listening(heartbeat=0.2) as (anna, port):
        context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        await anna.until(lambda: anna.closed_ever)
        assert anna.codes() == [Refusal.STALLED]
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def test_a_silent_link_whose_pings_are_answered_stays() -> None:
    async with pair(heartbeat=0.1) as (anna, bert):
        await asyncio.sleep(0.5)  # time itself is the subject: five heartbeats of silence
        assert not anna.closed_ever
        assert not bert.closed_ever


async def test_a_listener_that_returns_is_dialed_again() -> None:
    (port,) = free_ports(1)
    known = members(anna=port, bert=None)
    bert = node(BERT, known, A)
    async with running(bert):
        for _ in range(3):
            anna = node(ANNA, known, B, port=port)
            async with running(anna):
                await bert.linked()
                await anna.linked()
                links(anna).send(anna.only(), b"back again")
                await bert.until(lambda: len(bert.messages) == len(bert.opened_ever))
            await bert.until(lambda: not bert.open)
    assert len(bert.closed_ever) == 3


async def test_two_dials_that_cross_give_two_links_and_dropping_one_leaves_the_other() -> None:
    ports = free_ports(2)
    known = members(anna=ports[0], bert=ports[1])
    anna = node(ANNA, known, B, port=ports[0])
    bert = node(BERT, known, A, port=ports[1])

    async def both() -> None:
        await anna.until(lambda: len(anna.open) == 2)
        await bert.until(lambda: len(bert.open) == 2)

    async with running(anna, bert):
        await both()
        for heard in (anna, bert):
            assert sorted(dialed for _, dialed in heard.open.values()) == [False, True]
        dropped = next(link for link, (_, dialed) in anna.open.items() if dialed)
        links(anna).drop(dropped, "one is enough")
        await anna.until(lambda: len(anna.open) == 1)
        await bert.until(lambda: len(bert.open) == 1)
        links(anna).send(anna.only(), b"still here")
        links(bert).send(bert.only(), b"here too")
        await bert.until(lambda: bert.messages)
        await anna.until(lambda: anna.messages)


async def test_the_smaller_key_dials_first_and_one_link_is_made() -> None:
    ports = free_ports(2)
    small, large = sorted((ANNA, BERT), key=lambda identity: identity.public)
    names = {ANNA.public: A, BERT.public: B}
    known = {
        names[identity.public]: MemberAddress(make_certificate(identity), f"127.0.0.1:{port}")
        for identity, port in zip((small, large), ports, strict=True)
    }
    first = node(small, known, names[large.public], port=ports[0], head_start=30.0)
    second = node(large, known, names[small.public], port=ports[1], head_start=30.0)
    async with running(first, second):
        await first.linked()
        await second.linked()
        assert [dialed for _, dialed in first.open.values()] == [True]
        assert [dialed for _, dialed in second.open.values()] == [False]


async def test_a_neighbor_that_has_dialed_in_is_not_dialed() -> None:
    ports = free_ports(2)
    known = members(anna=ports[0], bert=ports[1])
    anna = node(ANNA, known, B, port=ports[0], head_start=0.3)
    bert = node(BERT, known, A, port=ports[1])
    assert BERT.public < ANNA.public  # so it is Anna who waits
    async with running(anna, bert):
        await anna.linked()
        await bert.linked()
        await asyncio.sleep(0.6)  # time itself is the subject: Anna's head start is over
        assert len(anna.opened_ever) == len(bert.opened_ever) == 1
        links(anna).drop(anna.only(), "now either may dial")
        await bert.until(lambda: len(bert.opened_ever) > 1)


async def test_a_hundred_nodes_that_start_at_once_end_with_one_link_per_edge() -> None:
    number = 100
    identities = [Identity(bytes([index]) * 32) for index in range(number)]
    names = [PeerId(f"n{index:02d}") for index in range(number)]
    ports = free_ports(number)
    known = {
        name: MemberAddress(make_certificate(identity), f"127.0.0.1:{port}")
        for name, identity, port in zip(names, identities, ports, strict=True)
    }
    keys = dict(zip(names, (identity.public for identity in identities), strict=True))
    nodes = []
    for index, name in enumerate(names):
        ring = names[index - 1], names[(index + 1) % number]
        heard = node(identities[index], known, *ring, port=ports[index], backoff_max=1.0)

        def keep_smallest(  # what the engine does: of two links, the smaller key's stays
            link: LinkId, peer: PeerId, _dialed: bool, heard: Heard = heard, name: PeerId = name
        ) -> None:
            of_peer = [each for each, (other, _) in heard.open.items() if other == peer]
            if len(of_peer) > 1:
                smaller_dials = keys[name] < keys[peer]
                for each in of_peer:
                    if heard.open[each][1] != smaller_dials:
                        links(heard).drop(each, "doubled")

        heard.on_open = keep_smallest
        nodes.append(heard)

    def settled(heard: Heard) -> bool:
        return (
            sorted(peer for peer, _ in heard.open.values())
            == sorted({peer for peer, _ in heard.open.values()})
            and len(heard.open) == 2
        )

    async with running(*nodes):
        async with asyncio.timeout(50):
            while not all(settled(heard) for heard in nodes):
                for heard in nodes:
                    await heard.until(lambda heard=heard: settled(heard), 50)  # type: ignore[misc]
        ends = Counter(
            frozenset((name, peer))
            for name, heard in zip(names, nodes, strict=True)
            for peer, _ in heard.open.values()
        )
        assert len(ends) == number
        assert set(ends.values()) == {2}
        assert all(not heard.refusals for heard in nodes)
