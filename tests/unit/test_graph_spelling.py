"""Members of a family as they are spelled on a command line."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gossipfl.mixing
from gossipfl.errors import ConfigError
from gossipfl.family import LONE, parse, spelled
from gossipfl.mixing.rule import MixingRule
from gossipfl.mixing.trimmed_mean import TrimmedMean


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("ring", {"kind": "ring"}),
        ("trimmed-mean:b=1", {"kind": "trimmed-mean", "b": 1}),
        ("x:a=1,b=0.5,c=true,d=text", {"kind": "x", "a": 1, "b": 0.5, "c": True, "d": "text"}),
        ("x:4", {"kind": "x", LONE: 4}),
        ("x:4,seed=1", {"kind": "x", LONE: 4, "seed": 1}),
        ("file:graph.graphml", {"kind": "file", LONE: "graph.graphml"}),
        ("file:C:/a/b.json", {"kind": "file", LONE: "C:/a/b.json"}),
        ("file:2024-01-01", {"kind": "file", LONE: "2024-01-01"}),
        ("file:'a,b=c.json'", {"kind": "file", LONE: "a,b=c.json"}),
        ("x: a = 1 , b = two words ", {"kind": "x", "a": 1, "b": "two words"}),
        ("x:a=[1, 2],b={c = 3, d = 4}", {"kind": "x", "a": [1, 2], "b": {"c": 3, "d": 4}}),
        ("x:a.m=2,a.n=3", {"kind": "x", "a": {"m": 2, "n": 3}}),
        ('x:a="1"', {"kind": "x", "a": "1"}),
        ("x:a=b=c", {"kind": "x", "a": "b=c"}),
        ("x:1e-3", {"kind": "x", LONE: 0.001}),
        ("x:a=1]", {"kind": "x", "a": "1]"}),
    ],
)
def test_what_is_written_is_meant(text: str, table: dict[str, Any]) -> None:
    assert spelled(text) == table
    assert list(map(type, spelled(text).values())) == list(map(type, table.values()))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no name"),
        (":4", "no name"),
        ("x:", "no value"),
        ("x:a=", "'a' has no value"),
        ("x:a=1,", "no value"),
        ("x:,a=1", "no value"),
        ("x:1,2", "only the first value"),
        ("x:a=1,2", "only the first value"),
        ("x:a=1,a=2", "a is said twice"),
        ("x:kind=y", "kind is said twice"),
        ("x:=1", "has no name"),
        ("x:a.=1", "has no name"),
        ("x:a=1,a.b=2", "both a value and a table"),
    ],
)
def test_what_cannot_be_meant_is_told(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        spelled(text)
    assert caught.value.fix


@given(st.text(max_size=60))
def test_any_text_is_a_table_or_a_config_error(text: str) -> None:
    try:
        table = spelled(text)
    except ConfigError:
        return
    assert table["kind"]


NAMES = st.from_regex(r"[a-z][a-z-]{0,8}", fullmatch=True).filter(lambda name: name != "kind")
VALUES = st.one_of(
    st.integers(-(2**60), 2**60),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.from_regex(r"[a-z][a-z/_. ]{0,10}[a-z]", fullmatch=True).filter(
        lambda text: text not in ("true", "false", "inf", "nan")
    ),
)


def written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@given(NAMES, st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_is_spelled_out_comes_back(kind: str, fields: dict[str, Any]) -> None:
    text = ",".join(f"{name}={written(value)}" for name, value in fields.items())
    assert spelled(f"{kind}:{text}" if fields else kind) == {"kind": kind, **fields}


@given(st.dictionaries(NAMES, VALUES | st.text(max_size=9), min_size=1, max_size=5))
def test_texts_in_quotes_are_as_in_toml(fields: dict[str, Any]) -> None:
    quoted = {
        name: "'" + "".join(c for c in value if c not in "'\r\n" and c.isprintable()) + "'"
        if isinstance(value, str)
        else written(value)
        for name, value in fields.items()
    }
    text = ",".join(f"{name}={value}" for name, value in quoted.items())
    meant = tomllib.loads("\n".join(f"{name} = {value}" for name, value in quoted.items()))
    assert spelled(f"x:{text}") == {"kind": "x", **meant}


def rule(text: str) -> MixingRule:
    # mypy: an abstract parent stands for its members here
    return parse(gossipfl.mixing, MixingRule, spelled(text), key="--mixing")  # type: ignore[type-abstract]


def test_a_lone_value_goes_to_the_first_field() -> None:
    assert rule("trimmed-mean:2") == rule("trimmed-mean:b=2") == TrimmedMean(b=2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean:1", "--mixing: mean takes no value"),
        ("trimmed-mean:1,b=2", "--mixing: b is said twice"),
        ("trimmed-mean:one", "--mixing.b"),
    ],
)
def test_a_lone_value_that_fits_nowhere_is_told(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        rule(text)
    assert caught.value.fix
