"""Codecs: exact sizes, exact bytes, any cut of the payload, and no loss that stays."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import gossipfl.codecs
from gossipfl.codecs import Codec, codec_of, load_codec
from gossipfl.errors import ConfigError, PeerFault, Refusal
from gossipfl.family import kinds
from gossipfl.types import Vector

FAMILY = kinds(gossipfl.codecs, Codec)  # type: ignore[type-abstract]
CODECS = [pytest.param(member(), id=kind) for kind, member in FAMILY.items()]
VECTORS = Path(__file__).parents[1] / "vectors" / "codecs"
LOSS = {"dense": 0.0, "bf16": 2.0**-8}  # relative, of one normal coordinate

deltas = hnp.arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
)


def random_vector(size: int, seed: int = 0) -> Vector:
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def decoded(codec: Codec, payload: bytes, size: int, base: Vector | None = None) -> Vector:
    out = np.full(size, np.float32(7))
    decoder = codec.decoder(base, out)
    assert decoder.feed(payload) == size
    decoder.finish()
    return out


def test_wire_ids_are_unique_and_never_zero() -> None:
    ids = [member.wire_id for member in FAMILY.values()]
    assert len(set(ids)) == len(ids) >= 2
    assert all(1 <= wire_id <= 255 for wire_id in ids)


@pytest.mark.parametrize("codec", CODECS)
def test_an_offer_finds_its_codec(codec: Codec) -> None:
    assert codec_of(codec.wire_id) == codec
    assert load_codec(codec.kind) == codec


def test_an_unknown_codec_is_the_peers_fault() -> None:
    with pytest.raises(PeerFault) as caught:
        codec_of(0)
    assert caught.value.refusal is Refusal.UNKNOWN_CODEC


def test_an_unknown_name_is_the_operators_fault() -> None:
    with pytest.raises(ConfigError, match="there is no 'zip'"):
        load_codec("zip")


@pytest.mark.parametrize("codec", CODECS)
def test_bytes_are_those_of_the_golden_file(codec: Codec) -> None:
    golden = json.loads((VECTORS / f"{codec.kind}.json").read_text())
    assert (golden["kind"], golden["wire_id"]) == (codec.kind, codec.wire_id)
    rows = golden["coordinates"]
    bits = np.array([int(row["float32"], 16) for row in rows], dtype=np.uint32)
    payload = bytes(codec.encode(bits.view(np.float32)))
    width = codec.payload_bytes(1)
    for place, row in enumerate(rows):
        coded = payload[place * width : (place + 1) * width].hex()
        assert coded == row["payload"], row["name"]


@pytest.mark.parametrize("codec", CODECS)
@given(delta=deltas)
def test_size_is_exact_and_the_round_trip_loses_no_more_than_said(
    codec: Codec, delta: Vector
) -> None:
    payload = codec.encode(delta)
    assert payload.dtype == np.uint8
    assert payload.size == codec.payload_bytes(delta.size)
    back = decoded(codec, bytes(payload), delta.size)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(delta))
    normal = np.isfinite(delta) & (np.abs(delta) > 1e-37) & (np.abs(delta) < 3e38)
    error = np.abs(back[normal].astype(np.float64) - delta[normal])
    assert (error <= LOSS[codec.kind] * np.abs(delta[normal].astype(np.float64))).all()
    np.testing.assert_array_equal(back[np.isinf(delta)], delta[np.isinf(delta)])


@pytest.mark.parametrize("codec", CODECS)
@given(delta=deltas)
def test_what_was_decoded_encodes_to_the_same_bytes(codec: Codec, delta: Vector) -> None:
    payload = bytes(codec.encode(np.nan_to_num(delta)))
    assert bytes(codec.encode(decoded(codec, payload, delta.size))) == payload


def test_bf16_agrees_with_torch_on_every_pattern_of_the_upper_half() -> None:
    torch = pytest.importorskip("torch")
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], dtype=np.uint32)
    bits = (upper[:, None] | lower).reshape(-1)
    delta = bits.view(np.float32)
    delta = np.ascontiguousarray(delta[~np.isnan(delta)])
    ours = load_codec("bf16").encode(delta).view("<u2")
    theirs = torch.from_numpy(delta).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("snapshot", [True, False])
@given(data=st.data())
def test_any_cut_of_the_payload_gives_what_one_piece_gives(
    codec: Codec, snapshot: bool, data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, 30))
    base = None if snapshot else random_vector(size, 1)
    payload = bytes(codec.encode(random_vector(size, 2)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(payload)), max_size=8)))
    out = np.zeros(size, dtype=np.float32) if base is None else base.copy()
    decoder = codec.decoder(None if base is None else out, out)  # in place
    whole = decoded(codec, payload, size, base)
    final = 0
    for start, stop in zip([0, *cuts], [*cuts, len(payload)], strict=True):
        final = decoder.feed(memoryview(payload)[start:stop])
        assert final == stop // codec.payload_bytes(1)
        np.testing.assert_array_equal(out[:final], whole[:final])
    decoder.finish()
    assert final == size


@pytest.mark.parametrize("codec", CODECS)
def test_a_delta_larger_than_a_block_is_added_to_its_base(codec: Codec) -> None:
    base, delta = random_vector(50_001, 1), random_vector(50_001, 2)
    kept = base.copy()
    model = decoded(codec, bytes(codec.encode(delta)), delta.size, base)
    alone = decoded(codec, bytes(codec.encode(delta)), delta.size)
    np.testing.assert_array_equal(model, base + alone)
    np.testing.assert_allclose(alone, delta, rtol=LOSS[codec.kind])
    np.testing.assert_array_equal(base, kept)


@pytest.mark.parametrize("codec", CODECS)
@given(
    payload=st.sampled_from([16, 32]).flatmap(lambda n: st.binary(min_size=n, max_size=n))
    | st.binary(max_size=64),
    cut=st.integers(0, 64),
    snapshot=st.booleans(),
)
def test_hostile_bytes_raise_nothing_but_a_peers_fault(
    codec: Codec, payload: bytes, cut: int, snapshot: bool
) -> None:
    out = np.array([3e38, -3e38, 0, np.float32(1e-45)] * 2, dtype=np.float32)
    decoder = codec.decoder(None if snapshot else out.copy(), out)
    right = codec.payload_bytes(out.size)

    def take() -> None:
        decoder.feed(payload[:cut])
        assert decoder.feed(payload[cut:]) <= out.size
        decoder.finish()

    if len(payload) == right:
        take()
        return
    with pytest.raises(PeerFault) as caught:
        take()
    assert caught.value.refusal is Refusal.WRONG_LENGTH


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "pattern", [b"\xff", b"\x80\x7f", b"\x00\x00\x80\x7f", b"\x01\x00\x80\xff"]
)
def test_nan_and_inf_decode_without_a_warning(codec: Codec, pattern: bytes) -> None:
    size = 8
    payload = (pattern * codec.payload_bytes(size))[: codec.payload_bytes(size)]
    model = decoded(codec, payload, size, np.full(size, -np.inf, dtype=np.float32))
    assert not np.isfinite(model).any()


@pytest.mark.parametrize("codec", CODECS)
def test_too_many_bytes_are_refused_before_any_is_written(codec: Codec) -> None:
    out = np.zeros(4, dtype=np.float32)
    payload = bytes(codec.encode(np.ones(4, dtype=np.float32)))
    with pytest.raises(PeerFault) as caught:
        codec.decoder(None, out).feed(payload + b"\x00")
    assert caught.value.refusal is Refusal.WRONG_LENGTH
    assert not out.any()


@pytest.mark.parametrize("codec", CODECS)
def test_too_few_bytes_are_refused_at_the_end(codec: Codec) -> None:
    decoder = codec.decoder(None, np.zeros(4, dtype=np.float32))
    payload = bytes(codec.encode(np.ones(4, dtype=np.float32)))
    assert decoder.feed(payload[:-1]) == 3
    with pytest.raises(PeerFault) as caught:
        decoder.finish()
    assert caught.value.refusal is Refusal.WRONG_LENGTH
    assert decoder.feed(payload[-1:]) == 4
    decoder.finish()


@pytest.mark.parametrize("codec", CODECS)
def test_a_payload_is_not_a_view_of_the_delta(codec: Codec) -> None:
    delta = np.ones(4, dtype=np.float32)
    payload = codec.encode(delta)
    before = bytes(payload)
    delta[:] = 2
    assert bytes(payload) == before != bytes(codec.encode(delta))


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(
    "bad",
    [np.zeros(4), np.zeros((2, 2), dtype=np.float32), np.zeros(8, dtype=np.float32)[::2]],
    ids=["float64", "two dimensions", "gaps"],
)
def test_a_callers_bug_is_no_peers_fault(codec: Codec, bad: npt.NDArray[Any]) -> None:
    with pytest.raises(TypeError):
        codec.encode(bad)
    with pytest.raises(TypeError):
        codec.decoder(None, bad)
    with pytest.raises(TypeError, match="base has 3"):
        codec.decoder(np.zeros(3, dtype=np.float32), np.zeros(4, dtype=np.float32))


@pytest.mark.parametrize("codec", CODECS)
def test_what_rounding_loses_returns_with_the_next_delta(codec: Codec) -> None:
    rng = np.random.default_rng(5)
    model = rng.standard_normal(500, dtype=np.float32)
    public = model.copy()  # what the neighbors know
    naive = model.copy()  # the twin: deltas of the model itself, their loss forgotten
    drift = []
    for _ in range(200):
        step = np.float32(0.01) * (1 + rng.random(500, dtype=np.float32))
        payload = bytes(codec.encode(step))
        naive += decoded(codec, payload, 500)
        model = model + step
        codec_input = model - public
        public = decoded(codec, bytes(codec.encode(codec_input)), 500, public)
        drift.append(float(np.abs(model - public).max()))
    step_loss = LOSS[codec.kind] * 0.02 + 1e-6  # one delta's, plus float32's own on the sum
    assert max(drift) <= 2 * step_loss
    assert max(drift[100:]) <= 2 * max(drift[:100]) + 1e-6  # it does not grow
    if LOSS[codec.kind]:
        assert np.abs(model - naive).max() > 3 * max(drift)


def test_codecs_do_not_import_torch() -> None:
    code = (
        "import sys, gossipfl.codecs as c; c.load_codec('bf16'); c.codec_of(1); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
