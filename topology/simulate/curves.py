"""Pictures of runs for a slide: learning curves, who learned how well, how fast models agree."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gossipfl.errors import ConfigError

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from topology.graphs.graph import Graph
    from topology.simulate.results import Kept

__all__ = ["SUFFIXES", "check_plots", "consensus", "has_plots", "learning", "map_of", "save"]

SUFFIXES: Final = (".png", ".svg", ".pdf")
COLORS: Final = ("#145f91", "#c1121f", "#2f7d32", "#8a5a00", "#6a3d9a", "#00838f", "#5d4037")
TEXT: Final = "#222222"
FAINT: Final = "#666666"
DPI: Final = 200
WIDE: Final = (9.0, 5.6)
SQUARE: Final = (8.0, 8.0)
BAND: Final = (10, 90)  # percent of the nodes between the band's edges
NODES_MAX: Final = 2000  # of a graph in a picture; beyond it is one spot

Floats = npt.NDArray[np.float64]


def has_plots() -> bool:
    """Say whether pictures can be drawn."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def check_plots() -> None:
    """Refuse to draw without matplotlib.

    Raises:
        ConfigError: it is not installed.
    """
    if not has_plots():
        raise ConfigError(
            "plots need matplotlib, which is not installed",
            fix="Install the extra: pip install 'gossipfl[plots]'.",
        )


def save(figure: "Figure", path: Path) -> None:
    """Write a picture; the same run gives the same file.

    Raises:
        ConfigError: the file cannot be written.
    """
    undated: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    try:
        figure.savefig(path, metadata=undated.get(path.suffix.lower()))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be written: {error.strerror}", fix="Name a folder you may write to."
        ) from error


def learning(runs: Sequence["Kept"], names: Sequence[str]) -> "Figure":
    """Return learning curves: the mean of the honest nodes, a band over them, the worst node."""
    figure, axes = _figure("How well the nodes do on held-out data", WIDE)
    measure = "accuracy" if all("accuracy" in run.columns for run in runs) else "held_out_loss"
    for run, name, color in zip(runs, names, _colors(len(runs)), strict=True):
        rounds, values = _by_round(run, measure)
        if not len(rounds):
            continue
        low, high = np.nanpercentile(values, BAND, axis=1)
        worst = np.nanmin(values, axis=1) if measure == "accuracy" else np.nanmax(values, axis=1)
        marker = "o" if len(rounds) == 1 else None
        axes.fill_between(rounds, low, high, color=color, alpha=0.18, linewidth=0)
        mean = np.nanmean(values, axis=1)
        axes.plot(rounds, mean, color=color, lw=2.2, marker=marker, label=name)
        axes.plot(rounds, worst, color=color, lw=1.0, ls="--", marker=marker)
    axes.set_xlabel("round")
    axes.set_ylabel("accuracy" if measure == "accuracy" else "loss on held-out data")
    if measure == "accuracy":
        axes.set_ylim(0, 1)
    note = (
        f"line: mean of the honest nodes · band: {BAND[0]} to {BAND[1]} % of them · dashed: worst"
    )
    _finish(figure, axes, note, names)
    return figure


def consensus(
    runs: Sequence["Kept"], names: Sequence[str], gaps: Sequence[float | None]
) -> "Figure":
    """Return how far the models are from their mean, beside what the graph alone predicts.

    The prediction is of the mean with Metropolis-Hastings weights while nobody trains or lies: each
    round multiplies the distance by at most 1 - spectral gap. Training pulls the models apart
    again, so the measured distance settles where the two hold each other.
    """
    figure, axes = _figure("How far the models are from their mean", WIDE)
    for run, name, gap, color in zip(runs, names, gaps, _colors(len(runs)), strict=True):
        rounds, values = _by_round(run, "consensus_distance")
        if not len(rounds):
            continue
        distance = np.sqrt(np.nanmean(values**2, axis=1))
        marker = "o" if len(rounds) == 1 else None
        axes.plot(rounds, distance, color=color, lw=2.2, marker=marker, label=name)
        start = float(distance[0])
        if gap is not None and 0 < gap < 1 and start > 0:
            floor = max(float(np.nanmin(distance)) / 30, start * 1e-6)
            line = start * (1 - gap) ** (rounds - rounds[0])
            kept = line >= floor
            axes.plot(rounds[kept], line[kept], color=color, lw=1.2, ls=":")
    axes.set_yscale("log" if _positive(axes) else "linear")
    axes.set_xlabel("round")
    axes.set_ylabel("root mean square distance")
    note = "line: measured · dotted: the mean's (1 - spectral gap) a round, while nobody trains"
    _finish(figure, axes, note, names)
    return figure


