"""Real links on loopback: TLS, WebSockets, refusals, caps, ends and returns."""

import asyncio
import contextlib
import datetime
import random
import socket
import ssl
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gossipfl.errors import ConfigError, Refusal
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
        await anna.until(lambda: anna.open)
        await bert.until(lambda: bert.open)
        yield anna, bert


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
        await anna.until(lambda: anna.open)  # it is dialed again
        await bert.until(lambda: bert.open)
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
            await bert.until(lambda: bert.open)
            links(bert).send(bert.only(), b"leave")
        await anna.until(lambda: anna.closed_ever)
        assert anna.messages == [b"leave"]


async def test_nothing_is_left_after_a_stop() -> None:
    process = psutil.Process()
    before = process.num_fds(), len(asyncio.all_tasks())
    async with pair():
        assert process.num_fds() > before[0]
    assert (process.num_fds(), len(asyncio.all_tasks())) == before


# --- who may come in ------------------------------------------------------------------------


def pem(identity: Identity, certificate: bytes, context: ssl.SSLContext) -> ssl.SSLContext:
    key = ed25519.Ed25519PrivateKey.from_private_bytes(identity.seed)
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "pem"
        path.write_bytes(text + ssl.DER_cert_to_PEM_cert(certificate).encode())
        context.load_cert_chain(path)
    return context


def certificate_of(
    owner: Identity, issuer: Identity, *, subject: str | None = None, ca: bool = False
) -> bytes:
    def name(of: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, of)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject or owner.public.hex()))
        .issuer_name(name(issuer.public.hex()))
        .public_key(ed25519.Ed25519PublicKey.from_public_bytes(owner.public))
        .serial_number(1)
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    key = ed25519.Ed25519PrivateKey.from_private_bytes(issuer.seed)
    return builder.sign(key, algorithm=None).public_bytes(Encoding.DER)


