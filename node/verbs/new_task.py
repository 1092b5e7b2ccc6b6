"""`gossipfl new task`: a commented task to start from, for a CSV file and a small network."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.output import Result
from node.task_template import AMOUNT, CLASSES, SICK, TASK, YES_NO
from node.verbs import AsJson

if TYPE_CHECKING:
    from gossipfl.learning.table import CsvFile, Decimal

__all__ = ["new_task"]

CLASSES_MAX = 20  # distinct whole numbers or texts that still are classes, not amounts
TEXT_LIMIT = 100  # columns listed by name in a comment
CELL_CHARS_MAX = 20  # of one that says why a column is left out
MIDDLE_DIGITS = 2  # it fills in what is missing: 30 for 27 would be another patient
SPREAD_DIGITS = 1  # enough to scale by, and little of anybody's data
NO_WORDS = frozenset(
    ("no", "n", "false", "f", "nein", "non", "nej", "nee", "negative", "neg", "negativ", "healthy")
)
"""Texts, in small letters, that are the 0 of two; otherwise it is the first by the alphabet."""

EXAMPLE = {"age": (50.0, 10.0), "pressure": (130.0, 20.0), "chol": (200.0, 50.0)}
"""The columns of a task that is written without --data; `gossipfl new data` makes such files."""
EXAMPLE_TARGET = "sick"


@dataclass(frozen=True)
class Known:
    """What a data file tells: its columns with middle and spread, and what its target is.

    Attributes:
        extra: lines of the task that say more of its target.
        left_out: the columns that are no inputs, each with the reason.
        without_target: how many rows lack it.
    """

    columns: dict[str, tuple[float, float]]
    kind: dict[str, str]
    extra: str = ""
    decimal: "Decimal" = "."
    left_out: tuple[tuple[str, str], ...] = ()
    without_target: int = 0


def new_task(
    out: Annotated[Path, typer.Option(help="The file to write; - prints it instead.")] = Path(
        "task.py"
    ),
    data: Annotated[
        Path | None, typer.Option(help="A CSV file with a header, to take the columns from.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="With --data: the heading of the column to predict.")
    ] = None,
    as_json: AsJson = False,
) -> Result:
    """Write a commented task to start from: a CSV file and a small network.

    With --data, the task has that file's headings and, to scale each column, its middle, rounded to
    two digits, and its spread, rounded to one. The task is copied to all members, and these figures
    with it. Decimal commas are recognized. Columns that hold no numbers are left out, and named.

    With --json, `data` holds file, python, columns, decimal and left_out.

    Example: gossipfl new task --data patients.csv --target sick
    """
    from gossipfl.errors import ConfigError

    if (data is None) != (target is None):
        raise ConfigError(
            "--data and --target go together",
            fix="Say which column is to be predicted: --data patients.csv --target sick",
        )
    if out.suffix != ".py" and str(out) != "-":
        raise ConfigError(f"{out}: a task is a Python file", fix=f"Write --out {out.stem}.py.")
    if data is None or target is None:
        known, target = Known(EXAMPLE, SICK), EXAMPLE_TARGET
    else:
        from gossipfl.learning.table import CsvFile

        known = _known(CsvFile(data), target)
    text = _written(known, out, data, target)
    steps = _steps(known, out, data)
    said = {
        "file": None if str(out) == "-" else str(out),
        "python": text,
        "columns": {name: list(pair) for name, pair in known.columns.items()},
        "decimal": known.decimal,
        "left_out": [{"column": name, "why": why} for name, why in known.left_out],
    }
    if str(out) == "-":
        return Result(said, text.rstrip("\n"))
    from node.verbs.new import write_new

    write_new(out, text)
    return Result(said, f"Wrote {out}.\n\n{steps}")


def _known(file: "CsvFile", target: str) -> Known:
    """Read what a task needs to know of a file.

    Raises:
        TaskError, ConfigError: the file cannot be read, or has nothing to learn from.
    """
    from gossipfl.errors import ConfigError
    from gossipfl.learning.table import MISSING_WORDS

    place = file.place(target)
    rows = [row for _, row in file.rows()]
    filled = [
        [row[i] for row in rows if row[i].lower() not in MISSING_WORDS]
        for i in range(len(file.header))
    ]
    decimal = _decimal(filled)
    columns, left_out = {}, []
    for i, name in enumerate(file.header):
        if i == place:
            continue
        figures = _figures(filled[i], decimal)
        if figures is not None:
            columns[name] = figures
        else:
            left_out.append((name, _why(filled[i], decimal)))
    if not columns:
        listed = "; ".join(f"{name}: {why}" for name, why in left_out[:TEXT_LIMIT])
        raise ConfigError(
            f"{file.path}: no column beside {target} holds numbers" + (listed and f" ({listed})"),
            fix="Code texts as numbers first: a task computes with numbers.",
        )
    kind, extra = _outcome(filled[place], file.path, target, decimal)
    without = len(rows) - len(filled[place])
    return Known(columns, kind, extra, decimal, tuple(left_out), without)


def _decimal(columns: Sequence[Sequence[str]]) -> "Decimal":
    """Tell what stands before the tenths: the mark with which more columns with tenths are numbers.

    Marks between thousands count: where 1.234,5 stands, nobody writes 1.5.
    """
    from gossipfl.learning.table import Decimal, number, without_thousands

    def written_with(mark: Decimal, cells: Sequence[str]) -> bool:
        return any(mark in cell for cell in cells) and all(
            number(without_thousands(cell, mark) or cell, mark) is not None for cell in cells
        )

    commas = sum(written_with(",", cells) for cells in columns)
    points = sum(written_with(".", cells) for cells in columns)
    return "," if commas and commas >= points else "."


def _why(cells: Sequence[str], decimal: "Decimal") -> str:
    """Say why a column is none of numbers."""
    from gossipfl.learning.table import number, without_thousands

    odd = next((cell for cell in cells if number(cell, decimal) is None), None)
    if odd is None:
        return "it is empty"
    shown = odd if len(odd) <= CELL_CHARS_MAX else odd[: CELL_CHARS_MAX - 1] + "…"
    other: Decimal = "." if decimal == "," else ","
    if any(without_thousands(odd, mark) is not None for mark in (decimal, other)):
        return f"{shown!r} has a mark between its thousands"
    if number(odd, other) is not None:
        mark = {".": "point", ",": "comma"}
        return f"{shown!r} has a decimal {mark[other]}, other columns a {mark[decimal]}"
    return f"{shown!r} is no number"


def _outcome(
    cells: list[str], path: Path, target: str, decimal: "Decimal"
) -> tuple[dict[str, str], str]:
    """Tell what a target column is: 0 and 1, two texts, some classes, or an amount."""
    from gossipfl.errors import ConfigError
    from gossipfl.learning.table import number

    found = sorted(set(cells))
    if len(found) < 2:
        raise ConfigError(
            f"{path}: {target} has {len(found)} different values: there is nothing to learn",
            fix="Name the column to be predicted with --target.",
        )
    values = [number(cell, decimal) for cell in found]
    numbers = sorted({value for value in values if value is not None})
    if None in values:
        numbers = []
    if numbers == [0.0, 1.0]:
        return SICK, ""
    if numbers and (len(numbers) > CLASSES_MAX or any(not n.is_integer() for n in numbers)):
        middle, spread = _figures(cells, decimal) or (0.0, 1.0)
        shown = f"({_digits(middle)}, {_digits(spread)})"
        return AMOUNT, f"TARGET = {shown}  # of {_comment(target)}: what becomes 0, and 1 more\n"
    if len(found) > CLASSES_MAX:
        raise ConfigError(
            f"{path}: {target} has {len(found)} different texts, too many for classes",
            fix="Name the column to be predicted with --target.",
        )
    if not numbers and len(found) == 2:
        first, second = sorted(found, key=lambda text: text.lower() not in NO_WORDS)
        return YES_NO, (
            "# What the target may be: what becomes 0, and what becomes 1.\n"
            f"CLASSES = [{_quoted(first)}, {_quoted(second)}]\n"
        )
    classes = [int(n) for n in numbers] if numbers else found
    listed = "\n".join(f"    {_quoted(item)}," for item in classes)
    return CLASSES, (
        "# What the target may be. Other members' files may have more of them: add those.\n"
        f"CLASSES = [\n{listed}\n]\n"
    )


def _figures(cells: Sequence[str], decimal: "Decimal") -> tuple[float, float] | None:
    """Return middle and spread of a column, rounded, None if it is no column of numbers."""
    import numpy as np

    from gossipfl.learning.table import number

    values = [number(cell, decimal) for cell in cells]
    if not values or None in values:
        return None
    array = np.array(values, np.float64)
    spread = _rounded(float(array.std()), SPREAD_DIGITS)
    return _rounded(float(np.median(array)), MIDDLE_DIGITS), spread if spread > 0 else 1.0


def _rounded(value: float, digits: int) -> float:
    """Round to so many significant digits."""
    return float(f"{value:.{digits - 1}e}")


def _digits(value: float) -> str:
    return repr(int(value) if value.is_integer() and abs(value) < 1e15 else value)


def _quoted(value: object) -> str:
    """Return a Python literal with double quotes, as formatters write it."""
    import json

    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def _comment(text: str) -> str:
    """Return a heading as a comment may hold it: on one line."""
    return " ".join(text.split())


def _written(known: Known, out: Path, data: Path | None, target: str) -> str:
    origin = ""
    if data is not None:
        origin = (
            "# They are the middle and the spread of one member's file, rounded to two digits and "
            "to one.\n# Everybody gets this file: put in figures from a textbook if that says too "
            "much.\n"
        )
    if known.left_out:
        names = ", ".join(_comment(name) for name, _ in known.left_out[:TEXT_LIMIT])
        origin += f"# Left out, as they hold no numbers: {names}\n"
    columns = "".join(
        f"    {_quoted(name)}: ({_digits(middle)}, {_digits(spread)}),\n"
        for name, (middle, spread) in known.columns.items()
    )
    quoted = _quoted(target)
    options = known.kind["options"] + (', decimal=","' if known.decimal == "," else "")
    fields = {
        **known.kind,
        "options": options,
        "word": _comment(target),
        "title": "What is learned: a small network on the columns of a CSV file.",
        "file": "task.py" if str(out) == "-" else out.name,
        "data": "YOUR.csv" if data is None else data.name,
        "origin": origin,
        "columns": columns,
        "extra": known.extra,
    }
    return TASK.replace('"{target}"', "{target}").format(**fields, target=quoted)


def _steps(known: Known, out: Path, data: Path | None) -> str:
    lines = []
    if data is not None:
        lines += _notes(known, out, data)
    else:
        headings = ", ".join([*known.columns, EXAMPLE_TARGET])
        lines += [
            f"It is for a CSV file with the columns {headings}.",
            "`gossipfl new data north south east` invents three such files to try it with;",
            "`gossipfl new task --data YOUR.csv --target COLUMN` writes it for your own columns.",
            "",
        ]
    lines += [
        "Next:",
        f"  1. gossipfl check {out} --data {data or 'north.csv'}",
        f"  2. gossipfl new federation --task {out.name} --b 0",
        f"  3. Copy {out.name} to every machine, beside federation.toml.",
    ]
    return "\n".join(lines)


def _notes(known: Known, out: Path, data: Path) -> list[str]:
    """Say what of a file is in the task, and what is not."""
    lines = []
    if known.left_out:
        lines.append("Left out, as a task computes with numbers:")
        lines += [f"  {_comment(name)}: {why}" for name, why in known.left_out]
        lines.append("")
    if known.without_target:
        many = known.without_target
        rows = "1 row lacks" if many == 1 else f"{many} rows lack"
        lines += [f"{rows} the target and will be left out.", ""]
    if known.decimal == ",":
        lines += ["Its decimals stand behind a comma. Write every member's file so.", ""]
    classes = ", and the classes of its target" if "CLASSES" in known.extra else ""
    return [
        *lines,
        f"Note: {out} holds the headings of {data} and, for each column, its middle, rounded",
        f"to two digits, and its spread, rounded to one{classes}.",
        "Every member gets that file. Look at it before you hand it on, and take out columns that",
        "only number the rows.",
        "",
    ]
