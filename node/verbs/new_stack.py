"""`gossipfl new stack`: keys, federation.toml, node.toml and stack.yaml for Docker Swarm."""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from node.output import Result
from node.verbs import AsJson

if TYPE_CHECKING:
    import networkx as nx

    from node.stack import StackPlan

__all__ = ["HOSPITALS", "new_stack"]

HOSPITALS: Final = ("cleveland", "hungarian", "switzerland", "long-beach")
"""The members whose patients are packaged; a test holds this to the task's own list, which needs
torch."""

MEMBERS_MAX: Final = 200  # an overlay network of Swarm has 254 addresses, some of them its own
LABEL: Final = (
    r"[a-z0-9]([a-z0-9-]{0,47}[a-z0-9])?"  # a service's name: 63, with the stack's before
)

NEXT_STEPS: Final = """\
Next, on a manager of the swarm (`docker swarm init` makes one of this machine):
  docker build -f docker/Dockerfile -t {image} .      in gossipfl's repository
  docker stack deploy -c {folder}/stack.yaml {name}
  docker stack services {name}
  docker exec $(docker ps -qf name={name}_{first}.1) gossipfl status
  docker stack rm {name}
The keys in {folder} are all that a member is: keep the folder to yourself."""


def new_stack(
    nodes: Annotated[
        int | None,
        typer.Option(min=1, help="How many members; by default 4, or as many as --data has files."),
    ] = None,
    topology: Annotated[
        str,
        typer.Option(help="Who is whose neighbor: ring, random-regular:4, small-world:k=4,p=0.1."),
    ] = "complete",
    b: Annotated[
        int | None, typer.Option("--b", min=0, help="Lying neighbors each member withstands.")
    ] = None,
    mixing: Annotated[
        str, typer.Option(help="How models are mixed: trimmed-mean, median, mean.")
    ] = "trimmed-mean",
    task: Annotated[
        str | None,
        typer.Option(help="What is learned: heart-disease, digits, task.py or task.py:Class."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A folder with MEMBER.csv for each member; each file names one."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How many rounds are run.")] = 60,
    name: Annotated[str | None, typer.Option(help="The federation's name.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write, new or empty.")] = Path("stack"),
    image: Annotated[str, typer.Option(help="What every service runs.")] = "gossipfl:latest",
    as_json: AsJson = False,
) -> Result:
    """Write a federation as one Docker Swarm stack: keys, federation.toml, node.toml, stack.yaml.

    Four members learn heart-disease from the four packaged hospitals and withstand one liar; any
    other number learns digits. --task and --data bring your own. All is checked before it is
    written, and can be edited afterwards.

    Example: gossipfl new stack --nodes 8 --topology ring
    """
    from gossipfl.errors import ConfigError
    from node.stack import StackMember, StackPlan
    from topology.graphs.graph import load_graph, spelled_graph

    graph_table = spelled_graph(topology)
    builder = load_graph(graph_table, Path.cwd())
    chosen, names, files = _members(nodes, task, data, builder.own_names())
    graph = builder.build(names)
    preset = chosen == {"kind": "heart-disease"} and tuple(names) == HOSPITALS and data is None
    given = 1 if preset and b is None and topology == "complete" else b
    beside = [*_file(chosen, "kind"), *_file(graph_table, "path")]
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_./:@-]*", image):
        raise ConfigError(f"--image {image}: this is no image", fix="Write NAME:TAG.")
    plan = StackPlan(
        name=name or ("four-hospitals" if preset else f"{len(names)}-members"),
        image=image,
        task=_by_name(chosen, "kind"),
        mixing=_rule(mixing, given, graph),
        topology=_by_name(graph_table, "path"),
        rounds=rounds,
        members=tuple(StackMember(member, files.get(member)) for member in names),
        beside=tuple(path.name for path in beside),
        data=_packaged(chosen, data),
    )
    return _result(plan, out, _write(plan, beside, graph, out))


def _result(plan: "StackPlan", out: Path, warnings: list[str]) -> Result:
    names = [member.name for member in plan.members]
    folder = out.absolute()
    steps = NEXT_STEPS.format(image=plan.image, folder=out, name=plan.name, first=names[0])
    kinds = f"{plan.topology['kind']}, {_said(plan.mixing)}"
    told = [f"Wrote {out}: {len(names)} members, {kinds}.", *warnings]
    listing = {
        "folder": folder,
        "stack": folder / "stack.yaml",
        "name": plan.name,
        "members": names,
        "task": plan.task,
        "mixing": plan.mixing,
        "topology": plan.topology,
        "rounds": plan.rounds,
        "warnings": warnings,
    }
    return Result(listing, "\n".join([*told, "", steps]))


