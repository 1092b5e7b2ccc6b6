"""Who one node is, and what its operator allows: everything an engine is started with."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gossipfl.attacks.attack import Attack
from gossipfl.codecs.codec import Codec
from gossipfl.codecs.dense import Dense
from gossipfl.deadline import Bounds
from gossipfl.federation import Federation
from gossipfl.mixing.rule import MixingRule
from gossipfl.types import Digest, PeerId, Seconds
from gossipfl.wire.identity import Identity

__all__ = ["Limits", "Setup"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator of one node allows.

    Attributes:
        bounds: of the wait for a round's answers.
        start_quorum: linked neighbors before the first round; None is 2b + 1, or all if fewer.
        norm_cap: a replica's norm is at most this many times max(1, own norm); guards arithmetic.
        stall_s: seconds without progress after which a transfer is given up.
        exit_when_done: leave once every live neighbor is done too.
    """

    bounds: Bounds = field(default_factory=Bounds)
    start_quorum: int | None = None
    norm_cap: float = 1000.0
    stall_s: Seconds = 10.0
    exit_when_done: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """Who a node is and what it has agreed to; `weights` is one per neighbor, for the mean."""

    federation: Federation
    me: PeerId
    neighbors: tuple[PeerId, ...]
    rule: MixingRule
    identity: Identity
    layout: Digest
    incarnation: int
    codec: Codec = field(default_factory=Dense)
    attack: Attack | None = None
    weights: Mapping[PeerId, float] | None = None
    limits: Limits = field(default_factory=Limits)
