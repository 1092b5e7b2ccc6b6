"""A user's own task in real nodes, with nothing but the command line, as the README says it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from node.network import free_addresses
from node.output import ExitCode
from tests.live.federation import Nodes
from tests.readme import block

PATIENCE_S = 50.0  # for nodes that must come up on a loaded machine
LOOK_S = 0.1  # between two looks at a log

TASK = """\
import torch
from torch import nn
from torch.nn.functional import mse_loss

from gossipfl.learning import Samples, Task, hold_out


class Plain(Task):
    def model(self):
        return nn.Linear(3, 1)

    def data(self, place):
        inputs = torch.randn(40, 3, generator=torch.Generator().manual_seed(place.index))
        return hold_out(Samples(inputs, inputs.sum(1)), place)

    def loss(self, model, inputs, targets):
        return mse_loss(model(inputs).squeeze(1), targets)

    def measures(self, model, inputs, targets):
        return {"loss": float(self.loss(model, inputs, targets))}
"""


def environment() -> dict[str, str]:
    """As in an activated virtual environment."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path}


def typed(script: str, folder: Path) -> str:
    """Type lines into a shell as a reader does; return what they print."""
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def as_json(folder: Path, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "node.cli", *arguments, "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def last_record(folder: Path, name: str) -> dict[str, Any]:
    lines = (folder / f"{name}.state" / "rounds.jsonl").read_text().splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


@pytest.mark.timeout(240)  # nine processes in turn that load torch, on a machine with other work
def test_the_readmes_own_lines_bring_up_three_nodes_that_learn(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(block("class ", "(Task)"))
    typed("gossipfl new data north south east", tmp_path)
    make = block("gossipfl new federation", "--task task.py", "gossipfl keygen", "gossipfl run")
    for port, address in zip((7401, 7402, 7403), free_addresses(3), strict=True):
        assert f":{port}" in make
        make = make.replace(f":{port}", f":{address.rpartition(':')[2]}")
    typed(make, tmp_path)
    for name in ("north", "south", "east"):
        record = last_record(tmp_path, name)
        assert len(record["senders"]) == 2
        assert record["round"] == 59
        rows = (tmp_path / f"{name}.csv").read_text().splitlines()[1:]
        sick = sum(row.endswith("1") for row in rows) / len(rows)
        chance = max(sick, 1 - sick)  # whoever always says what most are
        assert record["measures"]["accuracy"] >= max(0.75, chance), (name, record, chance)
        arguments = ("task.py", f"{name}.state/model.safetensors", "--data", f"{name}.csv")
        data = as_json(tmp_path, "evaluate", *arguments)["data"]
        assert data["measures"] == record["measures"]
        assert (data["member"], data["rounds"], data["warnings"]) == (name, 60, [])
    shown = typed(block("gossipfl evaluate task.py"), tmp_path)
    assert f"accuracy  {last_record(tmp_path, 'north')['measures']['accuracy']:.4f}" in shown
    load = block("load_file(", "load_state_dict(")
    (tmp_path / "use.py").write_text(load)
    assert typed("python use.py", tmp_path).startswith("tensor([[")


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Nodes that are killed at the end, if they still run."""
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def until_said(log: Path, words: str) -> str:
    """Wait until a log holds some words; return it."""
    began = time.monotonic()
    while words not in (text := log.read_text() if log.exists() else ""):
        assert time.monotonic() - began < PATIENCE_S, f"never {words!r} in:\n{text}"
        time.sleep(LOOK_S)
    return text


@pytest.mark.timeout(120)
def test_two_nodes_with_other_code_refuse_each_other_and_name_the_source(
    tmp_path: Path, started: list[subprocess.Popen[bytes]]
) -> None:
    addresses = dict(zip(("a", "b"), free_addresses(2), strict=True))
    make = "gossipfl new federation --task task.py --b 0\n"
    for name, address in addresses.items():
        make += f"gossipfl keygen --name {name} --address {address} >> federation.toml\n"
    typed(make, tmp_path)
    for name, address in addresses.items():
        folder = tmp_path / f"machine-{name}"
        folder.mkdir()
        (folder / "federation.toml").write_text((tmp_path / "federation.toml").read_text())
        (tmp_path / f"{name}.key").rename(folder / "my.key")
        (folder / "task.py").write_text(TASK + (f"# on {name}\n" if name == "b" else ""))
        (folder / "node.toml").write_text(
            f'member = "{name}"\nkey = "my.key"\nfederation = "federation.toml"\n'
            f'listen = "{address}"\n'
        )
        with (folder / "log").open("wb") as log:
            command = [sys.executable, "-m", "node.cli", "run", "node.toml"]
            started.append(subprocess.Popen(command, cwd=folder, stderr=log))
    for name in addresses:
        folder = tmp_path / f"machine-{name}"
        text = until_said(folder / "log", "task.source: ")
        line = next(line for line in text.splitlines() if "task.source: " in line)
        assert " here, " in line
        assert " there" in line
        assert as_json(folder, "status", "node.toml")["data"]["round"] == 0
        assert not (folder / f"{name}.state" / "model.safetensors").exists()


@pytest.mark.timeout(120)
async def test_a_task_that_changes_while_its_node_runs_is_answered(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(TASK)
    nodes = Nodes(tmp_path / "nodes", ("a", "b"), task=str(tmp_path / "mine.py"), rounds=1_000_000)
    try:
        for name in ("a", "b"):
            nodes.start(name)
        await nodes.until("a", lambda status: (status["round"] or 0) > 3)
        # the twin: a worker that dies is started again with the same file
        kill_worker(nodes.processes["a"].popen.pid)
        before = (await nodes.status("a"))["round"]
        await nodes.until("a", lambda status: (status["round"] or 0) > before + 3)
        (tmp_path / "mine.py").write_text(TASK + "# another\n")
        kill_worker(nodes.processes["a"].popen.pid)
        assert await nodes.processes["a"].ended(PATIENCE_S) == ExitCode.TASK
        error = nodes.processes["a"].answer()["error"]
        assert "mine.py has changed since the node started" in error["message"]
        assert "the same code" in error["fix"]
    finally:
        nodes.end()


def kill_worker(daemon: int) -> None:
    (worker,) = psutil.Process(daemon).children()
    with suppress(psutil.NoSuchProcess):
        worker.send_signal(signal.SIGKILL)
