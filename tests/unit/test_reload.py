"""What may change while a node runs, what may not, and who is told."""

import asyncio
import base64
import os
import socket
from pathlib import Path

import pytest

from gossipfl.errors import ConfigError
from gossipfl.wire.identity import Identity
from node import parts
from node.certificates import make_certificate, write_key
from node.config import NodeConfig, load_node
from node.listener import check_listen
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


def test_another_graph_of_the_same_members_is_told_beside_all_else(files: Files) -> None:
    files.head["topology"] = '{ kind = "file", path = "graph.txt" }'
    (files.folder / "graph.txt").write_text("anna bert\nbert carla\n")
    running = files.read()
    assert not changes(running, files.read())
    files.node["evaluate_every"] = "3"
    (files.folder / "graph.txt").write_text("anna bert\nbert carla\ncarla anna\n")
    found = changes(running, files.read())
    assert found == Changes(regraphed=True, settings=("evaluate_every",))
    assert found.lines == ["node.toml: evaluate_every", "the graph is another one"]


def test_a_key_file_that_is_gone_after_the_check_stops_no_reload(files: Files) -> None:
    checked = files.read()
    (files.folder / "anna.key").unlink()
    setup = parts.setup(checked, b"l" * 32, 2, exit_when_done=False)
    assert setup.identity.public == files.keys["anna"].public
    with pytest.raises(ConfigError, match="no such key file"):
        files.read()


@pytest.mark.parametrize("name", ["node.toml", "federation.toml"])
def test_a_pipe_in_a_file_s_place_does_not_hang_the_node(files: Files, name: str) -> None:
    files.read()
    (files.folder / name).unlink()
    os.mkfifo(files.folder / name)
    with pytest.raises(ConfigError, match=f"{name}: is a pipe"):
        load_node(files.folder / "node.toml", environment={})


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


@pytest.mark.parametrize("host", ["192.0.2.1", "nowhere.invalid"])  # RFC 5737 §3, RFC 6761 §6.4
def test_a_host_that_is_not_here_is_refused_also_on_the_nodes_own_port(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        port = own.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on {host}:{port}"):
            check_listen(("127.0.0.1", port), (host, port))
        check_listen(("127.0.0.1", port), ("0.0.0.0", port))  # the twin
        check_listen(("127.0.0.1", port), None)
        with pytest.raises(ConfigError, match="cannot listen"):  # somebody else's
            check_listen(("127.0.0.1", port + 1), ("127.0.0.1", port))
