"""`gossipfl check`: a task that is right passes, and every mistake gets its sentence."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossipfl.learning.dry_run import dry_run
from gossipfl.learning.findings import DryRun
from gossipfl.learning.task import Place, load_task
from gossipfl.learning.task_source import digest_of
from node.cli import main
from node.config import load_node
from node.output import ExitCode

PLAIN = """\
import torch
from torch import nn
from torch.nn.functional import mse_loss, cross_entropy

from gossipfl.learning import Place, Samples, Split, Task, accuracy, hold_out

ROWS = 100


def rows(count, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 4, generator=generator)
    return inputs, (inputs @ torch.tensor([1.0, -2.0, 0.5, 3.0])) / 4


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)
        self.head = nn.Linear(3, 1)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x):
        return self.head(self.norm(self.body(x)).relu())


class Plain(Task):
    hidden: int = 3
    learning_rate: float = 0.001

    def model(self):
        return Net()

    def data(self, place):
        return hold_out(Samples(*rows(ROWS, 1)), place)

    def loss(self, model, inputs, targets):
        return mse_loss(model(inputs).squeeze(1), targets)

    def measures(self, model, inputs, targets):
        return {"error": float((model(inputs).squeeze(1) - targets).abs().mean())}
"""

LOSS = "        return mse_loss(model(inputs).squeeze(1), targets)\n"
MEASURE = 'return {"error": float((model(inputs).squeeze(1) - targets).abs().mean())}'
FORWARD = "return self.head(self.norm(self.body(x)).relu())"
DATA = "return hold_out(Samples(*rows(ROWS, 1)), place)"

Check = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Check:
    """Check a task's text; return exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def check(text: str, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / "task.py").write_text(text)
        code = main(["check", "task.py", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return check


def changed(old: str, new: str) -> str:
    assert old in PLAIN
    return PLAIN.replace(old, new, 1)


def test_a_task_that_is_right_passes_and_says_all_that_is_asked(check: Check) -> None:
    code, out, said = check(PLAIN)
    assert (code, said) == (ExitCode.OK, "")
    for words in (
        "task.py: 25 parameters to train",
        "75 rows to train on, 25 held out; 4 numbers each, 1 to predict",
        "one batch: the loss is ",
        "a few rounds alone: the training loss goes from ",
        "measures, of the untrained model: loss ",
        "Leaves this machine, to each neighbor: 124 bytes a round",
        "body.weight        float32 3 by 4  48 bytes",
        "norm.running_mean  float32 3  12 bytes",
        "Stays here: all rows, and of the model \n  norm.num_batches_tracked  int64 1  8 bytes",
        "With 3 neighbors, by estimate:",
        "372 bytes out and as much in a round",
        "Nothing is wrong with it.",
    ):
        assert words in out


def test_with_json_every_figure_has_its_field(check: Check) -> None:
    code, out, _ = check(PLAIN, "--json", "--neighbors", "5", "--set", 'share=["body.*"]')
    assert code == ExitCode.OK
    data = json.loads(out)["data"]
    assert [leaf["name"] for leaf in data["leaves"]] == ["body.weight", "body.bias"]
    assert {leaf["name"] for leaf in data["stays"]} >= {"head.weight", "norm.running_var"}
    assert data["leaves"][0] == {
        "name": "body.weight",
        "shape": [3, 4],
        "dtype": "float32",
        "bytes": 48,
    }
    assert data["traffic"] == {"dense_bytes": 5 * 60, "bf16_bytes": 5 * 30}
    assert data["rows"] == {"train": 75, "held_out": 25}
    assert data["learned"]["last"] < data["learned"]["first"]
    assert (data["warnings"], data["faults"], data["neighbors"]) == ([], [], 5)
    assert data["memory"]["worker_bytes"] > data["memory"]["daemon_bytes"] > 0


def test_a_target_that_is_the_same_in_every_row_is_a_warning(check: Check) -> None:
    text = changed(DATA, "x, y = rows(ROWS, 1)\n        return hold_out(Samples(x, y * 0), place)")
    code, out, _ = check(text)
    assert code == ExitCode.OK
    assert "Warning: the target is the same in every row to train on" in out


FAULTS: dict[str, tuple[str, str, str, str]] = {
    "the first layer is too narrow": (
        "nn.Linear(4, 3)",
        "nn.Linear(5, 3)",
        "mat1 and mat2 shapes cannot be multiplied",
        "its targets (32,) float32",
    ),
    "targets of another shape are broadcast": (
        LOSS,
        "        return mse_loss(model(inputs), targets)\n",
        "target size",
        "squeeze(1)",
    ),
    "targets are broadcast without a word from torch": (
        LOSS,
        "        return ((model(inputs) - targets) ** 2).mean()\n",
        "the model answers (16, 1) and `loss` compares each answer with every target",
        "squeeze(1)",
    ),
    "amounts where codes are wanted": (
        LOSS,
        "        return cross_entropy(model(inputs), targets)\n",
        "its targets (32,) float32",
        "int64 codes",
    ),
    "a loss of each row": (
        "squeeze(1), targets)\n",
        'squeeze(1), targets, reduction="none")\n',
        "`loss` returned shape (32,), not a scalar",
        ".mean()",
    ),
    "a loss that is a float": (
        LOSS,
        LOSS.replace("mse_loss", "float(mse_loss").rstrip() + ")\n",
        "`loss` returned float, not a scalar tensor",
        "without float()",
    ),
    "a loss without a gradient": (
        LOSS,
        LOSS.replace("model(inputs)", "model(inputs).detach()"),
        "a scalar without a gradient",
        "without detach",
    ),
    "a loss that is not finite": (
        LOSS,
        LOSS.replace("return ", "return torch.tensor(0.0).log() + "),
        "the loss of the first batch is -inf",
        "logarithm",
    ),
    "a gradient that is not finite": (
        LOSS,
        "        return (0 * (model(inputs).squeeze(1) - targets)).abs().sqrt().mean()\n",
        "the gradient of ",
        "root",
    ),
    "data with NaN": (
        DATA,
        "inputs, targets = rows(ROWS, 1)\n        inputs[3] = float('nan')\n"
        "        return hold_out(Samples(inputs, targets), place)",
        "inputs hold NaN or infinity",
        "missing values",
    ),
    "an empty split": (
        DATA,
        "return Split(Samples(*rows(9, 1)), Samples(*rows(0, 1)))",
        "inputs are empty",
        "split",
    ),
    "no split at all": (DATA, "return rows(9, 1)", "returned tuple, not a Split", "Samples("),
    "data that differ between two calls": (
        DATA,
        "import os\n        seed = int.from_bytes(os.urandom(4), 'big')\n"
        "        return hold_out(Samples(*rows(ROWS, seed)), place)",
        "`data` gave other train rows when it was called again",
        "place.seed",
    ),
    "a model that differs between two calls": (
        "return Net()",
        "net = Net()\n        torch.nn.init.normal_(net.head.weight, generator=GENERATOR)\n"
        "        return net\n    ",
        "`model` built another head.weight from the same seed",
        "global generator",
    ),
    "a batch of one size only": (
        FORWARD,
        "return self.head(self.norm(self.body(x)).relu().view(min(ROWS, 32, max(8, len(x))), 3))",
        "takes one size of batch only",
        "x.flatten(1)",
    ),
    "a model that looks at its batch": (
        FORWARD,
        "return self.head(self.body(x) - self.body(x).mean(0))",
        "depends on the other rows of its batch",
        "LayerNorm",
    ),
    "measures that are a tensor of each row": (
        MEASURE,
        'return {"error": model(inputs).squeeze(1) - targets}',
        "`measures` gave error as a tensor of shape (25,), not a number",
        "one float",
    ),
    "measures that are text": (
        MEASURE,
        'return {"error": "0.5"}',
        "`measures` gave error as str '0.5', not a number",
        "one float",
    ),
    "measures that are no dict": (
        MEASURE,
        "return 0.5",
        "`measures` returned float, not a dict of numbers",
        "accuracy",
    ),
    "a call that raises": (
        MEASURE,
        "return {}[0]",
        "failed while measuring: KeyError: 0 (",
        "Mend the task at that line",
    ),
    "training that diverges": (
        "learning_rate: float = 0.001",
        "learning_rate: float = 1e30",
        "the training loss is",
        "Lower learning_rate",
    ),
    "nothing to share": (
        "hidden: int = 3",
        'share: tuple[str, ...] = ("tail.*",)',
        "shares no parameters",
        "widen `share`",
    ),
    "one row in a batch that is normalized": (
        "learning_rate: float = 0.001",
        "batch_size: int = 1",
        "Expected more than 1 value per channel",
        "set batch_size to 2 or more",
    ),
    "a batch of the full size only": (
        FORWARD,
        "return self.head(self.norm(self.body(x)).view(32, 3).relu())",
        "the model takes one size of batch only: ",
        "x.flatten(1)",
    ),
    "codes beyond the last class": (
        LOSS,
        "        return cross_entropy(model(inputs), (targets * 0).long() + 3)\n",
        "Target 3 is out of bounds",
        "Number the classes from 0",
    ),
    "inputs of another precision": (
        "rows(ROWS, 1)), place)",
        "(item.double() for item in rows(ROWS, 1))), place)",
        "its targets (32,) float64",
        "Use float32 throughout",
    ),
    "a loss that went back already": (
        LOSS,
        LOSS.replace("return", "loss =") + "        loss.backward()\n        return loss\n",
        "backward through the graph a second time",
        "without calling backward()",
    ),
    "loaders for a split": (
        DATA,
        "return Split([rows(9, 1)], [rows(9, 2)])",
        "`train` of the Split is list, not Samples",
        "Give it all rows at once",
    ),
    "sparse inputs": (
        DATA,
        "inputs, targets = rows(ROWS, 1)\n"
        "        return hold_out(Samples(inputs.to_sparse(), targets), place)",
        "inputs are a sparse tensor",
        ".to_dense()",
    ),
    "a task that keeps its model": (
        "return Net()",
        "self.net = Net()\n        return self.net",
        "failed while building the model",
        "keeps nothing in self",
    ),
    "no optimizer": (
        LOSS,
        LOSS + "\n    def optimizer(self, model):\n        torch.optim.SGD(model.parameters())\n",
        "`optimizer` returned NoneType",
        "torch.optim.Adam(",
    ),
    "a number beyond all floats": (
        MEASURE,
        'return {"error": 10**400}',
        "`measures` gave error as int '1000",
        "one float",
    ),
    "a figure of two lines": (
        MEASURE,
        'return {"the\\nerror": 1.0}',
        r"the name 'the\nerror'",
        "one line",
    ),
    "more figures than anybody reads": (
        MEASURE,
        'return {f"error {i}": 1.0 for i in range(2000)}',
        "`measures` returned 2000 figures, more than 1000",
        "a mean over classes",
    ),
    "a model of another precision": (
        "return Net()",
        "return Net().double()",
        "members exchange float32",
        ".float()",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gets_a_sentence_and_the_fix(check: Check, name: str) -> None:
    old, new, said, fix = FAULTS[name]
    text = changed(old, new).replace("ROWS = 100", "ROWS = 100\nGENERATOR = torch.Generator()")
    code, _, err = check(text)
    assert code == ExitCode.TASK
    assert said in err
    assert fix in err
    assert "Traceback" not in err


RIGHT: dict[str, tuple[str, str]] = {
    "rows dealt by torch's own generator": (
        DATA,
        "inputs, targets = rows(ROWS, 1)\n        order = torch.randperm(ROWS)\n"
        "        return hold_out(Samples(inputs[order], targets[order]), place)",
    ),
    "rows that have a gradient": (
        DATA,
        "inputs, targets = rows(ROWS, 1)\n"
        "        return hold_out(Samples(inputs.requires_grad_(), targets), place)",
    ),
    "figures as torch gives them": (
        MEASURE,
        'return {"error": (model(inputs).squeeze(1) - targets).abs().mean(), "right": True}',
    ),
    "inputs changed at random in training": (
        LOSS,
        "        if model.training:\n            inputs = inputs + 0.1 * torch.randn_like(inputs)\n"
        + LOSS,
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes_without_a_word(check: Check, name: str) -> None:
    code, out, err = check(changed(*RIGHT[name]).replace("= 0.001", "= 0.01"))
    assert (code, err) == (ExitCode.OK, "")
    assert "Nothing is wrong with it." in out


def test_two_faults_are_told_at_once_and_with_json_too(check: Check) -> None:
    text = changed(MEASURE, "return 0.5").replace(
        FORWARD, "return self.head(self.body(x) - self.body(x).mean(0))"
    )
    code, out, err = check(text, "--json")
    assert code == ExitCode.TASK
    assert "2 things are wrong with task.py" in err
    found = json.loads(out)
    assert len(found["data"]["faults"]) == 2
    assert found["error"]["code"] == "task"


WARNINGS: dict[str, tuple[str, str, str, str]] = {
    "inputs changed at random when measured": (
        LOSS,
        "        inputs = inputs + 0.01 * torch.randn_like(inputs)\n" + LOSS,
        "draws at random also when it is measured",
        "if model.training",
    ),
    "rows trained on and held out": (
        DATA,
        "split = hold_out(Samples(*rows(ROWS, 1)), place)\n"
        "        few = Samples(split.train.inputs[:5], split.train.targets[:5])\n"
        "        return Split(split.train, few)",
        "5 of 5 held-out rows are also among the training rows",
        "too good",
    ),
    "a loss that does not fall": (
        "learning_rate: float = 0.001",
        "learning_rate: float = 1.9",
        "did not fall in 3 rounds",
        "learning_rate",
    ),
    "a sum for a loss": (
        "squeeze(1), targets)\n",
        'squeeze(1), targets, reduction="sum")\n',
        "the mean of its halves' losses",
        "not the sum",
    ),
    "a measure that is NaN": (
        MEASURE,
        'return {"error": float("nan")}',
        "`measures` gave error as nan",
        "Return None",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_may_be_on_purpose_is_a_warning(check: Check, name: str) -> None:
    old, new, said, fix = WARNINGS[name]
    code, out, err = check(changed(old, new))
    assert (code, err) == (ExitCode.OK, "")
    assert f"Warning: {said}" in out or said in out
    assert fix in out
    assert "Nothing is wrong" not in out


def test_a_thread_that_nothing_ends_is_told(check: Check) -> None:
    held = threading.Event()
    thread = threading.Thread(target=held.wait, name="a-loader")
    assert "threads" not in check(PLAIN)[1]  # the twin
    thread.start()
    try:
        code, out, _ = check(PLAIN)
    finally:
        held.set()
        thread.join()
    assert code == ExitCode.OK
    assert "this command waits for them: a-loader" in out


def test_what_a_task_prints_is_not_the_result(check: Check) -> None:
    text = changed(DATA, f"print('hello')\n        {DATA}")
    code, out, err = check(text, "--json")
    assert code == ExitCode.OK
    assert json.loads(out)["ok"]
    assert "hello" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["tusk.py"], ExitCode.USAGE, "Did you mean"),
        (["hearts"], ExitCode.USAGE, "there is no 'hearts'"),
        (["task.py", "--set", "hiden=3"], ExitCode.USAGE, "Did you mean hidden?"),
        (["task.py", "--set", "hidden"], ExitCode.USAGE, "is no setting"),
        (["task.py", "--set", "source=3"], ExitCode.USAGE, "not which task it is"),
        (["no.toml"], ExitCode.USAGE, "there is no such file"),
        (["heart-disease", "--member", "north"], ExitCode.TASK, "no packaged data for member"),
    ],
)
def test_a_wrong_command_line_is_told(
    check: Check, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    check(PLAIN)
    assert main(["check", *arguments]) == code
    assert said in capsys.readouterr().err


def test_a_packaged_task_is_checked_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "heart-disease", "--member", "cleveland", "--json"]) == ExitCode.OK
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["rows"] == {"train": 202, "held_out": 101}
    assert (data["faults"], data["warnings"]) == ([], [])


def test_a_federations_task_is_checked_with_its_fields(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(PLAIN)
    (tmp_path / "federation.toml").write_text(
        'seed = 3\n[task]\nkind = "task.py:Plain"\nshare = ["head.*"]\n'
    )
    assert main(["check", "federation.toml", "--json"]) == ExitCode.OK
    data = json.loads(capsys.readouterr().out)["data"]
    assert [leaf["name"] for leaf in data["leaves"]] == ["head.weight", "head.bias"]
    (tmp_path / "federation.toml").write_text("seed = 3\n")
    assert main(["check", "federation.toml"]) == ExitCode.USAGE
    assert "names no task" in capsys.readouterr().err


def test_a_nodes_own_file_says_member_data_and_neighbors(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tasks").mkdir()
    text = changed(DATA, f"assert place.data.read_text() == place.member == 'b'\n        {DATA}")
    (tmp_path / "tasks" / "mine.py").write_text(text)
    (tmp_path / "data.txt").write_text("b")
    assert main(["new", "federation", "--b", "0", "--task", "tasks/mine.py"]) == ExitCode.OK
    for port, name in enumerate("abc", start=7401):
        capsys.readouterr()
        assert main(["keygen", "--name", name, "--address", f"127.0.0.1:{port}"]) == ExitCode.OK
        with (tmp_path / "federation.toml").open("a") as file:
            file.write(capsys.readouterr().out)
    (tmp_path / "node.toml").write_text(
        'member = "b"\nkey = "b.key"\nfederation = "federation.toml"\n'
        'listen = "127.0.0.1:7402"\ndata = "data.txt"\n'
    )
    assert main(["check", "node.toml", "--json"]) == ExitCode.OK
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["task"], data["neighbors"], data["faults"]) == ("mine.py", 2, [])
    config = load_node(tmp_path / "node.toml", environment={})
    assert config.task_folder == tmp_path / "tasks"
    task = config.federation.constitution.task
    assert task == {"kind": "mine.py", "source": digest_of(text.encode())}
    (tmp_path / "tasks" / "mine.py").unlink()
    assert main(["check", "node.toml"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert (
        f"{tmp_path / 'federation.toml'}: task: {tmp_path / 'tasks' / 'mine.py'}: there is" in said
    )


def found(tmp_path: Path, text: str) -> DryRun:
    (tmp_path / "task.py").write_text(text)
    return dry_run(load_task("task.py", tmp_path), Place(None, "a", 0, 1, 0))


def test_memory_grows_with_model_neighbors_and_data(tmp_path: Path) -> None:
    small = found(tmp_path, PLAIN)
    large = found(
        tmp_path,
        PLAIN.replace("nn.Linear(4, 3)", "nn.Sequential(nn.Linear(4, 99), nn.Linear(99, 3))"),
    )
    assert large.memory(3).daemon > small.memory(3).daemon
    assert large.memory(3).worker > small.memory(3).worker
    assert small.memory(9).daemon > small.memory(3).daemon
    assert small.memory(9).worker == small.memory(3).worker
    more = found(tmp_path, PLAIN.replace("ROWS = 100", "ROWS = 1000"))
    assert more.memory(3).worker > small.memory(3).worker


def test_a_trial_draws_nothing_from_the_global_generators(tmp_path: Path) -> None:
    numpy_state: Any = np.random.get_state()
    state = torch.random.get_rng_state()
    found(tmp_path, PLAIN)
    assert torch.equal(state, torch.random.get_rng_state())
    after: Any = np.random.get_state()
    assert np.array_equal(numpy_state[1], after[1])


def test_tensors_under_two_names_count_once(tmp_path: Path) -> None:
    tied = found(
        tmp_path, PLAIN.replace("self.norm =", "self.again = self.head\n        self.norm =")
    )
    assert tied.shared_bytes == found(tmp_path, PLAIN).shared_bytes


ADAPTERS = {
    "sklearn": """\
from sklearn.linear_model import SGDClassifier

from gossipfl.learning import SklearnTask, hold_out, read_table


class Sick(SklearnTask):
    features: int = 2
    classes: int = 2

    def estimator(self):
        return SGDClassifier(loss="log_loss", random_state=0)

    def data(self, place):
        return hold_out(read_table(place.data, target="sick"), place)
""",
    "numpy": """\
import numpy as np

from gossipfl.learning import NumpyTask, hold_out, read_table


class Sick(NumpyTask):
    def data(self, place):
        return hold_out(read_table(place.data, target="sick"), place)

    def parameters(self):
        return {"w": np.zeros(2), "b": np.zeros(1)}

    def step(self, parameters, inputs, targets):
        off = self.predict(parameters, inputs) - targets
        parameters["w"] -= self.learning_rate * inputs.T @ off / len(off)
        parameters["b"] -= self.learning_rate * off.mean()
        return np.mean(off**2)

    def predict(self, parameters, inputs):
        return inputs @ parameters["w"] + parameters["b"]
""",
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_a_task_that_learns_otherwise_is_checked_too(
    check: Check, tmp_path: Path, kind: str
) -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(60, 2))
    lines = [f"{a:.3f},{b:.3f},{int(a + b > 0)}" for a, b in rows]
    (tmp_path / "data.csv").write_text("\n".join(["a,b,sick", *lines]))
    code, out, err = check(ADAPTERS[kind], "--data", "data.csv", "--json")
    assert (code, err) == (ExitCode.OK, "")
    data = json.loads(out)["data"]
    assert data["parameters"] == 3
    assert data["learned"]["last"] < data["learned"]["first"]
    assert data["warnings"] == []


def test_without_a_name_the_task_of_this_directory_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["check"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert "no task is named, and there is no node.toml or federation.toml here" in said
    assert "gossipfl check task.py" in said
    (tmp_path / "mine.py").write_text(PLAIN)
    (tmp_path / "federation.toml").write_text('[task]\nkind = "mine.py"\n')
    assert main(["check", "--json"]) == ExitCode.OK
    data = json.loads(capsys.readouterr().out)["data"]
    assert (data["task"], data["neighbors"]) == ("mine.py", 3)


def test_the_neighbors_are_those_of_the_federations_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PLAIN)
    members = "".join(f'[[members]]\nname = "{name}"\n' for name in "abcdef")
    text = 'task = "mine.py"\ntopology = "star"\n' + members
    (tmp_path / "federation.toml").write_text(text)
    for arguments, neighbors in (((), 5), (("--member", "a"), 5), (("--member", "b"), 1)):
        assert main(["check", *arguments]) == ExitCode.OK
        many = "1 neighbor," if neighbors == 1 else "5 neighbors,"
        assert f"With {many} by estimate:" in capsys.readouterr().out
    assert main(["check", "--neighbors", "2"]) == ExitCode.OK
    assert "With 2 neighbors," in capsys.readouterr().out
