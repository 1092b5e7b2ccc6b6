"""What `gossipfl simulate` is told: a file, the command line over it, checked."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from gossipfl.errors import ConfigError
from gossipfl.family_file import spelled_member
from gossipfl.learning.device import available, choose
from gossipfl.learning.task import load_task
from gossipfl.learning.task_source import is_file
from node.tables import Problems, read_toml, validated
from topology.graphs.graph import load_graph
from topology.simulate.experiment import Experiment
from topology.simulate.run import Options
from topology.simulate.run import experiment_of as put_together

__all__ = ["Settings", "experiment_of", "settings_of"]

ONLY_REAL: Final = ("name", "pace", "test")  # of a federation.toml: nothing a simulation needs


class Settings(BaseModel):
    """All that `simulate` can be told, in one file or on the command line."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    task: str | dict[str, Any] = Field(description='what is learned: "digits", "task.py"')
    topology: str | dict[str, Any] = Field(description='who is whose neighbor: "ring"')
    mixing: str | dict[str, Any] = Field(description='how models are mixed: "mean"')
    byzantine: int | None = Field(None, ge=0, description="the rule's b")
    attack: str | dict[str, Any] | None = Field(None, description='what liars say: "bit-flip"')
    liars: int | str | list[str] | None = Field(None, description="how many lie, or their names")
    partition: str | dict[str, Any] | None = Field(None, description='how data is dealt: "iid"')
    nodes: int | None = Field(None, description="how many nodes, at least 2")
    members: list[str] | None = Field(None, description="the nodes' names")
    rounds: int = Field(20, description="how many rounds, at least 1")
    seed: int = Field(0, ge=0, le=2**63 - 1, description="a whole number from 0")
    engine: str = Field("vectorized", description='"vectorized" or "protocol"')
    faults: Path | None = Field(None, description="a fault script, for the engine protocol")
    device: str = Field("cpu", description='"cpu", "auto" or "cuda"')
    data: Path | dict[str, Path] | None = Field(None, description="a path, or one by member")
    measure_every: int = Field(1, ge=1, description="rounds from one measurement to the next")
    folder: Path = Field(exclude=True)
    """What paths in it are relative to."""


def settings_of(file: Path | None, flags: Mapping[str, Any]) -> Settings:
    """Read a file, if there is one, and put what the command line says over it.

    Raises:
        ConfigError: with everything that is wrong.
    """
    problems = Problems()
    table: dict[str, Any] = {}
    folder = Path.cwd()
    if file is not None:
        folder = file.absolute().parent
        table = read_toml(file, problems) or {}
        problems.tell()
        for key in ONLY_REAL:
            table.pop(key, None)
        if any(isinstance(row, dict) for row in table.get("members", [])):
            table["members"] = [str(row.get("name")) for row in table["members"]]
        for key in ("task", "topology", "data", "faults"):
            if key in table and key not in flags:
                table[key] = _anchored(key, table[key], folder)
        if "nodes" in flags or "topology" in flags:
            table.pop("members", None)
    table |= flags
    missing = [key for key in ("task", "topology", "mixing") if key not in table]
    if missing:
        raise ConfigError(
            "nothing says " + " and ".join(f"--{key}" for key in missing),
            fix="For example: gossipfl simulate --task digits --nodes 16 --topology ring "
            "--mixing mean.",
        )
    where = str(file) if file is not None else "simulate"
    settings = validated(Settings, {**table, "folder": folder}, where, problems)
    problems.tell()
    assert settings is not None
    return settings


def _anchored(key: str, value: object, folder: Path) -> object:
    """Make a file's own paths independent of the working directory."""
    match key, value:
        case "data" | "faults", str():
            return folder / Path(value).expanduser()
        case "data", dict():
            return {name: folder / Path(str(path)).expanduser() for name, path in value.items()}
        case "task", str() if is_file(value):
            return str(folder / Path(value).expanduser())
        case "task", dict() if is_file(value.get("kind")):
            return {**value, "kind": str(folder / Path(str(value["kind"])).expanduser())}
        case "topology", dict():
            return load_graph(value, folder).model_dump(mode="json", exclude_none=True)
    return value


def experiment_of(settings: Settings) -> Experiment:
    """Put together what is simulated.

    Raises:
        ConfigError: what does not fit together.
        TaskError: the task's file is wrong.
    """
    task: object = settings.task
    if isinstance(task, dict) and is_file(task.get("kind")):
        task = load_task(task)
    mixing = (
        spelled_member(settings.mixing) if isinstance(settings.mixing, str) else settings.mixing
    )
    if settings.byzantine is not None:
        mixing = {name: value for name, value in mixing.items() if name}
        mixing["b"] = settings.byzantine
    options: Options = {
        "nodes": settings.nodes,
        "names": settings.members,
        "liars": _liars(settings.liars),
        "partition": settings.partition,
        "rounds": settings.rounds,
        "seed": settings.seed,
        "engine": settings.engine,
        "device": choose(settings.device, available()),
        "data": settings.data,
        "measure_every": settings.measure_every,
    }
    if settings.faults is not None and settings.engine != "protocol":
        raise ConfigError(
            "faults: the vectorized engine has no messages to lose",
            fix="Add --engine protocol.",
        )
    return put_together(settings.topology, task, mixing, settings.attack, options)


def _liars(wanted: int | str | list[str] | None) -> int | list[str] | None:
    if not isinstance(wanted, str):
        return wanted
    if wanted.strip().isdecimal():
        return int(wanted)
    return [name.strip() for name in wanted.split(",") if name.strip()]
