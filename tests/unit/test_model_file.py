"""The model for whoever uses it: its bytes are on the disk before its name is."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from gossipfl.errors import StoreError
from node.model_file import write_model

PARTS = [("weight", (2, 2), 0, 4), ("bias", (2,), 4, 6)]
VECTOR = np.arange(6, dtype=np.float32)


def test_a_model_comes_back_by_its_names(tmp_path: Path) -> None:
    write_model(tmp_path / "model", VECTOR, PARTS)
    tensors = load_file(tmp_path / "model")
    assert tensors["weight"].tolist() == [[0, 1], [2, 3]]
    assert tensors["bias"].tolist() == [4, 5]
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


def test_bytes_are_durable_before_the_name_and_the_name_on_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "model", list[tuple[bool, bool]]()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        seen.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_model(path, VECTOR, PARTS)
    assert seen == [(False, False), (True, True)]


def test_a_disk_that_fails_leaves_the_model_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError("input/output error")

    path = tmp_path / "model"
    write_model(path, VECTOR, PARTS)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreError, match="cannot be written") as caught:
        write_model(path, 2 * VECTOR, PARTS)
    assert caught.value.fix
    assert path.read_bytes() == before
