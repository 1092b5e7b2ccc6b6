"""The ready tasks: the data is what it says, splits are honest, models learn what there is."""

import importlib.util
from contextlib import suppress
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossipfl.tasks
from gossipfl import family
from gossipfl.errors import TaskError
from gossipfl.learning.local import evaluate, local_pass
from gossipfl.learning.task import Place, Task, initial, load_task
from gossipfl.learning.yardstick import pooled_split, score, train_alone, train_pooled
from gossipfl.params import Layout
from gossipfl.tasks.digits import Digits
from gossipfl.tasks.heart_disease import (
    COLUMNS,
    FEATURES,
    HOSPITALS,
    HeartDisease,
    features,
    read_patients,
)

KINDS = family.kinds(gossipfl.tasks, Task)  # type: ignore[type-abstract]
PACKAGED = [kind for kind in KINDS if kind != "mnist"]  # reads files that are not shipped
NAMES = tuple(HOSPITALS)
GOOD = "63,1,4,140,260,0,1,112,1,3,2,-9,-9,2"
ROUNDS = 40  # what heart-disease is made for


def place(member: str = "cleveland", seed: int = 0, *, index: int = 0, members: int = 4) -> Place:
    return Place(data=None, member=member, index=index, members=members, seed=seed)


# --- every task


@pytest.mark.parametrize("kind", PACKAGED)
def test_every_task_has_data_a_float32_model_and_learns(kind: str) -> None:
    task = load_task(kind)
    split = task.data(place())
    model = initial(task, 0)
    assert Layout.of(model).size > 0
    before = evaluate(task, model, split.held_out)
    for round_ in range(3):
        local_pass(task, model, split.train, seed=round_)
    after = evaluate(task, model, split.held_out)
    assert before["loss"] is not None
    assert after["loss"] is not None
    assert after["loss"] < before["loss"]
    assert 0 <= (after["accuracy"] or -1) <= 1


@pytest.mark.parametrize("kind", PACKAGED)
def test_every_task_splits_alike_for_the_same_seed_only(kind: str) -> None:
    task = load_task(kind)
    one, again, other = (task.data(place(seed=seed)) for seed in (1, 1, 2))
    assert torch.equal(one.train.inputs, again.train.inputs)
    assert torch.equal(one.held_out.targets, again.held_out.targets)
    assert not torch.equal(one.train.inputs, other.train.inputs)


# --- heart disease: the data


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_file_lists_the_patients_it_says(name: str) -> None:
    table = read_patients(HOSPITALS[name].path)
    assert table.shape == (HOSPITALS[name].patients, len(COLUMNS))
    inputs = features(table)
    assert inputs.shape == (len(table), len(FEATURES))
    assert np.isfinite(inputs).all()
    assert np.abs(inputs).max() < 5  # oldpeak 6.2 is 2.6, cholesterol 603 is 3.6


def test_the_known_share_of_disease_and_of_missing_values() -> None:
    tables = {name: read_patients(HOSPITALS[name].path) for name in NAMES}
    sick = {name: int((table[:, -1] > 0).sum()) for name, table in tables.items()}
    assert sick == {"cleveland": 139, "hungarian": 106, "switzerland": 115, "long-beach": 149}
    chol = COLUMNS.index("chol")
    assert np.isnan(tables["switzerland"][:, chol]).all()  # written as 0 there
    assert not np.isnan(tables["cleveland"][:, chol]).any()


@pytest.mark.parametrize("name", NAMES)
def test_a_third_is_held_out_of_the_sick_and_the_healthy_and_nobody_is_in_both(name: str) -> None:
    task = HeartDisease()
    split = task.data(place(name, seed=3))
    table = read_patients(HOSPITALS[name].path)
    assert len(split.train) + len(split.held_out) == len(table)
    for label in (0.0, 1.0):
        total = int(((table[:, -1] > 0) == label).sum())
        held_out = int((split.held_out.targets == label).sum())
        assert abs(held_out - total / 3) <= 0.5
    rows = torch.cat([split.train.inputs, split.held_out.inputs]).numpy()
    everyone = features(table)
    assert np.array_equal(rows[np.lexsort(rows.T)], everyone[np.lexsort(everyone.T)])


def test_a_missing_value_becomes_the_middle_and_a_known_one_its_place_in_the_range() -> None:
    known = dict.fromkeys(COLUMNS, np.nan)
    assert not features(np.array([list(known.values())])).any()
    known |= {"age": 75.0, "chol": 140.0, "cp": 3.0, "exang": 0.0}
    row = features(np.array([list(known.values())]))[0]
    found = {name: value for name, value in zip(FEATURES, row, strict=True) if value}
    assert found == {"age": 1, "chol": -1, "cp=3": 1, "exang": -1}


def test_one_hospital_s_features_do_not_depend_on_who_else_is_there() -> None:
    table = read_patients(HOSPITALS["cleveland"].path)
    assert np.array_equal(features(table)[:5], features(table[:5]))


