"""What of a model stays at home: a small ResNet in sessions, as workers hold it."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gossipfl.errors import ConfigError, TaskError
from gossipfl.learning.descent import batches
from gossipfl.learning.local import local_pass
from gossipfl.learning.samples import Place, Samples, Split
from gossipfl.learning.session import Session
from gossipfl.learning.task import Task, initial, load_task
from gossipfl.mixing.trimmed_mean import TrimmedMean
from gossipfl.tasks.digits import Digits
from gossipfl.types import Vector

SIDE = 8  # pixels
CHANNELS = 8
MEMBERS = 4
ROUNDS = 8


class Block(nn.Module):
    """Two convolutions with batch normalization, around which the input goes too."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.norm_one = nn.BatchNorm2d(CHANNELS)
        self.two = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.norm_two = nn.BatchNorm2d(CHANNELS)

    def forward(self, inputs: Tensor) -> Tensor:
        inner = relu(self.norm_one(self.one(inputs)))
        return relu(inputs + self.norm_two(self.two(inner)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
            Block(),
            Block(),
        )
        self.head = nn.Linear(CHANNELS * SIDE * SIDE, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.head(self.body(inputs).flatten(1))
        return found


class Images(Digits):
    """Digits as images, for a network that normalizes its batches."""

    kind: ClassVar[str] = "images"
    learning_rate: float = 0.05

    def model(self) -> nn.Module:
        return ResNet()

    def data(self, place: Place) -> Split:
        split = super().data(place)
        return Split(_images(split.train), _images(split.held_out))


def _images(samples: Samples) -> Samples:
    return Samples(samples.inputs.reshape(-1, 1, SIDE, SIDE), samples.targets)


class Node:
    """One member's model and local bytes, as its daemon keeps them."""

    def __init__(self, task: Task, index: int) -> None:
        self.index = index
        self.session = Session(task, Place(None, f"m{index}", index, MEMBERS, 0))
        self.model = np.empty(self.session.layout.size, np.float32)
        self.local = np.empty(self.session.local_layout.nbytes, np.uint8)
        self.session.initial(self.model, self.local)

    def train(self, round_: int) -> Vector:
        out, local_out = np.empty_like(self.model), np.empty_like(self.local)
        seed = MEMBERS * round_ + self.index
        loss = self.session.train(self.model, out, seed, local=self.local, local_out=local_out)
        assert np.isfinite(loss)
        self.local = local_out
        return out

    def accuracy(self) -> float:
        found = self.session.evaluate(self.model, self.local)["accuracy"]
        assert found is not None
        return found


def federate(task: Task, rounds: int = ROUNDS) -> list[Node]:
    nodes = [Node(task, index) for index in range(MEMBERS)]
    rule = TrimmedMean(b=1)
    for round_ in range(rounds):
        trained = [node.train(round_) for node in nodes]
        for index, node in enumerate(nodes):
            others = [row for place, row in enumerate(trained) if place != index]
            rule(trained[index], others, None, out=node.model)
            assert np.isfinite(node.model).all()
    return nodes


def tensors_of(node: Node) -> dict[str, Tensor]:
    node.session.layout.write(node.session.model, node.model)
    node.session.local_layout.write(node.session.model, node.local)
    return dict(node.session.model.state_dict())


@pytest.mark.parametrize("share", [("*",), ("*.weight", "*.bias")], ids=["shared", "local"])
def test_a_resnet_with_batch_normalization_learns_without_nan(share: tuple[str, ...]) -> None:
    before = Node(Images(share=share), 0).accuracy()
    nodes = federate(Images(share=share))
    accuracies = [node.accuracy() for node in nodes]
    assert before < 0.3
    assert min(accuracies) > 0.9, accuracies
    steps = [int(tensors_of(node)["body.1.num_batches_tracked"]) for node in nodes]
    per_round = -(-len(nodes[0].session.split.train) // nodes[0].session.task.batch_size)
    assert steps == [ROUNDS * per_round] * MEMBERS  # counters stay, and count on
    means = [tensors_of(node)["body.1.running_mean"] for node in nodes]
    names = nodes[0].session.layout.names
    assert ("body.1.running_mean" in names) == (share == ("*",))
    if share != ("*",):
        assert not torch.allclose(means[0], means[1], rtol=1e-3)
        weights = [tensors_of(node)["body.1.weight"] for node in nodes]
        assert (weights[0] - weights[1]).abs().max() < (means[0] - means[1]).abs().max()


def test_what_stays_at_home_is_never_in_the_vector() -> None:
    node = Node(Images(share=("body.*",)), 0)
    out = node.train(0)
    tensors = tensors_of(node)
    assert tensors["head.weight"].numpy().tobytes() not in out.tobytes()
    node.model = out
    assert tensors_of(node)["body.0.weight"].numpy().tobytes() in out.tobytes()  # the twin
    assert not any(name.startswith("head") for name in node.session.layout.names)


def test_a_session_made_anew_goes_on_exactly() -> None:
    straight, killed = Node(Images(share=("body.*",)), 0), Node(Images(share=("body.*",)), 0)
    for round_ in range(3):
        straight.model = straight.train(round_)
        model, local = killed.model, killed.local
        killed = Node(Images(share=("body.*",)), 0)
        killed.model, killed.local = model, local
        killed.model = killed.train(round_)
    assert killed.model.tobytes() == straight.model.tobytes()
    assert killed.local.tobytes() == straight.local.tobytes()


def test_local_bytes_are_not_optional_where_there_are_any() -> None:
    node = Node(Images(), 0)
    with pytest.raises(TypeError, match="bytes of local state"):
        node.session.evaluate(node.model)
    plain = Node(Digits(), 0)
    assert plain.local.size == 0
    assert plain.session.evaluate(plain.model)


# --- batches


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (9, 4, [4, 5]),
        (8, 4, [4, 4]),
        (10, 4, [4, 4, 2]),
        (5, 4, [5]),
        (1, 4, [1]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
        (7, 0, [7]),
    ],
)
def test_a_last_row_alone_joins_the_batch_before_it(
    count: int, size: int, sizes: list[int]
) -> None:
    samples = Samples(torch.arange(count).unsqueeze(1), torch.arange(count))
    found = list(batches(samples, size, 3, 0))
    assert [len(targets) for _, targets in found] == sizes
    assert sorted(torch.cat([targets for _, targets in found]).tolist()) == list(range(count))
    assert all(torch.equal(inputs[:, 0], targets) for inputs, targets in found)


def test_batch_normalization_trains_where_one_row_would_be_left() -> None:
    task = Images(batch_size=4)
    samples = task.data(Place(None, "m", 0, MEMBERS, 0)).train
    nine = Samples(samples.inputs[:9], samples.targets[:9])
    assert np.isfinite(local_pass(task, initial(task, 0), nine, seed=0))


# --- share, as a configuration says it


def test_share_is_a_list_in_a_configuration() -> None:
    assert load_task("digits").share == ("*",)
    assert load_task({"kind": "digits", "share": ["0.*"]}).share == ("0.*",)
    for wrong in ("0.*", [1], 3):
        with pytest.raises(ConfigError, match="share"):
            load_task({"kind": "digits", "share": wrong})


def test_a_share_that_names_nothing_stops_the_session() -> None:
    with pytest.raises(TaskError, match="shares no parameters"):
        Node(Images(share=("x",)), 0)
    with pytest.raises(TaskError, match="shares no parameters"):
        Node(Images(share=()), 0)
    with pytest.raises(TaskError, match=r"matches 'feet\.\*'"):
        Node(Images(share=("body.*", "feet.*")), 0)


# --- numpy in samples


def test_arrays_become_tensors_that_models_take() -> None:
    samples = Samples(np.ones((3, 2)), np.array([1, 2, 3], np.uint8))
    assert (samples.inputs.dtype, samples.targets.dtype) == (torch.float32, torch.int64)
    halves = Samples(np.ones((3, 2), np.float16), np.array([True, False, True]))
    assert (halves.inputs.dtype, halves.targets.dtype) == (torch.float32, torch.bool)
    turned = Samples(np.asfortranarray(np.ones((3, 2), ">f8"))[::-1], np.zeros(3, ">i4"))
    assert turned.inputs.is_contiguous()
    given = torch.ones(3, 2, dtype=torch.float64)
    assert Samples(given, given).inputs is given  # a tensor is what its maker meant


def test_samples_hold_no_reference_to_an_array() -> None:
    inputs = np.ones((2, 1), np.float32)
    samples = Samples(inputs, np.zeros(2))
    inputs[:] = 9
    assert bool((samples.inputs == 1).all())