def lax(*, newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = newest
    return context


async def knock(port: int, context: ssl.SSLContext | None, say: bytes = b"") -> bytes:
    """Connect, say something, return what comes back before the other end hangs up."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    except (ssl.SSLError, ConnectionError):
        return b""
    try:
        writer.write(say)
        return await reader.read()
    except (ssl.SSLError, ConnectionError):
        return b""
    finally:
        writer.close()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


Hostile = Callable[[int], Coroutine[Any, Any, bytes]]


async def plaintext(port: int) -> bytes:
    return await knock(port, None, b"GET /gossip HTTP/1.1\r\nHost: x\r\n\r\n")


async def garbage(port: int) -> bytes:
    return await knock(port, None, bytes(range(256)) * 4)


async def tls_1_2(port: int) -> bytes:
    context = pem(BERT, make_certificate(BERT), lax(newest=ssl.TLSVersion.TLSv1_2))
    return await knock(port, context, b"GET /gossip HTTP/1.1\r\n\r\n")


async def no_certificate(port: int) -> bytes:
    return await knock(port, lax(), b"GET /gossip HTTP/1.1\r\n\r\n")


async def stranger(port: int) -> bytes:
    return await knock(port, pem(EVE, make_certificate(EVE), lax()))


async def issued_by_a_member(port: int) -> bytes:
    return await knock(port, pem(EVE, certificate_of(EVE, BERT, subject="eve"), lax()))


async def same_name_as_a_member(port: int) -> bytes:
    leaf = certificate_of(EVE, EVE, subject=BERT.public.hex())
    return await knock(port, pem(EVE, leaf, lax()))


async def claims_to_be_an_authority(port: int) -> bytes:
    return await knock(port, pem(BERT, certificate_of(BERT, BERT, ca=True), lax()))


async def no_neighbor(port: int) -> bytes:
    context = client_context(CLEO, make_certificate(CLEO), make_certificate(ANNA))
    return await knock(port, context)


async def silent(port: int) -> bytes:
    return await knock(port, None)


async def leaves_at_once(port: int) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()
    return b""


@pytest.mark.parametrize(
    ("hostile", "refusal"),
    [
        (plaintext, Refusal.NOT_TLS),
        (garbage, Refusal.NOT_TLS),
        (tls_1_2, Refusal.TLS_VERSION),
        (no_certificate, Refusal.UNKNOWN_CERTIFICATE),
        (stranger, Refusal.UNKNOWN_CERTIFICATE),
        (issued_by_a_member, Refusal.UNKNOWN_CERTIFICATE),
        (same_name_as_a_member, Refusal.UNKNOWN_CERTIFICATE),
        (claims_to_be_an_authority, Refusal.UNKNOWN_CERTIFICATE),
        (no_neighbor, Refusal.UNKNOWN_CERTIFICATE),
        (silent, Refusal.HANDSHAKE_TIMEOUT),
        (leaves_at_once, Refusal.TRUNCATED),
    ],
)
async def test_who_is_no_neighbor_is_refused_by_name_and_a_neighbor_still_comes_in(
    hostile: Hostile, refusal: Refusal
) -> None:
    quick = 0.2 if hostile is silent else 5.0
    (port,) = free_ports(1)
    known = members(anna=port, bert=None, cleo=None)
    anna = node(ANNA, known, B, port=port, handshake_timeout=quick)
    bert = node(BERT, known, A)
    async with running(anna):
        assert await links(anna).listening() == port
        answer = await hostile(port)
        assert b"HTTP" not in answer
        await anna.until(lambda: anna.refusals)
        assert anna.codes() == [refusal], anna.refusals
        assert anna.refusals[0][0] == "127.0.0.1"
        assert not anna.opened_ever
        async with running(bert):
            await anna.until(lambda: anna.open)
            assert anna.codes() == [refusal]


async def test_a_chain_that_openssl_trusts_is_not_enough() -> None:
    (port,) = free_ports(1)
    authority = certificate_of(BERT, BERT, ca=True)
    known = members(anna=port, bert=None) | {B: MemberAddress(authority, None)}
    anna = node(ANNA, known, B, port=port)
    async with running(anna):
        await links(anna).listening()
        leaf = certificate_of(EVE, BERT, subject="eve")
        assert not await knock(port, pem(EVE, leaf, lax()), b"GET /gossip HTTP/1.1\r\n\r\n")
        await anna.until(lambda: anna.refusals)
        assert anna.codes() == [Refusal.WRONG_CERTIFICATE]
        # the twin: the listed certificate itself, by the same way
        async with upgraded(port, pem(BERT, authority, lax())):
            await anna.until(lambda: anna.open)


async def test_the_dialer_refuses_whoever_is_not_the_one_it_dialed() -> None:
    (port,) = free_ports(1)
    known = members(anna=port, bert=None, cleo=port)  # Cleo's address is wrong: Anna is there
    anna = node(ANNA, known, B, port=port)
    bert = node(BERT, known, A, C)
    async with running(anna, bert):
        await bert.until(lambda: bert.open and bert.refusals)
        assert {(origin, code) for origin, code, _ in bert.refusals} == {
            (C, Refusal.WRONG_CERTIFICATE)
        }
        assert list(bert.open.values()) == [(A, True)]
        assert "another certificate" in links(bert).trouble()[C]
        assert A not in links(bert).trouble()


async def test_a_dialer_that_is_not_listed_learns_where_to_look() -> None:
    (port,) = free_ports(1)
    anna = node(ANNA, members(anna=port, cleo=None), C, port=port)
    bert = node(BERT, members(anna=port, bert=None), A)
    async with running(anna, bert):
        await anna.until(lambda: len(anna.refusals) >= 2)  # it tries again
        assert set(anna.codes()) == {Refusal.UNKNOWN_CERTIFICATE}
        assert "member list" in links(bert).trouble()[A]
        assert not bert.opened_ever


async def test_connections_from_one_address_and_in_all_are_capped() -> None:
    (port,) = free_ports(1)
    known = members(anna=port, bert=None)
    for caps in ({"links_per_address": 2}, {"links_total": 2}):
        anna = node(ANNA, known, B, port=port, **caps)
        async with running(anna), contextlib.AsyncExitStack() as held:
            await links(anna).listening()
            for _ in range(2):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                held.push_async_callback(writer.wait_closed)
                held.callback(writer.close)
            assert await knock(port, None) == b""
            await anna.until(lambda: anna.refusals)
            assert anna.codes() == [Refusal.TOO_MANY_LINKS]
            await held.aclose()
            await anna.until(lambda: anna.codes().count(Refusal.TRUNCATED) == 2)
            async with upgraded(port):  # the twin: room again
                await anna.until(lambda: anna.open)


async def test_links_of_one_member_are_capped() -> None:
    (port,) = free_ports(1)
    anna = node(ANNA, members(anna=port, bert=None), B, port=port, links_per_member=2)
    async with running(anna), upgraded(port):
        await links(anna).listening()
        async with upgraded(port):
            await anna.until(lambda: len(anna.open) == 2)
            with pytest.raises(aiohttp.ClientError):
                async with upgraded(port):
                    pass
            assert anna.codes() == [Refusal.TOO_MANY_LINKS]
        await anna.until(lambda: len(anna.open) == 1)
        async with upgraded(port):
            await anna.until(lambda: len(anna.open) == 2)


async def test_a_port_in_use_says_so_and_names_the_fix() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        anna = node(ANNA, members(anna=port, bert=None), B, port=port)
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}") as caught:
            await links(anna).run()
        assert caught.value.fix


# --- a hostile member -----------------------------------------------------------------------


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


async def test_a_text_message_ends_the_link_and_names_the_member() -> None:
    async with listening() as (anna, port), upgraded(port) as websocket:
        await websocket.send_bytes(b"fine")
        await websocket.send_str("not fine")
        await websocket.send_bytes(b"never read")
        await anna.until(lambda: anna.closed_ever)
        assert anna.messages == [b"fine"]
        assert [(origin, code) for origin, code, _ in anna.refusals] == [(B, Refusal.MALFORMED)]


async def test_a_message_of_the_limit_passes_and_one_byte_more_is_refused_unread() -> None:
    async with listening() as (anna, port), upgraded(port) as websocket:
        await websocket.send_bytes(bytes(MESSAGE_BYTES))
        await anna.until(lambda: anna.messages)
        assert not anna.refusals
        await websocket.send_bytes(bytes(MESSAGE_BYTES + 1))
        await anna.until(lambda: anna.closed_ever)
        assert len(anna.messages) == 1
        assert [(origin, code) for origin, code, _ in anna.refusals] == [(B, Refusal.OVERSIZE)]


UPGRADE = (
    b"GET /gossip HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b"A" * 22 + b"==\r\n\r\n"
)


@pytest.mark.parametrize(
    "frame",
    [b"\xff\xff" * 8, b"\xc2\x80\0\0\0\0", b"\x80\x80\0\0\0\0", b"\x09\x80\0\0\0\0"],
    ids=["reserved bits", "compressed", "continuation of nothing", "ping in parts"],
)
async def test_what_is_no_websocket_frame_ends_the_link(frame: bytes) -> None:
    context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
    fine = b"\x82\x82\0\0\0\0hi"
    async with listening() as (anna, port):
        answer = await knock(port, context, UPGRADE + fine + frame)  # right behind the handshake
        assert answer.startswith(b"HTTP/1.1 101")
        await anna.until(lambda: anna.closed_ever)
        assert anna.messages == [b"hi"]
        assert [(origin, code) for origin, code, _ in anna.refusals] == [(B, Refusal.MALFORMED)]


@pytest.mark.parametrize(
    "request_",
    [
        UPGRADE.replace(b"/gossip", b"/"),
        UPGRADE.replace(b"GET", b"POST"),
        UPGRADE.replace(b"Upgrade: websocket\r\n", b""),
        UPGRADE.replace(b"==", b""),
        UPGRADE.replace(b"Host: x", b"Host: " + b"x" * 5000),
        UPGRADE.replace(b"Host: x", b"\r\n".join(b"H%d: x" % n for n in range(60))),
        b"\x16\x03\x01 not HTTP at all\r\n\r\n",
    ],
    ids=["path", "method", "no upgrade", "key", "long header", "many headers", "not HTTP"],
)
async def test_only_the_upgrade_is_answered_and_no_traceback_is_logged(
    request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
    async with listening() as (anna, port):
        answer = await knock(port, context, request_)
        assert answer[:12] in (b"HTTP/1.1 404", b"HTTP/1.0 400", b"HTTP/1.1 400"), answer
        await anna.until(lambda: anna.refusals)
        assert set(anna.codes()) == {Refusal.MALFORMED}
        assert not anna.opened_ever
        assert not caplog.records
        async with upgraded(port):
            await anna.until(lambda: anna.open)


async def test_a_member_that_never_asks_for_the_upgrade_is_cut() -> None:
    context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
    async with listening(handshake_timeout=0.3) as (anna, port):
        assert await knock(port, context, UPGRADE[:40]) == b""
        async with upgraded(port):
            await anna.until(lambda: anna.open)


async def test_a_member_that_does_not_read_is_cut_and_its_frames_are_not_kept() -> None:
    async with listening(stall_timeout=0.3, close_timeout=0.3) as (anna, port):
        context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        await anna.until(lambda: anna.open)
        for _ in range(100):
            links(anna).send_data(anna.only(), lambda: bytes(MESSAGE_BYTES))
        await anna.until(lambda: anna.closed_ever)
        assert [(origin, code) for origin, code, _ in anna.refusals] == [(B, Refusal.STALLED)]
        writer.transport.abort()
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


@pytest.mark.parametrize("kind", ["control", "data"])
async def test_queues_are_bounded_and_what_overflows_is_a_slow_reader(kind: str) -> None:
    bound = 1024 if kind == "control" else 256
    async with pair() as (anna, bert):
        link = anna.only()
        bert.gate.clear()  # its reader holds everything up
        for _ in range(bound):
            if kind == "control":
                links(anna).send(link, b"x")
            else:
                links(anna).send_data(link, lambda: b"x")
        assert not anna.refusals  # the twin: a full queue is no fault yet
        for _ in range(2):
            if kind == "control":
                links(anna).send(link, b"x")
            else:
                links(anna).send_data(link, lambda: b"x")
        await anna.until(lambda: link in anna.closed_ever)
        assert [(origin, code) for origin, code, _ in anna.refusals] == [(B, Refusal.STALLED)]
        bert.gate.set()


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def redirect(request: aiohttp.web.BaseRequest) -> aiohttp.web.StreamResponse:
        asked.append(request.path)
        return aiohttp.web.Response(status=307, headers={"Location": "/elsewhere"})

    from node.tls import server_context

    context = server_context(ANNA, make_certificate(ANNA), [make_certificate(BERT)])
    server = aiohttp.web.Server(redirect)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0, ssl=context)
    port = listener.sockets[0].getsockname()[1]
    bert = node(BERT, members(anna=port, bert=None), A)
    async with running(bert):
        while len(asked) < 2:
            await asyncio.sleep(0.01)
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
        await anna.until(lambda: anna.open)
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
        for round_ in range(3):
            anna = node(ANNA, known, B, port=port)
            async with running(anna):
                await bert.until(lambda: bert.open)
                links(bert).send(bert.only(), b"round %d" % round_)
                await anna.until(lambda: anna.messages)
                assert anna.messages == [b"round %d" % round_]
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
        await first.until(lambda: first.open)
        await second.until(lambda: second.open)
        assert [dialed for _, dialed in first.open.values()] == [True]
        assert [dialed for _, dialed in second.open.values()] == [False]


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
