"""`gossipfl evaluate`: what a saved model is worth on held-out data."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from node.output import Result
from node.verbs import AsJson

if TYPE_CHECKING:
    from node.chosen_task import ChosenTask

__all__ = ["evaluate"]


def evaluate(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="task.py, task.py:NameOfTheClass, a packaged task, a federation.toml or a "
            "node.toml.",
        ),
    ],
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A node's model.safetensors, from its store.")
    ],
    data: Annotated[Path | None, typer.Option(help="The member's own data.")] = None,
    member: Annotated[
        str | None, typer.Option(help="Whose data it is. [default: as the model's file says]")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the task: hidden=32"),
    ] = None,
    as_json: AsJson = False,
) -> Result:
    """Measure a saved model on the rows that its member held out: the figures the node reported.

    Seed and member, which decide what is held out, are in the model's file, and so is a mark of the
    rows: if --data leads to others, that is said. With --json, `data` holds task, model, member,
    seed, rounds, rows, held_out (whether its member held these rows out; null if the file does not
    say), measures and warnings.

    Example: gossipfl evaluate task.py north.state/model.safetensors --data north.csv
    """
    import contextlib
    import sys

    from node.chosen_task import choose

    chosen = choose(task, changes or [])
    with contextlib.redirect_stdout(sys.stderr):  # what a task prints is not the result
        found = _measured(chosen, model, data, member)
    return Result(found, _as_text(found))


def _measured(
    chosen: "ChosenTask", model: Path, data: Path | None, member: str | None
) -> dict[str, Any]:
    from gossipfl.learning import local
    from gossipfl.learning.saved_model import mark_of, read_model
    from gossipfl.learning.session import Session, blamed
    from gossipfl.learning.task import Place, load_task

    saved = read_model(model)
    said, names = dict(saved.metadata), chosen.members
    name = member or said.get("member") or chosen.member or "member"
    seed = saved.number("seed")
    index = names.index(name) if name in names else saved.number("index") or 0
    place = Place(
        data=data or chosen.data,
        member=name,
        index=index,
        members=max(len(names) or saved.number("members") or 1, index + 1),
        seed=seed if seed is not None else chosen.seed or 0,
    )
    session = Session(load_task(chosen.choice, chosen.folder), place)
    saved.load_into(session.model)
    rows = session.split.held_out
    with blamed(session.task, "measuring"):
        measures = dict(local.evaluate(session.task, session.model, rows))
    held_out = mark_of(rows) == said["held_out"] if "held_out" in said else None
    return {
        "task": session.task.kind,
        "model": model,
        "member": name,
        "seed": place.seed,
        "rounds": saved.number("rounds"),
        "rows": len(rows),
        "data": place.data,
        "held_out": held_out,
        "measures": measures,
        "warnings": _warnings(chosen.federation, said, name, held_out=held_out),
    }


def _as_text(found: dict[str, Any]) -> str:
    after = "" if found["rounds"] is None else f" after {found['rounds']} rounds"
    measures = found["measures"]
    width = max(map(len, measures))
    return "\n".join(
        [
            f"{found['model']}{after}, on {found['rows']} rows {_whose(found)}:",
            *(
                f"  {name:<{width}}  {'nothing' if value is None else f'{value:.4f}'}"
                for name, value in measures.items()
            ),
            *(f"Warning: {warning}" for warning in found["warnings"]),
        ]
    )


def _whose(found: dict[str, Any]) -> str:
    if found["held_out"]:
        return f"that {found['member']} held out"
    return f"of {found['data']}" if found["data"] else f"of {found['member']}"


def _warnings(
    federation: str | None, said: dict[str, str], member: str, *, held_out: bool | None
) -> list[str]:
    found = []
    if held_out is None:
        found.append(
            "the file does not say which rows were held out, so these may be rows it was trained on"
        )
    elif not held_out:
        whose = said.get("member", "its member")
        found.append(
            f"these are not the rows that {whose} held out; some may be rows it was trained on"
        )
    if federation is not None and said.get("federation", federation) != federation:
        found.append("the model was learned in another federation, or under other settings")
    if said.get("member", member) != member:
        found.append(f"the model is {said['member']}'s, not {member}'s")
    return found
