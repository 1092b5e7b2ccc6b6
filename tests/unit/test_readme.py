"""The README's own task and its own words about it hold."""

import ast
import json
from pathlib import Path

import pytest

from gossipfl.learning.session import Session
from gossipfl.learning.task import Place, load_task
from node.cli import main
from node.output import ExitCode
from tests.readme import block


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.py").write_text(block("class ", "(Task)"))
    return tmp_path


def test_the_readmes_task_is_about_25_lines() -> None:
    text = block("class ", "(Task)")
    ast.parse(text)
    assert 15 <= len([line for line in text.splitlines() if line.strip()]) <= 27


def test_the_readmes_task_passes_the_check_with_the_words_shown(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "data", "north", "south", "east"]) == ExitCode.OK
    capsys.readouterr()
    assert main(["check", "task.py", "--data", "north.csv"]) == ExitCode.OK
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "Nothing is wrong with it."
    shown = [line for line in block("task.py: 81 parameters").splitlines() if "bytes" in line]
    assert len(shown) >= 5
    for line in [*shown, block("task.py: 81 parameters").splitlines()[0]]:
        assert line in said


def test_the_readmes_task_is_the_one_that_new_task_writes(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["new", "data", "north"]) == ExitCode.OK
    assert main(["new", "task", "--out", "written.py"]) == ExitCode.OK
    capsys.readouterr()
    found = []
    for name in ("task.py", "written.py"):
        assert main(["check", name, "--data", "north.csv", "--json"]) == ExitCode.OK
        data = json.loads(capsys.readouterr().out)["data"]
        found.append([data[key] for key in ("loss", "learned", "leaves", "measures", "rows")])
    assert found[0] == found[1]


def test_the_readmes_five_lines_load_a_model_into_the_readmes_task(here: Path) -> None:
    text = block("load_file(", "load_state_dict(")
    code = [line for line in text.splitlines() if line and "import" not in line]
    assert len(code) <= 5
    assert main(["new", "data", "north"]) == ExitCode.OK
    session = Session(load_task("task.py", here), Place(here / "north.csv", "north", 0, 1, 0))
    from safetensors.torch import save_file

    (here / "north.state").mkdir()
    save_file(session.model.state_dict(), here / "north.state" / "model.safetensors")
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tensor([[")


def test_the_readmes_scikit_learn_task_passes_the_check(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "sgd.py").write_text(block("class ", "(SklearnTask)"))
    assert main(["new", "data", "north"]) == ExitCode.OK
    capsys.readouterr()
    assert main(["check", "sgd.py", "--data", "north.csv"]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing is wrong with it."
