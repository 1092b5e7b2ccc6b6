"""How one data set is dealt: the rules of all partitions, and what each is for."""

import gzip
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gossipfl.partitions
from gossipfl.errors import ConfigError, TaskError
from gossipfl.family import kinds
from gossipfl.learning.task import Place, load_task
from gossipfl.partitions import Partition, load_partition
from gossipfl.partitions.dirichlet import Dirichlet
from gossipfl.partitions.iid import Iid, held_out_rows
from gossipfl.partitions.one_label import OneLabel
from gossipfl.partitions.partition import Labels, Rows, shares
from gossipfl.partitions.quantity_skew import QuantitySkew
from gossipfl.partitions.shards import Shards
from gossipfl.streams import stream
from gossipfl.tasks.digits import Digits
from gossipfl.tasks.mnist import Mnist, read_idx

KNOWN = kinds(gossipfl.partitions, Partition)  # type: ignore[type-abstract]


def every_partition() -> list[Partition]:
    """One of each kind in the library; a new file is picked up by itself."""
    made = []
    for kind, member in KNOWN.items():
        fields: dict[str, Any] = {"alpha": 0.5} if "alpha" in member.model_fields else {}
        made.append(load_partition({"kind": kind, **fields}))
    return [partition for partition in made if not partition.natural]


def labels_of(count: int, classes: int, seed: int) -> Labels:
    labels = np.concatenate(
        (np.arange(classes), stream(seed, "", "l").integers(classes, size=count))
    )
    return labels[:count] if count >= classes else labels


@settings(max_examples=60, deadline=None)
@given(
    place=st.integers(0, len(every_partition()) - 1),
    members=st.integers(4, 30),
    more=st.integers(0, 200),
    seed=st.integers(0, 9),
)
def test_every_row_goes_to_one_member_and_nobody_is_left_without(
    place: int, members: int, more: int, seed: int
) -> None:
    labels = labels_of(2 * members + more, 4, seed)
    dealt = every_partition()[place](labels, members, seed)
    assert sorted(np.concatenate(dealt).tolist()) == list(range(len(labels)))
    assert min(map(len, dealt)) >= 1


@pytest.mark.parametrize("partition", every_partition(), ids=lambda found: str(found.kind))
def test_the_deal_follows_the_seed(partition: Partition) -> None:
    labels = labels_of(200, 5, 0)
    first, again, other = (partition(labels, 8, seed) for seed in (1, 1, 2))
    assert [part.tolist() for part in first] == [part.tolist() for part in again]
    assert [part.tolist() for part in first] != [part.tolist() for part in other]


@pytest.mark.parametrize("partition", every_partition(), ids=lambda found: str(found.kind))
def test_more_members_than_rows_is_refused(partition: Partition) -> None:
    with pytest.raises(TaskError, match="3 samples cannot be dealt to 4"):
        partition(np.zeros(3, np.int64), 4, 0)


def test_equal_shares_differ_by_at_most_one_row() -> None:
    sizes = [len(rows) for rows in Iid()(np.zeros(103), 10, 0)]
    assert sorted(set(sizes)) == [10, 11]


def spread_of(partition: Partition, members: int = 20) -> float:
    """Mean share of a member's most frequent class."""
    labels = labels_of(2000, 10, 0)
    shares = [np.bincount(labels[rows]).max() / len(rows) for rows in partition(labels, members, 1)]
    return float(np.mean(shares))


def test_the_smaller_alpha_is_the_fewer_classes_a_member_has() -> None:
    found = [spread_of(Dirichlet(alpha=alpha)) for alpha in (0.05, 0.5, 100.0)]
    assert found[0] > 0.6 > found[1] > 0.25 > found[2]


def test_a_tiny_alpha_still_deals_every_row() -> None:
    dealt = Dirichlet(alpha=1e-9)(labels_of(50, 5, 0), 20, 0)
    assert sum(map(len, dealt)) == 50


def test_one_label_means_one() -> None:
    labels = labels_of(500, 5, 0)
    dealt = OneLabel()(labels, 12, 0)
    assert [len(set(labels[rows])) for rows in dealt] == [1] * 12
    assert {int(labels[rows[0]]) for rows in dealt} == set(range(5))
    with pytest.raises(TaskError, match="5 classes cannot be dealt to 4 members"):
        OneLabel()(labels, 4, 0)


def test_shards_hold_few_classes_and_are_of_equal_size() -> None:
    labels = labels_of(1000, 10, 0)
    dealt = Shards(each=2)(labels, 20, 0)
    assert max(len(set(labels[rows])) for rows in dealt) <= 4
    assert {len(rows) for rows in dealt} == {50}
    with pytest.raises(TaskError, match="60 shards"):
        Shards(each=30)(np.zeros(59, np.int64), 2, 0)


def test_quantity_skew_makes_sizes_unequal_and_classes_alike() -> None:
    labels = labels_of(2000, 2, 0)
    dealt = QuantitySkew(alpha=0.3)(labels, 10, 0)
    sizes = [len(rows) for rows in dealt]
    assert max(sizes) > 5 * min(sizes)
    large = dealt[int(np.argmax(sizes))]
    assert abs(labels[large].mean() - 0.5) < 0.1


def test_natural_parts_cannot_be_made_from_one_data_set() -> None:
    assert load_partition("natural").natural
    with pytest.raises(TaskError, match="no natural parts"):
        load_partition("natural")(np.zeros(9), 3, 0)


