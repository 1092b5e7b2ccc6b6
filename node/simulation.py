"""What `gossipfl simulate` does: read what is wanted, say what to expect, run, keep, tell.

It needs torch, as a worker does; no daemon imports it.
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gossipfl.errors import ConfigError
from node.output import ExitCode, Result, is_plain
from node.simulation_settings import Settings
from topology.analysis import bound_of, byzantine_bound
from topology.facts import Facts, examine
from topology.simulate import curves
from topology.simulate.estimate import available_bytes, check_memory
from topology.simulate.experiment import Experiment, Made, built
from topology.simulate.results import Kept, Results, has_parquet, read_run
from topology.simulate.run import Progress, Run, needs, vectorized
from topology.simulate.vectorized import Vectorized

__all__ = ["graph_of", "run_by_protocol", "run_vectorized"]

RUNS: Final = Path("runs")  # where runs go that were given no folder
EXAMINED_MAX: Final = 20_000  # nodes; beyond, the graph's eigenvalues take longer than the run
LINES_EVERY: Final = 2.0  # seconds between two progress lines in a file or a pipe


def run_vectorized(
    experiment: Experiment, settings: Settings, out: Path | None, *, plots: bool
) -> Result | ExitCode:
    """Run all nodes in one tensor.

    Raises:
        ConfigError, TaskError, StoreError: see `topology.simulate`.
    """
    need = needs(experiment, settings.measure_every)
    check_memory(need, available_bytes())
    facts = _facts(experiment)
    results = _results(experiment, settings, out)
    _say(*_report(experiment, facts))
    with Vectorized(experiment) as simulation:
        run = results.resume(simulation) if results.unfinished else None
        a_round = simulation.rehearse(time.perf_counter)
        begun = run.rounds_done if run else 0
        _say(
            f"  trains {simulation.ways.train.name}",
            f"  takes about {_duration(a_round * (experiment.rounds - begun))} and "
            f"{need.total / 1e9:.1f} GB, and the data",
            *([f"  goes on after round {begun}"] if begun else []),
        )
        with _bar(experiment) as show:
            run = vectorized(
                simulation,
                every=settings.measure_every,
                progress=show,
                run=run,
                keep=lambda run: results.write(run, simulation),
            )
        if run.rounds_done < experiment.rounds:
            results.write(run, simulation)
            _say(
                f"Stopped after round {run.rounds_done} of {experiment.rounds}; all of it is in "
                f"{results.folder}.",
                f"The same command with --out {results.folder} goes on from there.",
            )
            return ExitCode.INTERRUPTED
    return _finished(run, facts, results, plots=plots)


def run_by_protocol(
    experiment: Experiment, settings: Settings, out: Path | None, *, plots: bool
) -> Result | ExitCode:
    """Run real engines on a virtual clock.

    Raises:
        ConfigError, TaskError, StoreError, FederationFailed: see `topology.simulate`.
    """
    from topology.simulate.by_protocol import by_protocol, with_faults
    from topology.simulate.fault_file import read_faults

    faults = read_faults(settings.faults) if settings.faults is not None else None
    experiment = with_faults(experiment, faults)
    need = needs(experiment, settings.measure_every, engine="protocol")
    check_memory(need, available_bytes())
    facts = _facts(experiment)
    results = _results(experiment, settings, out)
    _say(*_report(experiment, facts))

    def expect(a_round: float) -> None:
        _say(
            f"  takes about {_duration(a_round * experiment.rounds)} and "
            f"{need.total / 1e9:.1f} GB, and the data",
            *(["  begins anew, and does the same again"] if results.unfinished else []),
        )

    with _bar(experiment) as show:
        run = by_protocol(
            experiment, show, every=settings.measure_every, faults=faults, expect=expect
        )
    if run.rounds_done < experiment.rounds:
        results.write(run)
        _say(
            f"Stopped after round {run.rounds_done} of {experiment.rounds}; what there is of them "
            f"is in {results.folder}.",
            f"The same command with --out {results.folder} begins anew and does the same again: "
            "messages on their way are not kept.",
        )
        return ExitCode.INTERRUPTED
    return _finished(run, facts, results, plots=plots)


# --- before -------------------------------------------------------------------------------------


def _facts(experiment: Experiment) -> Facts | None:
    if len(experiment.names) > EXAMINED_MAX:
        return None
    builder = experiment.made.builder
    symmetric = builder is not None and builder.symmetric
    return examine(experiment.graph, experiment.names, symmetric=symmetric)


def _bound(experiment: Experiment, facts: Facts) -> int:
    """Return the largest b with 2b < mu_2 of the honest part."""
    if experiment.lying:
        return byzantine_bound(experiment.graph, experiment.lying)
    return bound_of(facts.connectivity, len(facts.names))


def _report(experiment: Experiment, facts: Facts | None) -> list[str]:
    """Return what to expect of the graph."""
    graph = experiment.graph
    head = f"{experiment.made.title}: {len(graph):,} nodes, {graph.number_of_edges():,} edges"
    if facts is None:
        return [head]
    low, high = min(facts.degrees), max(facts.degrees)
    degree = str(low) if low == high else f"{low} to {high}"
    b, bound = experiment.rule.byzantine, _bound(experiment, facts)
    least, most = min(facts.tolerances), max(facts.tolerances)
    tolerance = str(least) if least == most else f"{least} to {most}"
    rounds = "never" if facts.rounds is None else f"{facts.rounds:,} rounds"
    rounds = "1 round" if facts.rounds == 1 else rounds
    lines = [
        head,
        f"  connected: {'yes' if facts.connected else 'no'} · degree {degree} · "
        f"spectral gap {facts.gap:.3g} · {rounds} to mix",
        f"  a node withstands {tolerance} lying neighbors by its degree; "
        f"any rule on this graph at most b = {max(bound, 0)}",
    ]
    if not facts.connected:
        lines.append(
            f"  WARNING: the graph is in {len(facts.parts)} parts, which never become one model; "
            "real nodes refuse it"
        )
    elif b > bound:
        lines.append(
            f"  WARNING: no rule can be guaranteed here against b = {b} liars beside a node: "
            f"2b is not below the connectivity of the honest part, which allows {max(bound, 0)}"
        )
    worst = _most_liars(experiment)
    if worst > b:
        liars = "1 liar" if worst == 1 else f"{worst} liars"
        lines.append(f"  WARNING: a node has {liars} beside it, and the rule withstands {b}")
    return lines


def _most_liars(experiment: Experiment) -> int:
    liars = experiment.lying
    counts = (
        sum(other in liars for other in experiment.graph.neighbors(node))
        for node in experiment.honest
    )
    return max(counts, default=0)


def _results(experiment: Experiment, settings: Settings, out: Path | None) -> Results:
    config = {
        **experiment.as_json(),
        "engine": settings.engine,
        "measure_every": settings.measure_every,
        "faults": str(settings.faults) if settings.faults else None,
        "members": list(experiment.names),
    }
    if out is not None:
        return Results(out, config)
    kind = experiment.made.builder.kind if experiment.made.builder else "graph"
    task = Path(experiment.task.kind).name.partition(".py")[0]
    rule = Path(experiment.rule.kind).name.partition(".py")[0]
    base = f"{task}-{len(experiment.names)}-{kind}-{rule}-seed{experiment.seed}"
    number = 1
    while True:
        folder = RUNS / (base if number == 1 else f"{base}-{number}")
        with contextlib.suppress(ConfigError):
            if not folder.is_file():
                return Results(folder, config)
        number += 1


# --- during -------------------------------------------------------------------------------------


@contextlib.contextmanager
def _bar(experiment: Experiment) -> Iterator[Callable[[Progress], None]]:
    """Show progress on stderr: a bar, or plain lines where nobody can redraw."""
    if is_plain(sys.stderr):
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task("rounds", total=experiment.rounds, figures="")

        def show(at: Progress) -> None:
            bar.update(row, completed=at.round, figures=_figures(at))

        yield show


@dataclass
class _Lines:
    """A line now and then."""

    said: float = 0.0

    def __call__(self, at: Progress) -> None:
        now = time.monotonic()
        if at.round < at.rounds and now - self.said < LINES_EVERY:
            return
        self.said = now
        _say(f"round {at.round} of {at.rounds}  {_figures(at)}")


def _figures(at: Progress) -> str:
    parts = []
    if at.accuracy_mean is not None and at.accuracy_worst is not None:
        parts.append(f"accuracy {at.accuracy_mean:.3f}, worst {at.accuracy_worst:.3f}")
    if at.consensus_distance is not None:
        parts.append(f"distance {at.consensus_distance:.3g}")
    parts.append(f"{at.node_rounds_per_second:,.0f} node-rounds/s")
    return " · ".join(parts)


def _say(*lines: str) -> None:
    sys.stderr.write("".join(f"{line}\n" for line in lines))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


# --- after --------------------------------------------------------------------------------------


def _finished(run: Run, facts: Facts | None, results: Results, *, plots: bool) -> Result:
    results.write(run)
    drawn = _draw(results.folder, run, facts) if plots and curves.has_plots() else []
    summary = run.summary()
    report = None
    if facts is not None:
        report = {
            key: value for key, value in facts.as_json().items() if key not in ("members", "parts")
        }
        report["graph_bound_honest"] = _bound(run.experiment, facts)
        report["parts"] = len(facts.parts)
        report["tolerance_min"] = min(facts.tolerances)
    data = {**summary, "graph": report, "out": results.folder, "plots": drawn}
    return Result(data, _page(run, summary, results.folder, drawn))


def _draw(folder: Path, run: Run, facts: Facts | None) -> list[str]:
    kept = read_run(folder)
    name = curves.title_of(kept.config)
    gap = facts.gap if facts is not None else None
    figures = {"learning.png": curves.learning([kept], [name])}
    figures["consensus.png"] = curves.consensus([kept], [name], [gap])
    if len(run.experiment.names) <= curves.NODES_MAX:
        made = run.experiment.made
        figures["graph.png"] = curves.map_of(kept, made.graph, made.builder)
    for file, figure in figures.items():
        curves.save(figure, folder / file)
    return list(figures)


def graph_of(kept: Kept) -> Made | None:
    """Return the graph of a run on disk, None where it was an object of the caller's own."""
    topology = kept.config["topology"]
    if not isinstance(topology, dict):
        return None
    return built(topology, tuple(kept.config["members"]), None)


def _page(run: Run, summary: Mapping[str, Any], folder: Path, drawn: list[str]) -> str:
    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = [
        ("accuracy, mean", shown(summary["accuracy_mean"], ".4f")),
        ("accuracy, worst node", shown(summary["accuracy_worst"], ".4f")),
        ("consensus distance", shown(summary["consensus_distance"], ".4g")),
        ("node-rounds per second", shown(summary["node_rounds_per_second"], ",.0f")),
        ("seconds", shown(summary["seconds"], ".1f")),
        ("memory, at most", f"{summary['peak_mb']:,.0f} MB"),
        ("digest", str(summary["digest"])[:16]),
    ]
    if summary["history_digest"]:
        rows.append(("history digest", str(summary["history_digest"])[:16]))
    width = max(len(key) for key, _ in rows)
    of = "honest nodes" if run.experiment.lying else "nodes"
    table = "rounds.parquet" if has_parquet() else "rounds.csv (Parquet needs the extra `plots`)"
    return "\n".join(
        [
            f"{run.rounds_done} rounds, figures of the {of}:",
            *(f"  {key:<{width}}  {value}" for key, value in rows),
            f"{folder}: {', '.join([table, 'summary.json', 'models.safetensors', *drawn])}",
        ]
    )
