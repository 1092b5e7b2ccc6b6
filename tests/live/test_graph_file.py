"""A federation on a graph file: it trains along the edges, and files that differ are told."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.federation import Nodes, Status, row
from tests.live.test_reload import LONG, SHORT, reloaded, senders

NAMES = ("anna", "bert", "carla")


def sees_another_graph(name: str) -> Callable[[Status], bool]:
    """Whether a node was told that a neighbor with the same list has another graph."""

    def told(status: Status) -> bool:
        lines = row(status, name).get("members_diff", ())
        return any("the graphs differ" in line for line in lines)

    return told


@pytest.mark.timeout(150)
async def test_nodes_train_along_a_file_s_edges_and_another_file_is_told_at_both_ends(
    tmp_path: Path,
) -> None:
    graph = tmp_path / "graph.txt"
    graph.write_text("anna bert\nbert carla\n")
    topology = {"kind": "file", "path": "graph.txt"}
    nodes = Nodes(tmp_path, NAMES, rounds=LONG, topology=topology, node=SHORT)
    nodes.pause(0.05)
    try:
        for name in NAMES:
            nodes.start(name)
        await nodes.until("bert", senders("anna", "carla"))
        for name in ("anna", "carla"):
            status = await nodes.until(name, senders("bert"))
            assert [found["name"] for found in status["neighbors"]] == ["bert"]
        graph.write_text("anna bert\nbert carla\ncarla anna\n")
        assert (await reloaded(nodes, "anna"))["regraphed"]
        for one, other in (("anna", "bert"), ("bert", "anna")):
            await nodes.until(one, sees_another_graph(other))
        await nodes.until("bert", senders("carla"))  # the two that agree go on
        found = await asyncio.gather(reloaded(nodes, "bert"), reloaded(nodes, "carla"))
        assert [answer["lines"] for answer in found] == [["the graph is another one"]] * 2
        for name in NAMES:
            await nodes.until(name, senders(*(set(NAMES) - {name})))
    finally:
        nodes.end()
