"""The daemon's end of the worker: one process that holds torch and does all that is slow.

Requests are answered in order. The worker ends when its pipe closes, so it cannot outlive the
daemon; if it dies first, whoever waits gets `WorkerDied` and may start it again.
"""

import asyncio
import os
import sys
from collections import deque
from pathlib import Path
from typing import Any

from gossipfl.errors import ConfigError, GossipError, TaskError, WorkerDied
from gossipfl.types import Vector
from node.arena import Arena
from node.pipe import LENGTH_BYTES, MESSAGE_BYTES_MAX, pack, unpack

__all__ = ["Worker"]

_ERRORS: dict[str, type[GossipError]] = {kind.code: kind for kind in (ConfigError, TaskError)}


class Worker:
    """One worker process.

    Args:
        begin: the first request, which names the task and this node's place in it.
    """

    def __init__(self, begin: dict[str, Any]) -> None:
        self._begin = begin
        self._file = Arena.create_file()
        self._arena: Arena | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: deque[asyncio.Future[dict[str, Any]]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process id, None before the first start."""
        return self._process.pid if self._process is not None else None

    async def start(self, tasks: asyncio.TaskGroup) -> dict[str, Any]:
        """Start the process; return what it says of the task: size, layout, norm, digest.

        Raises:
            TaskError, ConfigError: the task or its data is wrong.
            WorkerDied: it did not come up.
        """
        environment = dict(os.environ)
        # One thread: deterministic sums, and four nodes on two cores do not fight for them.
        environment.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONUNBUFFERED="1")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "node.worker_main",
            str(self._file),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._file,),
            env=environment,
        )
        self._reader = tasks.create_task(self._read(self._process), name="worker")
        return await self._ask({"do": "begin", **self._begin, "again": self._arena is not None})

    async def restart(self, tasks: asyncio.TaskGroup) -> None:
        """Start again after a death; the vectors are still there."""
        self.restarts += 1
        await self.start(tasks)

    def arena(self, size: int) -> Arena:
        """Return the shared vectors; slot 0 is the initial model that the worker wrote."""
        if self._arena is None:
            self._arena = Arena(self._file, size)
        return self._arena

    async def train(self, round_: int, model: Vector, out: Vector) -> dict[str, Any]:
        """Run one local pass; return `loss` and the `norm` of the result."""
        return await self._ask(
            {"do": "train", "round": round_, "model": self._slot(model), "out": self._slot(out)}
        )

    async def mix(
        self,
        own: Vector,
        received: tuple[Vector, ...],
        weights: tuple[float, ...] | None,
        out: Vector,
    ) -> dict[str, Any]:
        """Apply the mixing rule; return `norm` and `digest` of the result."""
        return await self._ask(
            {
                "do": "mix",
                "own": self._slot(own),
                "received": [self._slot(row) for row in received],
                "weights": weights,
                "out": self._slot(out),
            }
        )

    async def evaluate(self, model: Vector) -> dict[str, float | None]:
        """Return the task's measures on this node's held-out data."""
        answer = await self._ask({"do": "evaluate", "model": self._slot(model)})
        measures: dict[str, float | None] = answer["measures"]
        return measures

    async def export(self, model: Vector, path: Path) -> None:
        """Write a model as safetensors, whole or not at all."""
        await self._ask({"do": "export", "model": self._slot(model), "path": str(path)})

    async def stop(self) -> None:
        """Close the pipe, which ends the process, and wait for it."""
        process = self._process
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        await process.wait()

    def kill(self) -> None:
        """End the process if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def close(self) -> None:
        """Give the shared memory back."""
        os.close(self._file)

    def _slot(self, vector: Vector) -> int:
        assert self._arena is not None
        return self._arena.slot(vector)

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        if process.returncode is not None or process.stdin.is_closing():
            raise WorkerDied("the worker process has ended")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        process.stdin.write(pack(request))
        return _checked(await answer)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while True:
                head = await process.stdout.readexactly(LENGTH_BYTES)
                length = int.from_bytes(head, "little")
                if length > MESSAGE_BYTES_MAX:
                    break
                answer = unpack(await process.stdout.readexactly(length))
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it ended; the status below says how
        code = await process.wait()
        error = WorkerDied(
            f"the worker process ended with status {code}",
            fix="Its last words are above; if it was killed, the machine may be out of memory.",
        )
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_exception(error)


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise _ERRORS[answer["error"]](answer["message"], fix=answer["fix"])
    return answer
