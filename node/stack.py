"""A federation as one Docker Swarm stack: its keys, federation.toml, node.toml and stack.yaml.

What is written depends on the plan alone, except for the keys and their certificates.
"""

import base64
import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gossipfl.wire.identity import Identity
from node.certificates import make_certificate, write_key

__all__ = [
    "CONFIG_BYTES_MAX",
    "DIGITS_IN_IMAGE",
    "FEDERATION_FILE",
    "NODE_FILE",
    "STACK_FILE",
    "USER",
    "StackMember",
    "StackPlan",
    "stack_yaml",
    "write_stack",
]

FEDERATION_FILE: Final = "federation.toml"
NODE_FILE: Final = "node.toml"
STACK_FILE: Final = "stack.yaml"

USER: Final = 10001  # uid and gid of the image's user, fixed in docker/Dockerfile
PORT: Final = 7400  # what the image exposes; inside the stack's own network it is always free
CONFIG_BYTES_MAX: Final = 500_000  # docs.docker.com/engine/swarm/configs: up to 500 kB each
DIGITS_IN_IMAGE: Final = "/usr/local/share/gossipfl/digits.csv.gz"  # put there by docker/Dockerfile
_CONFIGS: Final = "/etc/gossipfl"  # the image's working directory
_KEY: Final = "/run/secrets/gossipfl.key"
_STORE: Final = "/var/lib/gossipfl"
_DATA: Final = "/data/data.csv"
_COLUMNS: Final = 76  # a certificate is some 300 bytes; lines of this length fit every editor


@dataclass(frozen=True, slots=True)
class StackMember:
    """One service: its name, which is its address too, and its file on the host, if it has one."""

    name: str
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class StackPlan:
    """What a stack is made of.

    Attributes:
        name: of the federation; the stack may be deployed under any name.
        image: what every service runs.
        task: its table, as in federation.toml.
        mixing: the rule's table.
        topology: the graph's table.
        rounds: how many.
        members: in the member list's order.
        beside: files that federation.toml names, mounted next to it: a task, a graph.
        data: where the data are inside the image; None for data of the task's own or members'.
    """

    name: str
    image: str
    task: Mapping[str, Any]
    mixing: Mapping[str, Any]
    topology: Mapping[str, Any]
    rounds: int
    members: tuple[StackMember, ...]
    beside: tuple[str, ...] = ()
    data: str | None = None


def write_stack(plan: StackPlan, folder: Path) -> None:
    """Write keys, federation.toml, node.toml and stack.yaml into an existing folder.

    Raises:
        ConfigError: a key is there already, or cannot be written.
        OSError: another file cannot be written.
    """
    certificates = {}
    for member in plan.members:
        identity = Identity.generate()
        write_key(folder / f"{member.name}.key", identity)
        certificates[member.name] = make_certificate(identity)
    (folder / FEDERATION_FILE).write_text(_federation_toml(plan, certificates), encoding="utf-8")
    (folder / NODE_FILE).write_text(_node_toml(plan), encoding="utf-8")
    (folder / STACK_FILE).write_text(stack_yaml(plan), encoding="utf-8")


def stack_yaml(plan: StackPlan) -> str:
    """Return the Compose file of a plan, for `docker stack deploy`."""
    first = plan.members[0].name
    binds = any(member.data is not None for member in plan.members)
    return "".join(
        [
            _HEAD.format(count=len(plan.members), name=plan.name, first=first, port=PORT),
            _BINDS if binds else "",
            _NODE.format(image=plan.image, configs=_CONFIGS, beside=_mounts(plan)),
            "services:\n",
            *(_service(member) for member in plan.members),
            _CONFIG_LIST,
            *(f"  {_config(name)}:\n    file: ./{name}\n" for name in plan.beside),
            "\nsecrets:\n",
            *(f"  {m.name}-key:\n    file: ./{m.name}.key\n" for m in plan.members),
            _VOLUME_LIST,
            *(f"  {member.name}-store:\n" for member in plan.members),
            _NETWORK_LIST,
        ]
    )


def _service(member: StackMember) -> str:
    bind = ""
    if member.data is not None:
        source = json.dumps(str(member.data))  # JSON's strings are YAML's too
        bind = _BIND.format(source=source.replace("$", "$$"), target=_DATA)
    return _SERVICE.format(
        name=member.name, secret=Path(_KEY).name, user=USER, store=_STORE, bind=bind
    )


def _mounts(plan: StackPlan) -> str:
    return "".join(
        f"    - {{ source: {_config(name)}, target: {_CONFIGS}/{name}, mode: 0444 }}\n"
        for name in plan.beside
    )


def _config(name: str) -> str:
    """Return a file's name in Swarm, which takes letters, digits, - _ and dots."""
    return f"{name.replace('.', '-')}-1"


def _federation_toml(plan: StackPlan, certificates: Mapping[str, bytes]) -> str:
    head = _FEDERATION.format(
        name=plan.name,
        task=_table("task", plan.task),
        mixing=_table("mixing", plan.mixing),
        topology=_table("topology", plan.topology),
        rounds=plan.rounds,
    )
    rows = []
    for name, certificate in certificates.items():
        text = textwrap.fill(base64.b64encode(certificate).decode(), _COLUMNS)
        rows.append(
            f'\n[[members]]\nname = "{name}"\naddress = "{name}:{PORT}"\n'
            f'certificate = """\n{text}\n"""\n'
        )
    return head + "".join(rows)


