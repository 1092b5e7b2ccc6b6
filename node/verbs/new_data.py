"""`gossipfl new data`: invented CSV files, to try a task without data of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from node.output import Result
from node.verbs import AsJson

__all__ = ["new_data"]

ROWS = 300  # a hospital's worth; a pass takes milliseconds
OLDER_YEARS = 8.0  # between two members' patients: alone, each has seen half of the picture


def new_data(
    members: Annotated[
        list[str], typer.Argument(metavar="MEMBER...", help="A file MEMBER.csv for each.")
    ],
    rows: Annotated[int, typer.Option(min=2, help="Patients in each file.")] = ROWS,
    seed: Annotated[int, typer.Option(min=0, help="Other numbers, other patients.")] = 0,
    out: Annotated[Path, typer.Option(help="The directory to write to.")] = Path(),
    as_json: AsJson = False,
) -> Result:
    """Invent a CSV file of patients for each member, for the task that `gossipfl new task` writes.

    Nobody's data: ages, blood pressures and cholesterol values drawn at random, and a rule with
    some chance in it that says who is sick. Each member's patients are older than the one's before.

    Example: gossipfl new data north south east
    """
    import re

    from gossipfl.errors import ConfigError
    from gossipfl.federation import NAME
    from node.verbs.new import write_new

    for name in members:
        if not re.fullmatch(NAME, name):
            raise ConfigError(
                f"{name!r} is no member's name",
                fix="Use letters, digits, dots, - and _, with a letter or digit first.",
            )
    files = [out / f"{name}.csv" for name in members]
    if taken := [str(file) for file in files if file.exists()]:
        raise ConfigError(
            f"{', '.join(taken)}: there already, and not overwritten",
            fix="Name other members or another directory with --out, or move them away first.",
        )
    if doubled := {name for name in members if members.count(name) > 1}:
        raise ConfigError(f"{', '.join(doubled)}: named twice", fix="Name each member once.")
    for place, (name, file) in enumerate(zip(members, files, strict=True)):
        write_new(file, _patients(name, place - (len(members) - 1) / 2, rows, seed))
    shown = ", ".join(map(str, files))
    return Result(
        {"files": list(map(str, files)), "rows": rows},
        f"Wrote {shown}: {rows} invented patients each.",
    )


def _patients(name: str, place: float, rows: int, seed: int) -> str:
    """Return one member's file; `place` says how much older its patients are."""
    import numpy as np

    from gossipfl.streams import stream

    draw = stream(seed, name, "new-data")
    age = draw.normal(50 + OLDER_YEARS * place, 10, rows).clip(18, 95)
    pressure = draw.normal(130, 20, rows).clip(80, 220)
    chol = draw.normal(210, 45, rows).clip(100, 420)
    risk = (age - 50) / 10 + np.abs(pressure - 125) / 15 + (chol - 210) / 90 - 1.2
    sick = draw.random(rows) < 1 / (1 + np.exp(-2.5 * risk))
    lines = [
        f"{one:.1f},{two:.0f},{three:.0f},{int(ill)}"
        for one, two, three, ill in zip(age, pressure, chol, sick, strict=True)
    ]
    return "\n".join(["age,pressure,chol,sick", *lines, ""])
