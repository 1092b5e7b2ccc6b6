"""The same experiment by real engines on a virtual clock; see `topology.simulate.world`."""

import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from gossipfl.errors import ConfigError
from gossipfl.learning.samples import Place, Split
from gossipfl.types import PeerId
from topology.simulate.experiment import Experiment
from topology.simulate.faults import FaultScript, Liars
from topology.simulate.learning import Sessions
from topology.simulate.protocol import NodeRound, ProtocolRun, simulate_protocol
from topology.simulate.run import Clock, Progress, Run
from topology.simulate.vectorized import RoundFigures
from topology.simulate.world import Plan

__all__ = ["by_protocol", "plan_of"]

TRAIN_S: Final = 0.05  # virtual seconds of a local pass; alike for all, as rounds are synchronous


def plan_of(experiment: Experiment, faults: FaultScript | None = None) -> Plan:
    """Return an experiment as the protocol simulator takes it.

    Without faults the pace is lock-step: what the vectorized simulator computes.

    Raises:
        ConfigError: what the protocol simulator cannot do.
        TaskError: the task's data or model is wrong.
    """
    if experiment.dtype != "float32":
        raise ConfigError(
            f"dtype: real nodes compute in float32, not {experiment.dtype}",
            fix="Leave --dtype out, or use --engine vectorized.",
        )
    names = tuple(PeerId(name) for name in experiment.names)
    script = faults or FaultScript()
    if experiment.attack is not None:
        lies = Liars(
            attack=experiment.attack.model_dump(mode="json"),
            nodes=[names[place] for place in sorted(experiment.liars)],
        )
        script = script.model_copy(update={"liars": [*script.liars, lies]})
    return Plan(
        names=names,
        graph=experiment.graph,
        rule=experiment.rule,
        learning=Sessions(_dealing(experiment), names, experiment.seed, device=experiment.device),
        rounds=experiment.rounds,
        seed=experiment.seed,
        pace="elastic" if faults is not None else "lock-step",
        faults=script,
        train_s=TRAIN_S,
        train_jitter=0.0,
    )


def _dealing(experiment: Experiment) -> Any:  # noqa: ANN401 - a task; see Sessions
    """Return the task with the experiment's own way of giving each member its data."""
    task = experiment.task.model_copy()

    def data(place: Place) -> Split:
        return experiment.data(place.index)

    task.__dict__["data"] = data  # before the method of the class, which is frozen
    return task


def by_protocol(
    experiment: Experiment,
    progress: Callable[[Progress], None] | None = None,
    *,
    every: int = 1,
    faults: FaultScript | None = None,
    clock: Clock = time.perf_counter,
) -> Run:
    """Run an experiment by real engines.

    Args:
        experiment: what is simulated.
        progress: called after each round that all nodes have closed.
        every: rounds from one measurement to the next.
        faults: what goes wrong beside the experiment's liars.
        clock: seconds.

    Raises:
        ConfigError, TaskError, FederationFailed, InvariantBroken: see `simulate_protocol`.
    """
    plan = plan_of(experiment, faults)
    begin = clock()
    closed = [0] * experiment.rounds
    count = len(experiment.names)

    def tell(row: NodeRound) -> None:
        closed[row.round] += 1
        if progress is not None and closed[row.round] == count:
            pace = count * (row.round + 1) / max(1e-9, clock() - begin)
            progress(Progress(row.round + 1, experiment.rounds, None, None, None, pace))

    found = simulate_protocol(plan, evaluate_every=every, keep_models=True, progress=tell)
    run = Run(experiment, trained_by="node by node, by real engines")
    run.seconds, run.rounds_done = clock() - begin, experiment.rounds
    run.models = np.stack(list(found.models.values()))
    run.history_digest = found.history_digest.hex()
    _fill(run, found, every)
    return run


def _fill(run: Run, found: ProtocolRun, every: int) -> None:
    """Take the rounds into the table; a round that a crash took back counts as run again."""
    names = run.experiment.names
    rows = {(row.node, row.round): row for row in found.rows}
    honest = run.experiment.honest
    for round_ in range(run.experiment.rounds):
        if (round_ + 1) % every and round_ + 1 != run.experiment.rounds:
            continue
        here = [rows.get((PeerId(name), round_)) for name in names]
        models = [here[place].model for place in honest if here[place] is not None]  # type: ignore[union-attr]
        if not models:
            continue
        mean = np.mean([model for model in models if model is not None], axis=0)
        run.add(
            RoundFigures(
                round_,
                [_known(row.loss if row else None) for row in here],
                [row.measures if row else {} for row in here],
                [
                    float(np.linalg.norm(row.model - mean))
                    if row is not None and row.model is not None
                    else float("nan")
                    for row in here
                ],
            ),
            [row.bytes_per_edge if row else None for row in here],
        )


def _known(loss: float | None) -> float:
    return float("nan") if loss is None else loss
