"""Real nodes in processes of their own, for tests that kill, stop and restart them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

import msgpack
import psutil

from gossipfl.errors import ConfigError
from gossipfl.tasks.heart_disease import HOSPITALS
from node.client import ask
from node.network import Member, Network, Plan
from node.output import ExitCode
from node.store import LENGTH_BYTES, MAGIC

Status: TypeAlias = dict[str, Any]

POLL_S = 0.05
PATIENCE_S = 40.0  # for a state that must come; a loaded machine starts a node in ten seconds

TASK = '''
"""Heart disease, with switches: a file in `control` makes the next pass go wrong."""

import os
import signal
import sys
import time
from pathlib import Path
from typing import ClassVar

from gossipfl.tasks.heart_disease import HeartDisease


class Odd(HeartDisease):
    kind: ClassVar[str] = "odd"

    control: str

    def data(self, place):
        self._obey("data", place.member)
        return super().data(place)

    def optimizer(self, model):
        pause = Path(self.control, "pause")
        if pause.exists():
            time.sleep(float(pause.read_text()))
        return super().optimizer(model)

    def loss(self, model, inputs, targets):
        self._obey("loss")
        return super().loss(model, inputs, targets)

    def measures(self, model, inputs, targets):
        self._obey("measures")
        return super().measures(model, inputs, targets)

    def _obey(self, where, member=""):
        folder = Path(self.control)
        if (folder / f"read-{where}").exists():
            print("heard:", repr(sys.stdin.read()))
        if (folder / f"raise-{where}").exists():
            raise RuntimeError(f"odd {where}")  # raise
        if (folder / f"exit-{where}").exists():
            raise SystemExit("odd exit")  # exit
        if (folder / f"die-{where}").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (folder / f"hang-{where}").exists():
            (folder / "hangs").touch()
        while (folder / f"hang-{where}").exists():
            sum(range(100_000))  # busy, as training is
'''

SITE = """
import os
import sys

import gossipfl.tasks

gossipfl.tasks.__path__.append({folder!r})
"""
"""What both processes of a node do as they start: add a folder to the package of tasks."""

TRACED = '''
"""`gossipfl`, with every signed offer written down, and a death at a chosen point."""

import asyncio
import json
import os
import signal
import sys
import time

from gossipfl.wire import frame
from node import cli, connection, store

trace, point, chosen, *arguments = sys.argv[1:]
file = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
newest, sent, neighbors = -1, 0, 3
save, seal, send = store.Store.save, frame.Sealer.seal, connection.Connection._send


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def traced_seal(self, body, round_, *recipient):
    global newest, sent
    if isinstance(body, frame.Offer):
        if round_ != newest:
            newest, sent = round_, 0
        row = [self.incarnation, round_, body.model.hex()]
        os.write(file, (json.dumps(row) + "\\n").encode())
    return seal(self, body, round_, *recipient)


def traced_save(self, state, origin):
    if point == "slow-save":
        time.sleep(60)
    save(self, state, origin)
    if point == "after-save" and state.stage == "offered" and state.round >= int(chosen):
        die()


async def traced_send(self, message):
    global sent
    moved = await send(self, message)
    if frame.kind_of(message) is frame.Kind.OFFER:
        sent += 1
        if point == "after-offer" and newest >= int(chosen) and sent == neighbors:
            die()
    return moved


store.Store.save = traced_save
frame.Sealer.seal = traced_seal
connection.Connection._send = traced_send
sys.exit(cli.main(arguments))
'''


class Process:
    """One start of a node."""

    def __init__(self, popen: subprocess.Popen[bytes], out: Path, log: Path) -> None:
        self.popen = popen
        self.out = out
        self.log = log
        self.pids = {popen.pid}

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal; note first which processes must be gone afterwards."""
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.popen.pid).children(recursive=True)
            self.pids |= {child.pid for child in children}
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    async def ended(self, seconds: float = 10.0) -> int:
        """Wait for the end; return the exit status."""
        return await asyncio.to_thread(self.popen.wait, seconds)

    def answer(self) -> dict[str, Any]:
        """Return the one object on stdout."""
        found: dict[str, Any] = json.loads(self.out.read_text())
        return found

    def gone(self, seconds: float) -> float:
        """Wait until no process of this start is left; return how long that took."""
        began = time.monotonic()
        while any(alive(pid) for pid in self.pids):
            assert time.monotonic() - began < seconds, self.pids
            time.sleep(0.02)
        return time.monotonic() - began


