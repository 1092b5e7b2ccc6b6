"""The model for whoever uses it: its bytes are on the disk before its name is."""

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch

from gossipfl.errors import StoreError
from gossipfl.params import Layout, LocalLayout, saved_parts
from gossipfl.types import Vector
from node.model_file import ModelFile
from tests.unit.test_params import BODY, Mixed

PARTS = [("weight", "F32", (2, 2), False, 0, 16), ("bias", "F32", (2,), False, 16, 24)]
VECTOR = np.arange(6, dtype=np.float32)
ABOUT = {"member": "anna", "task": "line"}


def write_model(path: Path, vector: Vector) -> None:
    ModelFile(path, PARTS, ABOUT).write(vector, b"", 7)


def test_a_model_comes_back_by_its_names(tmp_path: Path) -> None:
    write_model(tmp_path / "model", VECTOR)
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
    write_model(path, VECTOR)
    assert seen == [(False, False), (True, True)]


def test_a_disk_that_fails_leaves_the_model_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(descriptor: int) -> None:
        raise OSError("input/output error")

    path = tmp_path / "model"
    write_model(path, VECTOR)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StoreError, match="cannot be written") as caught:
        write_model(path, 2 * VECTOR)
    assert caught.value.fix
    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [BODY, ("body.*",)])
def test_the_whole_model_loads_strictly_shared_and_local_and_tied(
    tmp_path: Path, share: tuple[str, ...]
) -> None:
    torch.manual_seed(1)
    model, fresh = Mixed(), Mixed()
    model(torch.randn(5, 3))  # moves the statistics
    layout = Layout.of(model, share)
    local_layout = LocalLayout.of(model, layout)
    vector = np.empty(layout.size, np.float32)
    raw = np.empty(local_layout.nbytes, np.uint8)
    layout.read(model, vector)
    local_layout.read(model, raw)
    path = tmp_path / "model.safetensors"
    ModelFile(path, saved_parts(model, layout, local_layout), ABOUT).write(vector, raw.data, 3)
    fresh.load_state_dict(load_torch(path))  # strict: no key more, none less
    for name, tensor in model.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], tensor), name
        assert fresh.state_dict()[name].dtype == tensor.dtype


def test_the_metadata_says_whose_it_is_and_how_far_it_got(tmp_path: Path) -> None:
    write_model(tmp_path / "model", VECTOR)
    with safe_open(tmp_path / "model", "numpy") as file:
        assert file.metadata() == {"format": "pt", **ABOUT, "rounds": "7"}


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_model(tmp_path / name, VECTOR)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
