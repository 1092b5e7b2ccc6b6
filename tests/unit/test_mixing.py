"""Mixing rules: what b liars can do, what missing answers cost, and the network behind them."""

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gossipfl.mixing
from gossipfl.errors import ConfigError
from gossipfl.family import kinds
from gossipfl.mixing import MixingRule, check_degree, load_rule
from gossipfl.mixing.mean import Mean
from gossipfl.mixing.median import Median
from gossipfl.mixing.rule import BLOCK
from gossipfl.mixing.trimmed_mean import TrimmedMean, _merge_exchange, _peeling, _plan, _pruned

Rows = npt.NDArray[Any]

FAMILY = kinds(gossipfl.mixing, MixingRule)  # type: ignore[type-abstract]


def rule_of(kind: str, b: int) -> MixingRule:
    member = FAMILY[kind]
    return member.of({"b": b} if "b" in member.model_fields else {})


RULES = [pytest.param(rule_of(kind, 1), id=kind) for kind in FAMILY]
ROBUST = [kind for kind in FAMILY if rule_of(kind, 1).byzantine]


def rows_of(m: int, size: int, seed: int = 0) -> Rows:
    return np.random.default_rng(seed).standard_normal((m, size), dtype=np.float32)


def sorted_trimmed_mean(own: Rows, rows: Rows, b: int) -> Rows:
    """What the definition says, by sorting, in double precision."""
    rows = np.concatenate([rows, np.repeat(own[None], max(0, 2 * b + 1 - len(rows)), axis=0)])
    kept = np.sort(rows.astype(np.float64), axis=0)[b : len(rows) - b]
    mean: Rows = (kept.sum(axis=0) + own) / (len(kept) + 1)
    return mean


def test_the_family_is_as_named() -> None:
    assert {"mean", "median", "trimmed-mean"} <= set(FAMILY)
    assert ROBUST == ["median", "trimmed-mean"]


# the trimmed mean


@pytest.mark.parametrize("b", range(4))
@pytest.mark.parametrize("m", range(10))
def test_the_trimmed_mean_is_what_sorting_gives(m: int, b: int) -> None:
    own, rows = rows_of(1, 101, 9)[0], rows_of(m, 101)
    mixed = TrimmedMean(b=b)(own, rows)
    np.testing.assert_allclose(mixed, sorted_trimmed_mean(own, rows, b), rtol=1e-5, atol=1e-6)


def test_the_trimmed_mean_by_hand() -> None:
    own = np.array([10.0, 0.0], dtype=np.float32)
    rows = np.array([[1, 5], [2, -7], [3, 6], [100, 7], [-100, 8]], dtype=np.float32)
    mixed = TrimmedMean(b=1)(own, rows)
    np.testing.assert_array_equal(mixed, np.array([16 / 4, 18 / 4], dtype=np.float32))


def test_ones_own_value_is_never_trimmed() -> None:
    own = np.full(1, 1_000, dtype=np.float32)  # the largest of all
    rows = np.zeros((3, 1), dtype=np.float32)
    assert TrimmedMean(b=1)(own, rows) == 500  # trimmed with the others it would give 0


def test_b_does_not_shrink_when_answers_are_missing() -> None:
    own = np.zeros(1, dtype=np.float32)
    liars = np.full((2, 1), 1e6, dtype=np.float32)
    assert TrimmedMean(b=2)(own, liars) == 0  # two answers, both may be lies
    assert TrimmedMean(b=2)(own, np.full((3, 1), 9, dtype=np.float32)) == 4.5  # one must be true
    assert TrimmedMean(b=0)(own, liars) == pytest.approx(2e6 / 3)  # the twin


@pytest.mark.parametrize("kind", ROBUST)
@pytest.mark.parametrize("m", [0, 1, 2])
def test_with_b_answers_or_fewer_a_node_keeps_its_model(kind: str, m: int) -> None:
    own, rows = rows_of(1, 33, 1)[0], rows_of(m, 33)
    np.testing.assert_array_equal(rule_of(kind, 2)(own, rows), own)
    assert (rule_of(kind, 2)(own, rows_of(5, 33)) != own).any()


