"""Nodes that were far apart: who catches up to the end says so, who runs ahead waits."""

from itertools import combinations

from gossipfl.deadline import Bounds
from gossipfl.engine import Phase
from gossipfl.inbox import AHEAD_MAX
from gossipfl.setup import Limits
from gossipfl.types import PeerId
from tests.harness import Options, World, federation


def test_who_catches_up_to_the_end_says_the_model_it_ends_with() -> None:
    limits = Limits(bounds=Bounds(max_s=2.0))
    world = World(federation("abcde", rounds=30), Options(limits=limits))
    for name in "abcd":
        world.start(name)
    for one, other in combinations("abcd", 2):
        world.link(one, other)
    world.run(60.0)
    assert {world.nodes[PeerId(name)].engine.phase for name in "abcd"} == {Phase.DONE}
    world.start("e")
    world.link_to_all("e")
    world.run(90.0)
    late = world.nodes[PeerId("e")].engine
    assert (late.phase, late.round, late.outbox.round) == (Phase.DONE, 30, 29)
    for name in "abcd":
        replica = world.nodes[PeerId(name)].engine.inbox.replica(PeerId("e"))
        assert (replica.round, replica.digest) == (29, late.outbox.digest)
    assert world.nodes[PeerId("e")].saved is not None


def test_who_learned_to_the_end_says_nothing_twice() -> None:
    world = World(federation("abc", rounds=5))
    world.start_all()
    world.run(30.0)
    for name in "abc":
        engine = world.nodes[PeerId(name)].engine
        assert (engine.phase, engine.outbox.round) == (Phase.DONE, 4)


def far_ahead(b: int, train_s: float) -> dict[str, int]:
    """Rounds after two fast nodes of four have met two that take so long for a pass."""
    rule = {"kind": "trimmed-mean", "b": b}
    options = Options(limits=Limits(bounds=Bounds(max_s=20.0)))
    world = World(federation("abcd", rounds=1000, mixing=rule), options)
    world.train_s = lambda name: train_s if name in "cd" else 0.05
    world.start_all()
    world.run(60.0)
    return {name: node.engine.round for name, node in world.nodes.items()}


def test_with_so_few_live_neighbors_that_nothing_is_mixed_nobody_runs_away() -> None:
    rounds = far_ahead(b=1, train_s=8.0)
    slow = min(rounds.values())
    assert slow > 2
    assert max(rounds.values()) <= slow + AHEAD_MAX + 3


def test_where_what_is_live_can_be_mixed_slow_nodes_hold_nobody() -> None:
    rounds = far_ahead(b=0, train_s=8.0)
    assert rounds[PeerId("a")] > 300


def test_what_an_earlier_start_has_counted_does_not_count_again() -> None:
    world = World(federation("abcde", rounds=40), Options(limits=Limits(bounds=Bounds(max_s=1.0))))
    world.start_all()
    world.run(1.0)
    counted = world.nodes[PeerId("a")].engine.inbox.replica(PeerId("e")).counted
    assert counted > 2
    world.kill("e")  # its last row is all there will be of it
    world.run(1.02)
    restored = world.kill("a")
    assert restored is not None
    assert restored.round > counted - 2
    engine = world.start("a", restored).engine
    for name in "bcde":
        assert engine.inbox.replica(PeerId(name)).counted == restored.round - 1
    world.link_to_all("a")
    world.run(60.0)
    assert engine.round == 40
