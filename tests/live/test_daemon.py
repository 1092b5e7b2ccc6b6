"""One node's life as its operator sees it: start, leave, return, and every way to be refused."""

import asyncio
import base64
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from gossipfl.wire.identity import Identity
from node.certificates import make_certificate
from node.client import SOCKET_NAME
from node.output import ExitCode
from tests.live.federation import Nodes, Process, Status, accepted, closed_rounds, row

LEAVE_S = 10.0
PAIR = ("anna", "bert")
LONG = 100_000  # rounds: such a federation ends only when it is told to


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Nodes]:
    nodes = Nodes(tmp_path, PAIR, rounds=LONG)
    nodes.pause(0.05)
    yield nodes
    nodes.end()


async def leave(nodes: Nodes, name: str, kind: int = signal.SIGTERM) -> dict[str, Any]:
    """Tell a node to leave; check that it does so as it must, and return what it said."""
    process = nodes.processes[name]
    process.signal(kind)
    assert await process.ended(LEAVE_S) == ExitCode.OK, process.log.read_text()
    check_nothing_left(nodes, name, process)
    answer = process.answer()
    assert answer["ok"]
    data: dict[str, Any] = answer["data"]
    return data


def check_nothing_left(nodes: Nodes, name: str, process: Process) -> None:
    process.gone(1.0)
    left = {path.name for path in nodes.store(name).iterdir()}
    assert left <= {"incarnation", "lock", "state", "rounds.jsonl", "model.safetensors"}
    assert not list(Path("/dev/shm").glob("*gossip*"))  # the vectors have no name


def gossipfl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "node.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80"},
        timeout=30,
        check=False,
    )


# --- leaving ------------------------------------------------------------------------------------


async def test_a_node_says_that_it_starts_and_leaves_before_it_is_up(pair: Nodes) -> None:
    process = pair.start("anna")
    status = await pair.until("anna", lambda status: True)
    assert status["phase"] == "starting"
    assert status["round"] is None
    page = gossipfl("status", str(pair.views["anna"].config))
    assert page.returncode == ExitCode.OK
    data = await leave(pair, "anna")
    assert (data["rounds"], data["model"]) == (0, None)
    assert process.pids > {process.popen.pid}  # its worker was there, and is gone


async def test_a_node_that_waits_says_for_whom_and_leaves(pair: Nodes) -> None:
    first = pair.start("anna", "--set", "require_members=2")
    status = await pair.until("anna", lambda status: status["phase"] == "waiting")
    assert (status["waits_for"], status["start_quorum"], status["round"]) == (["bert"], 1, 0)
    second = pair.start("anna")  # on the same store
    assert await second.ended() == ExitCode.STORE
    assert "in use by another node" in second.answer()["error"]["message"]
    page = gossipfl("status", str(pair.views["anna"].config)).stdout
    assert "waiting, waits for bert" in page
    assert max(map(len, page.splitlines())) <= 80
    first.signal(signal.SIGTERM)
    assert await first.ended(LEAVE_S) == ExitCode.FELL_SHORT
    check_nothing_left(pair, "anna", first)
    answer = first.answer()
    assert not answer["ok"]
    assert answer["error"]["code"] == "federation-failed"  # one of two members was there
    assert answer["data"]["participation"] == {"anna": 0, "bert": 0}
    nobody = gossipfl("status", str(pair.views["anna"].config), "--json")
    assert nobody.returncode == ExitCode.USAGE
    assert "gossipfl run" in json.loads(nobody.stdout)["error"]["fix"]


