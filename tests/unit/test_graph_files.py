"""Graphs from files: every format, mapped to members by name or by order, every refusal."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipfl.errors import ConfigError
from topology import reading
from topology.graphs import load_graph
from topology.reading import read_graph

NAMES = ("ann", "bob", "cho", "dee")
PATH = {(0, 1), (1, 2), (2, 3)}  # ann - bob - cho - dee

GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">{keys}
<graph edgedefault="{default}">{nodes}{edges}</graph></graphml>
"""


def graphml(nodes: str = "", edges: str = "", default: str = "undirected", keys: str = "") -> str:
    return GRAPHML.format(nodes=nodes, edges=edges, default=default, keys=keys)


def ml_edges(*pairs: str, extra: str = "") -> str:
    return "".join(
        f'<edge source="{pair.split()[0]}" target="{pair.split()[1]}"{extra}/>' for pair in pairs
    )


LABELED = graphml(
    "".join(
        f'<node id="n{place + 5}"><data key="d0"> {name} </data></node>'
        for place, name in enumerate(NAMES)
    ),
    ml_edges("n5 n6", "n6 n7", "n7 n8"),
    keys='<key id="d0" for="node" attr.name="label" attr.type="string"/>',
)
BY_NAME = ml_edges("ann bob", "bob cho", "cho dee")


def edges_of(path: Path, text: str, names: tuple[str, ...] = NAMES, **fields: str) -> Any:
    path.write_text(text)
    choice = {"kind": "file", "path": path.name, **fields}
    return set(load_graph(choice, path.parent).build(names).edges)


