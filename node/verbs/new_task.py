"""`gossipfl new task`: a commented task to start from, for a CSV file and a small network."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from node.output import Result
from node.verbs import AsJson

if TYPE_CHECKING:
    from gossipfl.learning.table import CsvFile

__all__ = ["new_task"]

CLASSES_MAX = 20  # distinct whole numbers or texts that still are classes, not amounts
TEXT_LIMIT = 100  # columns listed by name in a comment

EXAMPLE = {"age": (50.0, 10.0), "pressure": (130.0, 20.0), "chol": (200.0, 50.0)}
"""The columns of a task that is written without --data; `gossipfl new data` makes such files."""
EXAMPLE_TARGET = "sick"

TASK = '''\
"""{title}

This file is the same on every machine: members whose files differ refuse each other.
Try it with `gossipfl check {file} --data {data}`.
"""

from torch import nn
from torch.nn.functional import {loss}

from gossipfl.learning import {imports}

# The inputs: heading in the CSV file, and the number that becomes 0 and the step that becomes 1.
{origin}COLUMNS = {{
{columns}}}
{extra}

class {name}(Task):
    # One round of a node: so many passes over its own rows, in steps of so many rows.
    # federation.toml may set them too: [task] kind = "{file}", epochs = 5
    epochs: int = 2
    batch_size: int = 32
    learning_rate: float = 0.1

    def model(self):
        """What is learned; all members start from the same one."""
        return nn.Sequential(
            Scale(COLUMNS.values()), nn.Linear(len(COLUMNS), 16), nn.ReLU(), nn.Linear(16, {width})
        )

    def data(self, place):
        """This machine's own rows; place.data is `data` of node.toml. A quarter is held out."""
        middles = {{heading: middle for heading, (middle, _) in COLUMNS.items()}}
        rows = read_table(place.data, target="{target}", columns=COLUMNS, missing=middles{classes})
        return hold_out(rows, place)

    def loss(self, model, inputs, targets):
        """How wrong the model is on a batch: one number to make smaller."""
        {loss_line}

    def measures(self, model, inputs, targets):
        """What people want to know, on the rows held out."""
{measures}
'''

SICK = {
    "loss": "binary_cross_entropy_with_logits",
    "imports": "Scale, Task, accuracy, auc, hold_out, read_table",
    "width": "1",
    "loss_line": "return binary_cross_entropy_with_logits(model(inputs).squeeze(1), targets)",
    "measures": """\
        scores = model(inputs).squeeze(1)  # above 0: more likely 1 than 0
        return {"accuracy": accuracy(scores > 0, targets > 0), "auc": auc(scores, targets)}""",
    "classes": "",
}
CLASSES = {
    "loss": "cross_entropy",
    "imports": "Scale, Task, accuracy, hold_out, read_table",
    "width": "len(CLASSES)",
    "loss_line": "return cross_entropy(model(inputs), targets)",
    "measures": """\
        return {"accuracy": accuracy(model(inputs).argmax(1), targets)}""",
    "classes": ", classes=CLASSES",
}
AMOUNT = {
    "loss": "mse_loss",
    "imports": "Scale, Task, hold_out, read_table",
    "width": "1",
    "loss_line": """\
middle, spread = TARGET
        return mse_loss(model(inputs).squeeze(1), (targets - middle) / spread)""",
    "measures": """\
        middle, spread = TARGET
        wrong = model(inputs).squeeze(1) * spread + middle - targets
        return {"mean_error": float(wrong.abs().mean())}""",
    "classes": "",
}


@dataclass(frozen=True)
class Known:
    """What a data file tells: its columns with middle and spread, and what its target is."""

    columns: dict[str, tuple[float, float]]
    kind: dict[str, str]
    extra: str = ""
    left_out: tuple[str, ...] = ()


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

    With --data, the task has that file's headings and, to scale each column, its middle and spread
    rounded to one digit. The task is copied to all members, and these figures with it.

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
        "left_out": list(known.left_out),
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
    columns, left_out = {}, []
    for i, name in enumerate(file.header):
        figures = _figures(filled[i])
        if i != place and figures is not None:
            columns[name] = figures
        elif i != place:
            left_out.append(name)
    if not columns:
        raise ConfigError(
            f"{file.path}: no column beside {target} holds numbers",
            fix="Code texts as numbers first: a task computes with numbers.",
        )
    kind, extra = _outcome(filled[place], file.path, target)
    return Known(columns, kind, extra, tuple(left_out))


def _outcome(cells: list[str], path: Path, target: str) -> tuple[dict[str, str], str]:
    """Tell what a target column is: 0 and 1, some classes, or an amount."""
    from gossipfl.errors import ConfigError
    from gossipfl.learning.table import is_number

    found = sorted(set(cells))
    if len(found) < 2:
        raise ConfigError(
            f"{path}: {target} has {len(found)} different values: there is nothing to learn",
            fix="Name the column to be predicted with --target.",
        )
    numbers = sorted({float(cell) for cell in found}) if all(map(is_number, found)) else []
    if numbers == [0.0, 1.0]:
        return SICK, ""
    if numbers and (len(numbers) > CLASSES_MAX or any(not n.is_integer() for n in numbers)):
        middle, spread = _figures(cells) or (0.0, 1.0)
        shown = f"({_digits(middle)}, {_digits(spread)})"
        return AMOUNT, f"TARGET = {shown}  # of {_comment(target)}: what becomes 0, and 1 more\n"
    if len(found) > CLASSES_MAX:
        raise ConfigError(
            f"{path}: {target} has {len(found)} different texts, too many for classes",
            fix="Name the column to be predicted with --target.",
        )
    classes = [int(n) for n in numbers] if numbers else found
    listed = "\n".join(f"    {_quoted(item)}," for item in classes)
    return CLASSES, (
        "# What the target may be. Other members' files may have more of them: add those.\n"
        f"CLASSES = [\n{listed}\n]\n"
    )


def _figures(cells: list[str]) -> tuple[float, float] | None:
    """Return middle and spread of a column to one digit, None if it is no column of numbers."""
    import numpy as np

    from gossipfl.learning.table import is_number

    if not cells or not all(map(is_number, cells)):
        return None
    values = np.array(cells, np.float64)
    spread = _rounded(float(values.std()))
    return _rounded(float(np.median(values))), spread if spread > 0 else 1.0


def _rounded(value: float) -> float:
    """Round to one significant digit: enough to scale by, and little of anybody's data."""
    return float(f"{value:.0e}")


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
            "# They are the middle and the spread of one member's file, rounded to one digit. "
            "Everybody\n# gets this file: put in figures from a textbook if that says too much.\n"
        )
    if known.left_out:
        names = ", ".join(map(_comment, known.left_out[:TEXT_LIMIT]))
        origin += f"# Left out, as they hold no numbers: {names}\n"
    columns = "".join(
        f"    {_quoted(name)}: ({_digits(middle)}, {_digits(spread)}),\n"
        for name, (middle, spread) in known.columns.items()
    )
    quoted = _quoted(target)
    fields = {
        **known.kind,
        "title": "What is learned: a small network on the columns of a CSV file.",
        "file": "task.py" if str(out) == "-" else out.name,
        "data": "YOUR.csv" if data is None else data.name,
        "name": "Mine" if data is not None else "Patients",
        "origin": origin,
        "columns": columns,
        "extra": known.extra,
    }
    return TASK.replace('"{target}"', "{target}").format(**fields, target=quoted)


def _steps(known: Known, out: Path, data: Path | None) -> str:
    lines = []
    if data is not None:
        lines += [
            f"Note: {out} holds the headings of {data} and, for each column, its middle and",
            "spread rounded to one digit"
            + (", and the classes of its target" if known.kind is CLASSES else "")
            + ". Every member gets that file. Look at it before",
            "you hand it on, and take out columns that only number the rows.",
            "",
        ]
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