def test_a_file_of_one_s_own_is_read_in_place_of_the_packaged_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.data"
    healthy = GOOD[:-1] + "0"
    file.write_text("\n".join([GOOD] * 6 + [healthy] * 3 + [""]))
    split = HeartDisease().data(Place(file, "anyone", 0, 4, 0))
    assert (len(split.train), len(split.held_out)) == (6, 3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("63,1,4", "line 2: 3 values instead of 14"),
        (GOOD + ",1", "line 2: 15 values"),
        (GOOD.replace("140", "high"), "line 2: trestbps is 'high'"),
        (GOOD.replace("140", "nan"), "line 2: trestbps is 'nan'"),
        (GOOD.replace("140", ""), "line 2: trestbps is ''"),
        (GOOD.replace("63,1,4", "63,1,7"), "line 2: cp is 7"),
        (GOOD.replace("63,1", "63,2"), "line 2: sex is 2"),
        (GOOD[:-1] + "?", "line 2: num, the diagnosis, is missing"),
        (GOOD[:-1] + "9", "line 2: num is 9"),
    ],
)
def test_a_wrong_line_is_named_with_its_file_and_a_fix(
    tmp_path: Path, line: str, said: str
) -> None:
    file = tmp_path / "mine.data"
    file.write_text(f"{GOOD}\n{GOOD}\n")
    assert len(read_patients(file)) == 2  # the twin
    file.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(TaskError) as caught:
        read_patients(file)
    assert said in caught.value.message
    assert str(file) in caught.value.message
    assert caught.value.fix


@pytest.mark.parametrize("content", [b"", b"\n\n", b"X1,X2\n", b"\xff\xfe\x00"])
def test_a_file_without_patients_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "mine.data"
    file.write_bytes(content)
    with pytest.raises(TaskError, match=r"mine\.data") as caught:
        read_patients(file)
    assert caught.value.fix


def test_a_missing_file_and_an_unknown_hospital_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="cannot be read"):
        read_patients(tmp_path / "none.data")
    with pytest.raises(TaskError, match="cannot be read"):
        read_patients(tmp_path)
    with pytest.raises(TaskError, match="member 'paris'") as caught:
        HeartDisease().data(place("paris"))
    assert "cleveland" in caught.value.fix


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="0123456789.,?-eX\n \x00é", max_size=120))
def test_whatever_a_file_holds_it_is_a_table_or_a_task_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.data"
    file.write_text(text, encoding="utf-8")
    with suppress(TaskError):
        assert read_patients(file).shape[1] == len(COLUMNS)


# --- heart disease: what is learned


def test_pooling_beats_learning_alone() -> None:
    task = HeartDisease()
    alone, pooled = [], []
    for seed in range(3):
        splits = [task.data(place(name, seed)) for name in NAMES]
        everyone = pooled_split(splits).held_out
        vectors = [
            train_alone(task, split, member=name, rounds=ROUNDS, seed=seed)
            for name, split in zip(NAMES, splits, strict=True)
        ]
        alone += [score(task, vector, everyone).accuracy for vector in vectors]
        together = train_pooled(task, splits, rounds=ROUNDS, seed=seed)
        pooled.append(score(task, together, everyone).accuracy)
    assert fmean(pooled) >= 0.785
    assert 0.70 <= fmean(alone) <= fmean(pooled) - 0.04


def test_labels_that_say_nothing_teach_nothing() -> None:
    def mean_auc(task: HeartDisease, seeds: range) -> float:
        found = []
        for seed in seeds:
            splits = [task.data(place(name, seed)) for name in NAMES]
            vector = train_pooled(task, splits, rounds=ROUNDS, seed=seed)
            found.append(score(task, vector, pooled_split(splits).held_out).auc or 0.0)
        return fmean(found)

    assert mean_auc(HeartDisease(shuffle_labels=True), range(12)) == pytest.approx(0.5, abs=0.08)
    assert mean_auc(HeartDisease(), range(2)) > 0.85  # the twin


def test_labels_are_shuffled_in_the_training_data_only() -> None:
    true = HeartDisease().data(place())
    false = HeartDisease(shuffle_labels=True).data(place())
    assert torch.equal(true.held_out.targets, false.held_out.targets)
    assert torch.equal(true.train.inputs, false.train.inputs)
    differ = float((true.train.targets != false.train.targets).float().mean())
    assert differ == pytest.approx(0.5, abs=0.01)


# --- digits


def test_members_share_the_digits_without_overlap() -> None:
    task = Digits()
    splits = [task.data(place(index=index)) for index in range(4)]
    assert sum(len(split.train) for split in splits) == 1438
    assert sum(len(split.held_out) for split in splits) == 359
    rows = torch.cat([s.inputs for split in splits for s in (split.train, split.held_out)])
    assert len(torch.unique(rows, dim=0)) == 1797  # no image occurs twice
    assert 0 <= float(rows.min()) <= float(rows.max()) <= 1


def test_a_perceptron_reads_the_digits() -> None:
    task = Digits()
    split = task.data(place(members=1))
    model = initial(task, 0)
    for round_ in range(8):
        local_pass(task, model, split.train, seed=round_)
    assert (evaluate(task, model, split.held_out)["accuracy"] or 0) > 0.93


def test_without_scikit_learn_the_fix_is_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TaskError, match="not installed") as caught:
        Digits().data(place())
    assert caught.value.fix == "pip install 'gossipfl[digits]'"


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08"])
def test_a_broken_digits_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "digits.csv.gz"
    file.write_bytes(content)
    with pytest.raises(TaskError, match=r"digits\.csv\.gz"):
        Digits().data(Place(file, "a", 0, 1, 0))
