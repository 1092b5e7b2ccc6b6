"""Who lies in a simulation, and how."""

from collections.abc import Sequence

from gossipfl.attacks.attack import Attack, load_attack
from gossipfl.streams import stream
from gossipfl.types import PeerId
from topology.simulate.faults import FaultScript

__all__ = ["liars_of"]


def liars_of(faults: FaultScript, names: Sequence[PeerId], seed: int) -> dict[PeerId, Attack]:
    """Return each liar's attack; those that are only counted are drawn from the seed.

    Args:
        faults: checked against the names.
        names: the members in order.
        seed: the federation's.
    """
    named = {
        PeerId(name): load_attack(table.attack)
        for table in faults.liars
        for name in table.nodes or ()
    }
    rng = stream(seed, "", "liars")
    for table in faults.liars:
        free = [name for name in names if name not in named]
        for place in rng.permutation(len(free))[: table.count or 0]:
            named[free[place]] = load_attack(table.attack)
    return {name: named[name] for name in names if name in named}
