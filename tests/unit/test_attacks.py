"""Attacks: what a liar sends is finite, repeatable and nothing it was given changes."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import gossipfl.attacks
from gossipfl.attacks import Attack, load_attack
from gossipfl.attacks.bit_flip import BitFlip
from gossipfl.attacks.gaussian import Gaussian
from gossipfl.errors import ConfigError
from gossipfl.family import kinds
from gossipfl.streams import stream
from gossipfl.types import Vector

FAMILY = kinds(gossipfl.attacks, Attack)  # type: ignore[type-abstract]
ATTACKS = [pytest.param(member(), id=kind) for kind, member in FAMILY.items()]
OWN = np.random.default_rng(1).standard_normal(2_000, dtype=np.float32)
RECEIVED = list(np.random.default_rng(2).standard_normal((3, 2_000), dtype=np.float32))


def lie(attack: Attack, received: list[Vector], round_: int = 0) -> Vector:
    return attack(OWN, received, stream(7, "mallory", "attack", round_))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("known", [0, 1, 3])
def test_a_lie_is_a_finite_model_and_not_ones_own(attack: Attack, known: int) -> None:
    before = OWN.copy(), [model.copy() for model in RECEIVED]
    sent = lie(attack, RECEIVED[:known])
    assert (sent.shape, str(sent.dtype)) == (OWN.shape, "float32")
    assert sent.flags.c_contiguous
    assert np.isfinite(sent).all()
    assert np.abs(sent - OWN).max() > 1
    assert not np.shares_memory(sent, OWN)
    np.testing.assert_array_equal(OWN, before[0])
    np.testing.assert_array_equal(RECEIVED, before[1])


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_stream_gives_the_same_lie(attack: Attack) -> None:
    np.testing.assert_array_equal(lie(attack, RECEIVED), lie(attack, RECEIVED))


def test_bit_flip_is_ones_own_model_times_minus_ten() -> None:
    np.testing.assert_array_equal(lie(load_attack("bit-flip"), RECEIVED), OWN * np.float32(-10))
    np.testing.assert_array_equal(lie(BitFlip(factor=-1.0), RECEIVED), -OWN)


def test_gaussian_is_noise_around_the_neighbors_mean() -> None:
    mean = np.mean(RECEIVED, axis=0)
    np.testing.assert_allclose(lie(Gaussian(std=0.0), RECEIVED), mean, atol=1e-6)
    np.testing.assert_array_equal(lie(Gaussian(std=0.0), []), OWN)
    noise = lie(load_attack("gaussian"), RECEIVED) - mean
    assert abs(noise.mean()) < 30 * 4 / np.sqrt(OWN.size)
    assert abs(noise.std() / 30 - 1) < 0.1
    assert (lie(Gaussian(), RECEIVED, 0) != lie(Gaussian(), RECEIVED, 1)).any()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("shout", "there is no 'shout'"),
        ({"kind": "gaussian", "std": -1.0}, "attack.std"),
        ({"kind": "gaussian", "std": float("nan")}, "attack.std"),
        ({"kind": "bit-flip", "factor": float("inf")}, "attack.factor"),
        ({"kind": "bit-flip", "scale": 2.0}, "attack.scale"),
    ],
)
def test_a_wrong_attack_is_a_config_error_that_names_the_key(choice: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_attack(choice)
    assert caught.value.fix


def test_a_right_table_is_taken() -> None:
    assert load_attack({"kind": "gaussian", "std": 2.0}) == Gaussian(std=2.0)
    assert load_attack({"kind": "bit-flip", "factor": -1}) == BitFlip(factor=-1.0)
    assert Gaussian(std=2.0).model_dump() == {"kind": "gaussian", "std": 2.0}


def test_attacks_do_not_import_torch() -> None:
    code = (
        "import sys, gossipfl.attacks as a; a.load_attack('gaussian'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