def _members(
    nodes: int | None, task: str | None, data: Path | None, named: tuple[str, ...] | None
) -> tuple[dict[str, Any], list[str], dict[str, Path]]:
    """Return what is learned, by whom, and each member's own file, if there are any.

    `named` is who is in the graph's file, None for a graph that is in no file.
    """
    from gossipfl.errors import ConfigError

    if data is not None:
        if task is None:
            raise ConfigError(
                "--task is missing: what is learned from --data?",
                fix="Name a task: heart-disease, or a file of your own (see `gossipfl new task`).",
            )
        files = _files(data, nodes)
        return _task(task), sorted(files, key=_natural), files
    if named is not None and nodes not in (None, len(named)):
        raise ConfigError(
            f"--nodes {nodes}: the graph's file has {len(named)} nodes", fix="Leave --nodes out."
        )
    count = len(HOSPITALS if named is None else named) if nodes is None else nodes
    four = count == len(HOSPITALS) and (named is None or set(named) == set(HOSPITALS))
    chosen = _task(task or ("heart-disease" if four else "digits"))
    if count > MEMBERS_MAX:
        raise ConfigError(
            f"--nodes {count}: one overlay network of Swarm has room for {MEMBERS_MAX} members",
            fix=f"At most {MEMBERS_MAX}.",
        )
    if chosen["kind"] != "heart-disease":
        return chosen, _names(count, named), {}
    if count > len(HOSPITALS):
        raise ConfigError(
            f"--nodes {count}: the packaged patients are of {len(HOSPITALS)} hospitals",
            fix="Give each member its own file with --data, or let them learn digits.",
        )
    return chosen, list(HOSPITALS[:count]), {}


def _names(count: int, named: tuple[str, ...] | None) -> list[str]:
    """Return the members: the graph file's own names, unless they are mere numbers."""
    from gossipfl.errors import ConfigError

    if named is None or all(name.isdigit() for name in named):
        return [f"node-{place}" for place in range(1, count + 1)]
    for name in named:
        if not re.fullmatch(LABEL, name):
            raise ConfigError(
                f"--topology: the node {name!r} of the graph's file is no name for a service",
                fix="Name the nodes with lower-case letters, digits and -, at most 49.",
            )
    return list(named)


def _files(folder: Path, nodes: int | None) -> dict[str, Path]:
    """Return the files of --data by the member each of them names."""
    from gossipfl.errors import ConfigError

    files = {path.stem: path.absolute() for path in folder.glob("*.csv") if path.is_file()}
    if not files:
        raise ConfigError(
            f"--data {folder}: there is no MEMBER.csv in it",
            fix="Name a folder with one CSV file for each member, named after it.",
        )
    if len(files) > MEMBERS_MAX or nodes not in (None, len(files)):
        raise ConfigError(
            f"--data {folder}: has files of {len(files)} members, not of {nodes or MEMBERS_MAX}",
            fix=f"Each file is one member, and there are at most {MEMBERS_MAX}.",
        )
    for member, path in files.items():
        if not re.fullmatch(LABEL, member):
            raise ConfigError(
                f"{path}: {member!r} is no name for a service",
                fix="Name the file with lower-case letters, digits and -, at most 49, and .csv.",
            )
    return files


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Order node-2 before node-10."""
    return [
        (part.isdigit(), int(part) if part.isdigit() else 0, part)
        for part in re.split(r"([0-9]+)", name)
    ]


def _task(text: str) -> dict[str, Any]:
    import pkgutil

    import gossipfl.tasks
    from gossipfl.errors import ConfigError
    from gossipfl.family import spelled
    from gossipfl.learning.task_source import is_file

    if is_file(text):
        return {"kind": text}
    chosen = spelled(text)
    known = [info.name.replace("_", "-") for info in pkgutil.iter_modules(gossipfl.tasks.__path__)]
    if chosen["kind"] not in known:
        raise ConfigError(
            f"--task {text}: there is no such task",
            fix=f"Use one of {', '.join(known)}, or the path of a file that ends in .py.",
        )
    return chosen


def _packaged(chosen: dict[str, Any], data: Path | None) -> str | None:
    from node.stack import DIGITS_IN_IMAGE

    return DIGITS_IN_IMAGE if chosen["kind"] == "digits" and data is None else None


def _file(table: dict[str, Any], key: str) -> list[Path]:
    """Return the file a table names with a key, in a list; none if it names none."""
    from gossipfl.learning.task_source import is_file, spelled

    if key == "path":
        return [Path(table[key])] if table["kind"] == "file" else []
    return [spelled(table[key])[0]] if is_file(table[key]) else []


def _by_name(table: dict[str, Any], key: str) -> dict[str, Any]:
    """Return a table whose file lies beside federation.toml."""
    files = _file(table, key)
    if not files:
        return table
    return {**table, key: files[0].name + str(table[key]).removeprefix(str(files[0]))}


def _rule(text: str, b: int | None, graph: "nx.Graph[int]") -> dict[str, Any]:
    """Return the rule's table; b is asked for wherever there is a choice."""
    import gossipfl.mixing
    from gossipfl.errors import ConfigError
    from gossipfl.family import kinds, spelled
    from gossipfl.mixing.rule import MixingRule, load_rule
    from topology.analysis import tolerance

    table = spelled(text)
    known = kinds(gossipfl.mixing, MixingRule)  # type: ignore[type-abstract]
    takes_b = table["kind"] in known and "b" in known[table["kind"]].model_fields
    if b is not None:
        if not takes_b and table["kind"] in known:
            raise ConfigError(
                f"--b {b}: {table['kind']} withstands no lying neighbors, however many",
                fix="Leave --b out, or mix with trimmed-mean.",
            )
        table = {**table, "b": b}
    elif takes_b and len(table) == 1:
        most = min(tolerance(graph, place) for place in graph)
        if most > 0:
            raise ConfigError(
                "--b is missing: how many lying neighbors does each member withstand?",
                fix=f"On this graph --b 0 to --b {most}. Nobody can choose it for you.",
            )
        table = {**table, "b": 0}  # there is nothing else to choose
    return load_rule(table).model_dump(mode="json")


