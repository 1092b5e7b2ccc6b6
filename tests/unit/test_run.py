"""What `gossipfl run` says at its end."""

from dataclasses import replace
from pathlib import Path

from gossipfl.types import PeerId
from node.daemon import Outcome
from node.verbs.run import _result

WHOLE = Outcome(
    participation={PeerId("anna"): 60, PeerId("bert"): 44},
    members=2,
    rounds=60,
    status={"rounds": 60},
    model=Path("anna.state/model.safetensors"),
    first=0,
)


def test_the_rounds_are_told_of_all_there_were_and_a_late_start_is_said() -> None:
    late = replace(WHOLE, rounds=44, first=16)
    assert "60 of 60 rounds closed here. Took part in:" in str(_result(WHOLE).text)
    said = _result(late)
    assert "44 of 60 rounds closed here; it came in at round 16. Took part in:" in str(said.text)
    assert (said.data["rounds"], said.data["first_round"]) == (44, 16)


def test_a_node_that_closed_no_round_says_so() -> None:
    none = Outcome({}, 1, 0, {"rounds": 60}, None)
    assert str(_result(none).text).startswith("0 of 60 rounds closed here. ")
