"""Real links on loopback: who is refused, by what name, and that a neighbor still comes in."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from gossipfl.errors import ConfigError, Refusal
from gossipfl.wire.identity import Identity
from node.certificates import make_certificate
from node.links import MemberAddress
from node.tls import client_context
from tests.live.linking import (
    ANNA,
    BERT,
    CLEO,
    EVE,
    MESSAGE_BYTES,
    UPGRADE,
    A,
    B,
    C,
    free_ports,
    links,
    listening,
    members,
    node,
    pair,
    running,
    upgraded,
)

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
        assert anna.refusals[0][0] == (C if hostile is no_neighbor else "127.0.0.1")
        assert not anna.opened_ever
        async with running(bert):
            await anna.linked()
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
            await anna.linked()


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
        await anna.until(lambda: len(anna.refusals) >= 3)  # it tries again
        assert set(anna.codes()) == {Refusal.UNKNOWN_CERTIFICATE}
        assert "member list" in links(bert).trouble()[A]
        assert not bert.opened_ever


@pytest.mark.parametrize("cap", ["links_per_address", "links_total"])
async def test_connections_from_one_address_and_in_all_are_capped(cap: str) -> None:
    async with listening(**{cap: 2}) as (anna, port), contextlib.AsyncExitStack() as held:
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
            await anna.linked()


async def test_links_of_one_member_are_capped() -> None:
    async with listening(links_per_member=2) as (anna, port), upgraded(port):
        async with upgraded(port):
            await anna.until(lambda: len(anna.open) == 2)
            with pytest.raises(aiohttp.ClientError):
                async with upgraded(port):
                    pass
            assert {(origin, code) for origin, code, _ in anna.refusals} == {
                (B, Refusal.TOO_MANY_LINKS)
            }
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
        assert not [each for each in caplog.records if each.exc_info or each.name != "asyncio"]
        async with upgraded(port):
            await anna.linked()


async def test_a_member_that_never_asks_for_the_upgrade_is_cut() -> None:
    context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
    async with listening(handshake_timeout=0.3) as (anna, port):
        assert await knock(port, context, UPGRADE[:40]) == b""
        async with upgraded(port):
            await anna.linked()


async def test_a_member_that_does_not_read_is_cut_and_its_frames_are_not_kept() -> None:
    async with listening(stall_timeout=0.3, close_timeout=0.3) as (anna, port):
        context = client_context(BERT, make_certificate(BERT), make_certificate(ANNA))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(UPGRADE)
        await reader.readuntil(b"\r\n\r\n")
        await anna.linked()
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
