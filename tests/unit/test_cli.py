"""The command line: one object on stdout, words on stderr, a documented exit code."""

import enum
import io
import json
import math
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import node.cli
import topology.graphs
from gossipfl import __version__, family
from gossipfl.errors import (
    ConfigError,
    FederationFailed,
    GossipError,
    StoreError,
    TaskError,
    WorkerDied,
)
from node.config import load_federation, load_node
from node.output import ExitCode, Result, exit_code_of, is_plain, show_result
from tests.commands import Run, runner
from topology.graphs import Graph


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command line in an empty directory; return exit code, stdout and stderr."""
    return runner(tmp_path, monkeypatch, capsys)


def verb_that(error: BaseException | None, result: object = None) -> Callable[..., object]:
    def app(*_: object, **__: object) -> object:
        if error is not None:
            raise error
        return result

    return app


def only_object(out: str) -> dict[str, Any]:
    assert out.count("\n") == 1
    found = json.loads(out)
    assert isinstance(found, dict)
    return found


def test_four_members_made_with_the_two_verbs_load_as_a_federation(
    run: Run, tmp_path: Path
) -> None:
    code, out, _ = run("new", "federation", "--b", "1", "--name", "hearts", "--rounds", "7")
    assert code == ExitCode.OK
    assert "gossipfl keygen" in out
    file = tmp_path / "federation.toml"
    for number, name in enumerate(("a", "b", "c", "d")):
        code, table, said = run("keygen", "--name", name, "--address", f"127.0.0.1:{7400 + number}")
        assert code == ExitCode.OK
        assert f"{name}.key" in said
        with file.open("a") as end:
            end.write(table)
    federation = load_federation(file)
    assert federation.names == ("a", "b", "c", "d")
    assert federation.constitution.rounds == 7
    (tmp_path / "node.toml").write_text(
        'member = "c"\nkey = "c.key"\nfederation = "federation.toml"\nlisten = "0.0.0.0:7402"\n'
    )
    assert load_node(tmp_path / "node.toml", environment={}).entry.name == "c"


def test_a_new_federation_names_every_graph_and_takes_a_table_in_place_of_its_own(
    run: Run, tmp_path: Path
) -> None:
    _, out, _ = run("new", "federation", "--b", "0", "--out", "-")
    for kind in family.kinds(topology.graphs, Graph):  # type: ignore[type-abstract]
        assert f'"{kind}"' in out
    table = tomllib.loads(out)
    assert table["task"] == {"kind": "heart-disease"}
    assert table["topology"] == {"kind": "complete"}


def test_a_key_is_private_and_never_shown(run: Run, tmp_path: Path) -> None:
    _, out, said = run("keygen", "--name", "a", "--json")
    secret = (tmp_path / "a.key").read_text().split()[-1]
    assert (tmp_path / "a.key").stat().st_mode & 0o777 == 0o600
    assert secret not in out + said
    data = only_object(out)["data"]
    (row,) = tomllib.loads(data["toml"])["members"]
    assert row["name"] == data["name"] == "a"
    assert "".join(row["certificate"].split()) == data["certificate"]
    assert data["address"] is None


def test_a_key_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    assert run("keygen", "--name", "a")[0] == ExitCode.OK
    before = (tmp_path / "a.key").read_bytes()
    code, out, said = run("keygen", "--name", "a")
    assert (code, out) == (ExitCode.USAGE, "")
    assert "never overwritten" in said
    assert (tmp_path / "a.key").read_bytes() == before
    assert run("keygen", "--name", "a", "--out", "b.key")[0] == ExitCode.OK


@pytest.mark.parametrize(
    "wrong", [("--name", "two words"), ("--name", "../a"), ("--name", "a", "--address", "nowhere")]
)
def test_a_wrong_name_or_address_leaves_no_key(
    run: Run, tmp_path: Path, wrong: tuple[str, ...]
) -> None:
    code, out, said = run("keygen", *wrong)
    assert (code, out) == (ExitCode.USAGE, "")
    assert len(said.splitlines()) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no such file"),
        ('name = "hearts"', "member: is missing"),
        ("gossipfl", "is not TOML"),
    ],
)
def test_a_status_without_a_node_file_names_the_fix(
    run: Run, tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "node.toml").write_text(text)
    code, out, said = run("status", "node.toml")
    assert (code, out) == (ExitCode.USAGE, "")
    assert message in said
    assert len(said.splitlines()) == 2


def test_a_status_looks_where_the_node_was_told_to_keep_its_state(run: Run, tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('member = "a"')  # all else may be wrong or missing
    code, _, said = run("status", "node.toml")
    assert code == ExitCode.USAGE
    assert f"no node answers at {tmp_path}/a.state/status.sock" in said
    _, _, said = run("status", "node.toml", "--set", "store=b")
    assert f"no node answers at {tmp_path}/b/status.sock" in said


@pytest.mark.parametrize("verb", ["run", "status", "reload", "health"])
def test_the_node_of_the_working_directory_is_meant_where_none_is_named(
    run: Run, tmp_path: Path, verb: str
) -> None:
    code, out, said = run(verb)
    assert (code, out) == (ExitCode.USAGE, "")
    assert "node.toml: there is no such file" in said
    (tmp_path / "node.toml").write_text('member = "a"')
    code, _, said = run(verb)
    assert code == (ExitCode.FAILED if verb == "health" else ExitCode.USAGE)
    wrong = "key: is missing" if verb == "run" else f"no node answers at {tmp_path}/a.state"
    assert wrong in said


def test_a_new_federation_can_be_printed_and_never_overwrites(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("new", "federation", "--b", "1", "--out", "-")
    assert code == ExitCode.OK
    assert tomllib.loads(out)["mixing"] == {"kind": "trimmed-mean", "b": 1}
    assert not list(tmp_path.iterdir())
    assert run("new", "federation", "--b", "1")[0] == ExitCode.OK
    code, _, said = run("new", "federation", "--b", "1")
    assert code == ExitCode.USAGE
    assert "not overwritten" in said
    assert (
        run("new", "federation", "--b", "1", "--name", "two words", "--out", "x")[0]
        == ExitCode.USAGE
    )
    assert run("new", "federation", "--b", "1", "--out", "no/such/directory")[0] == ExitCode.USAGE


def test_version_is_said_in_words_and_as_an_object(run: Run) -> None:
    assert run("--version") == (ExitCode.OK, f"gossipfl {__version__}\n", "")
    code, out, _ = run("--version", "--json")
    assert code == ExitCode.OK
    assert only_object(out) == {
        "schema": 1,
        "command": "version",
        "ok": True,
        "data": {"version": __version__},
    }


@pytest.mark.parametrize(
    ("arguments", "command", "message"),
    [
        (("keygen",), "keygen", "missing option '--name'"),
        (("keygen", "--nam", "a"), "keygen", "no such option: --nam"),
        (("keygn",), "keygn", "no such command 'keygn'. Did you mean 'keygen'?"),
        (("new", "federation", "--rounds", "0"), "new federation", "rounds"),
        (("new", "federation", "--rounds", "many"), "new federation", "rounds"),
        (("--loud",), "", "no such option: --loud"),
    ],
)
def test_a_wrong_command_line_is_told_in_two_lines_or_one_object(
    run: Run, arguments: tuple[str, ...], command: str, message: str
) -> None:
    code, out, said = run(*arguments)
    assert (code, out) == (ExitCode.USAGE, "")
    assert message in said
    assert said.startswith("gossipfl: ")
    assert "--help`" in said.splitlines()[1]
    code, out, said = run(*arguments, "--json")
    found = only_object(out)
    assert (code, found["ok"], found["command"]) == (ExitCode.USAGE, False, command)
    assert found["error"]["code"] == "usage"
    assert message in found["error"]["message"]
    assert found["error"]["fix"]


def test_no_command_shows_help_or_one_object(run: Run) -> None:
    code, out, _ = run()
    assert code == ExitCode.OK
    assert out.count("Usage:") == 1
    code, out, _ = run("--json")
    assert code == ExitCode.USAGE
    assert only_object(out)["error"]["code"] == "usage"


def test_help_names_every_exit_code_and_every_verb_has_help_and_json(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == ExitCode.OK
    words = " ".join(out.split())
    for exit_code in ExitCode:
        assert f"{exit_code.value}: {exit_code.meaning}" in words
    for verb in (("keygen",), ("new", "federation")):
        code, out, _ = run(*verb, "--help")
        assert code == ExitCode.OK
        assert "Example" in out
        assert "--json" in out


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (ConfigError("m", fix="f"), 2, "config"),
        (FederationFailed("m", fix="f"), 3, "federation-failed"),
        (StoreError("m", fix="f"), 4, "store"),
        (TaskError("m", fix="f"), 5, "task"),
        (WorkerDied("m", fix="f"), 1, "worker-died"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_each_fault_has_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, name: str
) -> None:
    monkeypatch.setattr(node.cli, "app", verb_that(error))
    assert run("keygen")[0] == code
    got, out, said = run("keygen", "--json")
    assert got == code
    assert only_object(out)["error"]["code"] == name
    assert said.startswith("gossipfl: ")


def test_an_interrupt_inside_a_verb_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.cli, "app", verb_that(None, 130))  # what typer makes of Ctrl-C
    code, out, _ = run("keygen", "--json")
    assert code == ExitCode.INTERRUPTED
    assert only_object(out)["error"]["code"] == "interrupted"


@pytest.mark.parametrize(
    "bug", [AssertionError("ours"), ExceptionGroup("tasks", [TypeError("ours")])]
)
def test_a_bug_of_ours_is_one_object_and_its_traceback_is_in_the_log(
    run: Run, monkeypatch: pytest.MonkeyPatch, bug: Exception
) -> None:
    monkeypatch.setattr(node.cli, "app", verb_that(bug))
    code, out, said = run("keygen", "--json")
    error = only_object(out)["error"]
    assert (code, error["code"]) == (ExitCode.FAILED, "bug")
    assert f"a fault in gossipfl itself: {type(bug).__name__}" in error["message"]
    assert error["fix"]
    assert "Traceback" in said
    assert "ours" in said
    assert run("keygen")[:2] == (ExitCode.FAILED, "")


def test_a_run_that_fell_short_shows_its_result_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    result = Result({"members": 2}, "2 took part", FederationFailed("2 of 3", fix="Ask c."))
    assert show_result("run", result, as_json=True) == ExitCode.FELL_SHORT
    found = only_object(capsys.readouterr().out)
    assert (found["ok"], found["data"]) == (False, {"members": 2})
    assert found["error"] == {"code": "federation-failed", "message": "2 of 3", "fix": "Ask c."}
    assert show_result("run", result, as_json=False) == ExitCode.FELL_SHORT
    said = capsys.readouterr()
    assert said.out == "2 took part\n"
    assert said.err == "gossipfl: 2 of 3\n  Ask c.\n"


def test_what_cannot_be_computed_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"auc": math.nan, "list": [math.inf, 0.5, (1, None)], "digest": b"\x0f", "at": Path("a")}
    show_result("x", Result(odd), as_json=True)
    data = only_object(capsys.readouterr().out)["data"]
    assert data == {"auc": None, "list": [None, 0.5, [1, None]], "digest": "0f", "at": "a"}


def test_a_table_is_drawn_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    table = Table("hospital")
    table.add_row("cleveland")
    assert show_result("demo", Result({}, table), as_json=False) == ExitCode.OK
    assert "cleveland" in capsys.readouterr().out


class Stream(io.StringIO):
    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminal", "environment", "plain"),
    [
        (True, {"TERM": "xterm"}, False),
        (False, {"TERM": "xterm"}, True),
        (True, {"TERM": "dumb"}, True),
        (True, {}, True),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, True),
        (True, {"TERM": "xterm", "CI": "true"}, True),
    ],
)
def test_progress_redraws_itself_only_on_a_real_terminal(
    terminal: bool, environment: dict[str, str], plain: bool
) -> None:
    assert is_plain(Stream(terminal=terminal), environment) is plain


def test_every_error_of_ours_has_an_exit_code_above_zero() -> None:
    for kind in GossipError.__subclasses__():
        if kind.__name__ != "PeerFault":
            assert exit_code_of(kind.__new__(kind)) > 0
    assert issubclass(ExitCode, enum.IntEnum)


@pytest.mark.parametrize("name", ["node", "topology"])
def test_another_package_of_our_name_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    for package in ("gossipfl", "node"):
        (tmp_path / package).mkdir()
        found = str(tmp_path / package / "__init__.py")
        monkeypatch.setattr(sys.modules[package], "__file__", found)
    assert run("--version")[0] == ExitCode.OK
    (tmp_path / f"{name}-2.0.0.dist-info").mkdir()
    code, _, said = run("--version")
    assert code == ExitCode.USAGE
    assert f"another package named `{name}`" in said
    assert "environment of its own" in said


def test_a_node_package_from_elsewhere_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "__file__", "/elsewhere/node/__init__.py")
    code, _, said = run("--version")
    assert code == ExitCode.USAGE
    assert "/elsewhere/node" in said


def test_a_reader_who_goes_away_is_no_crash() -> None:
    command = [sys.executable, "-m", "node.cli", "new", "federation", "--b", "1", "--out", "-"]
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=30)
    os.close(write)
    assert closed.returncode == ExitCode.FAILED
    assert closed.stderr == b""
