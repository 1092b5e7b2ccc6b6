"""Synchronous rounds of all nodes in one tensor: what real nodes compute, without the messages.

A round is what a node does in lock-step: train, publish (a liar publishes its lie), mix what the
neighbors published with what was trained, measure. Messages, clocks, losses and codecs are not in
it: see `topology.simulate.world` for those.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

from gossipfl.attacks.attack import Attack
from gossipfl.errors import TaskError
from gossipfl.setup import Limits
from gossipfl.streams import stream
from gossipfl.types import Vector
from topology.analysis import metropolis_weights, neighbors
from topology.simulate.experiment import Experiment
from topology.simulate.mixing import Mixer, spans_of
from topology.simulate.nodes import Nodes, spread
from topology.simulate.one_by_one import OneByOne
from topology.simulate.own_code import blamed, checked
from topology.simulate.training import Ways, ways_of

__all__ = ["RoundFigures", "Vectorized", "workers_of"]

WORKERS_MAX: Final = 16  # more wait for memory, not for each other
DISTANCE_FLOATS: Final = 1 << 17  # of a difference at once: half a megabyte stays in the cache


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """One round of all nodes, in member order.

    Attributes:
        round: from 0.
        losses: mean training loss of each local pass.
        measures: on held-out samples after mixing; None where this round was not measured.
        distances: of each mixed model from the honest nodes' mean; None likewise.
    """

    round: int
    losses: list[float]
    measures: list[dict[str, float | None]] | None
    distances: list[float] | None


def workers_of() -> int:
    """Return how many threads a simulation uses: one for each core this process may use."""
    return min(WORKERS_MAX, len(os.sched_getaffinity(0)))


class Vectorized:
    """The rounds of one experiment; a context, because threads run them.

    Args:
        experiment: what is simulated.

    Raises:
        TaskError: the task's data, model or own code is wrong.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.nodes: Nodes = spread(
            experiment.task,
            experiment.names,
            experiment.data,
            seed=experiment.seed,
            device=experiment.device,
            dtype=experiment.dtype,
        )
        count = len(self.nodes)
        self._at = {member: node for node, member in enumerate(self.nodes.members)}
        self._liars = sorted(self._at[member] for member in experiment.liars)
        self._honest = sorted(set(range(count)) - set(self._liars))
        lies = {node: count + place for place, node in enumerate(self._liars)}
        around = [neighbors(experiment.graph, member) for member in self.nodes.members]
        self._sources = [
            [lies.get(self._at[other], self._at[other]) for other in row] for row in around
        ]
        self._table = self.nodes.start.repeat(count + len(self._liars), 1)
        self._other = self._table.clone()  # what was published the round before, then the mixed
        workers = workers_of()
        # Blocks of nodes run side by side, not the sums inside: nobody waits for anybody
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
        weights = None
        if experiment.rule.uses_weights:
            shares = metropolis_weights(experiment.graph)
            weights = [
                [shares[member][other] for other in row]
                for member, row in zip(self.nodes.members, around, strict=True)
            ]
        attack = experiment.attack
        self._attack: Attack | None = None if attack is None else checked(attack)
        cap = Limits().norm_cap
        self._mixer = Mixer(experiment.rule, self._sources, weights, cap=cap, pool=self._pool)
        self.ways: Ways = ways_of(self.nodes, self._pool, workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)

    @property
    def size(self) -> int:
        """Length of a model's vector."""
        return self.nodes.layout.size

    def models(self) -> Tensor:
        """Return all models in member order, shape (nodes, size): a copy on the CPU."""
        order = torch.tensor([self._at[member] for member in range(len(self.nodes))])
        return self._table[: len(self.nodes)].cpu()[order]

    def state(self) -> dict[str, Tensor]:
        """Return what an interrupted simulation goes on from: no copies."""
        found = {"models": self._table, "published": self._other}
        if isinstance(self.ways.train, OneByOne):
            found["home"] = torch.from_numpy(self.ways.train.home)
        return found

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a state; the experiment is the same.

        Raises:
            ValueError: the state is of another experiment.
        """
        mine = self.state()
        if {name: (t.shape, t.dtype) for name, t in state.items()} != {
            name: (t.shape, t.dtype) for name, t in mine.items()
        }:
            raise ValueError("its tensors are not those of this experiment")
        for name, tensor in mine.items():
            tensor.copy_(state[name])

    def rehearse(self, clock: Callable[[], float]) -> float:
        """Return how many seconds a round takes; the simulation stays where it is.

        Raises:
            TaskError: training diverges, or the task's code fails.
        """
        before = {name: tensor.clone() for name, tensor in self.state().items()}
        begin = clock()
        self.round(0, measured=True)
        taken = clock() - begin
        self.restore(before)
        return taken

    def round(self, number: int, *, measured: bool) -> RoundFigures:
        """Run one round.

        Raises:
            TaskError: training diverged, or the task's code fails.
        """
        count = len(self.nodes)
        losses = self.ways.train.train(self._table[:count], number)
        self._check(losses, number)
        self._lie(number)
        with blamed(self.experiment.rule, "mixing"):
            self._mixer.mix(self._table, self._other)
        self._table, self._other = self._other, self._table
        order = [self._at[member] for member in range(count)]
        ordered = losses[order].tolist()
        if not measured:
            return RoundFigures(number, ordered, None, None)
        found = self.ways.measure.measure(self._table[:count])
        distances = self._distances()
        return RoundFigures(
            number, ordered, [found[at] for at in order], [distances[at] for at in order]
        )

    def _check(self, losses: Tensor, round_: int) -> None:
        wrong = [node for node, loss in enumerate(losses.tolist()) if not math.isfinite(loss)]
        if wrong:
            names = ", ".join(self.nodes.names[node] for node in wrong[:5])
            raise TaskError(
                f"training diverged in round {round_} at {len(wrong)} nodes: {names}",
                fix="Lower the task's learning_rate; with liars, mix by a rule that trims.",
            )

    def _lie(self, round_: int) -> None:
        """Write what each liar publishes, who knows what its neighbors said the round before."""
        experiment = self.experiment
        for place, node in enumerate(self._liars):
            assert self._attack is not None
            known = [_vector(self._other[row]) for row in self._sources[node]]
            rng = stream(experiment.seed, self.nodes.names[node], "attack", round_)
            with np.errstate(over="ignore", invalid="ignore"):
                lie = self._attack(_vector(self._table[node]), known, rng)
            self._table[len(self.nodes) + place] = torch.from_numpy(lie)

    def _distances(self) -> list[float]:
        """Return each model's distance from the mean of the honest ones."""
        models = self._table[: len(self.nodes)]
        spans = spans_of(models)
        honest = torch.ones(len(models), dtype=models.dtype, device=models.device)
        honest[self._liars] = 0
        sums = self._pool.map(lambda span: honest[span] @ models[span], spans)
        mean = torch.stack(list(sums)).sum(dim=0) / len(self._honest)
        parts = self._pool.map(lambda span: _lengths(models[span], mean), spans)
        return [value for part in parts for value in part]


def _lengths(models: Tensor, mean: Tensor) -> list[float]:
    """Return the models' distances from a mean, a few at a time: a difference stays cached."""
    rows = max(1, DISTANCE_FLOATS // mean.numel())
    found: list[float] = []
    for start in range(0, len(models), rows):
        away = models[start : start + rows] - mean
        found += torch.linalg.vector_norm(away, dim=1).tolist()
    return found


def _vector(row: Tensor) -> Vector:
    vector: Vector = row.cpu().numpy()
    return vector