async def test_nodes_leave_in_mid_run_and_return(pair: Nodes) -> None:
    for name in PAIR:
        pair.start(name)
    before = await pair.until("bert", lambda status: status["round"] and status["round"] > 5)
    check_fields(before)
    data = await leave(pair, "bert")
    rounds = data["rounds"]
    assert rounds > 5
    assert data["participation"] == {"bert": rounds, "anna": rounds}
    seen = await pair.until("anna", lambda status: row(status, "bert")["left"])
    assert not row(seen, "bert")["up"]
    pair.start("bert")
    again = await pair.until("bert", lambda status: (status["round"] or 0) > rounds + 2)
    assert again["incarnation"] == before["incarnation"] + 1
    assert again["records"][0]["round"] == rounds  # where it was
    seen = await pair.until("anna", lambda status: accepted(status, "bert") > 0)
    assert not row(seen, "bert")["left"]
    assert row(seen, "bert")["equivocations"] == 0
    data = await leave(pair, "bert", signal.SIGINT)
    assert data["rounds"] > rounds  # of both starts
    assert closed_rounds(pair.store("bert")) == list(range(data["rounds"]))
    await leave(pair, "anna", signal.SIGINT)


def check_fields(status: Status) -> None:
    neighbor = row(status, "anna")
    assert neighbor["up"]
    assert neighbor["last_heard_s"] < 5
    assert neighbor["staleness"] <= 1
    assert accepted(status, "anna") > 0
    assert neighbor["refused"] == {}
    assert status["loss"] > 0
    assert set(status["measures"]) == {"loss", "accuracy", "auc"}
    assert status["bytes_in"] > 0 < status["bytes_out"]
    assert {link["tls_version"] for link in status["links"]} == {"TLSv1.3"}
    worker = psutil.Process(status["worker_pid"])
    assert worker.ppid() == status["pid"]


async def test_a_pass_that_does_not_end_holds_nothing_up(pair: Nodes) -> None:
    for name in PAIR:
        pair.start(name)
    await pair.until("bert", lambda status: status["round"] and status["round"] > 2)
    pair.switch("hang-loss")
    for name in PAIR:
        await pair.until(name, lambda status: status["phase"] == "training" and hangs(pair))
    data = await leave(pair, "bert")
    assert data["model"] == str(pair.store("bert") / "model.safetensors")
    anna = pair.processes["anna"]
    anna.kill()
    assert anna.gone(2.0) < 1.0
    pair.switch("hang-loss", on=False)
    pair.start("bert")  # from what it saved
    status = await pair.until("bert", lambda status: status["phase"] == "waiting")
    assert status["round"] >= data["rounds"]
    pair.start("anna")  # from what it had saved before
    await pair.until("bert", lambda status: status["round"] > data["rounds"] + 2)
    for name in PAIR:
        await leave(pair, name)


def hangs(nodes: Nodes) -> bool:
    return (nodes.control / "hangs").exists()


async def test_a_second_sigterm_ends_a_node_that_cannot_save(pair: Nodes) -> None:
    process = pair.start("anna", die=("slow-save", 0))
    await pair.until("anna", lambda status: status["phase"] == "waiting")
    process.signal(signal.SIGTERM)
    await pair.until("anna", lambda status: status["phase"] == "left")
    assert process.running  # it waits for the disk
    process.signal(signal.SIGTERM)
    assert await process.ended(1.0) == -signal.SIGTERM
    process.gone(1.0)


async def test_after_the_last_round_a_node_serves_until_it_is_told_to_leave(
    tmp_path: Path,
) -> None:
    nodes = Nodes(tmp_path, PAIR, rounds=5, node={"require_members": 2})
    try:
        for name in PAIR:
            nodes.start(name)
        for name in PAIR:
            status = await nodes.until(name, lambda status: status["finished"])
            assert (status["phase"], status["round"]) == ("done", 5)
        for name in PAIR:
            data = await leave(nodes, name)
            assert data["participation"] == dict.fromkeys(PAIR, 5)
            assert data["members"] == 2
            assert set(data["status"]["measures"]) == {"loss", "accuracy", "auc"}
            assert len(data["status"]["records"]) == 5
        nodes.start("anna")  # what is done stays done
        status = await nodes.until("anna", lambda status: status["finished"])
        assert status["round"] == 5
        data = await leave(nodes, "anna")
        assert (data["rounds"], data["members"]) == (5, 2)
    finally:
        nodes.end()


