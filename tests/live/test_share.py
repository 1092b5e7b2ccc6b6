"""What a pattern of `share` keeps at home: never on the wire, and there again after a kill."""

import asyncio
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from gossipfl.types import Vector
from tests.live.federation import OK, Nodes, closed_rounds

ROUNDS = 8

TASK = '''
"""A network with a body that is shared and a head that is not; its statistics count on."""

from typing import ClassVar

import torch
from torch import nn

from gossipfl.tasks.heart_disease import HeartDisease


class Still(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, inputs):
        return inputs


class Headed(HeartDisease):
    kind: ClassVar[str] = "headed"
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 0.1

    def model(self):
        model = nn.Sequential()
        model.add_module("still", Still())  # never learns
        model.add_module("body", nn.Linear(15, 8))
        model.add_module("norm", nn.BatchNorm1d(8, momentum=None))  # the mean over all batches
        model.add_module("head", nn.Linear(8, 1))
        return model
'''

CAPTURED = '''
"""`gossipfl`, with all that its engine hands to the links and all states written down."""

import os
import signal
import sys

from gossipfl.effects import Send, SendData
from gossipfl.wire.chunks import data_message
from node import cli, driver, store

folder, die_after, *arguments = sys.argv[1:]
names = ("wire", "trained", "public", "home")
wire, trained, public, home = (
    os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in names
)
carry_out, save = driver.Driver._carry_out, store.Store.save


def captured(self, effects, now):
    for effect in effects:
        match effect:
            case Send(_, frame):
                os.write(wire, frame)
            case SendData(_, payload, index):
                os.writev(wire, data_message(payload, index))
    carry_out(self, effects, now)


def traced(self, state, origin):
    save(self, state, origin)
    if state.stage == "offered":
        os.write(trained, state.model.tobytes())
        os.write(public, state.public.tobytes())  # what neighbors add up to
        os.write(home, bytes(state.local))
        if state.round == int(die_after):
            os.kill(os.getpid(), signal.SIGKILL)


driver.Driver._carry_out = captured
store.Store.save = traced
sys.exit(cli.main(arguments))
'''


class Homes(Nodes):
    """Nodes whose task has a head of its own, each writing down what leaves it."""

    def __init__(self, directory: Path, names: tuple[str, ...], share: list[str]) -> None:
        task = {"kind": "headed", "share": share}
        # Every round waits for everybody, so that nobody skips one
        node = {"deadline": {"min_s": 5.0, "max_s": 30.0}}
        quorum = {"start_quorum": len(names) - 1} if len(names) > 1 else {}
        super().__init__(directory, names, task=task, rounds=ROUNDS, node={**node, **quorum})
        (directory / "tasks" / "headed.py").write_text(TASK)
        (directory / "captured.py").write_text(CAPTURED)

    def run(self, name: str, die_after: int = -1) -> subprocess.Popen[bytes]:
        folder = self.trace_folder(name)
        folder.mkdir(exist_ok=True)
        script = [str(self.directory / "captured.py"), str(folder), str(die_after)]
        options = ["run", str(self.views[name].config), "--json", "--exit-when-done"]
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", *script, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(self.directory)},
                start_new_session=True,
            )

    def trace_folder(self, name: str) -> Path:
        return self.directory / f"{name}.traced"

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-3000:]

    def traced(self, name: str, what: str) -> bytes:
        return (self.trace_folder(name) / what).read_bytes()


def end(processes: dict[str, subprocess.Popen[bytes]], nodes: Homes) -> None:
    try:
        for name, process in processes.items():
            assert process.wait(40) == OK, nodes.log(name)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


NAMES = ("cleveland", "hungarian", "long-beach")
BODY = 15 * 8 + 8
HEAD_BYTES = 4 * (8 + 1)


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    nodes = Homes(tmp_path_factory.mktemp("share"), NAMES, ["body.*"])
    end({name: nodes.run(name) for name in NAMES}, nodes)
    return nodes


def rows(raw: bytes) -> list[bytes]:
    """Return what was written down in each round."""
    width = len(raw) // ROUNDS
    assert len(raw) == width * ROUNDS > 0
    return [raw[at : at + width] for at in range(0, len(raw), width)]


