"""`gossipfl new stack`: what it writes is what a node loads, and what is wrong is not written."""

import json
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gossipfl.tasks.heart_disease import HOSPITALS as PACKAGED
from node import stack
from node.cli import main
from node.config import NodeConfig, load_node
from node.output import ExitCode
from node.verbs.health import judge
from node.verbs.new_stack import HOSPITALS, MEMBERS_MAX

ROOT = Path(__file__).parents[2]
OWN_TASK = "from gossipfl.learning import Task\n\n\nclass Patients(Task):\n    pass\n"

Write = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Write:
    """Run `gossipfl new stack --out made`; return exit code, data and what went to stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, dict[str, Any], str]:
        code = main(("new", "stack", "--out", "made", "--json", *arguments))
        said = capsys.readouterr()
        return code, json.loads(said.out).get("data", {}), said.err

    return run


def services(folder: Path) -> dict[str, str]:
    """Return the text of each service in stack.yaml."""
    text = (folder / "stack.yaml").read_text().split("\nservices:\n")[1].split("\nconfigs:\n")[0]
    parts = re.split(r"^  (\S+):\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def loaded(folder: Path, member: str, data: Path | None = None) -> NodeConfig:
    """Load what was written as the member's container does; its paths are other ones here."""
    service = services(folder)[member]
    found = re.search(r"environment: \{ (GOSSIPFL_MEMBER): (\S+) \}", service)
    secret = re.search(r"source: (\S+)-key, target: gossipfl.key", service)
    assert found
    assert secret
    changes = [f"key={folder / secret[1]}.key", *([f"data={data}"] if data else [])]
    return load_node(folder / "node.toml", changes, {found[1]: found[2]})


@pytest.mark.parametrize(
    ("options", "names", "degree"),
    [
        ((), HOSPITALS, 3),
        (("--nodes", "3", "--task", "heart-disease", "--b", "0"), HOSPITALS[:3], 2),
        (("--nodes", "8", "--topology", "ring"), tuple(f"node-{n}" for n in range(1, 9)), 2),
        (("--nodes", "8", "--b", "3"), tuple(f"node-{n}" for n in range(1, 9)), 7),
        (
            ("--nodes", "6", "--topology", "random-regular:3", "--b", "1"),
            tuple(f"node-{n}" for n in range(1, 7)),
            3,
        ),
    ],
)
def test_every_member_loads_what_was_written(
    write: Write, options: tuple[str, ...], names: tuple[str, ...], degree: int
) -> None:
    code, data, _ = write(*options)
    folder = Path("made").absolute()
    assert code == ExitCode.OK
    assert (data["folder"], tuple(data["members"])) == (str(folder), names)
    assert tuple(services(folder)) == names
    for name in names:
        config = loaded(folder, name, folder / "node.toml")
        assert config.settings.member == name
        assert config.entry.address == f"{name}:7400"
        assert config.settings.listen == ("0.0.0.0", 7400)
        assert len(config.neighbors) == degree


def test_only_their_owner_can_read_the_keys(write: Write) -> None:
    write()
    assert stat.S_IMODE(Path("made").stat().st_mode) == 0o700
    keys = sorted(Path("made").glob("*.key"))
    assert [key.stem for key in keys] == sorted(HOSPITALS)
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert len({key.read_text() for key in keys}) == len(HOSPITALS)


def test_four_members_are_the_packaged_hospitals_and_withstand_one_liar(write: Write) -> None:
    assert tuple(PACKAGED) == HOSPITALS
    _, data, _ = write()
    config = loaded(Path("made"), "cleveland")
    assert config.federation.constitution.task == {"kind": "heart-disease"}
    assert config.rule.byzantine == data["mixing"]["b"] == 1
    assert config.settings.data is None


def test_other_members_learn_the_digits_that_are_in_the_image(write: Write) -> None:
    write("--nodes", "5", "--topology", "ring")
    text = Path("made/node.toml").read_text()
    assert f'data = "{stack.DIGITS_IN_IMAGE}"' in text
    assert 'kind = "digits"' in Path("made/federation.toml").read_text()


def test_b_is_asked_for_where_there_is_a_choice(write: Write) -> None:
    code, _, errors = write("--nodes", "8")
    assert code == ExitCode.USAGE
    assert "--b is missing" in errors
    assert "--b 0 to --b 3" in errors
    assert write("--nodes", "8", "--b", "2")[1]["mixing"] == {"kind": "trimmed-mean", "b": 2}


