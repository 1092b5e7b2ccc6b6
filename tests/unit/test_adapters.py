"""Tasks that do not use torch: scikit-learn's partial_fit models and plain numpy functions."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Perceptron, SGDClassifier, SGDRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier

from gossipfl.errors import TaskError
from gossipfl.learning.array_model import ArrayModel
from gossipfl.learning.numpy_task import NumpyTask
from gossipfl.learning.samples import Array, Place, Samples, Split
from gossipfl.learning.session import Session
from gossipfl.learning.sklearn_task import SklearnTask
from gossipfl.learning.task import Task, load_task
from gossipfl.mixing.mean import Mean
from gossipfl.types import Vector

FEATURES = 4
ROWS = 400


def rows(seed: int) -> Array:
    return np.random.default_rng(seed).standard_normal((ROWS, FEATURES))


def half_blind(index: int, seed: int, *, classes: bool) -> Samples:
    """Targets follow columns 0 and 1; each member's own rows are all zero in one of the two."""
    inputs = rows(seed + index)
    if index < 2:
        inputs[:, index] = 0
    score = inputs[:, 0] - inputs[:, 1]
    return Samples(inputs, (score > 0).astype(np.int64) if classes else score)


def split(place: Place, *, classes: bool) -> Split:
    held_out = half_blind(2, 100, classes=classes)  # with both columns: what nobody has at home
    return Split(half_blind(place.index, place.seed, classes=classes), held_out)


class Sklearn(SklearnTask):
    kind = "sklearn"
    features: int = FEATURES
    classes: int = 2
    estimator_of: str = "sgd"

    def estimator(self) -> Any:
        return {
            "sgd": lambda: SGDClassifier(loss="log_loss", random_state=0),
            "random": lambda: SGDClassifier(),
            "perceptron": lambda: Perceptron(random_state=0),
            "mlp": lambda: MLPClassifier((8,), random_state=0, learning_rate_init=0.01),
            "naive-bayes": lambda: GaussianNB(),
            "regressor": lambda: SGDRegressor(random_state=0),
            "forest": lambda: RandomForestClassifier(),
            "average": lambda: SGDClassifier(average=True),
        }[self.estimator_of]()

    def data(self, place: Place) -> Split:
        return split(place, classes=self.classes > 0)


class Line(NumpyTask):
    kind = "line"
    learning_rate: float = 0.05

    def parameters(self) -> dict[str, Array]:
        return {"w": np.zeros(FEATURES), "b": np.zeros(()), "steps": np.zeros((), np.int64)}

    def step(self, parameters: dict[str, Array], inputs: Array, targets: Array) -> float:
        off = self.predict(parameters, inputs) - targets
        parameters["w"] -= self.learning_rate * inputs.T @ off / len(off)
        parameters["b"] = parameters["b"] - self.learning_rate * off.mean()
        parameters["steps"] += 1
        return float(np.mean(off**2))

    def predict(self, parameters: dict[str, Array], inputs: Array) -> Array:
        found: Array = inputs @ parameters["w"] + parameters["b"]
        return found

    def data(self, place: Place) -> Split:
        return split(place, classes=False)


def sklearn(name: str, **fields: Any) -> SklearnTask:
    return Sklearn(estimator_of=name, **fields)


def place(index: int) -> Place:
    return Place(None, "ab"[index], index, 2, 0)


class Member:
    """One member's session with its model, as a worker has it."""

    def __init__(self, task: Task, index: int) -> None:
        self.session = Session(task, place(index))
        self.model = np.empty(self.session.layout.size, np.float32)
        self.local = np.empty(self.session.local_layout.nbytes, np.uint8)
        self.session.initial(self.model, self.local)

    def train(self, seed: int) -> float:
        out, local_out = np.empty_like(self.model), np.empty_like(self.local)
        loss = self.session.train(self.model, out, seed, local=self.local, local_out=local_out)
        self.model, self.local = out, local_out
        return loss

    def measures(self) -> dict[str, float | None]:
        return self.session.evaluate(self.model, self.local)


def mix(members: list[Member]) -> None:
    models = [member.model for member in members]
    for member in members:
        others = [model for model in models if model is not member.model]
        out: Vector = np.empty_like(member.model)
        Mean()(member.model, others, (0.5,), out=out)
        member.model = out


TASKS: dict[str, Callable[[], Task]] = {
    "sgd": lambda: sklearn("sgd"),
    "perceptron": lambda: sklearn("perceptron"),
    "mlp": lambda: sklearn("mlp", epochs=2, batch_size=100),
    "naive-bayes": lambda: sklearn("naive-bayes"),
    "regressor": lambda: sklearn("regressor", classes=0),
    "numpy": lambda: Line(),
}


