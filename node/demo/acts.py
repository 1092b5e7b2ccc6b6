"""The demo's acts for one seed: alone, together, together with a liar, all data pooled."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from gossipfl.learning.task import Place, Split, Task, initial, load_task
from gossipfl.learning.yardstick import Scores, pooled_split, score, train_alone, train_pooled
from gossipfl.params import Layout
from gossipfl.tasks.heart_disease import HOSPITALS
from gossipfl.types import Vector
from node.demo.view import HospitalLine, Screen
from node.network import Member, Network, NodeView, Plan

__all__ = ["ACTS", "Act", "Script", "play"]

ACTS = ("alone", "together", "liar", "pooled")
TASK = "heart-disease"


@dataclass(frozen=True, slots=True)
class Script:
    """What the demo is asked to play.

    Attributes:
        mixing: the rule's table, as in federation.toml.
        liar: the hospital that lies in the last act.
        attack: what it sends.
        rounds: of every act; passes over the same data where nothing is mixed.
        out: where configurations, logs and models go.
    """

    mixing: Mapping[str, Any]
    liar: str
    attack: Mapping[str, Any]
    rounds: int
    out: Path


@dataclass(slots=True)
class Act:
    """How one act ended: by honest hospital, on all held-out patients and on its own."""

    everybody: dict[str, Scores]
    own: dict[str, Scores]
    nodes: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Path] = field(default_factory=dict)
    vectors: list[Vector] = field(default_factory=list)  # of real nodes, in member order

    def summary(self) -> dict[str, float | None]:
        """Mean and worst honest hospital, on the held-out patients of all."""
        accuracies = [scores.accuracy for scores in self.everybody.values()]
        aucs = [scores.auc for scores in self.everybody.values() if scores.auc is not None]
        return {
            "accuracy": fmean(accuracies),
            "accuracy_worst": min(accuracies),
            "auc": fmean(aucs) if aucs else None,
        }


class _Stage:
    """One seed's data and the scores of models on it."""

    def __init__(self, script: Script, seed: int, screen: Screen) -> None:
        self.script, self.seed, self.screen = script, seed, screen
        self.task: Task = load_task(TASK)
        self.splits: dict[str, Split] = {
            name: self.task.data(Place(None, name, index, len(HOSPITALS), seed))
            for index, name in enumerate(HOSPITALS)
        }
        self.layout = Layout.of(initial(self.task, seed))
        self.everybody: Split = pooled_split(list(self.splits.values()))

    def load(self, path: Path) -> Vector:
        """Return a saved model flat, in the order of its layout."""
        tensors = load_file(path)
        return np.concatenate([tensors[name].ravel() for name in self.layout.names])

    def act(self, models: Mapping[str, Vector]) -> Act:
        """Score one model per hospital."""
        return Act(
            {
                name: score(self.task, model, self.everybody.held_out)
                for name, model in models.items()
            },
            {
                name: score(self.task, model, self.splits[name].held_out)
                for name, model in models.items()
            },
        )

    def alone(self) -> Act:
        """Let each hospital learn from its own patients only."""
        models: dict[str, Vector] = {}
        with self.screen.act("Each hospital alone", self.script.rounds):
            for name, split in self.splits.items():
                models[name] = train_alone(
                    self.task, split, member=name, rounds=self.script.rounds, seed=self.seed
                )
            act = self.act(models)
            self.screen.update(
                [
                    HospitalLine(name, self.script.rounds, scores.accuracy)
                    for name, scores in act.own.items()
                ]
            )
        return act

    def pooled(self) -> Act:
        """Train on all hospitals' patients in one place: only a demo can."""
        with self.screen.act("All data in one place, as a yardstick", self.script.rounds):
            model = train_pooled(
                self.task, list(self.splits.values()), rounds=self.script.rounds, seed=self.seed
            )
            act = self.act(dict.fromkeys(HOSPITALS, model))
            self.screen.update(
                [
                    HospitalLine(name, self.script.rounds, scores.accuracy)
                    for name, scores in act.own.items()
                ]
            )
        return act

    def together(self, title: str, directory: Path, liar: str | None) -> Act:
        """Run four real nodes; score what the honest ones learned."""
        script = self.script
        plan = Plan(
            name="four-hospitals" if liar is None else "four-hospitals-one-lies",
            task=TASK,
            mixing=script.mixing,
            topology="complete",
            rounds=script.rounds,
            seed=self.seed,
            members=tuple(
                Member(name, hospital.path, script.attack if name == liar else None)
                for name, hospital in HOSPITALS.items()
            ),
            node={"start_quorum": len(HOSPITALS) - 1},  # all four from the first round on
        )
        network = Network(plan, directory)
        with self.screen.act(title, script.rounds):
            asyncio.run(network.run(lambda net: self.screen.update(_lines(net))))
        honest = [node for node in network.nodes if node.member.name != liar]
        act = self.act({node.member.name: self.load(node.model) for node in honest})
        act.vectors = [self.load(node.model) for node in network.nodes]
        act.models = {node.member.name: node.model for node in network.nodes}
        act.nodes = {node.member.name: _node(node, network.nodes) for node in network.nodes}
        return act