def floats(raw: bytes) -> list[Vector]:
    return [np.frombuffer(row, np.float32) for row in rows(raw)]


def head(local: bytes) -> Vector:
    """Return the head in local bytes: it is what the state_dict names last."""
    return np.frombuffer(local[-HEAD_BYTES:], np.float32)


def share_on(wire: bytes, values: Vector) -> float:
    """Return how many neighboring pairs of floats are on the wire: no chance puts one there."""
    pairs = {first.tobytes() + second.tobytes() for first, second in pairwise(values)}
    pairs = {pair for pair in pairs if any(pair)}
    return sum(pair in wire for pair in pairs) / len(pairs)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", NAMES)
def test_a_head_kept_at_home_is_in_no_frame_and_the_body_is(captured: Homes, name: str) -> None:
    wire = captured.traced(name, "wire")
    heads = [head(row) for row in rows(captured.traced(name, "home"))]
    assert len({row.tobytes() for row in heads}) == ROUNDS  # it learns
    for before, after in pairwise(heads):
        assert share_on(wire, after) == share_on(wire, after - before) == 0
    # The twin: what traveled are the body's differences, to the last bit
    trained, public = (floats(captured.traced(name, what)) for what in ("trained", "public"))
    assert {len(row) for row in trained} == {BODY}
    for before, after in zip(public, trained[1:], strict=False):
        assert share_on(wire, after - before) == 1


@pytest.mark.timeout(120)
def test_members_mix_the_body_and_each_keeps_a_head_of_its_own(captured: Homes) -> None:
    models = [load_file(captured.store(name) / "model.safetensors") for name in NAMES]
    for name, model in zip(NAMES, models, strict=True):
        last = head(rows(captured.traced(name, "home"))[-1])
        assert last.tobytes() == model["head.weight"].tobytes() + model["head.bias"].tobytes()
        assert set(model) == {
            *("body.weight", "body.bias", "head.weight", "head.bias", "norm.weight", "norm.bias"),
            *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
            "still.value",
        }
    body, own = (
        np.abs(models[0][key] - models[1][key]).max() for key in ("body.weight", "head.weight")
    )
    assert body < own


@pytest.mark.timeout(120)
def test_the_file_names_the_place_and_no_path(captured: Homes) -> None:
    with safe_open(captured.store("hungarian") / "model.safetensors", "numpy") as file:
        about = file.metadata()
    assert len(bytes.fromhex(about.pop("federation"))) == 32
    assert len(bytes.fromhex(about.pop("held_out"))) == 2  # too few to tell a patient by
    assert about == {
        "format": "pt",
        "member": "hungarian",
        "index": "1",
        "members": "3",
        "seed": "0",
        "task": "headed",
        "rounds": str(ROUNDS),
    }


@pytest.mark.timeout(120)
async def test_a_node_killed_in_the_middle_ends_with_the_very_same_model(tmp_path: Path) -> None:
    """What is shared never learns here, so no neighbor's timing moves a bit of what does."""
    names, models = ("cleveland", "hungarian"), []
    for kill in (False, True):
        nodes = Homes(tmp_path / str(kill), names, ["still.*"])
        neighbor = nodes.run("hungarian")
        try:
            for round_ in (2, 5) if kill else ():
                process = nodes.run("cleveland", die_after=round_)
                assert await asyncio.to_thread(process.wait, 40) == -9, nodes.log("cleveland")
        finally:
            started = {"cleveland": nodes.run("cleveland"), "hungarian": neighbor}
            await asyncio.to_thread(end, started, nodes)
        assert closed_rounds(nodes.store("cleveland"))[-1] == ROUNDS - 1
        models.append(load_file(nodes.store("cleveland") / "model.safetensors"))
    straight, killed = models
    passes = int(straight["norm.num_batches_tracked"])
    assert passes == int(killed["norm.num_batches_tracked"]) > ROUNDS
    for name, tensor in straight.items():
        assert tensor.tobytes() == killed[name].tobytes(), name
    assert not np.array_equal(
        straight["body.weight"],
        load_file(nodes.store("hungarian") / "model.safetensors")["body.weight"],
    )
