"""Members that only dial out: a star of firewalls, whose leaves nobody can reach."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from node.config import load_node
from tests.live.federation import OK, Nodes, row

NAMES = ("center", "anna", "bert", "carla")
LEAVES = NAMES[1:]
ROUNDS = 12


def star(directory: Path) -> Nodes:
    """Four nodes of whom three have no address and do not listen."""
    nodes = Nodes(
        directory,
        NAMES,
        topology="star",
        mixing={"kind": "mean"},
        rounds=ROUNDS,
        node={"start_quorum": 1, "deadline": {"min_s": 20.0}},  # no machine is so loaded
    )
    for name in LEAVES:
        only_dials(nodes, name)
    edit(nodes, "center", "start_quorum = 1", "start_quorum = 3")
    return nodes


def only_dials(nodes: Nodes, name: str) -> None:
    path = nodes.views[name].config
    (address,) = [line for line in path.read_text().splitlines() if line.startswith("listen")]
    edit(nodes, name, address, "listen = false")
    federation = nodes.directory / "federation.toml"
    text = federation.read_text()
    line = address.replace("listen", "address") + "\n"
    assert line in text
    federation.write_text(text.replace(line, ""))


def edit(nodes: Nodes, name: str, old: str, new: str) -> None:
    path = nodes.views[name].config
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


async def check_that_all_take_part(nodes: Nodes) -> None:
    """Every round of every node ends with every neighbor of it, on links that leaves dialed."""
    for name in NAMES:
        # a round's record follows its end, once the model is measured
        status = await nodes.until(
            name, lambda status: status["finished"] and len(status["records"]) == ROUNDS, 60
        )
        around = LEAVES if name == "center" else ("center",)
        assert [record["senders"] for record in status["records"]] == [list(around)] * ROUNDS
        assert status["participation"] == dict.fromkeys((name, *around), ROUNDS)
        assert {link["dialed"] for link in status["links"]} == {name != "center"}
        assert len(status["links"]) == len(around)
        for other in around:
            assert row(status, other)["accepted_round"] == ROUNDS - 1
            assert row(status, other)["trouble"] is None
    for name in NAMES:
        nodes.processes[name].signal(signal.SIGTERM)
    for name in NAMES:
        process = nodes.processes[name]
        assert await process.ended(10) == OK, process.log.read_text()


@pytest.mark.timeout(120)
async def test_three_that_only_dial_and_one_that_listens_are_all_full_members(
    tmp_path: Path,
) -> None:
    nodes = star(tmp_path)
    try:
        for name in NAMES[::-1]:  # the leaves first: they dial until the center is there
            nodes.start(name)
        await check_that_all_take_part(nodes)
    finally:
        nodes.end()


# --- the same behind real firewalls -------------------------------------------------------------

FIREWALL = """
table inet gossipfl {
  chain input {
    type filter hook input priority 0; policy drop;
    ct state established,related accept
    iif lo accept
  }
}
"""
LISTEN = "import socket; s = socket.create_server(('{host}', 7400)); print(flush=True); s.accept()"
DIAL = "import socket; socket.create_connection(('{host}', 7400), 1.0)"
"""One second on a network without loss: who is not there by then was dropped."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=20)


class Firewalls:
    """One network namespace per member on one bridge; a leaf drops every new connection to it."""

    def __init__(self, names: tuple[str, ...], cleanup: ExitStack) -> None:
        self._mark = f"gfl{os.getpid()}"
        self.hosts = {name: f"10.0.0.{place}" for place, name in enumerate(names, start=1)}
        hub = self._namespace("hub", cleanup)
        ip("-n", hub, "link", "add", "bridge0", "type", "bridge")
        ip("-n", hub, "link", "set", "bridge0", "up")
        for place, (name, host) in enumerate(self.hosts.items()):
            inside = self._namespace(name, cleanup)
            port = f"port{place}"
            pair = ("type", "veth", "peer", "name", "eth0", "netns", inside)
            ip("-n", hub, "link", "add", port, *pair)
            ip("-n", hub, "link", "set", port, "master", "bridge0")
            ip("-n", hub, "link", "set", port, "up")
            ip("-n", inside, "addr", "add", f"{host}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", inside, "link", "set", device, "up")

    def _namespace(self, name: str, cleanup: ExitStack) -> str:
        full = f"{self._mark}-{name}"
        ip("netns", "add", full)
        cleanup.callback(ip, "netns", "del", full)  # takes its devices and rules along
        return full

    def inside(self, name: str) -> tuple[str, ...]:
        """What to put before a command so that it runs in a member's namespace."""
        return ("ip", "netns", "exec", f"{self._mark}-{name}")

    def close(self, name: str) -> None:
        """Let a member answer what it dialed itself, and nothing else."""
        subprocess.run(
            [*self.inside(name), "nft", "-f", "-"], input=FIREWALL, text=True, check=True
        )

    def reaches(self, dialer: str, listener: str) -> bool:
        """Try a connection from one member to another."""
        host = self.hosts[listener]
        python = (sys.executable, "-c")
        command = [*self.inside(listener), *python, LISTEN.format(host=host)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as listening:
            assert listening.stdout is not None
            listening.stdout.readline()  # it listens
            dial = [*self.inside(dialer), *python, DIAL.format(host=host)]
            done = subprocess.run(dial, stderr=subprocess.DEVNULL, check=False, timeout=20)
            listening.kill()
        return done.returncode == 0


@pytest.fixture
def firewalls() -> Iterator[Firewalls]:
    if os.geteuid() != 0:
        pytest.skip("needs root: network namespaces")
    if missing := [tool for tool in ("ip", "nft") if shutil.which(tool) is None]:
        pytest.skip(f"needs {' and '.join(missing)}")
    with ExitStack() as cleanup:
        try:
            made = Firewalls(NAMES, cleanup)
            for name in LEAVES:
                made.close(name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs root that may make network namespaces: {error}")
        yield made


@pytest.mark.timeout(120)
async def test_a_star_of_firewalls_learns_together(tmp_path: Path, firewalls: Firewalls) -> None:
    assert firewalls.reaches("anna", "center")  # the twin: only what is closed is closed
    assert not firewalls.reaches("center", "anna")
    assert not firewalls.reaches("bert", "anna")
    nodes = star(tmp_path)
    settings = load_node(nodes.views["center"].config, environment={}).settings
    assert settings.listen is not None
    address = f"{firewalls.hosts['center']}:7400"
    edit(nodes, "center", f"127.0.0.1:{settings.listen[1]}", address)
    federation = nodes.directory / "federation.toml"
    federation.write_text(
        federation.read_text().replace(f"127.0.0.1:{settings.listen[1]}", address)
    )
    try:
        for name in NAMES:
            nodes.start(name, prefix=firewalls.inside(name))
        await check_that_all_take_part(nodes)
    finally:
        nodes.end()


def test_nothing_is_left_of_the_namespaces() -> None:
    if shutil.which("ip") is None:
        pytest.skip("needs ip")
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert f"gfl{os.getpid()}-" not in done.stdout