def test_a_ring_leaves_no_choice_of_b(write: Write) -> None:
    code, data, _ = write("--nodes", "8", "--topology", "ring")
    assert (code, data["mixing"]["b"]) == (ExitCode.OK, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--nodes", "1"), "needs at least 1 neighbor, and a node has 0"),
        (("--nodes", "0"), "greater than or equal to 1"),
        (("--nodes", str(MEMBERS_MAX + 1), "--topology", "ring"), f"room for {MEMBERS_MAX}"),
        (("--nodes", "8", "--topology", "rong"), "there is no 'rong'"),
        (("--nodes", "7", "--topology", "random-regular:3", "--b", "0"), "odd"),
        (("--nodes", "8", "--topology", "ring", "--b", "1"), "at least 3 neighbors"),
        (("--nodes", "8", "--topology", "erdos-renyi:p=0.0", "--mixing", "mean"), "parts"),
        (("--nodes", "5", "--mixing", "mean", "--b", "1"), "withstands no lying neighbors"),
        (("--nodes", "5", "--mixing", "meen"), "there is no 'meen'"),
        (("--nodes", "5", "--task", "heart-disease", "--b", "0"), "of 4 hospitals"),
        (("--task", "digit", "--b", "0"), "there is no such task"),
        (("--task", "none.py", "--b", "0"), "none.py"),
        (("--data", "."), "--task is missing"),
        (("--data", ".", "--task", "digits"), "there is no MEMBER.csv"),
        (("--name", "a b"), "'a b' is not allowed"),
        (("--image", "a b"), "this is no image"),
        (("--rounds", "0"), "greater than or equal to 1"),
    ],
)
def test_what_cannot_run_is_refused_and_nothing_is_written(
    write: Write, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    code, _, errors = write(*options)
    assert code == ExitCode.USAGE
    assert says in errors
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_left_alone(write: Write) -> None:
    Path("made").mkdir()
    assert write()[0] == ExitCode.OK  # the twin: an empty one is as good as none
    before = {path: path.read_bytes() for path in Path("made").iterdir()}
    code, _, errors = write("--nodes", "8", "--topology", "ring")
    assert code == ExitCode.USAGE
    assert "made: is in use" in errors
    assert {path: path.read_bytes() for path in Path("made").iterdir()} == before


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    assert main(("new", "stack", "--out", str(tmp_path / "no" / "such"))) == ExitCode.USAGE


def data_of(folder: Path, *names: str) -> None:
    """Give each member a file."""
    folder.mkdir()
    for name in names:
        shutil.copy(PACKAGED["cleveland"].path, folder / f"{name}.csv")


def test_each_file_of_a_folder_is_one_members_own_data(write: Write, tmp_path: Path) -> None:
    data_of(tmp_path / "data", "site-10", "site-2", "site-1")
    code, data, _ = write("--data", "data", "--task", "heart-disease", "--b", "0")
    assert (code, data["members"]) == (ExitCode.OK, ["site-1", "site-2", "site-10"])
    for name, service in services(Path("made")).items():
        path = tmp_path / "data" / f"{name}.csv"
        assert f'{{ type: bind, source: "{path}", target: /data/data.csv, read_only: true }}' in (
            service
        )
        assert loaded(Path("made"), name, path).settings.data == path
    assert 'data = "/data/data.csv"' in Path("made/node.toml").read_text()


def test_data_that_the_image_may_not_read_are_named(write: Write, tmp_path: Path) -> None:
    data_of(tmp_path / "data", "a", "b")
    (tmp_path / "data" / "a.csv").chmod(0o600)
    (tmp_path / "data" / "b.csv").chmod(0o644)
    _, data, _ = write("--data", "data", "--task", "heart-disease", "--b", "0")
    (warning,) = data["warnings"]
    assert str(tmp_path / "data" / "a.csv") in warning
    assert "10001" in warning


@pytest.mark.parametrize(
    ("names", "options", "says"),
    [
        (("My_Site", "b"), (), "is no name for a service"),
        (("a", "b"), ("--nodes", "3"), "files of 2 members, not of 3"),
    ],
)
def test_data_that_fit_no_members_are_refused(
    write: Write, tmp_path: Path, names: tuple[str, ...], options: tuple[str, ...], says: str
) -> None:
    data_of(tmp_path / "data", *names)
    code, _, errors = write("--data", "data", "--task", "heart-disease", "--b", "0", *options)
    assert code == ExitCode.USAGE
    assert says in errors
    assert not Path("made").exists()


def test_a_task_of_ones_own_lies_beside_the_federation(write: Write, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own.py").write_text(OWN_TASK)
    code, data, _ = write("--nodes", "4", "--task", "code/own.py:Patients", "--b", "1")
    assert (code, data["task"]) == (ExitCode.OK, {"kind": "own.py:Patients"})
    assert Path("made/own.py").read_text() == OWN_TASK
    text = Path("made/stack.yaml").read_text()
    assert "{ source: own-py-1, target: /etc/gossipfl/own.py, mode: 0444 }" in text
    assert "  own-py-1:\n    file: ./own.py\n" in text
    config = loaded(Path("made"), "node-1")
    assert config.federation.constitution.task["kind"] == "own.py:Patients"


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ("0 1\n1 2\n2 0\n", ["node-1", "node-2", "node-3"]),
        ("berlin paris\nparis rome\nrome berlin\n", ["berlin", "paris", "rome"]),
    ],
)
def test_a_graph_of_ones_own_names_the_members(
    write: Write, tmp_path: Path, edges: str, names: list[str]
) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "net.edgelist").write_text(edges)
    topology = "file:path=own/net.edgelist,format=edge-list"
    code, data, errors = write("--topology", topology)
    assert (code, data["members"]) == (ExitCode.OK, names), errors
    assert Path("made/net.edgelist").read_text() == edges
    assert "{ source: net-edgelist-1, target: /etc/gossipfl/net.edgelist, mode: 0444 }" in (
        Path("made/stack.yaml").read_text()
    )
    config = loaded(Path("made"), names[0], Path("made/node.toml"))
    assert [str(name) for name in config.neighbors] == names[1:]
    shutil.rmtree("made")
    code, _, errors = write("--topology", topology, "--nodes", "8")
    assert code == ExitCode.USAGE
    assert "has 3 nodes" in errors


