"""Graphs and what they can carry, against values known from the literature."""

import math
import subprocess
import sys

import networkx as nx
import numpy as np
import pytest

import topology.graphs
from gossipfl.errors import ConfigError
from gossipfl.family import kinds
from gossipfl.mixing.mean import Mean
from topology.analysis import (
    algebraic_connectivity,
    byzantine_bound,
    metropolis_weights,
    mixing_matrix,
    neighbors,
    spectral_gap,
    tolerance,
)
from topology.graphs import Graph, load_graph

FAMILY = kinds(topology.graphs, Graph)  # type: ignore[type-abstract]
BUILDERS = [pytest.param(member(), id=kind) for kind, member in FAMILY.items()]


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 33])
def test_every_graph_is_connected_and_without_loops(builder: Graph, size: int) -> None:
    graph = builder.build(size)
    assert sorted(graph) == list(range(size))
    assert nx.is_connected(graph)
    assert nx.number_of_selfloops(graph) == 0
    assert not graph.is_directed()
    assert not graph.is_multigraph()
    assert set(graph.edges) == set(builder.build(size).edges)


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("size", [0, -1])
def test_a_graph_of_nobody_is_refused(builder: Graph, size: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        builder.build(size)


@pytest.mark.parametrize(
    ("kind", "size", "degrees"),
    [
        ("complete", 1, {0}),
        ("complete", 2, {1}),
        ("complete", 5, {4}),
        ("ring", 1, {0}),
        ("ring", 2, {1}),
        ("ring", 3, {2}),
        ("ring", 8, {2}),
    ],
)
def test_degrees_are_as_named(kind: str, size: int, degrees: set[int]) -> None:
    graph = load_graph(kind).build(size)
    assert {len(neighbors(graph, node)) for node in graph} == degrees


def test_neighbors_come_in_member_order() -> None:
    assert neighbors(load_graph("ring").build(5), 0) == [1, 4]
    assert neighbors(nx.Graph([(2, 9), (2, 0), (2, 5)]), 2) == [0, 5, 9]


def test_an_unknown_graph_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="topology: there is no 'star'") as caught:
        load_graph("star")
    assert "ring" in caught.value.fix


@pytest.mark.parametrize("builder", BUILDERS)
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_mixing_matrix_is_doubly_stochastic(builder: Graph, size: int) -> None:
    matrix = mixing_matrix(builder.build(size))
    np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-12)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert (matrix >= 0).all()


def test_metropolis_weights_of_a_star_with_a_tail() -> None:
    graph = nx.Graph([(0, 1), (0, 2), (0, 3), (3, 4)])
    weights = metropolis_weights(graph)
    assert weights[0] == {1: 1 / 4, 2: 1 / 4, 3: 1 / 4}
    assert weights[3] == {0: 1 / 4, 4: 1 / 3}
    assert weights[4] == {3: 1 / 3}


def test_metropolis_weights_keep_the_mean_and_reach_consensus() -> None:
    graph = nx.Graph([(0, 1), (0, 2), (0, 3), (3, 4)])
    weights = metropolis_weights(graph)
    models = np.random.default_rng(0).standard_normal((5, 3))
    mean = models.mean(axis=0)
    for _ in range(200):
        models = np.stack(
            [
                Mean()(models[node], [models[j] for j in near], list(near.values()))
                for node, near in weights.items()
            ]
        )
        np.testing.assert_allclose(models.mean(axis=0), mean, atol=1e-12)
    np.testing.assert_allclose(models, np.tile(mean, (5, 1)), atol=1e-6)


@pytest.mark.parametrize("size", [3, 8, 13])
def test_the_ring_has_its_textbook_spectrum(size: int) -> None:
    ring = load_graph("ring").build(size)
    assert algebraic_connectivity(ring) == pytest.approx(2 - 2 * math.cos(2 * math.pi / size))
    eigenvalues = [(1 + 2 * math.cos(2 * math.pi * k / size)) / 3 for k in range(1, size)]
    assert spectral_gap(ring) == pytest.approx(1 - max(map(abs, eigenvalues)))


def test_a_complete_graph_agrees_in_one_round_and_a_split_one_never() -> None:
    assert spectral_gap(load_graph("complete").build(6)) == pytest.approx(1)
    assert spectral_gap(load_graph("complete").build(1)) == 1
    assert spectral_gap(nx.Graph([(0, 1), (2, 3)])) == pytest.approx(0)


@pytest.mark.parametrize(
    ("degree", "liars"), [(0, -1), (1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (16, 7), (17, 8)]
)
def test_a_node_withstands_a_minority_of_its_neighbors(degree: int, liars: int) -> None:
    assert tolerance(load_graph("complete").build(degree + 1), 0) == liars


@pytest.mark.parametrize(
    ("size", "bound"), [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (7, 3), (100, 49)]
)
def test_the_bound_of_a_complete_graph_is_below_half(size: int, bound: int) -> None:
    assert byzantine_bound(load_graph("complete").build(size)) == bound  # mu_2 is the size


def test_the_bound_is_strict_and_looks_at_the_honest_part() -> None:
    two_worlds: nx.Graph[int] = nx.Graph(nx.complete_graph(13))
    two_worlds.update(nx.relabel_nodes(nx.complete_graph(13), {k: 13 + k for k in range(13)}))
    two_worlds.add_edges_from((i, 13 + (i + k) % 13) for i in range(13) for k in range(8))
    assert algebraic_connectivity(two_worlds) == pytest.approx(16)
    assert byzantine_bound(two_worlds) == 7  # 8 is proven impossible: 2b = mu_2
    complete = load_graph("complete").build(7)
    assert byzantine_bound(complete) == 3
    assert byzantine_bound(complete, liars={0, 1}) == 2
    star = nx.Graph([(0, k) for k in range(1, 5)])
    assert byzantine_bound(star) == 0
    assert byzantine_bound(star, liars=[0]) == -1  # the honest part falls apart


def test_rings_withstand_nobody() -> None:
    ring = load_graph("ring").build(8)
    assert (byzantine_bound(ring), tolerance(ring, 0)) == (0, 0)


def test_topology_imports_neither_torch_nor_scipy_nor_matplotlib() -> None:
    code = (
        "import sys, topology.analysis as a, topology.graphs as g; graph = g.load_graph('ring')"
        ".build(8); a.spectral_gap(graph); a.byzantine_bound(graph); "
        "print(*{'torch', 'scipy', 'matplotlib', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
