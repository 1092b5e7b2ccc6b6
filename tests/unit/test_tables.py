"""TOML as people mistype it: told in the words of whoever edits the file."""

from pathlib import Path

import pytest

from gossipfl.errors import ConfigError
from node.tables import Problems, read_toml


def told(folder: Path, text: str) -> str:
    path = folder / "federation.toml"
    path.write_text(text)
    problems = Problems()
    assert read_toml(path, problems) is None
    with pytest.raises(ConfigError) as caught:
        problems.tell()
    return f"{caught.value.message} | {caught.value.fix}"


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ('task = "task.py"\n\n[task]\nkind = "task.py"\n', 3, "task"),
        ('[task]\nkind = "task.py"\n\n[task]\nepochs = 5\n', 4, "task"),
        ('topology = "ring"\n[topology]\nkind = "star"\n', 2, "topology"),
        ("rounds = 1\nrounds = 2", 2, "rounds"),
        ("rounds = 1\nrounds = 2\n\n", 2, "rounds"),
        ("mixing = {}\n[mixing]\nb = 1\n", 2, "mixing"),
        ('members = []\n[[members]]\nname = "a"\n', 2, "members"),
    ],
)
def test_a_key_that_is_set_twice_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, key: str
) -> None:
    said = told(tmp_path, text)
    assert f"federation.toml: line {line}: {key} is set a second time | Keep one" in said
    assert f"the table [{key}]" in said


def test_what_else_is_no_toml_keeps_the_readers_words(tmp_path: Path) -> None:
    said = told(tmp_path, "name = hearts\n")
    assert "is not TOML: Invalid value (at line 1, column 8)" in said
    assert "in quotes" in said


def test_tables_that_are_set_once_are_read(tmp_path: Path) -> None:
    path = tmp_path / "federation.toml"
    path.write_text(
        '[task]\nkind = "task.py"\n[topology]\nkind = "ring"\n[[members]]\n[[members]]\n'
    )
    table = read_toml(path, Problems())
    assert table is not None
    assert (table["task"], len(table["members"])) == ({"kind": "task.py"}, 2)