# --- the worker ---------------------------------------------------------------------------------


async def test_a_worker_that_dies_is_started_again_and_three_deaths_in_one_job_end_the_node(
    pair: Nodes,
) -> None:
    for name in PAIR:
        pair.start(name, "--set", "deadline.min_s=20")  # longer than a worker takes to start
    before = await pair.until("bert", lambda status: status["round"] and status["round"] > 2)
    os.kill(before["worker_pid"], signal.SIGKILL)
    after = await pair.until(
        "bert",
        lambda status: status["worker_restarts"] == 1 and status["round"] > before["round"] + 3,
    )
    assert after["worker_pid"] != before["worker_pid"]
    for name in PAIR:  # it did its job again: nobody lost even that round
        rounds = closed_rounds(pair.store(name))
        assert rounds == list(range(len(rounds)))
    pair.switch("die-loss")
    process = await pair.first_ended(60)
    assert process.popen.returncode == ExitCode.FAILED
    error = process.answer()["error"]
    assert error["code"] == "worker-died"
    assert "3 times" in error["message"]
    assert error["fix"]
    process.gone(1.0)


@pytest.mark.parametrize(
    ("switch", "where", "kind"),
    [
        ("raise-loss", "training", "RuntimeError: odd loss"),
        ("exit-measures", "measuring", "SystemExit: odd exit"),
    ],
)
async def test_what_a_task_raises_ends_the_node_with_its_file_and_line(
    pair: Nodes, switch: str, where: str, kind: str
) -> None:
    for name in PAIR:
        pair.start(name)
    await pair.until("bert", lambda status: status["round"] and status["round"] > 0)
    pair.switch("read-loss")  # reading input is no harm: it is not the daemon's
    pair.switch(switch)
    process = await pair.first_ended()
    assert process.popen.returncode == ExitCode.TASK
    error = process.answer()["error"]
    assert f"failed while {where}: {kind}" in error["message"]
    file = pair.directory / "tasks" / "odd.py"
    mark = f"# {switch.partition('-')[0]}"
    line = 1 + [text.endswith(mark) for text in file.read_text().splitlines()].index(True)
    assert f"({file}, line {line})" in error["message"]
    assert "Traceback" in process.log.read_text()
    assert "heard: ''" in process.log.read_text()
    process.gone(1.0)


# --- what is wrong from the start ---------------------------------------------------------------


def key_is_open(nodes: Nodes) -> list[str]:
    (nodes.directory / "anna.key").chmod(0o644)
    return []


def data_is_missing(nodes: Nodes) -> list[str]:
    return ["--set", "data=/no/such/file"]


def data_is_damaged(nodes: Nodes) -> list[str]:
    path = nodes.directory / "patients"
    path.write_text("63,1,1\n")
    return ["--set", f"data={path}"]


def task_raises(nodes: Nodes) -> list[str]:
    nodes.switch("raise-data")
    return []


def edit(nodes: Nodes, old: str, new: str) -> None:
    path = nodes.directory / "federation.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def task_is_unknown(nodes: Nodes) -> list[str]:
    edit(nodes, 'kind = "odd"', 'kind = "even"')
    return []


def rule_needs_more_neighbors(nodes: Nodes) -> list[str]:
    edit(nodes, '{ kind = "mean" }', '{ kind = "trimmed-mean", b = 1 }')
    return []


def state_is_damaged(nodes: Nodes) -> list[str]:
    nodes.store("anna").mkdir()
    (nodes.store("anna") / "state").write_bytes(b"GFLSTATE1 and so on" * 9)
    return []


