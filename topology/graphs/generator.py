"""Any generator of networkx, by its name."""

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, Final

import networkx as nx
from pydantic import Field

from gossipfl.errors import ConfigError
from topology.graphs.graph import Graph, titled
from topology.placing import AnyGraph, placed

__all__ = ["Generator"]

NOT_THE_SIZE: Final = frozenset(
    {
        "binomial_tree",
        "circular_ladder_graph",
        "dorogovtsev_goltsev_mendes_graph",
        "generalized_petersen_graph",
        "grid_2d_graph",
        "hexagonal_lattice_graph",
        "hypercube_graph",
        "kneser_graph",
        "ladder_graph",
        "lollipop_graph",
        "margulis_gabber_galil_graph",
        "mycielski_graph",
        "navigable_small_world_graph",
        "partial_duplication_graph",
        "random_cograph",
        "random_lobster",
        "random_lobster_graph",
        "star_graph",
        "sudoku_graph",
        "tadpole_graph",
        "triangular_lattice_graph",
        "windmill_graph",
    }
)
"""Generators whose `n` is not the number of nodes: it grows too fast to be filled in blindly."""

OURS: Final = frozenset({"backend", "backend_kwargs", "create_using", "directed"})
"""Parameters that are no part of a graph's description; `directed` is refused by its own words."""

FAULTS: Final = (
    nx.NetworkXException,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    TypeError,
    RecursionError,
    ValueError,
)
"""What generators raise at arguments that do not fit; each checks, or does not, in its own way."""


class Generator(Graph):
    """A generator of networkx with its arguments, as its documentation names them.

    The number of members goes into the generator's `n` unless the arguments say it, and `seed` is
    0 unless they say another. The graph must have as many nodes as there are members: nodes that
    are members' names are those members, all others stand for the members in order.
    """

    kind: ClassVar[str] = "networkx"

    generator: str = Field(description='its name in networkx: "barabasi_albert_graph"')
    arguments: dict[str, Any] = Field(
        default_factory=dict, description="its arguments by name: { m = 2, seed = 1 }"
    )

    def build(self, names: Sequence[str]) -> "nx.Graph[int]":
        """Return the generator's graph; see Graph."""
        function = _find(self.generator)
        graph = self._call(function, len(names))
        if len(graph) != len(names):
            raise ConfigError(
                f"topology: {self.generator} makes {len(graph)} nodes with these arguments, "
                f"and there are {len(names)} members",
                fix="Change the arguments or the members so that the numbers are equal.",
            )
        return placed(graph, names, f"networkx's {self.generator}", any_order=True)

    def title(self) -> str:
        """Return the generator's name and arguments; see Graph."""
        return titled(self.generator, self.arguments)

    def own_names(self) -> tuple[str, ...] | None:
        """Return a name per node if the arguments alone make a graph; see Graph."""
        function = _find(self.generator)
        if "n" in _parameters(function) and "n" not in self.arguments:
            return None
        return tuple(f"node-{place + 1}" for place in range(len(self._call(function, 0))))

    def _call(self, function: Callable[..., Any], size: int) -> AnyGraph:
        known = _parameters(function)
        filled: dict[str, Any] = {}
        if "n" in known and self.generator not in NOT_THE_SIZE:
            filled["n"] = size
        if "seed" in known:
            filled["seed"] = 0
        arguments = filled | self.arguments
        takes = f"{self.generator} takes: {', '.join(known) or 'no arguments'}."
        if arguments.get("directed"):
            raise ConfigError(
                f"topology.arguments: {self.generator} makes a directed graph with these, "
                "and neighbors hear each other both ways",
                fix="Leave `directed` out.",
            )
        arguments.pop("directed", None)
        unknown = [name for name in arguments if name not in known]
        missing = [
            name
            for name, parameter in known.items()
            if parameter.default is inspect.Parameter.empty and name not in arguments
        ]
        for problem, which in (("there is no", unknown), ("there is a lack of", missing)):
            if which:
                raise ConfigError(f"topology.arguments: {problem} {', '.join(which)}", fix=takes)
        try:
            made = function(**arguments)
        except FAULTS as error:
            raise ConfigError(
                f"topology.arguments: {self.generator} refuses them: {error}", fix=takes
            ) from error
        if not isinstance(made, nx.Graph):
            raise _no_generator(self.generator)
        return made


def _find(name: str) -> Callable[..., Any]:
    """Return a generator; nothing else of networkx can be called by a configuration."""
    found = getattr(nx, name, None) if name.isidentifier() and not name.startswith("_") else None
    module = getattr(found, "__module__", "") or ""
    if not callable(found) or not module.startswith("networkx.generators."):
        raise _no_generator(name)
    return found  # type: ignore[no-any-return]


def _no_generator(name: str) -> ConfigError:
    known = [
        known
        for known in dir(nx)
        if (getattr(getattr(nx, known), "__module__", "") or "").startswith("networkx.generators.")
    ]
    near = [other for other in get_close_matches(name, known, n=4) if other != name][:3]
    return ConfigError(
        f"topology.generator: networkx has no graph generator {name!r}",
        fix=(f"Did you mean {' or '.join(near)}? " if near else "")
        + "They are listed in networkx's reference under Graph generators.",
    )


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    fixed = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind not in fixed and name not in OURS
    }
