"""What a node logs: who is at fault and what to do; what is harmless is no warning."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from gossipfl.effects import Effect, RefusedBy, Rejected, RoundClosed
from gossipfl.engine import Engine
from gossipfl.errors import Refusal
from gossipfl.report import RoundRecord
from gossipfl.types import PeerId
from node.observations import Observer

B = PeerId("bert")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "node.observations")
    return caplog


def observer(records: list[RoundRecord] | None = None) -> Observer:
    constitution = SimpleNamespace(rounds=60)
    setup = SimpleNamespace(
        me=PeerId("anna"), neighbors=(B,), federation=SimpleNamespace(constitution=constitution)
    )
    engine: Any = SimpleNamespace(setup=setup, model=np.zeros(2, np.float32))
    return Observer(cast("Engine", engine), (records if records is not None else []).append)


def closed(round_: int) -> RoundClosed:
    return RoundClosed(round_, (B,), (), 0.1)


@pytest.mark.parametrize(
    ("effect", "level", "says"),
    [
        (Rejected(B, Refusal.UNKNOWN_BASE, "x"), logging.INFO, "bert is ahead: its whole model"),
        (Rejected(B, Refusal.FAR_ROUND, "round 9"), logging.INFO, "once b + 1 neighbors say so"),
        (Rejected(B, Refusal.NORM_CAP, "x"), logging.WARNING, "refused from bert: norm-cap: x"),
        (RefusedBy(B, "far-round", "x"), logging.INFO, "bert refuses this node: far-round: x"),
        (RefusedBy(B, "norm-cap", "x"), logging.WARNING, "bert refuses this node: norm-cap: x"),
        (RefusedBy(B, "wrong-federation", "x"), logging.WARNING, "Bring one federation.toml"),
        (RefusedBy(B, "stale-incarnation", "x"), logging.ERROR, "needs a new key: `gossipfl keyg"),
        (RefusedBy(B, "replayed", "x"), logging.ERROR, "Under the old key it could sign a second"),
    ],
)
def test_a_line_is_as_loud_as_what_it_means(
    logged: pytest.LogCaptureFixture, effect: Effect, level: int, says: str
) -> None:
    each = observer()
    each.tell(effect, 1.0)
    each.tell(effect, 2.0)  # held back: once in ten seconds is enough
    (record,) = logged.records
    assert record.levelno == level
    assert says in record.getMessage()
    each.tell(effect, 12.0)
    assert len(logged.records) == 2


def test_a_far_round_is_a_fault_once_the_node_is_under_way(
    logged: pytest.LogCaptureFixture,
) -> None:
    each = observer()
    each.closed(closed(3), {}, 0.0)
    each.tell(Rejected(B, Refusal.FAR_ROUND, "round 9"), 1.0)
    assert logged.records[-1].levelno == logging.WARNING
    assert "refused from bert: far-round" in logged.records[-1].getMessage()


def test_progress_is_told_every_ten_seconds_and_at_the_last_round(
    logged: pytest.LogCaptureFixture,
) -> None:
    records: list[RoundRecord] = []
    each = observer(records)
    each.seen.loss, each.seen.measures = 0.51234, {"accuracy": 0.75, "auc": None}
    for round_ in range(60):
        each.closed(closed(round_), {}, round_ * 0.5)
    said = [record.getMessage() for record in logged.records]
    assert said == [
        f"{done} of 60 rounds done, training loss 0.5123; held out: accuracy 0.75, auc -"
        for done in (1, 21, 41, 60)
    ]
    assert len(records) == 60
