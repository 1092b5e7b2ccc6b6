"""A running node reads its files again: members join, leave and move, and mistakes cost nothing."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gossipfl.tasks.heart_disease import HOSPITALS
from node.output import ExitCode
from tests.live.federation import OK, Nodes, Process, Status, accepted, row

LONG = 100_000  # rounds: such a federation ends only when it is told to
PAIR = ("anna", "bert")
# Who starts again in a round that it has offered waits so long for others that did the same
SHORT = {"deadline": {"max_s": 5.0}}
FOUR = tuple(HOSPITALS)
FIFTH = "lausanne"

pytestmark = pytest.mark.timeout(240)  # each test is a story of several starts of several nodes


async def reload(nodes: Nodes, name: str) -> tuple[int, dict[str, Any]]:
    """Run the verb on a node; return its exit code and its answer."""
    command = [sys.executable, "-P", "-m", "node.cli", "reload", str(nodes.views[name].config)]
    done = await asyncio.to_thread(
        subprocess.run, [*command, "--json"], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


async def reloaded(nodes: Nodes, name: str) -> dict[str, Any]:
    code, answer = await reload(nodes, name)
    assert code == OK, answer
    data: dict[str, Any] = answer["data"]
    return data


class MemberList:
    """The member list that all nodes of a test read."""

    def __init__(self, nodes: Nodes) -> None:
        self._path = nodes.directory / "federation.toml"
        self._head, *tables = self._path.read_text().split("\n[[members]]\n")
        self.tables = {table.split('"')[1]: table for table in tables}

    def write(self, *names: str) -> None:
        listed = "".join(f"\n[[members]]\n{self.tables[name]}" for name in names)
        self._path.write_text(self._head + listed)

    def move(self, nodes: Nodes, name: str, *, listen: bool = True) -> None:
        """Give a member another port, in the list and in its own file."""
        (old,) = [line for line in self.tables[name].splitlines() if line.startswith("address")]
        with socket.create_server(("127.0.0.1", 0)) as free:
            new = f'address = "127.0.0.1:{free.getsockname()[1]}"'
        self.tables[name] = self.tables[name].replace(old, new)
        self.write(*self.tables)
        if listen:
            edit(nodes.views[name].config, old.replace("address", "listen"), new[10:])


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    new = f"listen = {new}" if new.startswith('"127.') else new
    path.write_text(text.replace(old, new))


def senders(*names: str) -> Callable[[Status], bool]:
    """Whether the last round of a node was closed with exactly these neighbors, since its start."""

    def closed(status: Status) -> bool:
        if {row["name"] for row in status["neighbors"]} < set(names):
            return False
        rounds = [row(status, name)["accepted_round"] for name in names]
        records = status["records"]
        if None in rounds or not records:
            return False
        return records[-1]["round"] > min(rounds) - 2 and set(records[-1]["senders"]) == set(names)

    return closed


async def test_a_fifth_member_joins_in_mid_training_and_another_is_removed(tmp_path: Path) -> None:
    everybody = (*FOUR, FIFTH)
    nodes = Nodes(tmp_path, everybody, rounds=300, node=SHORT)
    nodes.pause(0.4)  # training lasts while five nodes reload
    members = MemberList(nodes)
    members.write(*FOUR)
    first, *others = FOUR
    try:
        for name in FOUR:
            nodes.start(name, "--exit-when-done")
        for name in FOUR:
            before = await nodes.until(name, senders(*(set(FOUR) - {name})))
        pid, incarnation = before["pid"], before["incarnation"]

        members.write(*everybody)
        found = await reloaded(nodes, first)
        assert found["added"] == [FIFTH]
        await check_that_it_counts_nothing(nodes, first, others)
        for answer in await asyncio.gather(*(reloaded(nodes, name) for name in others[:-1])):
            assert answer["added"] == [FIFTH]
        nodes.processes[others[-1]].signal(signal.SIGHUP)
        for name in FOUR:  # it heals
            status = await nodes.until(name, senders(*(set(FOUR) - {name})))
            assert not any(row["members_differ"] for row in status["neighbors"])
        assert (status["pid"], status["incarnation"]) == (pid, incarnation + 1)
        assert status["round"] > before["round"]

        nodes.start(FIFTH, "--exit-when-done")
        for name in everybody:
            status = await nodes.until(name, senders(*(set(everybody) - {name})))
            assert all(row["equivocations"] == 0 for row in status["neighbors"])

        gone, *stay = everybody
        members.write(*stay)
        for answer in await asyncio.gather(*(reloaded(nodes, name) for name in stay)):
            assert answer["removed"] == [gone]
        for name in stay:
            status = await nodes.until(name, senders(*(set(stay) - {name})))
            assert gone not in status["participation"]
        assert nodes.processes[gone].running
        left = await nodes.until(gone, lambda status: not any(r["up"] for r in status["neighbors"]))
        assert left["round"] < 300
        nodes.pause(0.0)
        for name in stay:
            process = nodes.processes[name]
            assert await process.ended(100) == OK, process.log.read_text()
            assert process.answer()["data"]["status"]["round"] == 300
    finally:
        nodes.end()


def differs(name: str) -> Callable[[Status], bool]:
    return lambda status: bool(row(status, name).get("members_diff"))


async def check_that_it_counts_nothing(nodes: Nodes, first: str, others: list[str]) -> None:
    """A node with another list is told apart by the diff, on both ends, and mixes nothing."""
    for one, other in ((first, others[0]), (others[0], first)):
        status = await nodes.until(one, differs(other))
        assert any(FIFTH in line for line in row(status, other)["members_diff"])
        assert f"{FIFTH}: only in the list" in nodes.processes[one].log.read_text()
    then = await nodes.status(first)
    elsewhere = await nodes.status(others[0])
    await nodes.until(others[0], lambda status: status["round"] > elsewhere["round"] + 2)
    now = await nodes.status(first)
    assert now["round"] == then["round"]
    assert [accepted(now, name) for name in others] == [0, 0, 0]
    assert now["phase"] == "waiting"


async def test_a_member_that_moves_is_found_again(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, PAIR, rounds=LONG, node=SHORT)
    nodes.pause(0.05)
    members = MemberList(nodes)
    try:
        for name in PAIR:
            nodes.start(name)
        await nodes.until("anna", senders("bert"))
        # it restarts elsewhere, and only then the other learns of it
        nodes.processes["bert"].signal(signal.SIGTERM)
        assert await nodes.processes["bert"].ended(10) == OK
        members.move(nodes, "bert")
        nodes.start("bert")
        assert (await reloaded(nodes, "anna"))["moved"] == ["bert"]
        status = await nodes.until("anna", senders("bert"))
        round_ = status["round"]
        # it moves while it runs
        members.move(nodes, "bert")
        found = await reloaded(nodes, "bert")
        assert (found["moved"], found["settings"]) == (["bert"], ["listen"])
        assert (await reloaded(nodes, "anna"))["moved"] == ["bert"]
        status = await nodes.until(
            "anna", lambda status: (row(status, "bert")["accepted_round"] or 0) > round_ + 3
        )
        assert row(status, "bert")["equivocations"] == 0
        # nothing has changed
        found = await reloaded(nodes, "anna")
        assert (found["changed"], found["lines"]) == (False, [])
        assert found["incarnation"] == status["incarnation"]
    finally:
        nodes.end()


# --- what is refused ----------------------------------------------------------------------------


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """Four members, of whom a test starts one: it waits for the others and can be asked."""
    made = Nodes(tmp_path, (*FOUR, FIFTH), rounds=LONG)
    yield made
    made.end()


async def test_what_is_wrong_is_told_and_the_node_goes_on_as_it_was(nodes: Nodes) -> None:
    name, *_ = everybody = (*FOUR, FIFTH)
    members = MemberList(nodes)
    federation, config = nodes.directory / "federation.toml", nodes.views[name].config
    nodes.start(name)
    before = await nodes.until(name, lambda status: status["phase"] == "waiting")
    right = federation.read_text(), config.read_text()
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]

    async def refused(says: str) -> None:
        code, answer = await reload(nodes, name)
        assert code == ExitCode.USAGE
        assert says in answer["error"]["message"]
        assert answer["error"]["fix"]
        status = await nodes.status(name)
        for key in ("pid", "incarnation", "phase", "worker_pid"):
            assert status[key] == before[key], key
        federation.write_text(right[0])
        config.write_text(right[1])
        (nodes.directory / "control" / "raise-data").unlink(missing_ok=True)

    with taken:
        edit(federation, f"rounds = {LONG}", "rounds = 7")
        await refused(f"rounds: {LONG} here, 7 there")
        federation.write_text("nonsense")
        await refused("is not TOML")
        federation.unlink()
        await refused("there is no such file")
        members.write(*everybody[1:])
        await refused(f"there is no member '{name}'")
        members.write(*everybody[:3])  # the rule asks for three neighbors
        await refused("at least 3 neighbors")
        edit(config, "store = ", "durable = false\nstore = ")
        await refused("durable in node.toml cannot change")
        listen = next(line for line in right[1].splitlines() if line.startswith("listen"))
        edit(config, listen, f'"127.0.0.1:{port}"')
        await refused(f"cannot listen on 127.0.0.1:{port}")
        edit(config, listen, listen.replace("127.0.0.1", "192.0.2.1"))
        await refused("cannot listen on 192.0.2.1")  # RFC 5737: nobody's address
        nodes.switch("raise-data")  # the task's data cannot be read any more
        members.write(*everybody[:4])
        await refused("odd data")
    assert "not reloaded" in nodes.processes[name].log.read_text()
    members.write(*everybody[:4])  # the twin
    assert (await reloaded(nodes, name))["removed"] == [FIFTH]
    status = await nodes.status(name)
    assert status["incarnation"] == before["incarnation"] + 1
    assert status["worker_pid"] != before["worker_pid"]


async def test_a_node_that_is_told_to_leave_while_it_reloads_leaves(nodes: Nodes) -> None:
    name = FOUR[0]
    process: Process = nodes.start(name)
    await nodes.until(name, lambda status: status["phase"] == "waiting")
    (nodes.directory / "control" / "hang-data").touch()
    MemberList(nodes).write(*FOUR)
    asked = asyncio.create_task(reload(nodes, name))
    await until_it_hangs(nodes)
    process.signal(signal.SIGINT)
    assert await process.ended(10) == OK, process.log.read_text()
    process.gone(1.0)  # and both of its workers with it
    code, answer = await asked
    assert code == ExitCode.USAGE
    assert "ended before it could reload" in answer["error"]["message"]


async def test_a_second_ctrl_c_ends_the_node_at_once_and_it_starts_again(nodes: Nodes) -> None:
    name = FOUR[0]
    nodes.switch("hang-data")
    process = nodes.start(name)
    await until_it_hangs(nodes)
    for _ in range(2):
        process.signal(signal.SIGINT)
    assert await process.ended(10) in (OK, -signal.SIGINT)  # the first may have been enough
    process.gone(2.0)
    nodes.switch("hang-data", on=False)
    nodes.start(name)  # whatever was left behind does not stand in its way
    await nodes.until(name, lambda status: status["phase"] == "waiting")


async def test_a_reload_of_a_node_that_does_not_run_is_told(nodes: Nodes) -> None:
    code, answer = await reload(nodes, FOUR[0])
    assert code == ExitCode.USAGE
    assert "no node answers" in answer["error"]["message"]


async def until_it_hangs(nodes: Nodes) -> None:
    path = nodes.directory / "control" / "hangs"
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(path.exists):  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.02)


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal to close")
async def test_a_node_whose_terminal_is_closed_leaves(nodes: Nodes) -> None:
    name = FOUR[0]
    ours, theirs = os.openpty()
    command = [sys.executable, "-P", "-m", "node.cli", "run", str(nodes.views[name].config)]
    path = os.pathsep.join([str(nodes.directory), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(  # noqa: ASYNC220 - it only forks
        command,
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path},
    ) as popen:
        os.close(theirs)
        nodes.processes[name] = Process(popen, Path(os.devnull), Path(os.devnull))
        await nodes.until(name, lambda status: status["phase"] == "waiting")
        os.close(ours)
        popen.send_signal(signal.SIGHUP)
        assert await asyncio.to_thread(popen.wait, 10) == OK
