"""Somebody's own rule or attack that is wrong: said of his line, not of ours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gossipfl.attacks.attack import load_attack
from gossipfl.errors import ConfigError
from gossipfl.mixing.rule import load_rule
from topology.simulate import simulate
from topology.simulate.own_code import blamed, checked
from topology.simulate.run import Options

ATTACKS = """import numpy as np
from gossipfl.attacks import Attack
from gossipfl.mixing import MixingRule


class Boom(Attack):
    def __call__(self, own, received, rng):
        raise ValueError("oops")  # line 8


class Short(Attack):
    def __call__(self, own, received, rng):
        return own[:3]


class Wide(Attack):
    def __call__(self, own, received, rng):
        return own.astype(np.float64)


class Forgetful(Attack):
    def __call__(self, own, received, rng):
        pass


class Fine(Attack):
    def __call__(self, own, received, rng):
        return -own


class Cut(MixingRule):
    @property
    def byzantine(self):
        return 0

    def mix(self, own, rows, weights, out):
        out[:] = rows[0][:3]  # line 37
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(ATTACKS)
    return path


@pytest.mark.parametrize("engine", ["vectorized", "protocol"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Boom", r"Boom failed: ValueError: oops \(.*own.py, line 8\)"),
        ("Short", r"Short returned float32 of shape \(3,\), not a model"),
        ("Wide", r"Wide returned float64 of shape \(9610,\)"),
        ("Forgetful", "Forgetful returned NoneType"),
    ],
)
def test_an_attack_of_ones_own_that_is_wrong_is_said(
    own: Path, engine: str, name: str, said: str
) -> None:
    given: Options = {"nodes": 4, "liars": 1, "rounds": 1, "engine": engine}
    with pytest.raises(ConfigError, match=said) as caught:
        simulate("complete", "digits", "mean", f"{own}:{name}", **given)
    assert caught.value.fix
    assert simulate("complete", "digits", "mean", f"{own}:Fine", **given).rounds_done == 1


@pytest.mark.parametrize("engine", ["vectorized", "protocol"])
def test_a_rule_of_ones_own_that_fails_says_its_line(own: Path, engine: str) -> None:
    given: Options = {"nodes": 4, "rounds": 1, "engine": engine}
    with pytest.raises(ConfigError, match=r"Cut failed: ValueError: .*own.py, line 37"):
        simulate("complete", "digits", f"{own}:Cut", **given)


def test_a_fault_of_the_library_stays_our_own() -> None:
    rule: Any = load_rule("mean")
    with pytest.raises(ZeroDivisionError), blamed(rule, "mixing"):
        raise ZeroDivisionError
    attack = load_attack("bit-flip")
    assert checked(attack) is attack
    model = np.ones(3, np.float32)
    assert len(attack(model, [], np.random.default_rng(0))) == 3
