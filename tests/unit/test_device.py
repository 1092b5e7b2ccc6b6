"""Which device a node learns on."""

import pytest

from gossipfl.errors import ConfigError
from gossipfl.learning.device import Available, available, choose

NOTHING, ONE, TWO, APPLE = Available(), Available(cuda=1), Available(cuda=2), Available(mps=True)


@pytest.mark.parametrize(
    ("wanted", "there", "chosen"),
    [
        ("cpu", NOTHING, "cpu"),
        ("cpu", TWO, "cpu"),
        ("auto", NOTHING, "cpu"),
        ("auto", APPLE, "mps"),
        ("auto", ONE, "cuda:0"),
        ("auto", Available(cuda=1, mps=True), "cuda:0"),
        ("cuda", TWO, "cuda:0"),
        ("cuda:1", TWO, "cuda:1"),
        ("mps", APPLE, "mps"),
    ],
)
def test_what_is_asked_for_is_taken_if_it_is_there(
    wanted: str, there: Available, chosen: str
) -> None:
    assert choose(wanted, there) == chosen


@pytest.mark.parametrize(
    ("wanted", "there", "said"),
    [
        ("cuda", NOTHING, "'cuda' is not there; torch sees cpu on"),
        ("cuda:0", APPLE, "'cuda:0' is not there; torch sees cpu, mps on"),
        ("cuda:2", TWO, "torch sees cpu, cuda:0, cuda:1 on"),
        ("mps", ONE, "'mps' is not there; torch sees cpu, cuda:0 on"),
        ("gpu", TWO, "'gpu' is no device"),
        ("cuda:-1", TWO, "no device"),
        ("cuda:", TWO, "no device"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(wanted: str, there: Available, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose(wanted, there)
    assert said in caught.value.message
    assert caught.value.fix


def test_auto_works_on_any_machine() -> None:
    assert choose("auto", available())
