"""`gossipfl new task` and `new data`: what is written works as it stands."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from gossipfl.tasks.heart_disease import COLUMNS, HOSPITALS
from node.output import ExitCode
from tests.commands import Run, runner


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run one command line in an empty directory; return exit code, stdout and stderr."""
    return runner(tmp_path, monkeypatch, capsys)


def right(run: Run, *arguments: str) -> str:
    code, out, err = run(*arguments)
    assert (code, err) == (ExitCode.OK, "")
    return out


def rows(count: int) -> range:
    return range(count)


def test_a_new_task_passes_the_check_on_new_data_as_it_stands(run: Run) -> None:
    said = right(run, "new", "task")
    assert "gossipfl new data" in said
    assert "300 invented patients each" in right(run, "new", "data", "north", "south")
    assert "Nothing is wrong with it." in right(run, "check", "task.py", "--data", "north.csv")


def test_a_new_task_is_about_25_lines_of_code(run: Run) -> None:
    python = json.loads(right(run, "new", "task", "--out", "-", "--json"))["data"]["python"]
    for found in ast.walk(tree := ast.parse(python)):
        if isinstance(found, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            found
        ):
            found.body = found.body[1:] or [ast.Pass()]
    assert len(ast.unparse(tree).splitlines()) <= 33  # with blank lines
    assert max(map(len, python.splitlines())) <= 100


def test_the_packaged_hearts_as_a_csv_make_a_task_that_passes(run: Run, tmp_path: Path) -> None:
    lines = HOSPITALS["cleveland"].path.read_text().split()[1:]
    sick = [f"{line.rpartition(',')[0]},{int(line[-1] != '0')}" for line in lines]
    header = ",".join([*COLUMNS[:-1], "sick"])
    (tmp_path / "cleveland.csv").write_text("\n".join([header, *sick]) + "\n")
    said = right(run, "new", "task", "--data", "cleveland.csv", "--target", "sick")
    assert "to two digits, and its spread, rounded to one." in said
    assert "Every member gets that file" in said
    text = (tmp_path / "task.py").read_text()
    assert '"chol": (240, 50),' in text
    assert "rounded to two digits and to one.\n# Everybody gets this file" in text
    out = right(run, "check", "task.py", "--data", "cleveland.csv", "--json")
    data = json.loads(out)["data"]
    assert data["shapes"] == {"inputs": [13], "targets": []}
    assert data["rows"] == {"train": 227, "held_out": 76}
    assert data["warnings"] == []
    assert data["learned"]["last"] < 0.6 < data["learned"]["first"] + 0.1


def test_classes_and_texts_are_told_apart(run: Run, tmp_path: Path) -> None:
    text = "".join(f"{i % 7},{i / 9:.2f},town{i % 3},{'abc'[i % 3]}\n" for i in rows(90))
    (tmp_path / "kinds.csv").write_text("x,y,town,kind\n" + text)
    said = right(run, "new", "task", "--data", "kinds.csv", "--target", "kind")
    assert "the classes of its target" in said
    written = (tmp_path / "task.py").read_text()
    assert "# Left out, as they hold no numbers: town\n" in written
    assert 'CLASSES = [\n    "a",\n    "b",\n    "c",\n]' in written
    data = json.loads(right(run, "check", "task.py", "--data", "kinds.csv", "--json"))["data"]
    assert data["leaves"][-1]["shape"] == [3]
    assert "accuracy" in data["measures"]