# what liars can do


@pytest.mark.parametrize("kind", ROBUST)
@pytest.mark.parametrize("loud", [1e30, -1e30, 3e38, -3e38])
@pytest.mark.parametrize(("m", "b"), [(3, 1), (5, 2), (9, 3), (17, 2), (17, 8), (4, 2)])
def test_a_trimmed_value_leaves_no_trace(kind: str, loud: float, m: int, b: int) -> None:
    rng = np.random.default_rng(m * b)
    own, rows = rows_of(1, 257, 3)[0], rows_of(m, 257)
    quiet, loudest = rows.copy(), rows.copy()
    for coordinate in range(257):
        liars = rng.permutation(m)[:b]
        quiet[liars, coordinate] = np.copysign(50, loud)
        loudest[liars, coordinate] = loud
    mixed = rule_of(kind, b)(own, loudest)
    np.testing.assert_array_equal(mixed, rule_of(kind, b)(own, quiet))
    assert np.abs(mixed).max() < 6


@st.composite
def votes(draw: st.DrawFn) -> tuple[int, Rows, Rows, Rows]:
    b = draw(st.integers(0, 3))
    honest = draw(st.integers(0, 8))
    lying = draw(st.integers(0, b))
    sane = st.floats(-1e6, 1e6, width=32)
    wild = st.floats(width=32, allow_nan=True, allow_infinity=True)
    own = draw(hnp.arrays(np.float32, (3,), elements=sane))
    true = draw(hnp.arrays(np.float32, (honest, 3), elements=sane))
    lies = draw(hnp.arrays(np.float32, (lying, 3), elements=wild))
    return b, own, true, lies


@pytest.mark.parametrize("kind", ROBUST)
@given(case=votes(), order=st.randoms(use_true_random=False))
def test_b_liars_cannot_leave_the_honest_range(
    kind: str, case: tuple[int, Rows, Rows, Rows], order: Any
) -> None:
    b, own, true, lies = case
    rows = [*true, *lies]
    order.shuffle(rows)
    mixed = rule_of(kind, b)(own, rows)
    honest = np.concatenate([own[None], true])
    low, high = honest.min(axis=0), honest.max(axis=0)
    slack = 1e-5 * np.maximum(np.abs(low), np.abs(high)) + 1e-30  # float32 sums
    assert (mixed >= low - slack).all()
    assert (mixed <= high + slack).all()


def test_the_mean_is_steered_by_one_liar() -> None:
    own, rows = np.zeros(1, dtype=np.float32), np.zeros((3, 1), dtype=np.float32)
    rows[0] = 4e9
    assert Mean()(own, rows) == pytest.approx(1e9)
    assert TrimmedMean(b=1)(own, rows) == 0
    assert Mean().byzantine == 0


# the median


@pytest.mark.parametrize("m", range(1, 9))
def test_the_median_is_numpys_over_own_and_received(m: int) -> None:
    own, rows = rows_of(1, 65, 4)[0], rows_of(m, 65)
    expected = np.median(np.concatenate([own[None], rows]), axis=0)
    np.testing.assert_allclose(Median(b=0)(own, rows), expected, rtol=1e-6)


def test_the_median_fills_missing_answers_with_its_own_model() -> None:
    own = np.zeros(1, dtype=np.float32)
    rows = np.full((3, 1), 8, dtype=np.float32)
    assert Median(b=1)(own, rows) == 8
    assert Median(b=2)(own, rows) == 4  # 0, 0, 0, 8, 8, 8
    assert Median(b=3)(own, rows) == 0  # all three may lie


# the mean


def test_weights_give_ones_own_model_the_rest() -> None:
    own, rows = np.full(1, 8.0), np.array([[4.0], [0.0]])
    assert Mean()(own, rows, [0.25, 0.5]) == 3
    assert Mean()(own, rows) == 4
    assert Mean()(own, rows, [0.5, 0.5]) == 2
    assert Mean()(own, rows[:0], []) == 8


