"""A node's rounds in a file: what a crash leaves of it still counts."""

import json
from pathlib import Path

import pytest

from gossipfl.errors import StoreError
from gossipfl.report import Participation, RoundRecord
from gossipfl.types import PeerId
from node.records import recording, recount

A, B = PeerId("anna"), PeerId("bert")


def record(round_: int) -> RoundRecord:
    return RoundRecord(round_, (B,), (), 0.1, 0.5, {"auc": None})


def counted(path: Path) -> Participation:
    taken = Participation(A, (B,))
    recount(path, taken)
    return taken


def test_what_is_written_is_counted_at_the_next_start(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    assert counted(path).rounds == 0
    with recording(path, anew=True) as write:
        write(record(0))
        write(record(1))
    with recording(path, anew=False) as write:
        write(record(1))  # closed again after a crash
        write(record(2))
    assert (counted(path).rounds, counted(path).counts) == (3, {A: 3, B: 3})
    assert [json.loads(line)["round"] for line in path.read_text().splitlines()] == [0, 1, 1, 2]


def test_an_earlier_run_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    with recording(path, anew=True) as write:
        write(record(5))
    with recording(path, anew=True) as write:
        write(record(0))
    assert counted(path).rounds == 1


@pytest.mark.parametrize("cut", range(1, 40, 7))
def test_half_a_line_spoils_no_other(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rounds.jsonl"
    with recording(path, anew=True) as write:
        write(record(0))
        write(record(1))
    path.write_bytes(path.read_bytes()[:-cut])
    with recording(path, anew=False) as write:
        write(record(2))
        write(record(3))
    whole = 4 if cut == 1 else 3  # without its newline only, a line still counts
    assert counted(path).rounds == whole


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none" / "rounds.jsonl"):
        with pytest.raises(StoreError, match="the rounds cannot be kept") as caught:
            recording(place, anew=True).__enter__()
        assert caught.value.fix
    with pytest.raises(StoreError, match="the rounds cannot be kept"):
        counted(tmp_path)
    with recording(tmp_path / "rounds.jsonl", anew=False) as write:
        write(record(0))
    assert counted(tmp_path / "rounds.jsonl").rounds == 1


def test_lines_of_somebody_else_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    path.write_bytes(
        b'[]\n{}\n\xff\xfe\nnull\n{"round": 1}\n{"round": 2, "senders": ["carla", 3]}\n'
    )
    assert (counted(path).rounds, counted(path).counts) == (1, {A: 1, B: 0})
