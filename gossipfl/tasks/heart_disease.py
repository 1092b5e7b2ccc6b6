"""Does this patient have a narrowed coronary artery? Four hospitals, 920 patients.

Data: UCI Heart Disease (Janosi, Steinbrunn, Pfisterer, Detrano, 1988), see data/heart-disease.
A logistic regression on ten of the thirteen clinical columns: slope, ca and thal are missing for
most patients outside Cleveland. Every column is scaled by a fixed clinical range, so that no
hospital has to tell the others its statistics.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from gossipfl.errors import TaskError
from gossipfl.learning.measures import accuracy, auc
from gossipfl.learning.task import Place, Samples, Split, Task
from gossipfl.streams import stream

__all__ = ["FEATURES", "HOSPITALS", "HeartDisease", "Hospital", "features", "read_patients"]

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Hospital:
    """One packaged file: where it is, whose it is, how many patients it lists."""

    path: Path
    full_name: str
    patients: int


_DATA = Path(__file__).with_name("data") / "heart-disease"

HOSPITALS: Mapping[str, Hospital] = MappingProxyType(
    {
        "cleveland": Hospital(_DATA / "processed.cleveland.data", "Cleveland Clinic", 303),
        "hungarian": Hospital(
            _DATA / "processed.hungarian.data", "Hungarian Institute of Cardiology", 294
        ),
        "switzerland": Hospital(
            _DATA / "processed.switzerland.data", "University Hospitals Zurich and Basel", 123
        ),
        "long-beach": Hospital(_DATA / "processed.va.data", "V.A. Long Beach", 200),
    }
)

COLUMNS = (  # the order in the files
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak"),
    *("slope", "ca", "thal", "num"),
)

RANGES = {  # column: what becomes -1 and +1; a missing value becomes the middle, 0
    "age": (35.0, 75.0),  # years; where coronary disease is looked for
    "sex": (0.0, 1.0),
    "trestbps": (90.0, 170.0),  # mm Hg; middle 130 = hypertension begins (ACC/AHA 2017)
    "chol": (140.0, 340.0),  # mg/dl; middle 240 = "high" (NCEP ATP III)
    "fbs": (0.0, 1.0),
    "thalach": (90.0, 190.0),  # per minute; middle 140 = 85 % of 220 - 55, an exercise test's goal
    "exang": (0.0, 1.0),
    "oldpeak": (-1.0, 3.0),  # mm; middle 1 = where an exercise test counts as positive
}
CODES = {"cp": (1, 2, 3, 4), "restecg": (0, 1, 2)}  # one feature per code; all 0 = missing
FEATURES = (*RANGES, *(f"{name}={code}" for name, codes in CODES.items() for code in codes))

MISSING = -9.0  # the files write this or a question mark
NEVER_ZERO = ("trestbps", "chol")  # nobody alive has 0: it was not taken
WORST_DIAGNOSIS = 4  # num counts from 0 (none) to this
HELD_OUT = 1 / 3  # of each hospital's patients, with and without disease alike


class HeartDisease(Task):
    """Logistic regression: full-batch steps, so that hospitals of any size take equally many.

    Made for 40 rounds. Ten steps in each bring a hospital close to what its own data says. With
    two, a lying Cleveland or Budapest costs the others 0.05 of accuracy, with ten 0.03 (30 seeds).
    """

    kind: ClassVar[str] = "heart-disease"
    owners: ClassVar[tuple[str, ...]] = tuple(HOSPITALS)

    epochs: int = 10
    batch_size: int = 0
    learning_rate: float = 0.5  # features lie in about [-1, 1]: below 2 / the loss's curvature
    shuffle_labels: bool = False
    """Flip a random half of the training diagnoses: nothing is left to learn, and a measure that
    still finds something is wrong. Reordering them inside one hospital would leave its share of
    sick patients, which other hospitals' patients tell apart: AUC 0.66 instead of 0.5."""

    def model(self) -> nn.Module:
        """Return w·x + b, all zero: the loss is convex, so the start does not matter."""
        model = nn.Linear(len(FEATURES), 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        return model

    def data(self, place: Place) -> Split:
        """Return one hospital's patients, a third held out, stratified by diagnosis.

        Raises:
            TaskError: no file for this member, or a file that cannot be read.
        """
        table = read_patients(_path(place))
        inputs, sick = features(table), table[:, COLUMNS.index("num")] > 0
        held_out = _held_out(sick, place)
        labels = sick[~held_out]
        if self.shuffle_labels:
            flips = np.arange(len(labels)) % 2 == 0
            labels = labels ^ stream(place.seed, place.member, "shuffle-labels").permutation(flips)
        return Split(
            train=_samples(inputs[~held_out], labels),
            held_out=_samples(inputs[held_out], sick[held_out]),
        )

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return binary_cross_entropy_with_logits(model(inputs).squeeze(1), targets)

    def measures(
        self, model: nn.Module, inputs: Tensor, targets: Tensor
    ) -> dict[str, float | None]:
        """Return accuracy at even odds, and AUC."""
        scores = model(inputs).squeeze(1)
        return {
            "accuracy": accuracy((scores > 0).to(targets.dtype), targets),
            "auc": auc(scores, targets),
        }


def features(table: Table) -> npt.NDArray[np.float32]:
    """Scale by fixed clinical ranges, shape (patients, len(FEATURES)); NaN becomes 0."""
    scaled = []
    for name, (low, high) in RANGES.items():
        scaled.append((2 * table[:, COLUMNS.index(name)] - low - high) / (high - low))
    for name, codes in CODES.items():
        scaled += [(table[:, COLUMNS.index(name)] == code).astype(float) for code in codes]
    return np.nan_to_num(np.stack(scaled, axis=1), nan=0.0).astype(np.float32)


def read_patients(path: Path) -> Table:
    """Read one hospital's file, shape (patients, 14); a missing value is NaN.

    Raises:
        TaskError: naming file and line, for whatever is wrong in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(
            f"{path}: cannot be read: {error}",
            fix="Point `data` at a readable text file of comma-separated patients.",
        ) from error
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if lines and not _is_number(lines[0][1].split(",")[0]):
        lines = lines[1:]  # a header
    if not lines:
        raise TaskError(f"{path}: lists no patients", fix="Put one patient on each line.")
    return np.array([_patient(path, number, line) for number, line in lines])


def _patient(path: Path, number: int, line: str) -> list[float]:
    def wrong(what: str, fix: str) -> TaskError:
        return TaskError(f"{path}, line {number}: {what}", fix=fix)

    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(COLUMNS):
        raise wrong(
            f"{len(cells)} values instead of {len(COLUMNS)}", "Columns: " + ", ".join(COLUMNS) + "."
        )
    values = []
    for name, cell in zip(COLUMNS, cells, strict=True):
        if cell != "?" and not _is_number(cell):
            raise wrong(
                f"{name} is {cell!r}, not a number", "Write a number, or ? if it is missing."
            )
        value = np.nan if cell == "?" or float(cell) == MISSING else float(cell)
        if name in NEVER_ZERO and value == 0:
            value = np.nan
        codes = (0, 1) if RANGES.get(name) == (0.0, 1.0) else CODES.get(name)
        if name == "num":
            codes = tuple(range(WORST_DIAGNOSIS + 1))
            if np.isnan(value):
                raise wrong("num, the diagnosis, is missing", "Leave this patient out.")
        if codes and not np.isnan(value) and value not in codes:
            raise wrong(f"{name} is {cell}", f"Use one of {', '.join(map(str, codes))}.")
        values.append(value)
    return values


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return cell.strip() == "?"


def _path(place: Place) -> Path:
    if place.data is not None:
        return place.data
    if place.member not in HOSPITALS:
        raise TaskError(
            f"there is no packaged data for member {place.member!r}",
            fix="Set `data` to this member's file, or name it " + ", ".join(HOSPITALS) + ".",
        )
    return HOSPITALS[place.member].path


def _held_out(sick: npt.NDArray[np.bool_], place: Place) -> npt.NDArray[np.bool_]:
    """Return which patients are held out, shape (patients,)."""
    generator = stream(place.seed, place.member, "held-out")
    chosen = np.zeros(len(sick), bool)
    for label in (False, True):
        rows = generator.permutation(np.flatnonzero(sick == label))
        chosen[rows[: round(len(rows) * HELD_OUT)]] = True
    return chosen


def _samples(inputs: npt.NDArray[np.float32], sick: npt.NDArray[np.bool_]) -> Samples:
    return Samples(torch.from_numpy(inputs), torch.from_numpy(sick.astype(np.float32)))
