"""Log lines: one each, and no neighbor can write more than its share or steer a terminal."""

import logging
from collections.abc import Iterator

import pytest

from node.logs import PAUSE, RateLimit, set_up, speak_as


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers = root.handlers[:]
    levels = {each: each.level for each in map(logging.getLogger, (None, "aiohttp", "asyncio"))}
    yield
    root.handlers[:] = handlers
    for each, level in levels.items():
        each.setLevel(level)


Captured = pytest.CaptureFixture[str]


def test_values_follow_the_message(capsys: Captured) -> None:
    set_up(quiet=False)
    logging.getLogger("node").info("round closed", extra={"round": 7, "senders": 3})
    assert capsys.readouterr().err[9:] == "round closed round=7 senders=3\n"


def test_lines_carry_the_member_s_name_once_it_is_known(capsys: Captured) -> None:
    set_up(quiet=False)
    speak_as("north")
    logging.getLogger("node").info("round closed", extra={"round": 7})
    logging.getLogger("node").warning("something")
    first, second = capsys.readouterr().err.splitlines()
    assert first[9:] == "north: round closed round=7"
    assert second[9:] == "north: WARNING: something"


def test_quiet_leaves_warnings(capsys: Captured) -> None:
    set_up(quiet=True)
    logging.getLogger("node").info("nothing")
    logging.getLogger("node").warning("something")
    assert capsys.readouterr().err[9:] == "WARNING: something\n"


def test_asyncio_s_own_warnings_are_left_out_and_its_errors_are_not(capsys: Captured) -> None:
    set_up(quiet=False)
    logging.getLogger("asyncio").warning("socket.send() raised exception.")
    assert capsys.readouterr().err == ""
    logging.getLogger("asyncio").error("a task went down")
    assert "a task went down" in capsys.readouterr().err


def test_a_neighbor_s_words_neither_steer_a_terminal_nor_pass_for_a_line(capsys: Captured) -> None:
    set_up(quiet=False)
    words = "\x1b[2Jgone\r\n12:00:00 all is well\u202e\x00"
    logging.getLogger("node").warning("%s", words, extra={"peer": words})
    text = capsys.readouterr().err
    assert all(each.isprintable() for each in text.replace("\n", ""))
    assert [line for line in text.splitlines() if not line.startswith("  ")] == [
        text.splitlines()[0]
    ]
    assert "all is well" in text


def test_a_traceback_is_shown_whole(capsys: Captured) -> None:
    set_up(quiet=False)
    try:
        raise ValueError("why")
    except ValueError:
        logging.getLogger("node").exception("it went down")
    text = capsys.readouterr().err
    assert "it went down\nTraceback" in text
    assert text.endswith("ValueError: why\n")


def test_one_line_passes_in_each_pause_and_tells_how_many_did_not() -> None:
    limit = RateLimit()
    assert limit.admit("a", 0.0) == 0
    assert [limit.admit("a", PAUSE / 2) for _ in range(3)] == [None] * 3
    assert limit.admit("b", PAUSE / 2) == 0
    assert limit.admit("a", PAUSE) == 3
    assert limit.admit("a", 2 * PAUSE) == 0


def test_many_origins_cannot_fill_the_memory_nor_push_out_who_is_busy() -> None:
    limit = RateLimit()
    for place in range(3 * RateLimit.KEYS_MAX):
        now = place * 0.001
        limit.admit(place, now)
        if place % 100 == 0:
            limit.admit("busy", place * PAUSE)
        assert len(limit._last) <= RateLimit.KEYS_MAX
        assert len(limit._held) <= RateLimit.KEYS_MAX
    assert "busy" in limit._last