def _said(mixing: Mapping[str, Any]) -> str:
    fields = ", ".join(f"{name} = {value}" for name, value in mixing.items() if name != "kind")
    return f"{mixing['kind']} with {fields}" if fields else str(mixing["kind"])


def _write(plan: "StackPlan", beside: list[Path], graph: "nx.Graph[int]", out: Path) -> list[str]:
    """Write the folder, whole or not at all; return what should be known of it."""
    from gossipfl.errors import ConfigError
    from node.stack import write_stack

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out}: is in use, and nothing in it is overwritten",
            fix="Name another folder with --out, or move this one away first.",
        )
    try:
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.absolute().parent) as home:
            folder = Path(home) / "stack"
            folder.mkdir(mode=0o700)
            for path in beside:
                (folder / path.name).write_bytes(_read(path))
            write_stack(plan, folder)
            warnings = _checked(plan, graph, folder, out)
            folder.rename(out)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be written: {error.strerror}",
            fix="Name a folder inside one that exists and that you may write to.",
        ) from error
    return warnings


def _read(path: Path) -> bytes:
    from gossipfl.errors import ConfigError

    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}", fix="Name a file that you may read."
        ) from error


def _checked(plan: "StackPlan", graph: "nx.Graph[int]", folder: Path, out: Path) -> list[str]:
    """Read what was written as a node will; return what should be known of it.

    The member with the fewest neighbors is the one that a rule fits least.
    """
    from gossipfl.errors import ConfigError
    from node.config import load_node
    from node.stack import CONFIG_BYTES_MAX, NODE_FILE

    weakest = plan.members[min(graph, key=lambda place: len(graph[place]))]
    changes = [f"key={folder / weakest.name}.key"]
    if weakest.data is not None or plan.data is not None:
        # the path inside the container is not there yet
        changes.append(f"data={weakest.data or folder / NODE_FILE}")
    try:
        config = load_node(folder / NODE_FILE, changes, {"GOSSIPFL_MEMBER": weakest.name})
    except ConfigError as error:
        told = error.message.replace(str(folder), str(out))
        raise ConfigError(told, fix=f"{error.fix} Nothing was written.") from error
    for path in folder.iterdir():
        if path.stat().st_size > CONFIG_BYTES_MAX:
            raise ConfigError(
                f"{path.name}: is longer than the {CONFIG_BYTES_MAX} bytes of a config in Swarm",
                fix="Take fewer members or a smaller file. Nothing was written.",
            )
    hidden = [
        f"{member.data}: user 10001, who runs a node in the image, may not read it"
        for member in plan.members
        if member.data is not None and not member.data.stat().st_mode & 0o004
    ]
    return [*config.warnings(), *hidden]
