"""CSV files as people have them: read as they stand, or refused with file, line and column."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipfl.errors import TaskError
from gossipfl.learning.samples import Place, Samples
from gossipfl.learning.scale import Scale
from gossipfl.learning.table import hold_out, number, read_table

PLAIN = "age,chol,sick\n50,200,1\n60,240,0\n"


def table(folder: Path, text: str | bytes, target: str = "sick", **options: Any) -> Samples:
    path = folder / "data.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_table(path, target, **options)


def refused(folder: Path, text: str | bytes, target: str = "sick", **options: Any) -> str:
    with pytest.raises(TaskError) as caught:
        table(folder, text, target, **options)
    assert caught.value.fix
    return f"{caught.value.message} | {caught.value.fix}"


def place(member: str = "a", seed: int = 0) -> Place:
    return Place(None, member, 0, 1, seed)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.replace("\n", "\r\n"),
        "\ufeff" + PLAIN,
        '"age","chol","sick"\n"50"," 200 ",1\n\n60,240,0\n,,\n',
        PLAIN.rstrip("\n"),
        "\n" + PLAIN,
    ],
)
def test_a_table_is_read_as_people_write_it(tmp_path: Path, text: str) -> None:
    samples = table(tmp_path, text)
    assert samples.inputs.tolist() == [[50.0, 200.0], [60.0, 240.0]]
    assert samples.targets.tolist() == [1.0, 0.0]
    assert (samples.inputs.dtype, samples.targets.dtype) == (torch.float32, torch.float32)


def test_a_comma_in_a_quoted_heading_is_no_delimiter(tmp_path: Path) -> None:
    samples = table(tmp_path, '"age, in years, today";sick\n50;1\n60;0\n')
    assert samples.inputs.tolist() == [[50.0], [60.0]]


def test_columns_are_picked_and_ordered_by_name(tmp_path: Path) -> None:
    text = "sick,chol,name,age\n1,200,Ann,50\n0,240,Bob,60\n"
    samples = table(tmp_path, text, columns=["age", "chol"])
    assert samples.inputs.tolist() == [[50.0, 200.0], [60.0, 240.0]]
    assert "name is 'Ann', not a finite number" in refused(tmp_path, text)


def test_classes_become_codes_in_the_order_given(tmp_path: Path) -> None:
    text = "x,kind\n1,no\n2,yes\n3,no\n"
    samples = table(tmp_path, text, "kind", classes=["yes", "no"])
    assert samples.targets.tolist() == [1, 0, 1]
    assert samples.targets.dtype == torch.int64
    assert "line 3: kind is 'yes', which is none of the classes" in refused(
        tmp_path, text, "kind", classes=["no", "maybe"]
    )
    numbers = table(tmp_path, "x,kind\n1,3\n2,1.0\n", "kind", classes=[1, 2, 3])
    assert numbers.targets.tolist() == [2, 0]


@pytest.mark.parametrize("word", ["", "?", "NA", "n/a", "NaN", "null"])
def test_a_missing_value_is_refused_dropped_or_filled(tmp_path: Path, word: str) -> None:
    text = f"age,chol,sick\n50,200,1\n60,{word},0\n70,210,0\n"
    said = refused(tmp_path, text)
    assert "line 3: chol is missing" in said
    assert 'missing="drop"' in said
    assert table(tmp_path, text, missing="drop").inputs.tolist() == [[50.0, 200.0], [70.0, 210.0]]
    assert table(tmp_path, text, missing=7).inputs.tolist()[1] == [60.0, 7.0]
    assert table(tmp_path, text, missing={"chol": 230.0}).inputs.tolist()[1] == [60.0, 230.0]
    assert "chol is missing" in refused(tmp_path, text, missing={"age": 1.0})


def test_a_missing_target_is_never_made_up(tmp_path: Path) -> None:
    text = "age,sick\n50,1\n60,?\n70,0\n"
    said = refused(tmp_path, text)
    assert "line 3: sick is missing" in said
    assert "put in" not in said
    for missing in ("drop", 0, {"sick": 0.0}):
        assert table(tmp_path, text, missing=missing).targets.tolist() == [1.0, 0.0]
    assert "no rows are left" in refused(tmp_path, "age,sick\n50,?\n", missing=0)


def test_rows_without_a_target_go_while_inputs_are_filled_in(tmp_path: Path) -> None:
    samples = table(tmp_path, "age,sick\n?,1\n60,\n70,0\n", missing={"age": 50})
    assert samples.inputs.tolist() == [[50.0], [70.0]]
    assert samples.targets.tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    "text", [PLAIN.replace("200", "200,5"), '"age";chol;sick\n50;"200,5";1\n60;240;0\n']
)
def test_decimal_commas_are_read_where_they_are_said(tmp_path: Path, text: str) -> None:
    samples = table(tmp_path, text.replace(",", ";").replace("200;5", "200,5"), decimal=",")
    assert samples.inputs.tolist() == [[50.0, 200.5], [60.0, 240.0]]
    quoted = 'age,chol,sick\n50,"200,5",1\n60,240,0\n'
    assert table(tmp_path, quoted, decimal=",").inputs.tolist()[0] == [50.0, 200.5]


@given(st.floats(-1e30, 1e30), st.integers(0, 9))
def test_a_number_reads_the_same_with_either_mark(value: float, digits: int) -> None:
    text = f"{value:.{digits}f}"
    assert number(text) == number(text.replace(".", ","), ",") == float(text)
    if digits:  # the twin: each mark only where it is said
        assert number(text, ",") is None
        assert number(text.replace(".", ",")) is None


@pytest.mark.parametrize(
    ("cell", "decimal", "said"),
    [
        ("1.234,5", ".", 'Write 1234,5, for nothing may part thousands, and pass decimal=","'),
        ("1.234,5", ",", "Write 1234,5: nothing may part thousands."),
        ("1,234.5", ".", "Write 1234.5: nothing may part thousands."),
        (
            "1.234",
            ",",
            'Write 1234: nothing may part thousands; if 1.234 is 1,234, pass decimal="."',
        ),
        ("1,5", ".", 'Write 1.5, or, if the whole file is written so, pass decimal=","'),
        ("1.5", ",", 'Write 1,5, or, if the whole file is written so, pass decimal="."'),
    ],
)
def test_marks_between_thousands_get_a_sentence(
    tmp_path: Path, cell: str, decimal: str, said: str
) -> None:
    assert said in refused(tmp_path, f"age;sick\n50;1\n{cell};0\n", decimal=decimal)


def test_a_decimal_mark_that_is_none_is_told(tmp_path: Path) -> None:
    assert 'Use "." or ","' in refused(tmp_path, PLAIN, decimal="'")


def test_a_target_may_be_the_same_in_every_row(tmp_path: Path) -> None:
    assert table(tmp_path, "age,sick\n50,1\n60,1\n").targets.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("age,sick\n", "has no rows"),
        ("sick\n1\n0\n", "there is no column beside sick"),
        ("age,sik\n1,1\n", "there is no column 'sick' | Did you mean sik?"),
        ("age,chol\n1,1\n", "there is no column 'sick' | Its columns: age, chol."),
        ("age,sick\n50,1\n60\n", "line 3: 1 values, but the header has 2"),
        ("age,sick\n50,1\n60,0,3\n", "line 3: 3 values, but the header has 2"),
        ('age,sick\n"50\n",1\n60,0,3\n', "line 4: 3 values"),
        ("age,sick\n50,1\nold,0\n", "line 3: age is 'old', not a finite number"),
        ("age,sick\n50,1\ninf,0\n", "line 3: age is 'inf', not a finite number"),
        ("age,sick\n50,1\n1e39,0\n", "line 3: age is '1e39', not a finite number"),
        ("age,sick\n50,1\n1_0,0\n", "line 3: age is '1_0', not a finite number"),
        (
            "age;sick\n50;1\n1,5;0\n",
            "line 3: age is '1,5', not a finite number | Write",
        ),
        ("age,sick\n50,1\n60,yes\n", "line 3: sick is 'yes', not a finite number"),
        ("age,age,sick\n1,2,1\n", "line 1: two columns are called age"),
        (",age,sick\n0,2,1\n", "line 1: column 1 has no heading"),
        ("50,1\n60,0\n", "line 1: is no header but numbers"),
        ('age,sick\n50,"1\n', "unexpected end of data | Close every double quote"),
        ("age,sick\n" + "9" * 200_000 + ",1\n", "field larger than field limit"),
        (b"age,sick\n\xff,1\n", "is not UTF-8 text"),
        ("age,sick\n1,1\n".encode("utf-16"), "is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, text: str | bytes, said: str) -> None:
    message = refused(tmp_path, text)
    assert said in message
    assert str(tmp_path / "data.csv") in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("age;sick\n50,5;1\n", 'Write 50.5, or, if the whole file is written so, pass decimal=","'),
        ("age,sick\n50,yes\n", "name the classes that it may be in read_table: classes=['yes', …]"),
        ("age,sick\n1e39,1\n", "not a finite number | Write a number, code texts"),
        ("age|sick\n1|1\n", "the only one is 'age|sick' | Begin with a line of headings, and sep"),
    ],
)
def test_what_to_do_fits_what_is_wrong(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_a_path_may_be_a_text(tmp_path: Path) -> None:
    table(tmp_path, PLAIN)
    assert len(read_table(str(tmp_path / "data.csv"), "sick")) == 2


def test_a_file_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    for path, said in [
        (tmp_path / "no.csv", "there is no such file"),
        (tmp_path, "cannot be read"),
        (None, "this member has no data file"),
    ]:
        with pytest.raises(TaskError, match=said) as caught:
            read_table(path, "sick")
        assert caught.value.fix


def test_wrong_arguments_are_told_too(tmp_path: Path) -> None:
    assert "is nothing read_table knows" in refused(tmp_path, PLAIN, missing="fill")
    assert "the target sick is among" in refused(tmp_path, PLAIN, columns=["age", "sick"])
    assert "Did you mean age?" in refused(tmp_path, PLAIN, columns=["aged"])
    assert "hold NaN" in refused(tmp_path, "a,sick\n,1\n2,0\n", missing=float("nan"))
    assert "no rows are left" in refused(tmp_path, "a,sick\n,1\n,0\n", missing="drop")


def test_a_constant_target_is_taken_when_asked_for(tmp_path: Path) -> None:
    assert len(table(tmp_path, "a,sick\n1,1\n2,1\n")) == 2


CELL = st.floats(width=32, allow_nan=False, allow_infinity=False)
HEADING = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1).map(
    lambda text: f"h{text}".strip()
)


def test_the_delimiter_is_the_one_that_splits_all_lines_alike(tmp_path: Path) -> None:
    samples = table(tmp_path, "age,in,years;sick\n50;1\n60;0\n")
    assert samples.inputs.tolist() == [[50.0], [60.0]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(HEADING, min_size=2, max_size=5, unique=True),
    st.lists(st.lists(CELL, min_size=5, max_size=5), min_size=2, max_size=6),
    st.sampled_from(",;\t"),
    st.booleans(),
)
def test_every_table_that_is_written_is_read_as_it_was(
    tmp_path: Path, header: list[str], rows: list[list[float]], mark: str, quoted: bool
) -> None:
    rows = [row[: len(header)] for row in rows]
    file = io.StringIO()
    writer = csv.writer(
        file, delimiter=mark, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    )
    writer.writerows([header, *rows])
    samples = table(tmp_path, file.getvalue(), header[-1])
    found = np.column_stack([samples.inputs.numpy(), samples.targets.numpy()])
    assert np.array_equal(found, np.array(rows, np.float32))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet='ab12.,;\t"\n\r?- ', max_size=60) | st.binary(max_size=40))
def test_whatever_stands_in_a_file_is_samples_or_a_sentence(
    tmp_path: Path, text: str | bytes
) -> None:
    head = "a,b\n"
    content = head + text if isinstance(text, str) else head.encode() + text
    try:
        samples = table(tmp_path, content, "b", missing="drop")
    except TaskError as error:
        said = (error.message, error.fix)
        assert all(said)
        return
    assert len(samples) > 0


# --- splits and scales ----------------------------------------------------------------------------


def numbered(targets: list[float]) -> Samples:
    return Samples(torch.arange(len(targets)).float()[:, None], torch.tensor(targets))


def test_a_split_depends_on_seed_and_member_only() -> None:
    samples = numbered([0.0, 1.0] * 50)

    def held(member: str, seed: int) -> list[float]:
        rows: list[float] = hold_out(samples, place(member, seed)).held_out.inputs[:, 0].tolist()
        return rows

    assert held("a", 0) == held("a", 0)
    assert held("a", 0) != held("b", 0)
    assert held("a", 0) != held("a", 1)


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=2, max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
def test_a_split_loses_and_doubles_no_row_and_keeps_the_classes(
    targets: list[float], fraction: float, seed: int
) -> None:
    split = hold_out(numbered(targets), place(seed=seed), fraction)
    rows = torch.cat([split.train.inputs, split.held_out.inputs])[:, 0]
    assert sorted(rows.tolist()) == list(range(len(targets)))
    count = min(max(round(fraction * len(targets)), 1), len(targets) - 1)
    assert len(split.held_out) == count
    for label in set(targets):
        wanted = targets.count(label) * count / len(targets)
        assert abs(int((split.held_out.targets == label).sum()) - wanted) <= 1


def test_amounts_are_split_at_random() -> None:
    split = hold_out(numbered([i / 7 for i in range(100)]), place())
    assert len(split.held_out) == 25
    assert split.held_out.inputs[:, 0].tolist() != list(range(2, 100, 4))


def test_one_row_cannot_be_split_and_a_fraction_must_be_one() -> None:
    with pytest.raises(TaskError, match="1 row cannot be split"):
        hold_out(numbered([1.0]), place())
    for fraction in (0, 1, -0.5, float("nan")):
        with pytest.raises(TaskError, match="cannot be held out"):
            hold_out(numbered([1.0, 0.0]), place(), fraction)
    assert len(hold_out(numbered([1.0, 0.0]), place()).train) == 1


def test_a_scale_shifts_and_divides_and_has_no_state() -> None:
    scale = Scale({"age": (50, 10), "chol": (200, 40)}.values())
    assert scale(torch.tensor([[60.0, 160.0]])).tolist() == [[1.0, -1.0]]
    assert scale.state_dict() == {}
    with pytest.raises(TaskError, match="not positive"):
        Scale([(1, 0)])