def test_the_weight_of_a_row_that_does_not_count_goes_to_ones_own() -> None:
    own, rows = np.full(1, 8.0), np.array([[4.0], [np.nan]])
    assert Mean()(own, rows, [0.25, 0.5]) == 7
    assert Mean()(own, rows) == 6


@pytest.mark.parametrize("weights", [[0.5], [0.5, -0.1], [0.9, 0.2], [0.1, float("nan")]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        Mean()(np.zeros(1), np.zeros((2, 1)), weights)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_says_whether_it_takes_weights(rule: MixingRule) -> None:
    own, rows = np.zeros(1), np.ones((3, 1))
    if rule.uses_weights:
        assert rule(own, rows, [0.25, 0.25, 0.25]) == 0.75
        return
    with pytest.raises(TypeError, match="takes no weights"):
        rule(own, rows, [0.25, 0.25, 0.25])


# every rule


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("m", [0, 1, 2, 3, 6])
def test_agreement_stays_agreement(rule: MixingRule, m: int) -> None:
    own = rows_of(1, 50)[0]
    np.testing.assert_allclose(rule(own, [own] * m), own, rtol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_does_not_count(rule: MixingRule, bad: float) -> None:
    own, rows = rows_of(1, 2 * BLOCK + 5, 1)[0], rows_of(5, 2 * BLOCK + 5)
    rows[2, -1] = bad  # one number, in the last block
    clean = np.delete(rows, 2, axis=0)
    np.testing.assert_array_equal(rule(own, rows), rule(own, clean))
    assert np.isfinite(rule(own, rows)).all()


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [0, 1, 3, 8])
def test_inputs_are_left_as_they_are(rule: MixingRule, dtype: Any, m: int) -> None:
    own, rows = rows_of(1, 500, 1)[0].astype(dtype), rows_of(m, 500).astype(dtype)
    before = own.copy(), rows.copy()
    mixed = rule(own, rows)
    assert (mixed.dtype, mixed.shape) == (own.dtype, own.shape)
    assert not np.shares_memory(mixed, own)
    np.testing.assert_array_equal(own, before[0])
    np.testing.assert_array_equal(rows, before[1])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("m", [0, 1, 3, 8])
def test_the_result_can_take_the_place_of_any_input(rule: MixingRule, m: int) -> None:
    own, rows = rows_of(1, BLOCK + 77, 1)[0], list(rows_of(m, BLOCK + 77))
    expected = rule(own, rows)
    for place in range(m + 1):
        inputs = [own.copy(), *(row.copy() for row in rows)]
        mixed = rule(inputs[0], inputs[1:], out=inputs[place])
        assert mixed is inputs[place]
        np.testing.assert_array_equal(mixed, expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("m", [0, 3, 6])
def test_a_tensor_gives_a_tensor_with_the_same_numbers(rule: MixingRule, m: int) -> None:
    torch = pytest.importorskip("torch")
    own, rows = rows_of(1, 300, 1)[0], rows_of(m, 300)
    tensors = torch.from_numpy(own).requires_grad_(), torch.from_numpy(rows)
    mixed = rule(*tensors)
    assert isinstance(mixed, torch.Tensor)
    np.testing.assert_array_equal(mixed.numpy(), rule(own, rows))
    out = torch.empty(300)
    assert rule(*tensors, out=out) is out
    assert torch.equal(out, mixed)


@pytest.mark.parametrize("rule", RULES)
def test_an_empty_model_mixes_to_an_empty_model(rule: MixingRule) -> None:
    assert rule(np.zeros(0), np.zeros((3, 0))).shape == (0,)


@pytest.mark.parametrize("rule", RULES)
def test_a_callers_bug_is_a_type_error(rule: MixingRule) -> None:
    own: Any = np.zeros(4, dtype=np.float32)
    for rows in ([np.zeros(3, np.float32)], [np.zeros(4)], [own, np.zeros((1, 4))], [[0.0] * 4]):
        with pytest.raises(TypeError):
            rule(own, rows)
    with pytest.raises(TypeError):
        rule(np.zeros(4, dtype=np.int64), [])
    with pytest.raises(TypeError):
        rule(own, [own], out=np.zeros(5, dtype=np.float32))
    assert (rule(own, [own]) == 0).all()


# the network


@pytest.mark.parametrize("network", [_merge_exchange, _peeling])
@pytest.mark.parametrize("n", range(1, 11))
def test_the_pruned_network_keeps_the_right_values(network: Any, n: int) -> None:
    # if it does for every row of zeros and ones, it does for all numbers (Knuth 5.3.4)
    for drop in range((n + 1) // 2):
        steps = network(n) if network is _merge_exchange else network(n, drop)
        bits = np.array(list(itertools.product([0, 1], repeat=n))).T
        wires = list(bits)
        for (i, j), low, high in _pruned(steps, n, drop):
            smaller, larger = np.minimum(wires[i], wires[j]), np.maximum(wires[i], wires[j])
            poison = np.full_like(smaller, 1_000)  # what is not computed must not be read
            wires[i], wires[j] = smaller if low else poison, larger if high else poison
        kept = np.sum(wires[drop : n - drop], axis=0)
        np.testing.assert_array_equal(kept, np.sort(bits, axis=0)[drop : n - drop].sum(axis=0))


@pytest.mark.parametrize(("rows", "drop", "most"), [(3, 1, 5), (9, 1, 29), (17, 2, 99)])
def test_the_cheaper_network_is_taken(rows: int, drop: int, most: int) -> None:
    assert len(_plan(rows, drop, True).steps) <= most
    assert _plan(rows, drop, True).buffers <= rows + 1


@pytest.mark.parametrize(("m", "b"), [(17, 2), (17, 8), (33, 4), (64, 3), (100, 40)])
def test_many_neighbors_over_many_blocks(m: int, b: int) -> None:
    own, rows = rows_of(1, 5_000, 9)[0], rows_of(m, 5_000)
    mixed = TrimmedMean(b=b)(own, list(rows))
    np.testing.assert_allclose(mixed, sorted_trimmed_mean(own, rows, b), rtol=1e-4, atol=1e-5)


# configuration


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("trimmed-mean", "mixing.b"),  # b has no default
        ("median", "mixing.b"),
        ({"kind": "trimmed-mean", "b": -1}, "mixing.b"),
        ({"kind": "trimmed-mean", "b": 1.5}, "mixing.b"),
        ({"kind": "trimmed-mean", "b": 1, "trim": 2}, "mixing.trim"),
        ({"kind": "mean", "b": 1}, "mixing.b"),
        ("krum", "there is no 'krum'"),
    ],
)
def test_a_wrong_rule_is_a_config_error_that_names_the_key(choice: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_rule(choice)
    assert caught.value.fix


def test_a_right_rule_is_taken() -> None:
    assert load_rule("mean") == Mean()
    assert load_rule({"kind": "median", "b": 0}) == Median(b=0)
    rule = load_rule({"kind": "trimmed-mean", "b": 2})
    assert rule == TrimmedMean(b=2)
    assert (rule.byzantine, rule.degree_min) == (2, 5)
    assert load_rule(rule.model_dump()) == rule


@pytest.mark.parametrize("kind", ROBUST)
@pytest.mark.parametrize("b", [0, 1, 2, 5])
def test_a_rule_its_degree_cannot_carry_is_refused(kind: str, b: int) -> None:
    rule = rule_of(kind, b)
    check_degree(rule, 2 * b + 1)
    with pytest.raises(ConfigError, match=f"{kind} against {b} lying neighbors") as caught:
        check_degree(rule, 2 * b)
    largest = (2 * b - 1) // 2
    assert (f"mixing.b to at most {largest}," in caught.value.fix) == (b > 0)


def test_mixing_does_not_import_torch() -> None:
    code = (
        "import sys, numpy as np, gossipfl.mixing as m; rule = m.load_rule("
        "{'kind': 'trimmed-mean', 'b': 1}); rule(np.zeros(3), np.zeros((3, 3))); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
