"""`gossipfl evaluate`: the reported figure again, or a sentence about the file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from gossipfl.learning.samples import Samples
from gossipfl.learning.saved_model import mark_of
from gossipfl.learning.session import Session
from gossipfl.learning.task import Place, load_task
from node.cli import main
from node.output import ExitCode

TASK = """\
import torch
from torch import nn
from torch.nn.functional import mse_loss

from gossipfl.learning import Samples, Task, hold_out


class Plain(Task):
    hidden: int = 3

    def model(self):
        return nn.Sequential(nn.Linear(4, self.hidden), nn.BatchNorm1d(self.hidden))

    def data(self, place):
        inputs = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
        return hold_out(Samples(inputs, inputs.sum(1)), place)

    def loss(self, model, inputs, targets):
        return mse_loss(model(inputs).sum(1), targets)

    def measures(self, model, inputs, targets):
        return {"error": float((model(inputs).sum(1) - targets).abs().mean())}
"""
PLACE = Place(None, "north", 1, 3, 7)
ABOUT = {"member": "north", "index": "1", "members": "3", "seed": "7", "rounds": "12"}
ABOUT |= {"task": "task.py", "federation": "ab" * 32}

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Evaluate model.safetensors; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(TASK)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["evaluate", *(arguments or ("task.py", "model.safetensors"))])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def reported(run: Run, tmp_path: Path) -> dict[str, float | None]:
    """Train a little, save the model as a node does, and return what the node would report."""
    session = Session(load_task("task.py", tmp_path), PLACE)
    vector, out = (np.zeros(session.layout.size, np.float32) for _ in range(2))
    local, local_out = (np.zeros(session.local_layout.nbytes, np.uint8) for _ in range(2))
    session.initial(vector, local)
    session.train(vector, out, 5, local=local, local_out=local_out)
    figures = session.evaluate(out, local_out)
    about = ABOUT | {"held_out": mark_of(session.split.held_out)}
    save_file(session.model.state_dict(), tmp_path / "model.safetensors", about)
    return figures


def test_the_reported_figures_come_out_again_to_the_last_bit(
    run: Run, reported: dict[str, float | None]
) -> None:
    code, out, err = run("task.py", "model.safetensors", "--json")
    assert (code, err) == (ExitCode.OK, "")
    data = json.loads(out)["data"]
    assert data == {
        "task": "task.py",
        "model": "model.safetensors",
        "member": "north",
        "seed": 7,
        "rounds": 12,
        "rows": 10,
        "data": None,
        "held_out": True,
        "measures": reported,
        "warnings": [],
    }
    code, out, _ = run()
    assert "after 12 rounds, on 10 rows that north held out:" in out
    assert f"error  {reported['error']:.4f}" in out


def test_another_members_rows_give_other_figures_and_are_said_to_be(
    run: Run, reported: dict[str, float | None]
) -> None:
    code, out, _ = run("task.py", "model.safetensors", "--member", "south", "--json")
    assert code == ExitCode.OK
    data = json.loads(out)["data"]
    assert data["measures"] != reported
    assert data["held_out"] is False
    assert data["warnings"] == [
        "these are not the rows that north held out; some may be rows it was trained on",
        "the model is north's, not south's",
    ]


def test_a_file_without_metadata_is_measured_with_a_warning(
    run: Run, reported: dict[str, float | None], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    save_file(load_file(path), path)
    code, out, _ = run("task.py", "model.safetensors", "--member", "north", "--json")
    assert code == ExitCode.OK
    (warning,) = json.loads(out)["data"]["warnings"]
    assert "may be rows it was trained on" in warning
    code, out, _ = run("task.py", "model.safetensors", "--member", "north")
    assert "model.safetensors, on 10 rows of north:" in out


OWN_FILE = TASK.replace(
    """\
        inputs = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
        return hold_out(Samples(inputs, inputs.sum(1)), place)
""",
    """\
        return hold_out(read_table(place.data, target="y"), place)
""",
).replace("Samples, Task", "Task, read_table")


def test_rows_of_another_file_are_not_said_to_be_held_out(run: Run, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(OWN_FILE)
    for name, first in (("north", 0), ("south", 1)):
        rows = "".join(f"{i + first},{i % 3},{i % 5},1,{i}\n" for i in range(40))
        (tmp_path / f"{name}.csv").write_text("a,b,c,d,y\n" + rows)
    place = Place(tmp_path / "north.csv", "north", 1, 3, 7)
    session = Session(load_task("task.py", tmp_path), place)
    about = ABOUT | {"held_out": mark_of(session.split.held_out)}
    save_file(session.model.state_dict(), tmp_path / "model.safetensors", about)
    code, out, _ = run("task.py", "model.safetensors", "--data", "north.csv")
    assert code == ExitCode.OK
    assert "on 10 rows that north held out:" in out
    assert "Warning" not in out
    code, out, _ = run("task.py", "model.safetensors", "--data", "south.csv")
    assert code == ExitCode.OK
    assert "on 10 rows of south.csv:" in out
    assert "Warning: these are not the rows that north held out; some may be rows it was" in out


def test_a_mark_tells_rows_apart_and_says_little_of_them() -> None:
    inputs, targets = torch.arange(12.0).reshape(4, 3), torch.tensor([True, False, True, True])
    mark = mark_of(Samples(inputs, targets))
    assert mark == mark_of(Samples(inputs.clone(), targets.clone()))
    assert len(mark) == 4
    others = [
        Samples(inputs + 1, targets),
        Samples(inputs, ~targets),
        Samples(inputs.flip(0), targets),
        Samples(inputs.double(), targets),
        Samples(inputs.reshape(4, 1, 3), targets),
    ]
    assert mark not in map(mark_of, others)


def test_fields_of_the_task_can_be_set(run: Run, reported: dict[str, float | None]) -> None:
    assert run("task.py", "model.safetensors", "--set", "hidden=3")[0] == ExitCode.OK
    code, _, err = run("task.py", "model.safetensors", "--set", "hidden=4")
    assert code == ExitCode.TASK
    assert "0.weight is float32 3 by 4 in the file and float32 4 by 4 in the model" in err
    assert "it was learned by task.py" in err


def test_a_file_of_another_model_is_refused(
    run: Run, reported: dict[str, float | None], tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    whole = load_file(path)
    without = {name: item for name, item in whole.items() if name != "1.running_mean"}
    for tensors, said in [
        (without, "there is no 1.running_mean in it"),
        ({"0.weight": whole["0.weight"]}, "there is no 0.bias, 1.weight, 1.bias, 1.running_mean "),
        (whole | {"2.weight": torch.zeros(1)}, "the model has no 2.weight"),
        (whole | {"0.bias": torch.zeros(3).double()}, "0.bias is float64 3 in the file"),
    ]:
        save_file(tensors, path, ABOUT)
        code, out, err = run()
        assert (code, out) == (ExitCode.TASK, "")
        assert "is not of this model" in err
        assert said in err
        assert "Name the task that this model was learned by" in err


@pytest.mark.parametrize("cut", [0, 4, 60, -1])
def test_a_file_that_is_cut_short_is_refused(
    run: Run, reported: dict[str, float | None], tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    code, _, err = run()
    assert code == ExitCode.TASK
    assert "is no whole safetensors file" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no.safetensors", "there is no such file"),
        ("task.py", "is no whole safetensors file"),
        (".", "cannot be read"),
    ],
)
def test_a_file_that_is_no_model_is_told(run: Run, name: str, said: str) -> None:
    code, _, err = run("task.py", name)
    assert code == ExitCode.TASK
    assert said in err
    assert "Traceback" not in err