def _node_toml(plan: StackPlan) -> str:
    text = _NODE_TOML.format(key=_KEY, federation=FEDERATION_FILE, port=PORT, store=_STORE)
    if any(member.data is not None for member in plan.members):
        return text + f'\n# Each service has its own file there, read-only.\ndata = "{_DATA}"\n'
    if plan.data is not None:
        return text + f'\n# In the image: public data to try things with.\ndata = "{plan.data}"\n'
    return text


def _table(key: str, fields: Mapping[str, Any]) -> str:
    """Return a table with `kind` and fields, without the last newline."""
    return "\n".join([f"[{key}]", *(f"{name} = {_toml(item)}" for name, item in fields.items())])


def _toml(value: object) -> str:
    """Return a value as TOML; JSON's strings, numbers, booleans and lists are TOML's too."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {inner} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


_FEDERATION: Final = """\
# This file is the same for every member. The part above the members is the constitution: nodes
# whose constitutions differ refuse each other and say what differs. After a change, see the head of
# stack.yaml.

name = "{name}"

# How many rounds. In each, every member trains on its own data and mixes its neighbors' models in.
rounds = {rounds}

# The start of the model and all shuffling come from this number.
seed = 0

# "elastic": a neighbor that is late is mixed in later. "lock-step": a missed deadline fails the
# run, which makes a run repeatable bit by bit.
pace = "elastic"

# true lets members attack on purpose, for trials. Never with real data.
test = false

# What is learned.
{task}

# How models are mixed. b is the number of lying neighbors to withstand: each member needs at least
# 2b + 1 neighbors.
{mixing}

# Who is whose neighbor.
{topology}

# The members. Swarm resolves the name of a service to the machine it runs on.
"""

_NODE_TOML: Final = """\
# The same for every member: which one it is says GOSSIPFL_MEMBER of its service in stack.yaml. Any
# other key can be set for one service in the same way, for example GOSSIPFL_DEADLINE__MAX_S=30.

key = "{key}"
federation = "{federation}"
listen = "0.0.0.0:{port}"
store = "{store}"
"""

_HEAD: Final = """\
# {count} members of one federation as a Docker Swarm stack; written by `gossipfl new stack`, with
# the keys, federation.toml and node.toml that belong beside it.
#
#     docker stack deploy -c stack.yaml {name}
#     docker stack services {name}
#     docker exec $(docker ps -qf name={name}_{first}.1) gossipfl status
#     docker stack rm {name}
#
# `stack rm` keeps the volumes, so that the members go on where they were when the stack is deployed
# again; `docker volume rm` forgets what they learned. Any other name for the stack will do: members
# are addressed by their service's short name, which no prefix changes.
#
# A config never changes in Swarm. After editing federation.toml, count `federation-1` up in both
# places below and deploy again (the same for node.toml). Another constitution is another run:
# remove the volumes first.
#
# More than one machine: put the image into a registry that all of them reach. A volume stays on the
# machine it was made on, so pin each member to one, under its service:
#
#     deploy:
#       <<: *deploy
#       placement: {{ constraints: ["node.hostname == MACHINE"] }}
#
# No port is published: members meet on port {port} of the stack's own network.
"""

_BINDS: Final = """\
#
# Data are bound from the machine that a member runs on: the file must be there under the same path
# and be readable by user 10001, or Swarm rejects the task. So pin each member as said above.
"""

_NODE: Final = """
version: "3.8"

x-deploy: &deploy
  # A name gives the address of the task itself, not of a balancer: a member is one node.
  endpoint_mode: dnsrr
  replicas: 1
  restart_policy:
    condition: any  # also after status 0: somebody stopped the process, not the service
    delay: 2s
  update_config:
    order: stop-first  # never two nodes with one key and one store
    failure_action: pause
    monitor: 30s
  resources:
    # Measured: 230 MB with the packaged tasks, most of it torch itself. A node adds some vectors of
    # its model's size for each neighbor; `gossipfl check` says how much.
    reservations: {{ memory: 256M }}
    limits: {{ memory: 1G }}

x-node: &node
  image: {image}
  # The HEALTHCHECK is the image's: an exchange of verified updates in the last two minutes.
  init: true  # reaps what a task's own processes leave behind, hands SIGTERM on
  read_only: true  # what may change is in the volume and in /tmp
  cap_drop: [ALL]
  stop_grace_period: 30s  # to say goodbye and keep the state; one or two are usual
  networks: [federation]
  configs:
    - {{ source: federation-1, target: {configs}/federation.toml, mode: 0444 }}
    - {{ source: node-1, target: {configs}/node.toml, mode: 0444 }}
{beside}\
  logging:
    driver: json-file
    options: {{ max-size: 10m, max-file: "3" }}
  deploy: *deploy

x-tmp: &tmp
  type: tmpfs
  target: /tmp
  tmpfs: {{ size: 67108864 }}

"""

_SERVICE: Final = """\
  {name}:
    <<: *node
    environment: {{ GOSSIPFL_MEMBER: {name} }}
    secrets:
      - {{ source: {name}-key, target: {secret}, uid: "{user}", gid: "{user}", mode: 0400 }}
    volumes:
      - *tmp
      - {{ type: volume, source: {name}-store, target: {store} }}
{bind}
"""

_BIND: Final = """\
      - {{ type: bind, source: {source}, target: {target}, read_only: true }}
"""

_CONFIG_LIST: Final = """\
configs:
  federation-1:
    file: ./federation.toml
  node-1:
    file: ./node.toml
"""

_VOLUME_LIST: Final = """
volumes:
"""

_NETWORK_LIST: Final = """
networks:
  federation:
    driver: overlay
    internal: true  # no way out: members need nobody but each other
"""
