"""`gossipfl health` beside real nodes, from before their start to after their end."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from node.output import ExitCode
from tests.live.federation import OK, Nodes, Status, row

ROUNDS = 40


async def health(nodes: Nodes, *options: str) -> tuple[int, dict[str, Any]]:
    """Ask after Anna; return the exit code and the object."""
    path = str(nodes.views["anna"].config)
    command = [sys.executable, "-P", "-m", "node.cli", "health", path, "--json", *options]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False, timeout=30
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(120)
async def test_a_node_is_healthy_while_it_gets_on_and_only_then(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path, ("anna", "bert"), rounds=ROUNDS)
    nodes.pause(0.2)

    async def sick(says: str, *options: str) -> None:
        code, answer = await health(nodes, *options)
        assert (code, answer["ok"]) == (ExitCode.FAILED, False)
        assert answer["error"]["code"] == "unhealthy"
        assert says in answer["error"]["message"]
        assert answer["error"]["fix"]

    try:
        await sick("no node answers")
        nodes.switch("hang-data")
        nodes.start("anna")
        await nodes.until("anna", lambda status: status["phase"] == "starting")
        await sick("starting")
        nodes.switch("hang-data", on=False)
        await nodes.until("anna", lambda status: status["phase"] == "waiting")
        await sick("no neighbor's update came yet, waits for bert")
        nodes.start("bert")
        status = await nodes.until("anna", lambda status: status["round"] > 2)
        assert row(status, "bert")["accepted_incarnation"] == 1
        assert status["exchanged_s"] == row(status, "bert")["accepted_s"] < 30
        code, answer = await health(nodes)
        assert (code, answer["ok"], answer["data"]["healthy"]) == (OK, True, True)
        nodes.processes["bert"].kill()
        await nodes.until("anna", lambda s: s["phase"] == "collecting" and s["exchanged_s"] > 0.2)
        await sick("more than 0.1 s; waits for", "--within", "0.1")
        assert (await health(nodes, "--within", "600"))[0] == OK
        nodes.pause(0.0)
        nodes.start("bert")
        status = await nodes.until("anna", lambda s: row(s, "bert")["accepted_incarnation"] == 2)
        assert row(status, "bert")["accepted_round"] > 2
        await nodes.until("anna", lambda status: status["finished"])
        code, answer = await health(nodes, "--within", "0")
        assert code == OK
        assert answer["data"]["why"] == f"all {ROUNDS} rounds are closed, the model is served"
        nodes.processes["anna"].signal(signal.SIGTERM)
        assert await nodes.processes["anna"].ended() == OK
        await sick("no node answers")
    finally:
        nodes.end()


def accepts(name: str, start: int, status: Status) -> bool:
    """Whether an update of some start of a neighbor counted."""
    return row(status, name).get("accepted_incarnation") == start


@pytest.mark.timeout(120)
async def test_a_node_whose_store_is_lost_is_not_healthy_and_says_what_to_do(
    tmp_path: Path,
) -> None:
    nodes = Nodes(tmp_path, ("anna", "bert"), rounds=4000)
    nodes.pause(0.05)
    try:
        nodes.start("bert")
        for start in (1, 2):
            nodes.start("anna")
            await nodes.until("bert", partial(accepts, "anna", start))
            assert (await health(nodes))[0] == OK  # the twin: with its store it comes back
            nodes.processes["anna"].kill()
            await nodes.processes["anna"].ended()
        shutil.rmtree(nodes.store("anna"))
        process = nodes.start("anna")
        status = await nodes.until(
            "anna",
            lambda status: any(each["cut_off"] for each in status["neighbors"]),
        )
        assert row(status, "bert")["cut_off"] == "stale-incarnation"
        assert "start 2 was here" in row(status, "bert")["refuses_us"]["stale-incarnation"]
        code, answer = await health(nodes)
        assert code == ExitCode.FAILED
        assert "bert has seen a later start of this member" in answer["error"]["message"]
        assert "needs a new key: `gossipfl keygen`" in answer["error"]["fix"]
        assert "ERROR: bert refuses this node: stale-incarnation" in process.log.read_text()
        refused = row(await nodes.status("bert"), "anna")["newest_refusal"]
        assert refused["code"] == "stale-incarnation"
        assert "store lost" in refused["detail"]
    finally:
        nodes.end()