def play(script: Script, seed: int, screen: Screen) -> dict[str, Act]:
    """Play all acts for one seed.

    Raises:
        FederationFailed: a node ended badly.
    """
    stage = _Stage(script, seed, screen)
    directory = script.out / f"seed-{seed}"
    together = "All together: four nodes, no server"
    lying = f"All together, while {script.liar} lies"
    acts: dict[str, Callable[[], Act]] = {
        "alone": stage.alone,
        "together": lambda: stage.together(together, directory / "together", None),
        "liar": lambda: stage.together(lying, directory / "liar", script.liar),
        "pooled": stage.pooled,
    }
    return {name: acts[name]() for name in ACTS}


def _lines(network: Network) -> list[HospitalLine]:
    return [_line(node) for node in network.nodes]


def _line(node: NodeView) -> HospitalLine:
    status = node.status
    neighbors = status.get("neighbors", [])
    return HospitalLine(
        node.member.name,
        status.get("round") or 0,
        status.get("measures", {}).get("accuracy"),
        sum(row["deltas_accepted"] + row["snapshots_accepted"] for row in neighbors),
        sum(sum(row["refused"].values()) for row in neighbors),
        node.member.attack is not None,
    )


def _node(node: NodeView, nodes: list[NodeView]) -> dict[str, Any]:
    """What the report says of one node; its links as the other ends saw them."""
    status = node.status
    seen_by = {
        other.member.name: {"tls_version": row["tls_version"], "certificate": row["certificate"]}
        for other in nodes
        for row in other.status["neighbors"]
        if row["name"] == node.member.name
    }
    rows = status["neighbors"]
    return {
        "pid": status["pid"],
        "worker_pid": status["worker_pid"],
        "lies": node.member.attack is not None,
        "certificate": node.certificate,
        "seen_by": seen_by,
        "rounds": status["round"],
        "restarts": node.restarts,
        "frames_verified": sum(row["frames_verified"] for row in rows),
        "deltas_accepted": sum(row["deltas_accepted"] for row in rows),
        "snapshots_accepted": sum(row["snapshots_accepted"] for row in rows),
        "accepted": {
            row["name"]: row["deltas_accepted"] + row["snapshots_accepted"] for row in rows
        },
        "refused": {row["name"]: row["refused"] for row in rows},
        "equivocations": sum(row["equivocations"] for row in rows),
        "bytes_in": status["bytes_in"],
        "bytes_out": status["bytes_out"],
        "model_digest": status["model_digest"],
        "peak_mb": None if node.peak_kb is None else round(node.peak_kb / 1024, 1),
    }