FILES = {
    "names.txt": "# a path\nann bob\n\nbob cho  0.5 {'weight': 3}\ncho   dee # the last\n",
    "commas.csv": "ann,bob\nbob, cho\ncho,dee,2.0\n",
    "semicolons.csv": '"ann";"bob"\r\n"bob";"cho"\r\n"cho";"dee"\r\n',
    "heading.csv": "Source,Target,Type\nann,bob,Undirected\nbob,cho,Undirected\ncho,dee,\n",
    "tabs.tsv": "from\tto\nann\tbob\nbob\tcho\ncho\tdee\n",
    "dashes.txt": "ann -- bob\nbob -- cho\ncho -- dee\n",
    "both-ways.edges": "ann bob\nbob ann\nbob cho\ncho bob\nann bob\ncho dee\n",
    "zero.edgelist": "0 1\n1 2\n2 3\n",
    "one.edgelist": "1 2\n2 3\n3 4\n",
    "bom.txt": "\ufeffann bob\nbob cho\ncho dee\n",
    "names.graphml": graphml("".join(f'<node id="{n}"/>' for n in NAMES), BY_NAME),
    "edges-only.graphml": graphml(edges=BY_NAME),
    "twice.graphml": graphml(edges=BY_NAME + ml_edges("bob ann", "ann bob")),
    "labels.graphml": LABELED,
    "labels.xml": LABELED,
    "ported.graphml": graphml('<node id="ann"><port name="p"/></node>', BY_NAME),
    "pairs.json": json.dumps([["ann", "bob"], ["bob", "cho"], {"source": "cho", "target": "dee"}]),
    "numbers.json": "[[0, 1], [1, 2], [2, 3]]",
    "table.json": json.dumps({"ann": ["bob"], "bob": ["ann", "cho"], "cho": [], "dee": ["cho"]}),
    "links.json": json.dumps(
        {
            "nodes": [{"id": name} for name in NAMES],
            "links": [{"source": a, "target": b} for a, b in ("ab", "bc", "cd")],
        }
    )
    .replace('"a"', '"ann"')
    .replace('"b"', '"bob"')
    .replace('"c"', '"cho"')
    .replace('"d"', '"dee"'),
    "labels.json": json.dumps(
        {
            "directed": False,
            "nodes": [{"id": 9 - i, "name": name} for i, name in enumerate(NAMES)],
            "edges": [[9, 8], [8, 7], [7, 6, {"weight": 2}]],
        }
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_says_the_same_graph(name: str, tmp_path: Path) -> None:
    assert edges_of(tmp_path / name, FILES[name]) == PATH


def test_what_networkx_writes_is_read(tmp_path: Path) -> None:
    named = nx.relabel_nodes(nx.path_graph(4), dict(enumerate(NAMES)))
    nx.write_graphml(named, tmp_path / "a.graphml")
    nx.write_edgelist(named, tmp_path / "a.txt")
    (tmp_path / "node-link.json").write_text(json.dumps(nx.node_link_data(named)))
    (tmp_path / "adjacency.json").write_text(json.dumps(nx.adjacency_data(named)))
    for name in ("a.graphml", "a.txt", "node-link.json", "adjacency.json"):
        graph = load_graph({"kind": "file", "path": name}, tmp_path).build(NAMES)
        assert set(graph.edges) == PATH, name


def test_members_come_by_name_whatever_their_order_in_the_file(tmp_path: Path) -> None:
    backwards = tuple(reversed(NAMES))
    assert edges_of(tmp_path / "a.txt", FILES["names.txt"], backwards) == PATH
    assert edges_of(tmp_path / "b.txt", "ann dee\ndee bob\nbob cho\n") == {(0, 3), (1, 3), (1, 2)}


def test_numbers_that_are_names_are_names(tmp_path: Path) -> None:
    assert edges_of(tmp_path / "a.txt", "0 1\n1 2\n", ("2", "0", "1")) == {(1, 2), (0, 2)}
    assert edges_of(tmp_path / "b.json", "[[0, 1], [1, 2]]", ("2", "0", "1")) == {(1, 2), (0, 2)}


def test_a_node_alone_on_its_line_is_isolated_and_one_member_is_a_graph(tmp_path: Path) -> None:
    assert edges_of(tmp_path / "a.txt", "ann bob\ncho\ndee\n") == {(0, 1)}
    assert edges_of(tmp_path / "b.txt", "ann\n", ("ann",)) == set()
    assert edges_of(tmp_path / "c.json", '{"ann": []}', ("ann",)) == set()


def test_a_format_that_is_said_wins_over_the_ending(tmp_path: Path) -> None:
    assert edges_of(tmp_path / "a.graph", FILES["names.txt"], format="edge-list") == PATH
    assert edges_of(tmp_path / "b.txt", FILES["pairs.json"], format="json") == PATH


def test_the_path_is_relative_to_the_file_it_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text(FILES["names.txt"])
    monkeypatch.chdir("/")
    assert len(load_graph({"kind": "file", "path": "a.txt"}, tmp_path / "deep").build(NAMES)) == 4
    monkeypatch.chdir(tmp_path / "deep")
    assert len(load_graph({"kind": "file", "path": "a.txt"}).build(NAMES)) == 4


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("names.txt", NAMES),
        ("labels.graphml", NAMES),
        ("labels.json", NAMES),
        ("zero.edgelist", ("0", "1", "2", "3")),
    ],
)
def test_a_file_says_who_is_in_it(name: str, own: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    assert load_graph({"kind": "file", "path": name}, tmp_path).own_names() == own


LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 9)).replace(
        "&l0;", "&lol;"
    )
    + "]><graphml>&l8;</graphml>"
)
OUTSIDE = (
    '<?xml version="1.0"?><!DOCTYPE g [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<graphml><graph edgedefault='undirected'><node id='&x;'/></graph></graphml>"
)

