"""What may change while a node runs, what may not, and who is told."""

import asyncio
import base64
from pathlib import Path

import pytest

from gossipfl.errors import ConfigError
from gossipfl.wire.identity import Identity
from node.certificates import make_certificate, write_key
from node.config import NodeConfig, load_node
from node.reload import Changes, Request, Requests, changes

MEMBERS = {"anna": "127.0.0.1:1", "bert": "127.0.0.1:2", "carla": "127.0.0.1:3"}


class Files:
    """The files of Anna's machine, which a test changes between two readings."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = {name: Identity(name.encode().ljust(32, b".")) for name in [*MEMBERS, "dora"]}
        write_key(folder / "anna.key", self.keys["anna"])
        self.head = {"rounds": "9", "mixing": '"mean"'}
        self.node = {"listen": '"127.0.0.1:1"', "member": '"anna"'}
        self.members: dict[str, str] = dict(MEMBERS)

    def read(self) -> NodeConfig:
        fields = {"name": '"f"', "task": '"digits"', "topology": '"complete"', "seed": "0"}
        text = "".join(f"{key} = {value}\n" for key, value in (fields | self.head).items())
        for name, address in self.members.items():
            certificate = base64.b64encode(make_certificate(self.keys[name])).decode()
            text += f'[[members]]\nname = "{name}"\naddress = "{address}"\n'
            text += f'certificate = "{certificate}"\n'
        (self.folder / "federation.toml").write_text(text)
        given = {"key": '"anna.key"', "federation": '"federation.toml"'} | self.node
        path = self.folder / "node.toml"
        path.write_text("".join(f"{key} = {value}\n" for key, value in given.items()))
        return load_node(path, environment={})


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def test_files_that_say_the_same_change_nothing(files: Files) -> None:
    found = changes(files.read(), files.read())
    assert not found
    assert found.lines == []
    assert found.as_json()["changed"] is False


def test_who_joined_left_moved_or_has_a_new_key_is_told(files: Files) -> None:
    running = files.read()
    files.members = {"anna": "127.0.0.1:1", "bert": "127.0.0.1:22", "dora": "127.0.0.1:4"}
    files.keys["bert"] = Identity(b"b" * 32)
    found = changes(running, files.read())
    assert found == Changes(added=("dora",), removed=("carla",), moved=("bert",), renewed=("bert",))
    assert found.lines == [
        "members added: dora",
        "members removed: carla",
        "members at another address: bert",
        "members with another certificate: bert",
    ]


def test_another_order_and_other_settings_of_this_machine_are_told(files: Files) -> None:
    running = files.read()
    files.members = dict(sorted(MEMBERS.items(), reverse=True))
    files.node["evaluate_every"] = "3"
    found = changes(running, files.read())
    assert found == Changes(reordered=True, settings=("evaluate_every",))
    assert found.lines == ["node.toml: evaluate_every", "the members are in another order"]


def test_another_constitution_needs_a_new_run_and_the_difference_is_told(files: Files) -> None:
    running = files.read()
    files.head["rounds"] = "10"
    with pytest.raises(ConfigError, match="rounds: 9 here, 10 there") as caught:
        changes(running, files.read())
    assert "new run" in caught.value.fix


@pytest.mark.parametrize(
    ("key", "value"), [("store", '"elsewhere"'), ("durable", "false"), ("member", '"bert"')]
)
def test_what_the_open_store_belongs_to_cannot_change(files: Files, key: str, value: str) -> None:
    running = files.read()
    files.node[key] = value
    if key == "member":
        write_key(files.folder / "bert.key", files.keys["bert"])
        files.node["key"] = '"bert.key"'
    with pytest.raises(ConfigError, match=f"{key}.* cannot change while the node runs"):
        changes(running, files.read())


async def test_whoever_asked_is_answered_also_when_the_node_ends() -> None:
    requests = Requests()
    asked = [asyncio.create_task(requests.ask()) for _ in range(3)]
    await asyncio.sleep(0)  # they have asked
    requests.hang_up()
    first: Request = await requests.next()
    first.done(Changes(added=("dora",)), 2)
    assert (await asked[0])["added"] == ("dora",)
    second = await requests.next()
    second.refuse(ConfigError("wrong"))
    with pytest.raises(ConfigError, match="wrong"):
        await asked[1]
    requests.close()
    with pytest.raises(ConfigError, match="the node ended"):
        await asked[2]
    with pytest.raises(ConfigError, match="the node ended"):
        await requests.ask()
