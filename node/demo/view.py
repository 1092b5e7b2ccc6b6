"""What a person sees of the demo: bars and numbers while it runs, one table at its end."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from gossipfl.types import Seconds
from node.output import is_plain

__all__ = ["HospitalLine", "Screen", "final_page"]

_LINES_EVERY: Seconds = 2.0  # between two progress lines in a file or a pipe


@dataclass(frozen=True, slots=True)
class HospitalLine:
    """One hospital at one moment; None where nothing is known yet.

    Attributes:
        accuracy: on its own held-out patients, in [0, 1].
        accepted: updates of its neighbors that it accepted.
        refused: messages of its neighbors that it refused.
    """

    name: str
    round: int
    accuracy: float | None
    accepted: int | None = None
    refused: int | None = None
    lies: bool = False


class Screen:
    """Progress on stderr: a bar that redraws itself, or plain lines where nobody can redraw."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._plain = is_plain(sys.stderr)
        self._began = time.monotonic()
        self._said = -_LINES_EVERY
        self._live: Live | None = None
        self._progress: Progress | None = None
        self._task = TaskID(0)

    def seed(self, seed: int, count: int) -> None:
        """Say which split of the patients comes next, if there are several."""
        if count > 1:
            self._say(f"Split {seed}")

    @contextmanager
    def act(self, title: str, rounds: int) -> Iterator[None]:
        """Show one act while it runs."""
        self._say(title)
        progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            console=self._console,
        )
        if self._plain:
            yield
            return
        self._task = progress.add_task("  rounds", total=rounds)
        with Live(progress, console=self._console, refresh_per_second=8) as live:
            self._live, self._progress = live, progress
            try:
                yield
            finally:
                self._live = None

    def update(self, lines: Sequence[HospitalLine]) -> None:
        """Show where the hospitals are now."""
        done = min((line.round for line in lines), default=0)
        if self._live is not None and self._progress is not None:
            self._progress.update(self._task, completed=done)
            self._live.update(Group(self._progress, _table(lines)))
            return
        now = time.monotonic()
        if now - self._said >= _LINES_EVERY:
            self._said = now
            numbers = ", ".join(f"{line.name} {_percent(line.accuracy)}" for line in lines)
            self._say(f"  round {done}: {numbers}")

    def _say(self, text: str) -> None:
        if self._plain:
            elapsed = time.monotonic() - self._began
            sys.stderr.write(f"[{elapsed:5.1f} s] {text}\n")
            sys.stderr.flush()
        else:
            self._console.print(text, highlight=False)


def _table(lines: Sequence[HospitalLine]) -> Table:
    table = Table("hospital", box=None, header_style="dim")
    for title in ("round", "right, own patients", "updates in", "refused"):
        table.add_column(title, justify="right")
    for line in lines:
        table.add_row(
            f"{line.name} (lies)" if line.lies else line.name,
            str(line.round),
            _percent(line.accuracy),
            "-" if line.accepted is None else str(line.accepted),
            "-" if line.refused is None else str(line.refused),
        )
    return table


def final_page(
    rows: Mapping[str, Mapping[str, float | None]],
    sizes: Mapping[str, int],
    sentences: Sequence[str],
    data: Mapping[str, Any],
) -> object:
    """Return the end of the demo: one table, a sentence for each hospital, where the files are.

    Args:
        rows: by hospital and by "mean" and "worst", accuracy in [0, 1] by column: `alone`,
            `together`, `liar`, `pooled`, `own_alone`, `own_together`; None shows as a dash.
        sizes: patients by hospital.
        sentences: one for each hospital.
        data: the report.
    """
    liar = data["liar"]
    table = Table(
        title="Right out of 100 patients that no model has seen",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("\nlearned at")
    for title in (
        "\npatients",
        "\nalone",
        "\ntogether",
        "one\nlies",
        "all data\npooled",
        "own:\nalone",
        "own:\ntogether",
    ):
        table.add_column(title, justify="right")
    columns = ("alone", "together", "liar", "pooled", "own_alone", "own_together")
    for name, row in rows.items():
        if name == "mean":
            table.add_section()
        size = str(sizes[name]) if name in sizes else ""
        table.add_row(name, size, *(_percent(row.get(column)) for column in columns))
    seeds = len(data["seeds"])
    notes = [
        "Held-out patients of all four hospitals; own: those of that hospital alone.",
        f"Who lies is {liar} ({data['attack']}), and is in no figure of that column.",
        "Pooled is a yardstick: nobody may do it.",
        "One split of the patients." if seeds == 1 else f"Mean of {seeds} splits of the patients.",
        "",
        *sentences,
        "",
        f"{data['seconds']:.0f} s. Models, report.json and logs: {data['out']}",
    ]
    return Group(table, *(Text(note) for note in notes))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