def test_what_no_config_can_hold_is_refused(write: Write, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN_TASK + "#" * stack.CONFIG_BYTES_MAX)
    code, _, errors = write("--task", "own.py", "--b", "1")
    assert code == ExitCode.USAGE
    assert "own.py: is longer than" in errors
    assert not Path("made").exists()


def test_the_stack_that_is_checked_in_is_what_is_written(write: Write) -> None:
    write()
    assert Path("made/stack.yaml").read_text() == (ROOT / "docker" / "stack.yaml").read_text()


def test_the_image_is_what_the_stack_counts_on() -> None:
    image = (ROOT / "docker" / "Dockerfile").read_text()
    text = (ROOT / "docker" / "stack.yaml").read_text()
    assert f"USER {stack.USER}:{stack.USER}\n" in image
    assert f'uid: "{stack.USER}", gid: "{stack.USER}", mode: 0400' in text
    for wanted in (
        f" {stack.DIGITS_IN_IMAGE}\n",
        "WORKDIR /etc/gossipfl\n",
        "VOLUME /var/lib/gossipfl\n",
        "EXPOSE 7400\n",
        'ENTRYPOINT ["gossipfl"]\n',
        'CMD ["run"]\n',
    ):
        assert wanted in image
    assert "HEALTHCHECK" in image
    for place in ("/etc/gossipfl/node.toml", "/etc/gossipfl/federation.toml", "/var/lib/gossipfl"):
        assert place in text


def test_a_member_that_has_just_opened_its_links_is_healthy_in_swarm_only() -> None:
    """Swarm resolves a member's name once it is healthy: else none would hear a first update."""
    answer: dict[str, Any] = {
        **{"member": "a", "phase": "waiting", "round": 0, "rounds": 9, "degraded": None},
        **{"exchanged_s": None, "open_s": 5.0, "waits_for": ["b"], "neighbors": []},
    }
    assert judge(answer, 120.0)[0] is False
    assert judge(answer, 120.0, grace=120.0)[0] is True
    assert judge(answer | {"open_s": 120.0}, 120.0, grace=120.0)[0] is False
    assert judge(answer | {"exchanged_s": 130.0}, 120.0, grace=120.0)[0] is False
    assert judge(answer | {"phase": "starting", "open_s": None}, 120.0, grace=120.0)[0] is False