def quality(measures: dict[str, float | None]) -> float:
    found = measures.get("accuracy", measures.get("r2"))
    assert found is not None
    return found


@pytest.mark.parametrize("name", [name for name in TASKS if name != "naive-bayes"])
def test_two_members_together_learn_what_neither_can_alone(name: str) -> None:
    alone = [Member(TASKS[name](), index) for index in range(2)]
    together = [Member(TASKS[name](), index) for index in range(2)]
    for seed in range(20):
        for member in (*alone, *together):
            member.train(seed)
        mix(together)
    worst = min(quality(member.measures()) for member in together)
    best = max(quality(member.measures()) for member in alone)
    assert worst > best + 0.1, (worst, best)
    assert worst > 0.9, (worst, best)


@pytest.mark.parametrize("name", TASKS)
def test_the_same_seed_gives_the_same_model_and_a_new_process_goes_on_exactly(name: str) -> None:
    straight, again = Member(TASKS[name](), 0), Member(TASKS[name](), 0)
    for seed in range(4):
        straight.train(seed)
        if seed == 2:  # all that a restart has is the vector and the local bytes
            fresh = Member(TASKS[name](), 0)
            fresh.model, fresh.local = again.model, again.local
            again = fresh
        again.train(seed)
    assert straight.model.tobytes() == again.model.tobytes()
    assert straight.local.tobytes() == again.local.tobytes()
    assert straight.measures() == again.measures()


def test_global_randomness_follows_the_seed() -> None:
    models = []
    for seed in (1, 1, 2):
        member = Member(sklearn("random"), 0)
        member.train(seed)
        models.append(member.model.tobytes())
    assert models[0] == models[1]
    assert models[0] != models[2]  # the twin


def test_all_members_begin_alike_whatever_their_data() -> None:
    for make in TASKS.values():
        first, second = (Member(make(), index) for index in range(2))
        assert first.model.tobytes() == second.model.tobytes()
        assert first.session.layout.digest == second.session.layout.digest


def test_learned_arrays_travel_and_counters_stay() -> None:
    session = Session(sklearn("sgd"), place(0))
    assert session.layout.names == ("coef_", "intercept_")
    assert "t_" in {part.name for part in session.local_layout.parts}
    network = Session(sklearn("mlp"), place(0))
    assert network.layout.names == ("coefs_.0", "coefs_.1", "intercepts_.0", "intercepts_.1")
    plain = Session(Line(), place(0))
    assert plain.layout.names == ("w", "b")
    assert [part.name for part in plain.local_layout.parts] == ["steps"]
    alone = Session(Line(share=("w",)), place(0))
    assert alone.layout.names == ("w",)
    assert {part.name for part in alone.local_layout.parts} == {"b", "steps"}


def test_a_counter_survives_to_the_last_bit() -> None:
    member = Member(sklearn("sgd"), 0)
    estimator = member.session.task.fitted(member.session.model)  # type: ignore[attr-defined]
    begin = estimator.t_
    for seed in range(3):
        member.train(seed)
    after = member.session.task.fitted(member.session.model)  # type: ignore[attr-defined]
    assert after.t_ == begin + 3 * ROWS
    assert isinstance(after.t_, float)


def test_one_round_is_what_scikit_learn_does() -> None:
    member = Member(sklearn("regressor", classes=0), 0)
    ours = member.session.task.fitted(member.session.model)  # type: ignore[attr-defined]
    train = member.session.split.train
    ours.partial_fit(train.inputs.numpy(), train.targets.numpy())
    member.train(0)
    trained = member.session.task.fitted(member.session.model)  # type: ignore[attr-defined]
    assert np.array_equal(trained.coef_, ours.coef_.astype(np.float32))


def test_measures_fit_what_is_predicted() -> None:
    assert set(Member(sklearn("sgd"), 0).measures()) == {"loss", "accuracy", "auc"}
    assert set(Member(sklearn("perceptron"), 0).measures()) == {"loss", "accuracy", "auc"}
    error = {"loss", "r2", "mean_absolute_error"}
    assert set(Member(sklearn("regressor", classes=0), 0).measures()) == error
    assert set(Member(Line(), 0).measures()) == error
    before = Member(Line(), 0).measures()
    assert before["loss"] is not None  # of a model of zeros: the targets' mean square
    held_out = split(place(0), classes=False).held_out.targets
    assert before["loss"] == pytest.approx(float((held_out**2).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (lambda: sklearn("forest"), "RandomForestClassifier, which has no partial_fit"),
        (lambda: sklearn("average"), "keeps its model where nobody can mix"),
        (lambda: sklearn("sgd", classes=0), "`classes` is not set"),
        (lambda: sklearn("sgd", features=3), "shape (400, 4), but `features` is 3"),
        (lambda: sklearn("regressor", classes=0, features=9), "`features` is 9"),
    ],
)
def test_an_estimator_that_does_not_fit_is_told_with_the_fix(
    task: Callable[[], Task], said: str
) -> None:
    Member(sklearn("sgd"), 0).train(0)  # the twin
    with pytest.raises(TaskError) as caught:
        Member(task(), 0).train(0)
    assert said in caught.value.message
    assert caught.value.fix


