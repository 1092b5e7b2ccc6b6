"""What a running node says of itself, over a socket only its own user can open.

HTTP over a Unix socket in the store directory: `gossipfl status` reads it, and so can curl.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from gossipfl.errors import ConfigError
from gossipfl.report import neighbor_report
from gossipfl.types import Seconds
from node.driver import Driver
from node.links import Links
from node.worker import Worker

__all__ = ["SOCKET_NAME", "StatusServer", "ask", "describe"]

SOCKET_NAME = "status.sock"
_PATH_BYTES_MAX = 100  # AF_UNIX takes 104 to 108 bytes, by system
_ANSWER_S = 5.0  # a node that does not answer its own machine in this time hangs


def describe(driver: Driver, links: Links, worker: Worker, now: Seconds) -> dict[str, Any]:
    """Return the whole status of a node, ready for JSON."""
    engine, seen = driver.engine, driver.seen
    setup = engine.setup
    constitution = setup.federation.constitution
    trouble = links.trouble()
    neighbors = [neighbor_report(engine, peer, now) for peer in setup.neighbors]
    for row in neighbors:
        row["trouble"] = trouble.get(row["name"])
        row["members_diff"] = list(seen.members_differ.get(row["name"], ()))
    links_open = [vars(link) for link in links.info()]
    return {
        "member": setup.me,
        "federation": constitution.name,
        "federation_digest": constitution.digest.hex(),
        "pid": os.getpid(),
        "worker_pid": worker.pid,
        "worker_restarts": worker.restarts,
        "incarnation": setup.incarnation,
        "phase": engine.phase.value,
        "round": engine.round,
        "rounds": constitution.rounds,
        "waits_for": list(engine.waits_for),
        "start_quorum": engine.start_quorum,
        "finished": seen.finished,
        "degraded": seen.degraded or None,
        "loss": seen.loss,
        "measures": seen.measures,
        "model_digest": seen.model_digest.hex(),
        "offered_round": engine.outbox.round,
        "neighbors": neighbors,
        "strangers_refused": dict(sorted(seen.strangers.items())),
        "links": links_open,
        "bytes_in": links.bytes_in,
        "bytes_out": links.bytes_out,
        "participation": seen.participation.counts,
        "records": [record.as_json() for record in seen.records],
    }


class StatusServer:
    """Answers `GET /status` on a Unix socket.

    Args:
        path: of the socket; one that a killed node left behind is replaced.
        report: returns what to answer.

    Raises:
        ConfigError: the path is longer than a socket's may be.
    """

    def __init__(self, path: Path, report: Callable[[], dict[str, Any]]) -> None:
        _check_length(path)
        self._path = path
        self._report = report
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> None:
        app = web.Application()
        app.router.add_get("/status", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)  # the store's lock says that nobody else listens here
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o600)

    async def __aexit__(self, *error: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _answer(self, request: web.Request) -> web.Response:
        return web.json_response(self._report())


async def ask(store: Path) -> dict[str, Any]:
    """Return the status of the node whose store this is.

    Raises:
        ConfigError: no node runs there, or it does not answer.
    """
    path = store / SOCKET_NAME
    _check_length(path)
    timeout = aiohttp.ClientTimeout(total=_ANSWER_S)
    try:
        async with (
            aiohttp.UnixConnector(str(path)) as connector,
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get("http://node/status") as response,
        ):
            answer: dict[str, Any] = await response.json()
            return answer
    except (OSError, aiohttp.ClientError) as error:  # a timeout is an OSError
        raise ConfigError(
            f"no node answers at {path}: {error or type(error).__name__}",
            fix="Is it running? Start it with `gossipfl run NODE.TOML`.",
        ) from error


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > _PATH_BYTES_MAX:
        raise ConfigError(
            f"the path {path} is too long for a socket",
            fix=f"Set `store` so that it has at most {_PATH_BYTES_MAX} bytes with {SOCKET_NAME}.",
        )
