"""What one machine decides for itself: the fields of node.toml, with units and what they cost.

Nothing here has to be the same on two machines; what has to be stands in federation.toml.
"""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gossipfl.federation import NAME, parse_address
from gossipfl.setup import Limits
from node.proxy import Proxy, parse_proxy

__all__ = ["DeadlineSettings", "LimitSettings", "NodeSettings"]

_LIMITS: Final = Limits()  # the engine's own defaults, said once


def _listen(value: object) -> tuple[str, int] | None:
    if value is False:
        return None
    if not isinstance(value, str):
        raise ValueError('expected "host:port" or false')
    if value.endswith(":0"):  # any free port: for tests and trials on one machine
        return parse_address(value[:-1] + "1")[0], 0
    return parse_address(value)


def _tag(choice: object) -> object:
    """A bare tag means the table that holds only this tag."""
    table = {"kind": choice} if isinstance(choice, str) else choice
    if not isinstance(table, dict):
        raise ValueError("expected a name, or a table with `kind`")
    return table


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DeadlineSettings(_Table):
    """How long a round waits for its neighbors' updates; learned from what arrives, in bounds."""

    min_s: float = Field(
        _LIMITS.bounds.min_s,
        gt=0,
        allow_inf_nan=False,
        description="seconds a round waits at least; more makes a fast federation slower as soon "
        "as one neighbor is gone, less takes a hiccup for an absence",
    )
    max_s: float = Field(
        _LIMITS.bounds.max_s,
        gt=0,
        allow_inf_nan=False,
        description="seconds a round waits at most; more costs that much in each of the first "
        "rounds a neighbor misses",
    )
    factor: float = Field(
        _LIMITS.bounds.factor,
        ge=1,
        allow_inf_nan=False,
        description="how many times a usual round a neighbor may take, at least 1; more forgives "
        "slower neighbors and costs time whenever one is gone",
    )

    @model_validator(mode="after")
    def _ordered(self) -> "DeadlineSettings":
        if self.min_s > self.max_s:
            raise ValueError(f"min_s = {self.min_s} is more than max_s = {self.max_s}")
        return self


class LimitSettings(_Table):
    """What the outside may ask of this machine."""

    norm_cap: float = Field(
        _LIMITS.norm_cap,
        gt=1,
        allow_inf_nan=False,
        description="a neighbor's model may be this many times as long as the own one, over 1; it "
        "guards arithmetic, not learning: more lets larger numbers in, less refuses honest models",
    )
    stall_s: float = Field(
        _LIMITS.stall_s,
        gt=0,
        allow_inf_nan=False,
        description="seconds without a byte after which a transfer is given up; more waits longer "
        "for a stuck neighbor, less gives up on slow links",
    )
    links_per_address: int = Field(
        64,
        ge=1,
        description="links from one IP address; each costs some 100 kB, and members behind one "
        "router share an address",
    )
    links_total: int = Field(
        256, ge=1, description="links in all, strangers' attempts included; some 100 kB each"
    )


class NodeSettings(_Table):
    """One node.toml. Paths are absolute here, whatever the file says."""

    member: str = Field(pattern=NAME, description="this machine's name in the member list")
    key: Path = Field(description="path of this member's key file, made by `gossipfl keygen`")
    federation: Path = Field(description="path of federation.toml, the same on every machine")
    listen: Annotated[tuple[str, int] | None, BeforeValidator(_listen)] = Field(
        description='"host:port" to listen on ("0.0.0.0:7400": on every network), or false to '
        "only dial out"
    )
    proxy: Annotated[Proxy | None, BeforeValidator(parse_proxy)] = Field(
        None,
        description='"http://host:port", also "http://user:password@host:port", of a proxy that '
        "all dialing goes through (CONNECT); left out, nodes are dialed directly, whatever "
        "HTTP_PROXY says",
    )
    data: Path | None = Field(
        None, description="path of this machine's own data; leave it out if the task brings its own"
    )
    store: Path = Field(
        description="directory of this node's state, made if missing, by default MEMBER.state "
        "beside node.toml; it takes two models of disk"
    )
    device: str = Field(
        "cpu",
        pattern=r"^(cpu|auto|mps|cuda(:\d+)?)$",
        description='what trains: "cpu"; "cuda" or "cuda:1", an NVIDIA GPU; "mps", an Apple one; '
        '"auto" takes the first of CUDA, MPS and CPU that is there. Mixing stays on the CPU',
    )
    codec: Annotated[dict[str, Any], BeforeValidator(_tag)] = Field(
        {"kind": "dense"},
        description='how updates travel: "dense" (4 bytes a number, exact) or "bf16" (2 bytes; '
        "what rounding loses returns with the next update)",
        validate_default=True,
    )
    durable: bool = Field(
        True,
        description="true waits each round until the disk has the state, some milliseconds; false "
        "is for trials only: after a loss of power an older state may come back, and the node may "
        "then sign a second model for a round, which the others take for a lie",
    )
    evaluate_every: int = Field(
        1,
        ge=0,
        description="rounds between two measurements on held-out data, 0 for never; more often "
        "costs one pass over that data each",
    )
    attack: Annotated[dict[str, Any] | None, BeforeValidator(_tag)] = Field(
        None,
        description='what a liar sends, as { kind = "bit-flip" }; only where the federation says '
        "test = true",
    )
    require_members: int = Field(
        1,
        ge=1,
        description="members, this one included, that must have taken part for the run to count; "
        "with fewer, `gossipfl run` exits 3",
    )
    start_quorum: int | None = Field(
        None,
        ge=1,
        description="neighbors that must be linked before the first round, by default one more "
        "than twice the liars to withstand; more starts later and together",
    )
    deadline: DeadlineSettings = Field(
        DeadlineSettings(), description="the table [deadline]: how long a round waits"
    )
    limits: LimitSettings = Field(
        LimitSettings(), description="the table [limits]: what the outside may ask of this machine"
    )
