"""Seconds a round, seconds to the first round and memory of real nodes on loopback.

    python -m benchmarks.round_speed [--json] [--rounds 60]

Digits, MLP 64-128-10, batch 32, one epoch a round, ring, mean; TLS, signatures and digests on; no
evaluation inside the round. A round is timed on each node, from its opening to the end of its
mixing; the figure is the median over nodes and rounds after the fifth. The first round is timed
from the start of the first process to the moment the last node closed it.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from node.network import Member, Network, Plan

WARM_UP = 5  # rounds: allocators and caches settle, as for the peers this is held against


def measure(nodes: int, *, durable: bool, rounds: int) -> dict[str, Any]:
    plan = Plan(
        name="round-speed",
        task="digits",
        mixing={"kind": "mean"},
        topology="ring",
        rounds=rounds,
        seed=0,
        members=tuple(Member(f"n{place}") for place in range(nodes)),
        node={"evaluate_every": 0, "durable": durable, "start_quorum": 2},  # both neighbors
    )
    with tempfile.TemporaryDirectory(prefix="gossipfl-") as directory:
        network = Network(plan, Path(directory))
        began = time.time()
        asyncio.run(network.run(lambda network: None))
        records = [_records(node.store) for node in network.nodes]
    seconds = [row["seconds"] for rows in records for row in rows[WARM_UP:]]
    megabytes = [node.peak_kb / 1024 for node in network.nodes if node.peak_kb is not None]
    return {
        "nodes": nodes,
        "durable": durable,
        "round_s": statistics.median(seconds),
        "round_p90_s": sorted(seconds)[int(0.9 * len(seconds))],
        "first_round_s": max(rows[0]["at"] for rows in records) - began,
        "peak_mb_per_node": max(megabytes, default=None),
        "mb_per_round": sum(node.status["bytes_out"] for node in network.nodes) / rounds / 1e6,
    }


def _records(store: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (store / "rounds.jsonl").read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    rows = []
    for nodes in (4, 8):
        for durable in (False, True):
            row = measure(nodes, durable=durable, rounds=options.rounds)
            rows.append(row)
            print(
                "N = {nodes}, durable {durable}: {round_s:.4f} s a round (p90 {round_p90_s:.4f}), "
                "first round after {first_round_s:.1f} s, {peak_mb_per_node:.0f} MB a node, "
                "{mb_per_round:.3f} MB a round".format(**row),
                file=sys.stderr,
            )
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    main()
