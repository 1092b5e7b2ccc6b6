"""`gossipfl health`: fine, or not and why; nothing in between."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from node.verbs.health import cut_off, judge

ANSWER: dict[str, Any] = {
    **{"member": "a", "phase": "collecting", "round": 3, "rounds": 9, "degraded": None},
    **{"exchanged_s": 5.0, "waits_for": ["b", "c"], "neighbors": []},
}


def around(**codes: str | None) -> dict[str, Any]:
    """Neighbors, each with why it is cut off, `None` for one that is well, "down" for one away."""
    return {
        "neighbors": [
            {
                "name": name,
                "up": code in (None, "members-differ"),
                "cut_off": None if code == "down" else code,
            }
            for name, code in codes.items()
        ]
    }


@pytest.mark.parametrize(
    ("changes", "healthy", "says"),
    [
        ({}, True, "5.0 s ago"),
        ({"exchanged_s": 120.0}, True, "120.0 s ago"),
        ({"exchanged_s": 120.1}, False, "waits for b, c"),
        ({"exchanged_s": None}, False, "no neighbor's update came yet"),
        ({"phase": "waiting", "exchanged_s": None}, False, "waits for b, c"),
        ({"phase": "waiting", "exchanged_s": 1.0}, True, "waiting"),
        ({"phase": "catching-up", "exchanged_s": 1.0}, True, "catching-up"),
        ({"phase": "training", "exchanged_s": None}, True, "training"),
        ({"phase": "closing", "exchanged_s": 999.0}, True, "closing"),
        ({"phase": "mixing", "exchanged_s": 999.0}, True, "mixing"),
        ({"phase": "done", "exchanged_s": 999.0}, True, "all 9 rounds are closed"),
        ({"phase": "starting", "round": None, "exchanged_s": None}, False, "starting"),
        ({"phase": "left"}, False, "leaving"),
        ({"degraded": "the disk is full"}, False, "the disk is full"),
        ({"degraded": "the disk is full", "phase": "done"}, False, "the disk is full"),
        (around(b=None, c="stale-incarnation"), True, "5.0 s ago"),
        (around(b="down", c="down"), True, "5.0 s ago"),  # how long is what counts then
        (around(b="down", c="stale-incarnation"), False, "c has seen a later start"),
        (around(b="replayed", c="wrong-federation"), False, "c has another federation.toml"),
        (around(b="members-differ"), False, "b has another member list"),
        (around(b="unknown-certificate"), False, "b does not list this member"),
        (around(b="wrong-layout") | {"phase": "training"}, False, "b has another model"),
        (around(b="wrong-version") | {"phase": "done"}, False, "another release"),
    ],
)
def test_a_node_works_or_it_is_said_why_not(
    changes: dict[str, Any], healthy: bool, says: str
) -> None:
    found, why = judge(ANSWER | changes, 120.0)
    assert found is healthy
    assert says in why


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        ("stale-incarnation", "gossipfl keygen"),
        ("members-differ", "gossipfl reload"),
        ("unknown-certificate", "put its table into everybody's federation.toml"),
    ],
)
def test_who_is_refused_by_all_learns_what_to_do(code: str, fix: str) -> None:
    alone = cut_off(ANSWER | around(b=code, c=code))
    assert alone is not None
    assert alone[1].count(fix) == 1
    assert cut_off(ANSWER | around(b=code, c=None)) is None


def test_health_is_asked_without_what_is_slow_to_load(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text('member = "a"')
    script = (
        "import resource, sys; from node.cli import main; code = main(['health', '--json']);"
        "used = resource.getrusage(resource.RUSAGE_SELF);"
        "print(code, 'torch' in sys.modules, used.ru_utime + used.ru_stime)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    told, figures = done.stdout.splitlines()
    code, torch, seconds = figures.split()
    assert '"code": "unhealthy"' in told
    assert (code, torch) == ("1", "False")
    assert float(seconds) < 1.5
    assert f"no node answers at {tmp_path}/a.state/status.sock" in done.stderr