def test_targets_that_are_no_classes_are_refused_by_those_that_need_them() -> None:
    with pytest.raises(TaskError, match="deals by class"):
        Dirichlet(alpha=1.0)(np.array([0.1, 0.7, 0.3]), 2, 0)
    assert len(Iid()(np.array([0.1, 0.7, 0.3]), 2, 0)) == 2


def test_wrong_fields_are_refused_by_name() -> None:
    for choice, words in (
        ({"kind": "dirichlet"}, "partition.alpha"),
        ({"kind": "dirichlet", "alpha": 0.0}, "greater than 0"),
        ({"kind": "shards", "each": 0}, "greater than or equal to 1"),
        ("dirichlett", "there is no 'dirichlett'"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_partition(choice)


class Greedy(Partition):
    """Somebody's own, and wrong in one of several ways."""

    kind: ClassVar[str] = "greedy"
    how: str

    def deal(self, labels: Labels, members: int, seed: int) -> list[Rows]:
        rows = np.arange(len(labels))
        return {
            "right": np.array_split(rows, members),
            "few": np.array_split(rows, members - 1),
            "none": [rows, *[rows[:0]] * (members - 1)],
            "twice": [rows] * members,
            "outside": [rows + 1, *[rows[:1]] * (members - 1)],
        }[self.how]


def test_a_wrong_partition_of_ones_own_is_told_what_is_wrong() -> None:
    labels = np.zeros(10, np.int64)
    assert len(Greedy(how="right")(labels, 2, 0)) == 2
    for how, words in (
        ("few", "1 parts for 2 members"),
        ("none", "a member without a row"),
        ("twice", "a row twice"),
        ("outside", "rows that do not exist"),
    ):
        with pytest.raises(TaskError, match=words):
            Greedy(how=how)(labels, 2, 0)


@given(total=st.integers(0, 500), parts=st.lists(st.floats(0.01, 1), min_size=1, max_size=20))
def test_shares_sum_to_the_whole_and_are_off_by_less_than_one(
    total: int, parts: list[float]
) -> None:
    wanted = np.array(parts) / np.sum(parts)
    found = shares(total, wanted)
    assert found.sum() == total
    assert (np.abs(found - wanted * total) < 1 + 1e-9).all()


def test_held_out_shares_overlap_only_where_they_would_be_too_small() -> None:
    apart = held_out_rows(100, 5, 20, 0)
    assert sorted(np.concatenate(apart).tolist()) == list(range(100))
    shared = held_out_rows(100, 50, 20, 0)
    assert {len(set(rows.tolist())) for rows in shared} == {20}
    assert set(np.concatenate(shared).tolist()) == set(range(100))
    assert {len(rows) for rows in held_out_rows(3, 50, 20, 0)} == {3}


# --- tasks that are dealt


def place(index: int, members: int, data: Path | None = None) -> Place:
    return Place(data, f"node-{index + 1}", index, members, 1)


def test_a_task_takes_its_partition_from_the_configuration() -> None:
    task = load_task({"kind": "digits", "partition": {"kind": "dirichlet", "alpha": 0.1}})
    assert task == Digits(partition=Dirichlet(alpha=0.1))
    assert task.model_dump()["partition"] == {"kind": "dirichlet", "alpha": 0.1}
    sizes = [len(task.data(place(index, 50)).train) for index in range(50)]
    assert sum(sizes) == 1438
    assert max(sizes) > 3 * min(sizes)


def test_however_training_is_dealt_everybody_is_measured_on_all_classes() -> None:
    task = Digits(partition=OneLabel())
    split = task.data(place(0, 10))
    assert len(set(split.train.targets.tolist())) == 1
    assert len(set(split.held_out.targets.tolist())) > 5


def idx(values: "np.typing.NDArray[np.uint8]") -> bytes:
    head = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
    return head + values.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 25)):
        pixels = draw.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pixels)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return tmp_path


def test_mnist_is_read_from_idx_files_packed_or_not(mnist: Path) -> None:
    split = Mnist().data(place(0, 2, mnist))
    assert split.train.inputs.shape == (30, 784)
    assert 0 <= float(split.train.inputs.min()) < float(split.train.inputs.max()) <= 1
    assert len(split.held_out) == 20  # shares of 12 would say little: they overlap
    assert len(Mnist(images=10).data(place(0, 2, mnist)).train) == 5


def test_mnist_networks_have_the_sizes_that_are_published() -> None:
    sizes = {
        name: sum(part.numel() for part in Mnist(network=name).model().parameters())
        for name in ("linear", "perceptron", "convolutional")
    }
    assert sizes == {"linear": 7850, "perceptron": 101770, "convolutional": 31530}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is no IDX file"),
        (b"\1\2\3\4", "is no IDX file"),
        (struct.pack(">HBBI", 0, 13, 1, 4) + bytes(16), "of bytes"),
        (idx(np.zeros(9, np.uint8))[:-1], "8 values where 9 are promised"),
    ],
)
def test_a_broken_idx_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "some").write_bytes(content)
    with pytest.raises(TaskError, match=words):
        read_idx(tmp_path / "some")


def test_mnist_without_its_files_says_where_they_should_be(mnist: Path) -> None:
    with pytest.raises(TaskError, match="none is named"):
        Mnist().data(place(0, 2))
    with pytest.raises(TaskError, match="no such file, nor with"):
        Mnist().data(place(0, 2, mnist / "elsewhere"))
