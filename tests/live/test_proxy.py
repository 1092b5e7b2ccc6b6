"""Nodes behind a proxy: a real one, one that is not there, and some that do what none should."""

import asyncio
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from gossipfl.errors import Refusal
from gossipfl.wire.identity import Identity
from node.certificates import make_certificate
from node.proxy import parse_proxy
from node.tls import server_context
from tests.live.federation import OK, Nodes, row
from tests.live.linking import (
    ANNA,
    BERT,
    A,
    B,
    Heard,
    free_ports,
    links,
    members,
    node,
    running,
)

PASSWORD = "s3cret-word"
HIDDEN = ("s3cret", "dTpzM2NyZXQtd29yZA")  # as it is written, and as it travels


class RealProxy:
    """proxy.py in a process of its own."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._port_file = directory / "proxy.port"
        self.log = directory / "proxy.log"
        command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"]
        command += ["--port-file", str(self._port_file), "--log-file", str(self.log)]
        command += ["--num-workers", "1", "--num-acceptors", "1", "--data-dir", str(directory)]
        self._popen = subprocess.Popen(
            [*command, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": str(directory)},
        )

    async def port(self) -> int:
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(self._port):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        return self._port()

    def _port(self) -> int:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int(self._port_file.read_text())
        return 0

    def connects(self) -> list[str]:
        """Return which addresses were asked for in CONNECTs that have ended, refused ones aside."""
        found = re.findall(r"CONNECT (\S+)", self.log.read_text())
        return [address for address in found if address != "None:None"]

    def end(self) -> None:
        self._popen.send_signal(signal.SIGTERM)
        self._popen.wait(20)


@contextlib.asynccontextmanager
async def real_proxy(directory: Path, *options: str) -> AsyncIterator[tuple[RealProxy, int]]:
    proxy = await asyncio.to_thread(RealProxy, directory, *options)
    try:
        yield proxy, await proxy.port()
    finally:
        await asyncio.to_thread(proxy.end)


# --- whole nodes behind a real proxy ------------------------------------------------------------


@pytest.mark.timeout(120)
async def test_a_node_behind_a_proxy_exchanges_updates_through_it_alone(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, ("anna", "bert"), rounds=5, node={"deadline": {"min_s": 20.0}})
    config, federation = nodes.views["bert"].config, tmp_path / "federation.toml"
    listens = re.search(r'listen = "(.*)"', config.read_text())
    anna = re.search(r'listen = "(.*)"', nodes.views["anna"].config.read_text())
    assert listens is not None
    assert anna is not None
    # bert has no other route: he does not listen, and only the proxy knows what anna's name means
    config.write_text(config.read_text().replace(f'"{listens[1]}"', "false"))
    named = anna[1].replace("127.0.0.1", "anna.invalid")
    text = federation.read_text().replace(f'address = "{listens[1]}"\n', "")
    federation.write_text(text.replace(anna[1], named))
    try:
        async with real_proxy(tmp_path, "--basic-auth", f"u:{PASSWORD}", *resolver(tmp_path)) as (
            proxy,
            port,
        ):
            nodes.start("anna", "--exit-when-done")
            for wrong in ("", "u:wrong@"):
                nodes.start("bert", "--set", f"proxy=http://{wrong}127.0.0.1:{port}")
                status = await nodes.until("bert", lambda s: row(s, "anna").get("trouble"))
                assert "407" in row(status, "anna")["trouble"]
                assert "user and password in `proxy`" in row(status, "anna")["trouble"]
                nodes.processes["bert"].signal(signal.SIGTERM)
                assert await nodes.processes["bert"].ended(10) == OK
                assert "407" in nodes.processes["bert"].log.read_text()
            with config.open("a") as end:
                end.write(f'\nproxy = "http://u:{PASSWORD}@127.0.0.1:{port}"\n')
            nodes.start("bert", "--exit-when-done")
            for name, other in (("anna", "bert"), ("bert", "anna")):
                process = nodes.processes[name]
                assert await process.ended(40) == OK, process.log.read_text()
                data = process.answer()["data"]
                assert data["participation"] == {name: 5, other: 5}
                said = json.dumps(data) + process.log.read_text()
                assert not any(secret in said for secret in HIDDEN)
        assert proxy.connects()
        assert set(proxy.connects()) == {named}
    finally:
        nodes.end()


def resolver(directory: Path) -> list[str]:
    """A plugin for the proxy: it alone resolves names that end in .invalid."""
    plugin = directory / "names_of_test.py"
    plugin.write_text(
        "from proxy.http.proxy import HttpProxyBasePlugin\n"
        "class Names(HttpProxyBasePlugin):\n"
        "    def resolve_dns(self, host, port):\n"
        "        return ('127.0.0.1', None) if host.endswith('.invalid') else (None, None)\n"
    )
    return ["--plugins", "names_of_test.Names"]


async def test_through_a_real_proxy_links_carry_and_what_it_refuses_is_told(
    tmp_path: Path,
) -> None:
    (listening, nobody) = free_ports(2)
    known = members(anna=listening, bert=None)
    async with real_proxy(tmp_path) as (proxy, port):
        anna = node(ANNA, known, B, port=listening)
        bert = node(BERT, known, A, proxy=parse_proxy(f"http://127.0.0.1:{port}"))
        async with running(anna, bert):
            await bert.linked()
            await anna.linked()
            links(bert).send_data(bert.only(), lambda: bytes(1 << 20))
            await anna.until(lambda: anna.messages)
            assert len(anna.messages[0]) == 1 << 20
        gone = node(
            BERT, members(anna=nobody, bert=None), A, proxy=parse_proxy(f"http://127.0.0.1:{port}")
        )
        trouble = await trouble_of(gone)
        assert f"proxy 127.0.0.1:{port} answered 502 (Bad Gateway): it cannot reach" in trouble
    assert proxy.connects()[0] == f"127.0.0.1:{listening}"


# --- proxies that fail --------------------------------------------------------------------------


async def trouble_of(bert: Heard) -> str:
    """Run a node until its dial has failed; return what its status says."""
    async with running(bert), asyncio.timeout(20):
        while A not in links(bert).trouble():  # noqa: ASYNC110 - a trouble is no event
            await asyncio.sleep(0.02)
        return links(bert).trouble()[A]


@contextlib.asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A proxy that says one thing to everybody, None for nothing at all."""
    heard: list[bytes] = []
    done = asyncio.Event()

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            if answer is None:
                await done.wait()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], heard
    finally:
        done.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 403 Pay first\r\n\r\n", "answered 403 (Forbidden) to CONNECT"),
        (b"HTTP/1.1 407 \x1b[31m\r\n\r\n", "answered 407 (Proxy Authentication Required)"),
        (b"HTTP/1.1 504 Late\r\n\r\n", "answered 504 (Gateway Timeout): it cannot reach"),
        (b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "answered 302 (Found)"),
        (b"HTTP/1.1 777 x\r\n\r\n", "answered 777 (an unknown status)"),
        (b"SSH-2.0-OpenSSH\r\n", "answered something that is not HTTP"),
        (b"\x00\xff" * 999, "answered something that is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 99_999, "answered something that is not HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "ended within the handshake"),
        (b"HTTP/1.1 200 OK\r\n\r\nWelcome", "ended within the handshake"),
        (b"", "was ended; does the proxy let it through"),
        (None, "answered in time"),
    ],
)
async def test_what_a_proxy_does_wrong_is_told(
    answer: bytes | None, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with answering(answer) as (port, heard):
        proxy = parse_proxy(f"http://u:{PASSWORD}@127.0.0.1:{port}")
        bert = node(BERT, members(anna=1, bert=None), A, proxy=proxy, handshake_timeout=0.5)
        trouble = await trouble_of(bert)
    assert says in trouble
    assert f"proxy 127.0.0.1:{port}" in trouble
    assert trouble in caplog.text
    assert HIDDEN[1].encode() in heard[0]
    assert not any(secret in trouble + caplog.text for secret in HIDDEN)


async def test_a_proxy_that_is_not_there_is_told() -> None:
    (port,) = free_ports(1)
    proxy = parse_proxy(f"http://u:{PASSWORD}@127.0.0.1:{port}")
    trouble = await trouble_of(node(BERT, members(anna=1, bert=None), A, proxy=proxy))
    assert trouble == f"the proxy 127.0.0.1:{port} cannot be reached: Connection refused"


@contextlib.asynccontextmanager
async def tunnel(
    target: Callable[[], int], certificate_of: Identity | None = None
) -> AsyncIterator[int]:
    """A small proxy; with a key of its own it opens TLS, as some companies' proxies do."""

    async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            if certificate_of is not None:
                mine = make_certificate(certificate_of)
                await writer.start_tls(
                    server_context(certificate_of, mine, [make_certificate(BERT)])
                )
                await reader.read(1)
            else:
                far, back = await asyncio.open_connection("127.0.0.1", target())
                await asyncio.gather(pump(reader, back), pump(far, writer))
        writer.close()

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_a_proxy_that_opens_tls_is_refused_and_one_that_does_not_is_passed() -> None:
    (listening,) = free_ports(1)
    known = members(anna=listening, bert=None)
    anna = node(ANNA, known, B, port=listening)
    async with running(anna), tunnel(lambda: listening, Identity(b"m" * 32)) as port:
        bert = node(BERT, known, A, proxy=parse_proxy(f"http://127.0.0.1:{port}"))
        trouble = await trouble_of(bert)
        assert "shows another certificate than anna's" in trouble
        assert f"the proxy 127.0.0.1:{port} may open TLS" in trouble
        assert bert.refusals[0][:2] == (A, Refusal.WRONG_CERTIFICATE)
        assert not anna.open
    async with running(anna), tunnel(lambda: listening) as port:  # the twin
        bert = node(BERT, known, A, proxy=parse_proxy(f"http://127.0.0.1:{port}"))
        async with running(bert):
            await bert.linked()
            await anna.linked()


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    (listening,) = free_ports(1)
    known = members(anna=listening, bert=None)
    async with answering(b"HTTP/1.1 403 no\r\n\r\n") as (port, heard):
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        anna, bert = node(ANNA, known, B, port=listening), node(BERT, known, A)
        async with running(anna, bert):
            await bert.linked()
            await anna.linked()
        assert heard == []