def test_decimal_commas_are_recognized_and_what_is_left_out_is_said_with_the_reason(
    run: Run, tmp_path: Path
) -> None:
    text = "".join(
        f"{i % 70 + 20},{i % 10};name{i};;1.{200 + i},5;{i % 3};{'' if i == 7 else i % 2}\n"
        for i in rows(90)
    )
    (tmp_path / "k.csv").write_text("alter;name;leer;preis;stufe;krank\n" + text)
    said = right(run, "new", "task", "--data", "k.csv", "--target", "krank")
    for line in (
        "  name: 'name0' is no number",
        "  leer: it is empty",
        "  preis: '1.200,5' has a mark between its thousands",
        "1 row lacks the target and will be left out.",
        "Its decimals stand behind a comma.",
    ):
        assert line in said
    written = (tmp_path / "task.py").read_text()
    assert 'missing=middles, decimal=","' in written
    assert '"alter": (5' in written or '"alter": (4' in written
    data = json.loads(right(run, "check", "task.py", "--data", "k.csv", "--json"))["data"]
    assert data["shapes"]["inputs"] == [2]
    assert sum(data["rows"].values()) == 89


def test_a_point_among_commas_is_told_and_a_file_of_points_stays_as_it_was(
    run: Run, tmp_path: Path
) -> None:
    text = "".join(f"{i},5;{i},25;{i}.5;{i % 2}\n" for i in rows(30))
    (tmp_path / "a.csv").write_text("x;y;z;sick\n" + text)
    said = right(run, "new", "task", "--data", "a.csv", "--target", "sick")
    assert "  z: '0.5' has a decimal point, other columns a comma" in said
    (tmp_path / "task.py").unlink()
    (tmp_path / "a.csv").write_text("x;y;z;sick\n" + text.replace(",", "."))
    out = right(run, "new", "task", "--data", "a.csv", "--target", "sick", "--json")
    data = json.loads(out)["data"]
    assert (data["decimal"], data["left_out"]) == (".", [])
    assert "decimal" not in data["python"]


@pytest.mark.parametrize(("words", "order"), [("ja nein", "nein ja"), ("b a", "a b")])
def test_two_texts_are_told_apart_as_0_and_1(
    run: Run, tmp_path: Path, words: str, order: str
) -> None:
    text = "".join(f"{i},{words.split()[i % 7 > 3]}\n" for i in rows(60))
    (tmp_path / "a.csv").write_text("x,krank\n" + text)
    right(run, "new", "task", "--data", "a.csv", "--target", "krank")
    first, second = order.split()
    assert f'CLASSES = ["{first}", "{second}"]' in (tmp_path / "task.py").read_text()
    data = json.loads(right(run, "check", "task.py", "--data", "a.csv", "--json"))["data"]
    assert set(data["measures"]) == {"loss", "accuracy", "auc"}
    assert (data["leaves"][-1]["shape"], data["faults"]) == ([1], [])


def test_what_fills_in_is_rounded_to_two_digits(run: Run, tmp_path: Path) -> None:
    text = "".join(f"{27 if i % 5 else '?'},{i % 2}\n" for i in rows(60))
    (tmp_path / "a.csv").write_text("bmi,sick\n" + text)
    right(run, "new", "task", "--data", "a.csv", "--target", "sick")
    assert '"bmi": (27, 1),' in (tmp_path / "task.py").read_text()