REFUSED = {
    "directed default": ("a.graphml", graphml(edges=BY_NAME, default="directed"), "directed graph"),
    "directed edge": (
        "a.graphml",
        graphml(edges=ml_edges("ann bob", extra=' directed="true"')),
        "directed edges",
    ),
    "directed flag": ("a.json", '{"directed": true, "nodes": [], "edges": []}', "directed graph"),
    "arrow": ("a.txt", "ann bob\nbob -> cho\n", "line 2 is a directed edge"),
    "directed type": ("a.csv", "Source,Target,Type\nann,bob,Directed\n", "line 2 is a directed"),
    "self-loop": ("a.txt", "ann bob\nbob cho\ncho dee\ncho cho\n", "joins cho to itself"),
    "self-loop json": ("a.json", '{"ann":["ann","bob"],"cho":["dee"]}', "joins ann to itself"),
    "stranger": ("a.txt", "ann bob\nbob cho\ncho eve\n", "names no member: eve and lacks .* dee"),
    "misspelled": ("a.txt", "ann bob\nbob choo\nchoo dee\n", "names no member: choo and lacks"),
    "one too many": ("a.txt", "ann bob\nbob cho\ncho dee\ndee eve", "names no member: eve"),
    "one missing": ("a.txt", "ann bob\nbob cho\n", "lacks the members dee"),
    "too few numbers": ("a.txt", "0 1\n1 2\n", "has 3 nodes, and there are 4 members"),
    "too many numbers": ("a.txt", "0 1\n1 2\n2 3\n3 4", "has 5 nodes, and there are 4 members"),
    "numbers with a gap": ("a.txt", "0 1\n1 2\n2 7\n", "other numbers than 0 to 3 or 1 to 4"),
    "padded numbers": ("a.txt", "00 01\n01 02\n02 03\n", "other numbers than 0 to 3"),
    "neighbors a line": (
        "a.txt",
        "ann bob cho\nbob dee\ncho dee",
        "line 1 has a third node, 'cho'",
    ),
    "numbers a line": ("a.txt", "0 1 2\n1 2 3\n2 3\n3\n", "line 1 has a third node, '2'"),
    "empty": ("a.txt", "# nothing\n", "lacks the members|has 0 nodes"),
    "half an edge": ("a.csv", "ann,\n", "line 1 lacks a node"),
    "no ending": ("graph", "ann bob", "tells no format"),
    "pickle": ("a.gpickle", "\x80\x04N.", "tells no format"),
    "not xml": ("a.graphml", "ann bob", "is not XML"),
    "not graphml": ("a.graphml", "<html/>", "is not GraphML"),
    "odd encoding": ("a.xml", LABELED.replace("UTF-8", "nonsense"), "is not XML in UTF-8"),
    "wide encoding": ("a.xml", LABELED.replace("UTF-8", "gbk"), "is not XML in UTF-8"),
    "cut xml": ("a.graphml", LABELED[:-40], "is not XML"),
    "laughs": ("a.graphml", LAUGHS, "document type"),
    "outside": ("a.graphml", OUTSIDE, "document type"),
    "deep xml": ("a.graphml", "<a>" * 5000 + "</a>" * 5000, "nested more than"),
    "hyperedge": ("a.graphml", graphml("<hyperedge/>"), "is not GraphML"),
    "bad key": (
        "a.graphml",
        graphml(keys='<key id="d0" for="node" attr.name="x" attr.type="rocket"/>'),
        "is not GraphML",
    ),
    "not json": ("a.json", "{ann: bob}", "is not JSON"),
    "deep json": ("a.json", "[" * 100_000, "is not JSON|is no edge"),
    "json number": ("a.json", "7", "holds neither"),
    "json nodes alone": ("a.json", '{"nodes": 3}', "is no list"),
    "json float node": ("a.json", "[[0.5, 1]]", "is no node"),
    "json null node": ("a.json", "[[null, 1]]", "is no node"),
    "json no pair": ("a.json", '[["ann"]]', "is no edge"),
    "json no id": ("a.json", '{"nodes": [{}], "edges": []}', "node without `id`"),
    "json twin": ("a.json", '{"nodes": ["a", "a"], "edges": []}', "two nodes with one id"),
    "json twice": ("a.json", '{"ann": ["bob"], "ann": ["cho"]}', "says 'ann' twice"),
    "json far end": ("a.json", '{"nodes": ["a"], "edges": [["a", "b"]]}', "none of its nodes"),
    "json rows": ("a.json", '{"nodes": ["a"], "adjacency": []}', "1 nodes and 0 rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_no_graph_of_the_members_is_answered(case: str, tmp_path: Path) -> None:
    name, text, words = REFUSED[case]
    with pytest.raises(ConfigError, match=words) as caught:
        edges_of(tmp_path / name, text)
    assert caught.value.fix
    assert name in caught.value.message


def test_weights_that_look_like_nodes_are_weights(tmp_path: Path) -> None:
    assert edges_of(tmp_path / "a.txt", "0 1 2\n1 2 3\n2 3 1\n") == PATH  # the twin


def test_numbers_that_are_only_some_members_names_are_nobodys_places(tmp_path: Path) -> None:
    names = ("1", "2", "3", "4")
    assert edges_of(tmp_path / "a.txt", "1 2\n2 3\n3 4\n", names) == PATH
    with pytest.raises(ConfigError, match="names no member: 0 and lacks the members 4"):
        edges_of(tmp_path / "a.txt", "0 1\n1 2\n2 3\n", names)


@pytest.mark.parametrize("text", ['[["\\ud800", "ann"]]', '[["\\u001b[2J", "ann"]]', "[]"])
def test_names_that_cannot_be_printed_are_refused_where_the_file_names_the_members(
    text: str, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"no member can be called that|has no nodes"):
        load_graph({"kind": "file", "path": "a.json"}, tmp_path).own_names()
    (tmp_path / "a.json").write_text('[["Zürich", "ann"]]')
    assert load_graph({"kind": "file", "path": "a.json"}, tmp_path).own_names() == ("Zürich", "ann")


def test_a_misspelled_member_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        edges_of(tmp_path / "a.txt", REFUSED["misspelled"][1])
    assert "choo may be cho" in caught.value.fix


def test_a_file_that_cannot_be_read_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_graph(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_graph(tmp_path / "a\0b.txt")
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ConfigError, match="is no file"):
        read_graph(tmp_path / "folder.txt")
    with pytest.raises(ConfigError, match="is no file"):
        read_graph(Path("/dev/zero"), "edge-list")
    (tmp_path / "latin.txt").write_bytes(b"m\xfcller ann\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_graph(tmp_path / "latin.txt")
    (tmp_path / "long.txt").write_text("ann bob\n" * 10)
    assert len(read_graph(tmp_path / "long.txt").graph) == 2  # the twin
    monkeypatch.setattr(reading, "FILE_BYTES_MAX", 20)
    with pytest.raises(ConfigError, match="longer than"):
        read_graph(tmp_path / "long.txt")


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["nodes", "edges", "links", "adjacency", "directed", "id", "source"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FORMS = st.sampled_from(["edge-list", "graphml", "json"])
PIECES = st.sampled_from(
    [
        "<graph>",
        "</graph>",
        "<graph edgedefault='undirected'>",
        "<node id='a'/>",
        "<edge source='a'/>",
        "<edge source='a' target='b'/>",
        "<data/>",
        "<data key='a'>x</data>",
        "<key id='a'/>",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.tuples(st.text(max_size=80), FORMS),
        st.tuples(ANY_JSON.map(json.dumps), st.just("json")),
        st.tuples(
            st.lists(PIECES, max_size=8).map(
                lambda parts: (
                    '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">'
                    + "".join(parts)
                    + "</graphml>"
                )
            ),
            st.just("graphml"),
        ),
    )
)
def test_any_file_is_a_graph_or_a_config_error(tmp_path: Path, given_: tuple[str, str]) -> None:
    text, form = given_
    path = tmp_path / "any"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with suppress(ConfigError):
        load_graph({"kind": "file", "path": "any", "format": form}, tmp_path).build(NAMES)


@given(
    st.integers(1, 9).flatmap(
        lambda size: st.lists(
            st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)).filter(
                lambda pair: pair[0] != pair[1]
            ),
            max_size=20,
        ).map(lambda pairs: (size, pairs))
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_written_graph_comes_back(
    tmp_path: Path, drawn: tuple[int, list[tuple[int, int]]]
) -> None:
    size, pairs = drawn
    names = tuple(f"m{place}" for place in range(size))
    meant = {(min(pair), max(pair)) for pair in pairs}
    lines = [*names, *(f"{names[one]} {names[other]}" for one, other in pairs)]
    assert edges_of(tmp_path / "a.txt", "\n".join(lines), names) == meant
    content = {"nodes": names, "edges": [[names[one], names[other]] for one, other in pairs]}
    assert edges_of(tmp_path / "a.json", json.dumps(content), names) == meant
