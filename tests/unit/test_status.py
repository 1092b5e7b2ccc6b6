"""The status socket: only its own user can open it, and what stands in its way is told."""

import asyncio
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from gossipfl.errors import ConfigError, StoreError
from node.client import SOCKET_NAME, ask, ask_reload
from node.status import StatusServer
from node.verbs.status import _head


async def test_the_socket_is_private_from_its_first_moment_and_gone_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / SOCKET_NAME
    path.touch()  # what a killed node left
    before = os.umask(0)
    try:
        monkeypatch.setattr(os, "chmod", None)  # afterwards would be too late
        async with StatusServer(path, lambda: {"round": 3}):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert await asyncio.to_thread(ask, tmp_path) == {"round": 3}
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    assert not path.exists()


async def test_what_stands_in_the_socket_s_place_is_told_and_nothing_is_left_open(
    tmp_path: Path,
) -> None:
    path = tmp_path / SOCKET_NAME
    path.mkdir()
    before = len(os.listdir("/dev/fd"))
    for place in (path, tmp_path / "none" / SOCKET_NAME):
        server = StatusServer(place, dict)
        with pytest.raises(StoreError, match=r"status socket .* cannot be made") as caught:
            await server.__aenter__()
        assert caught.value.fix
    assert len(os.listdir("/dev/fd")) == before
    path.rmdir()
    async with StatusServer(path, dict):
        assert await asyncio.to_thread(ask, tmp_path) == {}


async def test_a_reload_is_answered_or_refused_in_the_node_s_own_words(tmp_path: Path) -> None:
    outcomes: list[dict[str, Any] | StoreError] = [
        {"changed": True},
        StoreError("the disk is full", fix="Free some space."),
    ]

    async def reload() -> dict[str, Any]:
        found = outcomes.pop(0)
        if isinstance(found, StoreError):
            raise found
        return found

    async with StatusServer(tmp_path / SOCKET_NAME, dict, reload):
        assert await asyncio.to_thread(ask_reload, tmp_path) == {"changed": True}
        with pytest.raises(ConfigError, match="the disk is full") as caught:
            await asyncio.to_thread(ask_reload, tmp_path)
        assert caught.value.fix == "Free some space."
    with pytest.raises(ConfigError, match="no node answers"):
        await asyncio.to_thread(ask_reload, tmp_path)


def test_the_page_says_how_many_liars_are_withstood() -> None:
    answer = {
        **{"member": "a", "federation": "hearts", "phase": "collecting", "degraded": None},
        **{"round": 3, "rounds": 9, "waits_for": [], "measures": {}, "loss": 0.5, "incarnation": 1},
        **{"device": "cpu", "exchanged_s": 1.26},
        **{"bytes_in": 0, "bytes_out": 0, "tolerance": 2, "graph_bound": 1},
    }
    said = "\n".join(_head(answer))
    assert "lying neighbors withstood: at most 2 by this node's degree, 1 by the graph" in said
    assert "trains on cpu; newest update of a neighbor: 1.3 s ago" in said
    assert "newest update of a neighbor: none yet" in "\n".join(
        _head(answer | {"exchanged_s": None})
    )
    assert "starting" in "\n".join(_head(answer | {"phase": "starting", "round": None}))


async def test_a_socket_that_is_gone_already_does_not_spoil_the_end(tmp_path: Path) -> None:
    async with StatusServer(tmp_path / SOCKET_NAME, dict):
        (tmp_path / SOCKET_NAME).unlink()