def test_whole_numbers_of_a_few_kinds_are_classes(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,stage\n" + "".join(f"{i},{i % 4}\n" for i in rows(40)))
    right(run, "new", "task", "--data", "a.csv", "--target", "stage")
    assert "    0,\n    1,\n    2,\n    3,\n" in (tmp_path / "task.py").read_text()
    right(run, "check", "task.py", "--data", "a.csv")


def test_an_amount_is_predicted_in_its_own_unit(run: Run, tmp_path: Path) -> None:
    text = "".join(f"{i % 10};{i * 37 % 100};{300 + 20 * (i % 10)}.5\n" for i in rows(100))
    (tmp_path / "prices.csv").write_text("size;age;price\n" + text)
    right(run, "new", "task", "--data", "prices.csv", "--target", "price")
    assert "TARGET = (390, 60)" in (tmp_path / "task.py").read_text()
    data = json.loads(right(run, "check", "task.py", "--data", "prices.csv", "--json"))["data"]
    assert 10 < data["measures"]["mean_error"] < 300
    assert data["faults"] == []


def test_missing_values_are_filled_with_the_middle(run: Run, tmp_path: Path) -> None:
    text = "".join(f"{i if i % 5 else '?'},{50 + i % 30},{i % 2}\n" for i in rows(60))
    (tmp_path / "a.csv").write_text("x,y,sick\n" + text)
    right(run, "new", "task", "--data", "a.csv", "--target", "sick")
    right(run, "check", "task.py", "--data", "a.csv")


def test_odd_headings_are_written_so_that_python_reads_them(run: Run, tmp_path: Path) -> None:
    header = '"a ""b""","{c}",\\d,"two\nlines",größe,sick\n'
    text = "".join(f"{i},{i * 2},{i * 3},{i % 4},x,{i % 2}\n" for i in rows(40))
    (tmp_path / "odd.csv").write_text(header + text)
    right(run, "new", "task", "--data", "odd.csv", "--target", "sick")
    data = json.loads(right(run, "check", "task.py", "--data", "odd.csv", "--json"))["data"]
    assert data["shapes"]["inputs"] == [4]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "a.csv"), "--data and --target go together"),
        (("--target", "x"), "--data and --target go together"),
        (("--data", "a.csv", "--target", "sik"), "Did you mean sick?"),
        (("--data", "no.csv", "--target", "sick"), "there is no such file"),
        (("--data", "a.csv", "--target", "same"), "has 1 different values"),
        (("--data", "a.csv", "--target", "name"), "has 30 different texts, too many for classes"),
        (("--data", "texts.csv", "--target", "sick"), "no column beside sick holds numbers"),
        (("--out", "task.toml"), "a task is a Python file"),
        (("--out", "no/task.py"), "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_told_and_leaves_no_file(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    text = "".join(f"{i},name{i},1,{i % 2}\n" for i in rows(30))
    (tmp_path / "a.csv").write_text("x,name,same,sick\n" + text)
    (tmp_path / "texts.csv").write_text("x,sick\nno,1\nyes,0\n")
    code, out, err = run("new", "task", *arguments)
    assert code in (ExitCode.USAGE, ExitCode.TASK)
    assert out == ""
    assert said in err
    assert not list(tmp_path.glob("task.*"))


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text("mine")
    code, _, err = run("new", "task")
    assert code == ExitCode.USAGE
    assert "not overwritten" in err
    (tmp_path / "south.csv").write_text("mine")
    code, _, err = run("new", "data", "north", "south")
    assert code == ExitCode.USAGE
    assert "south.csv" in err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["south.csv", "task.py"]


def test_invented_data_are_the_same_for_the_same_seed_and_member(run: Run, tmp_path: Path) -> None:
    right(run, "new", "data", "a", "b", "c")
    first = {file.name: file.read_text() for file in tmp_path.glob("*.csv")}
    assert len(set(first.values())) == 3
    for file in tmp_path.glob("*.csv"):
        file.unlink()
    right(run, "new", "data", "a", "b", "c")
    assert {file.name: file.read_text() for file in tmp_path.glob("*.csv")} == first
    (tmp_path / "more").mkdir()
    right(run, "new", "data", "a", "b", "c", "--seed", "1", "--out", "more", "--rows", "10")
    assert len((tmp_path / "more" / "a.csv").read_text().splitlines()) == 11
    assert not (tmp_path / "more" / "a.csv").read_text().startswith(first["a.csv"][:60])
    shutil.rmtree(tmp_path / "more")


@pytest.mark.parametrize("names", [("../a",), ("two words",), ("a", "a")])
def test_names_that_are_none_make_no_data(run: Run, tmp_path: Path, names: tuple[str, ...]) -> None:
    code, _, err = run("new", "data", *names)
    assert code == ExitCode.USAGE
    assert err.count("\n") == 2
    assert not list(tmp_path.iterdir())
