"""What a simulation will take, before it is begun."""

import os
import resource
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gossipfl.errors import ConfigError

__all__ = ["Needs", "available_bytes", "check_memory", "needs_of", "needs_of_engines", "peak_bytes"]

PROGRAM_BYTES: Final = 400 << 20  # Python with torch, before there is a model (measured: 300 MB)
SCRATCH_BYTES: Final = 128 << 20  # blocks on their way through the cores, plots
ROW_BYTES: Final = 100  # of the table: one node in one round, with room to write it
NODE_VECTORS: Final = 9  # of an engine: own, mixed, public, on disk, and its last few updates
EDGE_VECTORS: Final = 2  # of one direction of an edge: a replica, and the one being built
COPIES: Final = 2  # of all models: those being mixed, and those mixed

_MEMORY: Final = Path("/proc/meminfo")
_CGROUP_MAX: Final = Path("/sys/fs/cgroup/memory.max")
_CGROUP_NOW: Final = Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True, slots=True)
class Needs:
    """Memory in bytes, by what takes it."""

    models: int
    table: int
    rest: int

    @property
    def total(self) -> int:
        """All of it; the data comes on top."""
        return self.models + self.table + self.rest


def needs_of(nodes: int, liars: int, parameters: int, rounds: int, *, itemsize: int = 4) -> Needs:
    """Return what a simulation needs beside its data.

    Args:
        nodes: how many.
        liars: of them; what they publish is a model of its own.
        parameters: of one model.
        rounds: that are measured.
        itemsize: bytes of one parameter.
    """
    models = COPIES * (nodes + liars) * parameters * itemsize
    final = nodes * parameters * itemsize  # in member order, when all is done
    return Needs(
        models=models + final,
        table=nodes * rounds * ROW_BYTES,
        rest=PROGRAM_BYTES + SCRATCH_BYTES,
    )


def needs_of_engines(nodes: int, edges: int, parameters: int, rounds: int) -> Needs:
    """Return what real engines need beside their data: every node keeps its neighbors' models.

    Args:
        nodes: how many.
        edges: between them.
        parameters: of one model.
        rounds: that are measured; their models are kept until the end.
    """
    vectors = nodes * (NODE_VECTORS + rounds) + 2 * edges * EDGE_VECTORS
    return Needs(
        models=vectors * parameters * 4,
        table=nodes * rounds * ROW_BYTES,
        rest=PROGRAM_BYTES + SCRATCH_BYTES,
    )


def available_bytes() -> int | None:
    """Return how much memory this process may still take; None where nobody says."""
    found = [_free(), _cgroup()]
    known = [value for value in found if value is not None]
    return min(known, default=None)


def check_memory(needs: Needs, free: int | None) -> None:
    """Refuse what will not fit.

    Raises:
        ConfigError: with how much there is, and what takes how much.
    """
    if free is None or needs.total <= free:
        return
    raise ConfigError(
        f"this would take about {needs.total / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
        f"free: {needs.models / 1e9:.1f} GB for models, {needs.table / 1e9:.1f} GB for the table",
        fix="Simulate fewer nodes or a smaller model, or measure fewer rounds: --measure-every 10.",
    )


def peak_bytes() -> int:
    """Return the most memory this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _free() -> int | None:
    try:
        for line in _MEMORY.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _cgroup() -> int | None:
    """Return what a container leaves of its limit."""
    try:
        most, now = _CGROUP_MAX.read_text().strip(), _CGROUP_NOW.read_text().strip()
    except OSError:
        return None
    return None if most == "max" else max(0, int(most) - int(now))