class Nodes:
    """A federation on loopback whose nodes start and end as a test says.

    Args:
        directory: for all files.
        names: its members; those named like a hospital have its patients, others Cleveland's.
        plan: changes to the plan.
    """

    def __init__(self, directory: Path, names: Sequence[str] = tuple(HOSPITALS), **plan: Any):
        self.directory = directory
        self.control = directory / "control"
        self.control.mkdir(parents=True)
        (directory / "tasks").mkdir()
        (directory / "tasks" / "odd.py").write_text(TASK)
        (directory / "sitecustomize.py").write_text(SITE.format(folder=str(directory / "tasks")))
        (directory / "traced.py").write_text(TRACED)
        fields: dict[str, Any] = {
            "name": "test",
            "task": {"kind": "odd", "control": str(self.control)},
            "mixing": {"kind": "trimmed-mean", "b": 1} if len(names) > 3 else {"kind": "mean"},
            "topology": "complete",
            "rounds": 10,
            "seed": 0,
            "node": {},
            **plan,
        }
        members = tuple(
            Member(name, HOSPITALS.get(name, HOSPITALS["cleveland"]).path) for name in names
        )
        self.network = Network(Plan(**fields, members=members), directory)
        self.views = {node.member.name: node for node in self.network.nodes}
        self.processes: dict[str, Process] = {}
        self._starts = 0

    def pause(self, seconds: float) -> None:
        """Let every pass of every node take so much longer."""
        (self.control / "pause.tmp").write_text(str(seconds))
        (self.control / "pause.tmp").replace(self.control / "pause")

    async def first_ended(self, seconds: float = 10.0) -> Process:
        """Wait until one node ends: the other is then alone, and does not advance."""
        async with asyncio.timeout(seconds):
            while True:
                for process in self.processes.values():
                    if process.popen.poll() is not None:
                        return process
                await asyncio.sleep(0.02)

    def switch(self, name: str, *, on: bool = True) -> None:
        """Let passes go wrong: see TASK."""
        path = self.control / name
        path.touch() if on else path.unlink(missing_ok=True)

    def start(
        self,
        name: str,
        *options: str,
        trace: bool = False,
        die: tuple[str, int] = ("", 0),
        prefix: Sequence[str] = (),
    ) -> Process:
        """Run a node as a user would, or traced, with a point at which it dies.

        `prefix` stands before the command, as `ip netns exec NAME` does.
        """
        self._starts += 1
        out = self.directory / f"{name}.{self._starts}.out"
        log = self.directory / f"{name}.{self._starts}.log"
        if trace or die[0]:
            program = [str(self.directory / "traced.py"), str(self.trace(name))]
            program += [die[0], str(die[1])]
        else:
            program = ["-m", "node.cli"]
        python = [*prefix, sys.executable, "-P"]
        command = [*python, *program, "run", str(self.views[name].config), "--json"]
        path = [str(self.directory), *filter(None, [os.environ.get("PYTHONPATH")])]
        with out.open("wb") as to_out, log.open("wb") as to_log:
            popen = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=to_out,
                stderr=to_log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                start_new_session=True,
            )
        self.processes[name] = Process(popen, out, log)
        return self.processes[name]

    def trace(self, name: str) -> Path:
        """Where a traced node writes its offers: incarnation, round, model digest."""
        return self.directory / f"{name}.trace"

    def store(self, name: str) -> Path:
        return self.views[name].store

    async def status(self, name: str) -> Status:
        return await asyncio.to_thread(ask, self.store(name))

    async def until(
        self, name: str, reached: Callable[[Status], object], seconds: float = PATIENCE_S
    ) -> Status:
        """Ask a node until its answer is as wanted; return it."""
        status: Status = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(ConfigError):  # it is not there yet, or just was
                        status = await self.status(name)
                        if reached(status):
                            return status
                    process = self.processes[name]
                    assert process.running, process.log.read_text()
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            log = self.processes[name].log.read_text()[-3000:]
            raise AssertionError(f"never so at {name}: {status}\n{log}") from None

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes.values():
            if process.running:
                process.kill()


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def row(status: Status, name: str) -> dict[str, Any]:
    """Return what a status says of one neighbor, nothing if it says nothing."""
    return next((found for found in status["neighbors"] if found["name"] == name), {})


def accepted(status: Status, name: str) -> int:
    """Return how many updates of a neighbor were accepted."""
    found = row(status, name)
    return found["deltas_accepted"] + found["snapshots_accepted"] if found else 0


def last_offer(store: Path) -> int:
    """Return the newest round that a state on disk was offered in, -1 for none."""
    try:
        body = (store / "state").read_bytes()[len(MAGIC) :]
    except FileNotFoundError:
        return -1
    length = int.from_bytes(body[:LENGTH_BYTES], "little")
    header = msgpack.unpackb(body[LENGTH_BYTES : LENGTH_BYTES + length])
    return int(header["offered"][0])


def closed_rounds(store: Path) -> list[int]:
    """Return the rounds that a node says it closed, in order."""
    lines = (store / "rounds.jsonl").read_text().splitlines()
    return [json.loads(line)["round"] for line in lines]


OK = ExitCode.OK