def test_targets_that_are_no_class_are_told() -> None:
    class Three(Sklearn):
        def data(self, place: Place) -> Split:
            given = super().data(place).train
            return Split(Samples(given.inputs, given.targets + 1), given)

    with pytest.raises(TaskError, match="not all among the classes 0 to 1"):
        Member(Three(), 0).train(0)
    Member(Three(classes=3), 0).train(0)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda parameters: parameters.pop("w"), "added or removed arrays: w"),
        (lambda parameters: parameters.update(more=np.zeros(1)), "added or removed arrays: more"),
        (lambda parameters: parameters.update(w=np.zeros(9)), "w has changed"),
        (lambda parameters: parameters.update(w=np.array(["a"] * 4)), "w has changed"),
        (lambda parameters: parameters.update(w=np.full(4, np.nan)), "w is not finite"),
    ],
)
def test_a_step_that_breaks_its_arrays_is_told(spoil: Callable[[Any], Any], said: str) -> None:
    class Broken(Line):
        batch_size: int = 0

        def step(self, parameters: dict[str, Array], inputs: Array, targets: Array) -> float:
            loss = super().step(parameters, inputs, targets)
            spoil(parameters)
            return loss

    with pytest.raises(TaskError) as caught:
        Member(Broken(), 0).train(0)
    assert said in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("loss", [None, np.zeros(3), "low"])
def test_a_step_must_return_a_number(loss: Any) -> None:
    class Mute(Line):
        def step(self, parameters: dict[str, Array], inputs: Array, targets: Array) -> Any:
            super().step(parameters, inputs, targets)
            return loss

    with pytest.raises(TaskError, match="`step` returned"):
        Member(Mute(), 0).train(0)


def test_predictions_must_have_the_shape_of_the_targets() -> None:
    class Wide(Line):
        def predict(self, parameters: dict[str, Array], inputs: Array) -> Array:
            return super().predict(parameters, inputs)[:, None]

        def step(self, parameters: dict[str, Array], inputs: Array, targets: Array) -> float:
            return 0.0

    with pytest.raises(TaskError, match="`predict` returned"):
        Member(Wide(), 0).measures()


@pytest.mark.parametrize("name", ["", "training", "a..b", "."])
def test_a_name_that_no_model_can_hold_is_told(name: str) -> None:
    with pytest.raises(TaskError, match="cannot be held") as caught:
        ArrayModel({name: np.zeros(1)})
    assert "another name" in caught.value.fix
    assert ArrayModel({"a.b": np.zeros(1)}).arrays()["a.b"].dtype == np.float32


# --- the examples in the docstrings


CSV = "one,two,three,{target}\n"


@pytest.mark.parametrize(("adapter", "target"), [(SklearnTask, "sick"), (NumpyTask, "price")])
def test_the_example_of_an_adapter_runs_as_it_stands(
    adapter: type[Task], target: str, tmp_path: Path
) -> None:
    assert adapter.__doc__ is not None
    code = textwrap.dedent(adapter.__doc__.split("Example:\n")[1])
    assert len(code.strip().splitlines()) <= 20
    (tmp_path / "task.py").write_text(code)
    inputs = rows(5)[:, :3]
    score = inputs @ [1.0, -2.0, 0.5]
    targets = (score > 0).astype(int) if target == "sick" else score
    lines = [",".join(map(str, [*row, value])) for row, value in zip(inputs, targets, strict=True)]
    (tmp_path / "data.csv").write_text(CSV.format(target=target) + "\n".join(lines) + "\n")
    task = load_task("task.py", tmp_path)
    session = Session(task, Place(tmp_path / "data.csv", "a", 0, 1, 0))
    model, local = (
        np.empty(session.layout.size, np.float32),
        np.empty(session.local_layout.nbytes, np.uint8),
    )
    session.initial(model, local)
    for seed in range(10):
        session.train(model, model, seed, local=local, local_out=local)
    assert quality(session.evaluate(model, local)) > 0.9
