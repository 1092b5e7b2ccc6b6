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
from gossipfl.params import Layout, LocalLayout, saved_parts
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


# --- what stays at home


class Mixed(nn.Module):
    """Every kind of tensor a state_dict may hold, some tied, some without a place in numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, 2)
        self.again = nn.Linear(4, 2)
        self.again.weight = self.head.weight
        self.register_buffer("scale", torch.tensor(1.5, dtype=torch.bfloat16))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        self.register_buffer("wide", torch.tensor([[1.0, -0.0]], dtype=torch.float64))
        self.register_buffer("none", torch.zeros(0, 3, dtype=torch.int32))
        self.register_buffer("scratch", torch.zeros(9), persistent=False)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.norm(self.body(inputs)))
        return found


BODY = ("body.*", "norm.weight", "norm.bias")


def local_of(model: nn.Module, *share: str) -> LocalLayout:
    return LocalLayout.of(model, Layout.of(model, share or ("*",)))


def names_of(layout: LocalLayout) -> set[str]:
    return {part.name for part in layout.parts}


def test_what_stays_is_all_of_the_state_dict_that_does_not_travel() -> None:
    model = Mixed()
    layout = Layout.of(model, BODY)
    local = LocalLayout.of(model, layout)
    assert names_of(local) == {
        *("head.weight", "head.bias", "again.bias", "scale", "flags", "wide", "none"),
        *("norm.running_mean", "norm.running_var", "norm.num_batches_tracked"),
    }
    assert {*layout.names, *names_of(local), "again.weight"} == set(model.state_dict())
    assert local.nbytes == sum(part.stop - part.start for part in local.parts)


def test_statistics_are_shared_by_default_and_kept_by_a_pattern_and_counters_always_stay() -> None:
    assert names_of(local_of(normed())) == {"1.num_batches_tracked"}
    kept = local_of(normed(), "*.weight", "*.bias")
    assert names_of(kept) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert local_of(nn.Linear(2, 2)).parts == ()
    assert local_of(nn.Linear(2, 2)).nbytes == 0


def test_local_bytes_come_back_bit_for_bit_whatever_their_type() -> None:
    model, other = Mixed(), Mixed()
    for number, tensor in enumerate(model.state_dict().values()):
        tensor.copy_(torch.full_like(tensor, number % 3))
    layout = local_of(model, "body.*", "norm.weight", "norm.bias")
    raw = np.zeros(layout.nbytes, np.uint8)
    layout.read(model, raw)
    raw.flags.writeable = False
    layout.write(other, raw)
    for name in names_of(layout):
        mine, theirs = model.state_dict()[name], other.state_dict()[name]
        assert torch.equal(mine, theirs)
        assert mine.dtype == theirs.dtype
    assert other.head.weight is other.again.weight
    again = np.zeros(layout.nbytes, np.uint8)
    layout.read(other, again)
    assert again.tobytes() == raw.tobytes()


def test_a_model_keeps_no_reference_to_the_bytes_it_was_given() -> None:
    model = normed()
    layout = local_of(model)
    raw = np.ones(layout.nbytes, np.uint8)
    layout.write(model, raw)
    raw[:] = 0
    assert int(model[1].num_batches_tracked) == 0x0101010101010101  # type: ignore[index]


def test_the_local_digest_sees_type_shape_and_name() -> None:
    digests = set()
    for name, tensor in (
        ("a", torch.zeros(2, dtype=torch.int64)),
        ("b", torch.zeros(2, dtype=torch.int64)),
        ("a", torch.zeros(1, 2, dtype=torch.int64)),
        ("a", torch.zeros(4, dtype=torch.int32)),
    ):
        model = nn.Linear(1, 1)
        model.register_buffer(name, tensor)
        digests.add(local_of(model).digest)
    assert len(digests) == 4
    assert len(local_of(nn.Linear(1, 1)).digest) == DIGEST_BYTES


def test_wrong_bytes_are_our_own_bug_and_a_changed_model_the_task_s() -> None:
    model = normed()
    layout = local_of(model)
    for raw in (np.zeros(7, np.uint8), np.zeros(8, np.int8)):
        with pytest.raises(TypeError, match="8 bytes"):
            layout.write(model, raw)  # type: ignore[arg-type]
    layout.write(model, np.zeros(8, np.uint8))
    with pytest.raises(TaskError, match=r"num_batches_tracked has changed.*now gone"):
        layout.write(nn.Linear(3, 4), np.zeros(8, np.uint8))


class Odd(nn.Linear):
    def get_extra_state(self) -> object:
        return torch.zeros(1)

    def set_extra_state(self, state: object) -> None:
        pass


def test_a_state_that_is_no_buffer_is_refused_with_the_fix() -> None:
    with pytest.raises(TaskError, match="_extra_state, which is neither") as caught:
        local_of(Odd(1, 1))
    assert "register_buffer" in caught.value.fix


def test_a_type_that_no_file_holds_is_refused_by_name() -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("phase", torch.zeros(1, dtype=torch.complex128))
    with pytest.raises(TaskError, match="phase is complex128"):
        local_of(model)


def test_a_double_stays_home_by_share_and_may_not_travel() -> None:
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 1).double())
    with pytest.raises(TaskError, match=r"1.weight is float64"):
        local_of(model)
    assert names_of(local_of(model, "0.*")) == {"1.weight", "1.bias"}


def test_a_tied_tensor_travels_under_all_its_names_or_stays() -> None:
    assert names_of(local_of(Mixed(), "body.*")) >= {"head.weight", "head.bias", "again.bias"}
    with pytest.raises(TaskError, match=r"head.weight and again.weight are one tensor") as caught:
        Layout.of(Mixed(), ("body.*", "head.*"))
    assert caught.value.fix
    assert "head.weight" in Layout.of(Mixed(), ("head.*", "again.*")).names


def test_a_pattern_that_matches_nothing_is_a_slip_of_the_pen() -> None:
    with pytest.raises(TaskError, match=r"matches 'boddy.weight'") as caught:
        Layout.of(Mixed(), ("body.*", "boddy.weight"))
    assert "Did you mean 'body.weight'" in caught.value.fix
    with pytest.raises(TaskError, match="num_batches_tracked"):  # a counter never travels
        Layout.of(normed(), ("0.*", "1.num_batches_tracked"))


def test_a_file_s_parts_are_the_state_dict_s_keys_and_tied_names_lie_in_one_place() -> None:
    model = Mixed()
    layout = Layout.of(model, BODY)
    parts = saved_parts(model, layout, LocalLayout.of(model, layout))
    assert [part.name for part in parts] == list(model.state_dict())
    by_name = {part.name: part for part in parts}
    assert by_name["head.weight"][1:] == by_name["again.weight"][1:]
    assert (by_name["scale"].dtype, by_name["flags"].dtype) == ("BF16", "BOOL")
    assert not by_name["body.weight"].local
    assert by_name["wide"].local
