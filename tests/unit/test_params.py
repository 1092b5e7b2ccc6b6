"""A model's vector: nothing lost on the way, and the digest sees every difference."""

import gc
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gossipfl.errors import TaskError
from gossipfl.params import Layout
from gossipfl.types import DIGEST_BYTES


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(3, 3, bias=False)
        self.two = nn.Linear(3, 3, bias=False)
        self.two.weight = self.one.weight


@settings(max_examples=30, deadline=None)
@given(widths=st.lists(st.integers(1, 7), min_size=2, max_size=5), seed=st.integers(0, 99))
def test_what_is_written_is_read_back_bit_for_bit(widths: list[int], seed: int) -> None:
    model = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(widths)))
    layout = Layout.of(model)
    vector = np.random.default_rng(seed).standard_normal(layout.size).astype(np.float32)
    layout.write(model, vector)
    out = np.zeros_like(vector)
    layout.read(model, out)
    assert out.tobytes() == vector.tobytes()
    assert layout.size == sum(item.numel() for item in model.parameters())


def test_each_value_lands_in_the_tensor_that_bears_its_name() -> None:
    model = normed()
    layout = Layout.of(model)
    vector = np.arange(layout.size, dtype=np.float32)
    layout.write(model, vector)
    state = model.state_dict()
    for name, part in layout.to_tensors(vector).items():
        assert np.array_equal(state[name].numpy(), part)
        assert np.shares_memory(part, vector)  # a view, not a copy


def test_the_model_and_the_vector_share_no_memory_afterwards() -> None:
    model = nn.Linear(2, 2)
    layout = Layout.of(model)
    vector = np.ones(layout.size, np.float32)
    layout.write(model, vector)
    vector[:] = 9
    assert bool((model.weight == 1).all())
    layout.read(model, vector)
    with torch.no_grad():
        model.weight.zero_()
    assert (vector == 1).all()


def test_a_read_only_vector_can_be_written_into_a_model() -> None:
    model = nn.Linear(2, 2)
    layout = Layout.of(model)
    vector = np.ones(layout.size, np.float32)
    vector.flags.writeable = False
    layout.write(model, vector)
    assert bool((model.bias == 1).all())
    with pytest.raises(ValueError, match="read-only"):  # the twin: reading into it is refused
        layout.read(model, vector)


def test_a_thousand_moves_leave_no_memory_behind() -> None:
    model = nn.Linear(100, 100)
    layout = Layout.of(model)
    vector = np.zeros(layout.size, np.float32)
    layout.write(model, vector)
    gc.collect()
    tracemalloc.start()
    for _ in range(1000):
        layout.write(model, vector)
        layout.read(model, vector)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < layout.size * 4  # one leaked vector in a thousand would be seen


def test_float_buffers_travel_and_integer_counters_stay() -> None:
    names = Layout.of(normed()).names
    assert "1.running_mean" in names
    assert "1.num_batches_tracked" not in names


def test_buffers_that_a_checkpoint_leaves_out_stay() -> None:
    model = nn.Linear(2, 1)
    model.register_buffer("cache", torch.zeros(5), persistent=False)
    assert "cache" not in Layout.of(model).names
    model.register_buffer("kept", torch.zeros(5))
    assert "kept" in Layout.of(model).names


def test_what_matches_no_pattern_stays_local() -> None:
    model = normed()
    layout = Layout.of(model, share=("0.*", "1.weight"))
    assert layout.names == ("0.weight", "0.bias", "1.weight")
    before = model[2].weight.detach().clone()  # type: ignore[index]
    layout.write(model, np.full(layout.size, 7, np.float32))
    assert torch.equal(model[2].weight, before)  # type: ignore[index]


def test_a_tied_weight_counts_once() -> None:
    assert Layout.of(Tied()).size == 9


def test_parameters_that_are_not_contiguous_keep_their_places() -> None:
    model = nn.Linear(2, 3)
    model.weight = nn.Parameter(torch.zeros(2, 3).t())
    layout = Layout.of(model)
    vector = np.arange(layout.size, dtype=np.float32)
    layout.write(model, vector)
    assert model.weight.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_equal_models_have_equal_digests_whatever_their_values() -> None:
    digest = Layout.of(normed()).digest
    assert digest == Layout.of(normed()).digest
    assert len(digest) == DIGEST_BYTES


@pytest.mark.parametrize(
    "other",
    [
        nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
        nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.Identity(), nn.Linear(4, 2)),
    ],
    ids=["shape", "order", "fewer"],
)
def test_the_digest_sees_every_difference(other: nn.Module) -> None:
    assert Layout.of(other).digest != Layout.of(normed()).digest


def test_the_digest_sees_a_transposed_shape_of_equal_size() -> None:
    a, b = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    assert Layout.of(a).size == Layout.of(b).size
    assert Layout.of(a).digest != Layout.of(b).digest


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.Linear(2, 1).double(), "float64"),
        (nn.Linear(2, 1).half(), "float16"),
        (nn.Sequential(nn.LazyLinear(2)), "no shape yet"),
        (nn.Identity(), "shares no parameters"),
    ],
    ids=["double", "half", "lazy", "empty"],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_model_that_cannot_travel_is_the_task_s_fault_with_a_fix(
    model: nn.Module, said: str
) -> None:
    with pytest.raises(TaskError, match=said) as caught:
        Layout.of(model)
    assert caught.value.fix


def test_a_model_that_changed_under_way_is_the_task_s_fault() -> None:
    layout = Layout.of(nn.Linear(2, 1))
    vector = np.zeros(layout.size, np.float32)
    layout.write(nn.Linear(2, 1), vector)  # the twin: another model of the same layout
    for changed in (nn.Linear(3, 1), nn.Linear(2, 1, bias=False), nn.Linear(2, 1).double()):
        with pytest.raises(TaskError, match="changed"):
            layout.write(changed, vector)


@pytest.mark.parametrize(
    "vector",
    [np.zeros(4, np.float32), np.zeros(3, np.float64), np.zeros(6, np.float32)[::2]],
    ids=["length", "dtype", "strided"],
)
def test_a_wrong_vector_is_our_own_bug(vector: np.ndarray) -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(TypeError, match="contiguous float32"):
        Layout.of(model).write(model, vector)
