"""From the acts of all seeds to one report, one table and one sentence for each hospital."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from blake3 import blake3

from gossipfl.tasks.heart_disease import HOSPITALS
from node.demo.acts import ACTS, Act

__all__ = ["Played", "report", "sentences", "table_rows"]

Played = Mapping[int, Mapping[str, Act]]
"""Acts by seed and name."""

NOTICEABLE = 0.005  # half a patient in a hundred: below it, the table's digits show no change


def report(played: Played) -> dict[str, Any]:
    """Return what `report.json` and `--json` say, without times; fractions lie in [0, 1].

    `digest` is that of the models all learned together, in the order of seeds and members.
    """
    nodes = [
        node for acts in played.values() for act in acts.values() for node in act.nodes.values()
    ]
    peaks = [node["peak_mb"] for node in nodes if node["peak_mb"] is not None]
    models = blake3()
    for acts in played.values():
        for vector in acts["together"].vectors:
            models.update(vector.tobytes())
    return {
        "digest": models.hexdigest(),
        "peak_mb_per_node": max(peaks, default=None),
        "acts": {act: _average([acts[act].summary() for acts in played.values()]) for act in ACTS},
        "hospitals": {name: _hospital(played, name) for name in HOSPITALS},
        "by_seed": {
            str(seed): {act: acts[act].summary() for act in ACTS} for seed, acts in played.items()
        },
        "nodes": {
            str(seed): {act: acts[act].nodes for act in ("together", "liar")}
            for seed, acts in played.items()
        },
    }


def table_rows(played: Played) -> dict[str, dict[str, float | None]]:
    """Return accuracies by hospital, and mean and worst of each column over honest hospitals."""
    rows: dict[str, dict[str, float | None]] = {}
    for name in HOSPITALS:
        found = _hospital(played, name)
        rows[name] = {act: found[act]["everybody"].get("accuracy") for act in ACTS}
        rows[name]["own_alone"] = found["alone"]["own"].get("accuracy")
        rows[name]["own_together"] = found["together"]["own"].get("accuracy")
    mean: dict[str, float | None] = {}
    worst: dict[str, float | None] = {}
    for column in (*ACTS, "own_alone", "own_together"):
        known = [value for name in HOSPITALS if (value := rows[name][column]) is not None]
        mean[column], worst[column] = fmean(known), min(known)
    return rows | {"mean": mean, "worst": worst}


def sentences(played: Played) -> list[str]:
    """Say in one sentence for each hospital what joining brought it, or that it did not."""
    rows = table_rows(played)
    return [_sentence(name, rows[name]) for name in HOSPITALS]


def _sentence(name: str, row: Mapping[str, float | None]) -> str:
    everybody = (row["together"] or 0.0) - (row["alone"] or 0.0)
    own = (row["own_together"] or 0.0) - (row["own_alone"] or 0.0)
    if everybody >= NOTICEABLE:
        head = f"Joining brought {name} {_count(everybody)} more right of 100 patients anywhere"
    elif everybody <= -NOTICEABLE:
        head = f"Joining cost {name} {_count(-everybody)} right of 100 patients anywhere"
    else:
        head = f"Joining changed nothing for {name} on patients anywhere"
    if own >= NOTICEABLE:
        return f"{head}, and {_count(own)} more of its own."
    if own <= -NOTICEABLE:
        return f"{head}, but {_count(-own)} fewer of its own."
    return f"{head}, and as many of its own."


def _count(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _hospital(played: Played, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for act in ACTS:
        honest = [acts[act] for acts in played.values() if name in acts[act].own]
        own = [asdict(ended.own[name]) for ended in honest]
        everybody = [asdict(ended.everybody[name]) for ended in honest]
        found[act] = {"everybody": _average(everybody), "own": _average(own)}
    return found


def _average(rows: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each figure over seeds; None where no seed has it."""
    found: dict[str, float | None] = {}
    for key in rows[0] if rows else ():
        known = [value for row in rows if (value := row[key]) is not None]
        found[key] = fmean(known) if known else None
    return found