@pytest.mark.parametrize(
    ("spoil", "code", "says", "fix"),
    [
        (key_is_open, ExitCode.USAGE, "anna.key", "chmod"),
        (data_is_missing, ExitCode.USAGE, "there is no /no/such/file", "path"),
        (data_is_damaged, ExitCode.TASK, "patients", ""),
        (task_raises, ExitCode.TASK, "RuntimeError: odd data", "Mend the task"),
        (task_is_unknown, ExitCode.USAGE, "there is no 'even'", "heart-disease"),
        (rule_needs_more_neighbors, ExitCode.USAGE, "at least 3 neighbors", "every node"),
        (state_is_damaged, ExitCode.STORE, "is damaged", "backup"),
    ],
)
async def test_what_is_wrong_is_said_with_its_fix(
    pair: Nodes, spoil: Any, code: ExitCode, says: str, fix: str
) -> None:
    process = pair.start("anna", *spoil(pair))
    assert await process.ended(30) == code, process.log.read_text()
    answer = process.answer()
    assert not answer["ok"]
    assert says in answer["error"]["message"]
    assert fix in answer["error"]["fix"]
    assert answer["error"]["fix"]
    assert "Traceback" not in process.log.read_text() or spoil is task_raises
    assert not (pair.store("anna") / SOCKET_NAME).exists()


async def test_a_port_in_use_is_said_and_another_federation_s_state_is_not_taken(
    pair: Nodes,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = pair.start("anna", "--set", f"listen=127.0.0.1:{port}")
        assert await process.ended(30) == ExitCode.USAGE
        assert f"cannot listen on 127.0.0.1:{port}" in process.answer()["error"]["message"]
    pair.start("anna")  # the twin, and a state
    await pair.until("anna", lambda status: status["phase"] == "waiting")
    await leave(pair, "anna")
    edit(pair, "seed = 0", "seed = 1")
    process = pair.start("anna")
    assert await process.ended(30) == ExitCode.STORE
    error = process.answer()["error"]
    assert "federation.toml has changed since" in error["message"]
    assert "seed: 0 in the state, 1 in federation.toml" in error["message"]
    assert error["fix"].startswith("Undo it")


async def test_while_two_member_lists_differ_no_update_counts(pair: Nodes) -> None:
    text = (pair.directory / "federation.toml").read_text()
    other = pair.directory / "other.toml"
    certificate = new_certificate()
    other.write_text(
        text + f'\n[[members]]\nname = "carla"\naddress = "127.0.0.1:9"\n'
        f'certificate = "{certificate}"\n'
    )
    pair.start("anna")
    pair.start("bert", "--set", f"federation={other}")
    for name, neighbor in itertools.permutations(PAIR):
        status = await pair.until(name, partial(differs, neighbor))
        assert any("carla" in line for line in row(status, neighbor)["members_diff"])
        assert row(status, neighbor)["up"]
        assert accepted(status, neighbor) == 0
        assert status["round"] == 0
        assert "carla" in pair.processes[name].log.read_text()
    page = gossipfl("status", str(pair.views["anna"].config)).stdout
    assert "lists differ" in page
    assert "carla" in page
    await leave(pair, "bert")
    pair.start("bert")  # with the same list
    await pair.until("anna", lambda status: status["round"] > 1)


def differs(neighbor: str, status: Status) -> bool:
    return bool(row(status, neighbor).get("members_diff"))


def new_certificate() -> str:
    return base64.b64encode(make_certificate(Identity.generate())).decode()


# --- the order of starts ------------------------------------------------------------------------


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (2, 0, 3, 1)])
async def test_nodes_started_in_any_order_end_alike(tmp_path: Path, order: list[int]) -> None:
    nodes = Nodes(tmp_path, rounds=12, node={"start_quorum": 3})
    names = list(nodes.views)
    try:
        for place in order:
            nodes.start(names[place], "--exit-when-done")
            await asyncio.sleep(1.0)  # apart in time is the subject
        for name in names:
            process = nodes.processes[name]
            assert await process.ended(40) == ExitCode.OK, process.log.read_text()
            data = process.answer()["data"]
            assert data["participation"] == dict.fromkeys([name, *names], 12)
            assert closed_rounds(nodes.store(name)) == list(range(12))
    finally:
        nodes.end()