def map_of(run: "Kept", graph: "nx.Graph[int]", builder: "Graph | None") -> "Figure":
    """Return the graph, each node in the color of its last accuracy.

    Raises:
        ConfigError: too many nodes for a picture.
    """
    from matplotlib.collections import LineCollection

    from topology.graphs.erdos_renyi import ErdosRenyi
    from topology.layouts import layout

    if len(graph) > NODES_MAX:
        raise ConfigError(
            f"{len(graph):,} nodes are too many for a picture",
            fix=f"Draw graphs of at most {NODES_MAX:,} nodes.",
        )
    points = layout(graph, builder or ErdosRenyi(p=0))  # which has no shape of its own
    figure, axes = _figure("Who learned how well", SQUARE)
    axes.set_axis_off()
    axes.set_aspect("equal")
    edges = [(points[one], points[other]) for one, other in sorted(graph.edges)]
    alpha = max(0.05, min(0.8, 25 / math.sqrt(max(1, len(edges)))))
    axes.add_collection(LineCollection(edges, color="#8a94a0", lw=0.6, alpha=alpha, zorder=1))
    count = len(graph)
    measure = "accuracy" if "accuracy" in run.columns else "held_out_loss"
    last = [float("nan") if value is None else value for value in run.columns[measure][-count:]]
    honest = run.columns["honest"][-count:]
    size = max(6.0, min(600.0, 12000 / count))
    shown = [node for node in range(count) if honest[node]]
    marks = axes.scatter(
        [points[node][0] for node in shown],
        [points[node][1] for node in shown],
        c=[last[node] for node in shown],
        cmap="viridis",
        s=size,
        edgecolors="white",
        linewidths=0.5,
        zorder=2,
    )
    liars = [node for node in range(count) if not honest[node]]
    if liars:
        axes.scatter(
            [points[node][0] for node in liars],
            [points[node][1] for node in liars],
            c="#c1121f",
            marker="X",
            s=size,
            edgecolors="white",
            linewidths=0.5,
            zorder=3,
            label="liar",
        )
        axes.legend(loc="lower right", frameon=False, fontsize=10)
    bar = figure.colorbar(marks, ax=axes, shrink=0.6, pad=0.02)
    bar.set_label("accuracy on held-out data" if measure == "accuracy" else "held-out loss")
    _finish(figure, axes, f"{title_of(run.config)}, after round {run.columns['round'][-1] + 1}")
    return figure


def title_of(config: dict[str, Any]) -> str:
    """Return a run's name for people: `1000 nodes, ring, mean`."""
    topology = config["topology"]
    graph = topology if isinstance(topology, str) else topology["kind"]
    rule = config["mixing"]["kind"]
    b = config["mixing"].get("b")
    words = [f"{config['nodes']} nodes", graph, rule + (f" b = {b}" if b is not None else "")]
    if config["liars"]:
        lie = config["attack"]["kind"] if config["attack"] else "a fault script"
        count = len(config["liars"])
        words.append(f"{count} liar{'s' if count > 1 else ''}: {lie}")
    if config["partition"]:
        words.append(config["partition"]["kind"])
    return ", ".join(words)


def _by_round(run: "Kept", column: str) -> tuple[Floats, Floats]:
    """Return the measured rounds, from 1, and a column's honest figures, (rounds, nodes)."""
    count = int(run.config["nodes"])
    values = np.array(
        [math.nan if value is None else value for value in run.columns.get(column, [])], float
    ).reshape(-1, count)
    honest = np.array(run.columns.get("honest", []), bool).reshape(-1, count)
    rounds = np.array(run.columns.get("round", []), float).reshape(-1, count)
    if not len(values):
        return np.empty(0), np.empty((0, 0))
    kept = values[:, honest[0]]
    known = ~np.isnan(kept).all(axis=1)
    return rounds[known, 0] + 1, kept[known]


def _figure(title: str, inches: tuple[float, float]) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=inches, dpi=DPI, facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=15, fontweight="bold", color=TEXT, loc="left", pad=14)
    return figure, axes


def _finish(figure: "Figure", axes: "Axes", note: str, names: Sequence[str] = ()) -> None:
    """Say what there is to see: one run in the note below, several in a legend."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.axison:
        axes.grid(alpha=0.25, linewidth=0.6)
    if len(names) == 1:
        note = f"{names[0]}\n{note}"
    elif names:
        axes.legend(fontsize=9, facecolor="white", edgecolor="none", framealpha=0.9)
    figure.supxlabel(note, fontsize=9, color=FAINT)


def _positive(axes: "Axes") -> bool:
    lines = [np.asarray(line.get_ydata(), float) for line in axes.get_lines()]
    return bool(lines) and all(bool((line > 0).all()) for line in lines)


def _colors(count: int) -> list[str]:
    return [COLORS[place % len(COLORS)] for place in range(count)]
