"""Vectors that two processes share, and that leave nothing behind."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from node.arena import Arena, LocalState

SIZE = 5000  # five pages


@pytest.fixture
def file() -> Iterator[int]:
    file = Arena.create_file()
    yield file
    os.close(file)


def test_new_vectors_are_zero_and_each_its_own(file: int) -> None:
    arena = Arena(file, SIZE)
    first, second = arena.allocate(), arena.allocate()
    assert first.shape == second.shape == (SIZE,)
    assert first.dtype == np.float32
    assert not first.any()
    first[:] = 1
    assert not second.any()
    assert (arena.slot(first), arena.slot(second)) == (0, 1)


def test_a_slot_is_mapped_once(file: int) -> None:
    arena = Arena(file, SIZE)
    first = arena.allocate()
    assert arena.vector(0) is first


def test_a_vector_of_elsewhere_has_no_slot(file: int) -> None:
    arena = Arena(file, SIZE)
    arena.allocate()
    with pytest.raises(KeyError):
        arena.slot(np.zeros(SIZE, np.float32))


def test_another_process_sees_what_is_written_and_writes_what_is_seen(file: int) -> None:
    arena = Arena(file, SIZE)
    arena.allocate()
    shared = arena.allocate()
    shared[:] = 3
    script = (
        "import sys; from node.arena import Arena; "
        f"vector = Arena(int(sys.argv[1]), {SIZE}).vector(1); vector += vector[-1]"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], pass_fds=(file,), check=True)
    assert (shared == 6).all()


@pytest.mark.skipif(sys.platform != "linux", reason="where the name would be is Linux's own")
def test_the_memory_has_no_name(file: int) -> None:
    before = set(Path("/dev/shm").iterdir())
    Arena(file, SIZE).allocate()
    assert set(Path("/dev/shm").iterdir()) == before
    assert "memfd" in os.readlink(f"/proc/self/fd/{file}")


# --- what stays at home


def test_a_pass_reads_one_slot_and_writes_the_other(file: int) -> None:
    local = LocalState(file, 5)
    assert (local.slot, local.other, bytes(local.current)) == (0, 1, bytes(5))
    local.raw(local.other)[:] = 7
    assert bytes(local.current) == bytes(5)
    local.advance()
    assert (local.slot, local.other, bytes(local.current)) == (1, 0, bytes([7] * 5))
    local.restore(b"abcde")
    assert bytes(local.current) == b"abcde"
    assert bytes(local.raw(0)) == bytes(5)


def test_another_process_sees_both_slots(file: int) -> None:
    local = LocalState(file, 3)
    script = (
        "import sys; from node.arena import LocalState; "
        "local = LocalState(int(sys.argv[1]), 3); local.raw(1)[:] = [1, 2, 3]"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], pass_fds=(file,), check=True)
    assert bytes(local.raw(1)) == bytes([1, 2, 3])


def test_a_model_that_shares_everything_costs_nothing(file: int) -> None:
    local = LocalState(file, 0)
    assert os.fstat(file).st_size == 0
    local.advance()
    local.restore(b"")
    assert bytes(local.current) == b""
    LocalState(file, 10)
    assert os.fstat(file).st_size == 20  # the twin
