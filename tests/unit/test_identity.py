"""Signatures, domains and replay windows; certificates and key files made from an identity."""

import base64
import datetime
import errno
import os
import ssl
import stat
import sys
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from gossipfl.errors import ConfigError, Refusal
from gossipfl.wire.identity import (
    SEED_BYTES,
    WINDOW,
    Identity,
    ReplayWindow,
    preimage,
    valid_point,
    verify,
)
from node.certificates import make_certificate, read_certificate, read_key, write_key
from node.tls import client_context, server_context

ANNA = Identity(b"a" * SEED_BYTES)
BERT = Identity(b"b" * SEED_BYTES)
SMALL_ORDER = [
    bytes(32),  # order 4
    b"\x01" + bytes(31),  # the identity
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),  # order 2
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),  # order 8
]


# --- signatures -----------------------------------------------------------------------------


def test_a_signature_holds_for_its_own_key_domain_and_body_only() -> None:
    signature = ANNA.sign("offer", b"body")
    assert verify(ANNA.public, "offer", b"body", signature)
    assert not verify(BERT.public, "offer", b"body", signature)
    assert not verify(ANNA.public, "hello", b"body", signature)
    assert not verify(ANNA.public, "offer", b"bodz", signature)


@pytest.mark.parametrize("bit", [0, 255, 256, 511])
def test_one_flipped_bit_breaks_a_signature(bit: int) -> None:
    signature = bytearray(ANNA.sign("offer", b"body"))
    assert verify(ANNA.public, "offer", b"body", bytes(signature))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(ANNA.public, "offer", b"body", bytes(signature))


@given(st.binary(max_size=80), st.binary(max_size=80), st.binary(max_size=80))
@settings(max_examples=60)
def test_hostile_keys_and_signatures_are_false_and_never_raise(
    public: bytes, body: bytes, signature: bytes
) -> None:
    assert not verify(public, "offer", body, signature)


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_a_small_order_key_signs_nothing(public: bytes) -> None:
    assert not valid_point(public)
    for body in (b"", b"x", b"another"):  # R = the key itself, S = 0 satisfies OpenSSL
        assert not verify(public, "offer", body, public + bytes(32))


def test_a_made_key_is_a_valid_point_and_other_lengths_are_not() -> None:
    assert valid_point(ANNA.public)
    assert not valid_point(ANNA.public[:-1])
    assert not valid_point(b"")


@given(
    st.tuples(st.text("abc-", max_size=6), st.binary(max_size=12)),
    st.tuples(st.text("abc-", max_size=6), st.binary(max_size=12)),
)
def test_two_preimages_are_equal_only_for_the_same_domain_and_body(
    one: tuple[str, bytes], other: tuple[str, bytes]
) -> None:
    assert (preimage(*one) == preimage(*other)) == (one == other)


@given(st.text("abcdefghijklmnopqrstuvwxyz-", max_size=20), st.binary(max_size=64))
def test_a_preimage_is_never_a_certificate_nor_a_tls_proof(domain: str, body: bytes) -> None:
    signed = preimage(domain, body)
    assert signed.startswith(b"gossipfl/1/")
    assert signed[0] != 0x30  # DER: SEQUENCE
    assert signed[:64] != b" " * 64  # RFC 8446 §4.4.3


def test_a_certificate_does_start_with_0x30() -> None:
    assert make_certificate(ANNA)[0] == 0x30
    der = x509.load_der_x509_certificate(make_certificate(ANNA))
    assert der.tbs_certificate_bytes[0] == 0x30


@pytest.mark.parametrize("domain", ["a\0b", "ä"])
def test_a_domain_that_could_be_misread_is_a_bug_of_ours(domain: str) -> None:
    with pytest.raises(ValueError):
        preimage(domain, b"")


def test_an_identity_never_shows_its_seed() -> None:
    for text in (repr(ANNA), str(ANNA), f"{ANNA}", f"{[ANNA]}"):
        assert ANNA.seed.hex() not in text
        assert repr(ANNA.seed) not in text
        assert ANNA.public.hex() in text  # the twin: it does show something
    assert not hasattr(ANNA, "__dict__")


def test_two_new_identities_differ_and_a_seed_gives_one_identity() -> None:
    assert Identity.generate().public != Identity.generate().public
    assert Identity(ANNA.seed).public == ANNA.public
    with pytest.raises(ValueError):
        Identity(b"short")


# --- replay windows -------------------------------------------------------------------------


@given(st.lists(st.integers(0, WINDOW - 1), max_size=80))
def test_each_sequence_within_the_window_counts_once_in_any_order(sequences: list[int]) -> None:
    window, seen = ReplayWindow(), set[int]()
    for sequence in sequences:
        refusal = window.admit(1, sequence)
        assert refusal == (Refusal.REPLAYED if sequence in seen else None)
        seen.add(sequence)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5000)), max_size=120))
def test_no_pair_of_counters_is_ever_admitted_twice(pairs: list[tuple[int, int]]) -> None:
    window = ReplayWindow()
    admitted = [pair for pair in pairs if window.admit(*pair) is None]
    assert len(admitted) == len(set(admitted))
    assert [pair[0] for pair in admitted] == sorted(pair[0] for pair in admitted)


def test_what_fell_out_of_the_window_is_refused_and_its_last_place_is_not() -> None:
    window = ReplayWindow()
    assert window.admit(0, 5000) is None
    assert window.admit(0, 5000 - WINDOW + 1) is None
    assert window.admit(0, 5000 - WINDOW) is Refusal.REPLAYED


def test_a_lower_incarnation_is_stale_and_a_higher_one_starts_anew() -> None:
    window = ReplayWindow()
    assert window.admit(4, 9) is None
    assert window.admit(5, 0) is None
    assert window.incarnation == 5
    assert window.admit(4, 10) is Refusal.STALE_INCARNATION
    assert window.admit(5, 1) is None


def test_a_refusal_changes_nothing_and_a_huge_jump_costs_nothing() -> None:
    window = ReplayWindow()
    assert window.admit(2, 7) is None
    assert window.admit(1, 2**64 - 1) is Refusal.STALE_INCARNATION
    assert window.admit(2, -1) is Refusal.REPLAYED
    assert window.admit(-1, 0) is Refusal.STALE_INCARNATION
    assert window.admit(2, 8) is None
    assert window.admit(2, 2**64 - 1) is None
    assert window.admit(2, 2**64 - 1) is Refusal.REPLAYED
    assert window.admit(2, 2**64 - 2) is None


# --- certificates ---------------------------------------------------------------------------


def crafted(
    identity: Identity,
    *,
    ca: bool | None = False,
    critical: bool = True,
    serial: int = 1,
    name: str | None = None,
    signer: Identity | None = None,
) -> bytes:
    """A certificate like ours, but for what is asked."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or identity.public.hex())])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(ed25519.Ed25519PublicKey.from_public_bytes(identity.public))
        .serial_number(serial)
        .not_valid_before(datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC))
    )
    if ca is not None:
        limits = x509.BasicConstraints(ca=ca, path_length=None)
        builder = builder.add_extension(limits, critical=critical)
    key = ed25519.Ed25519PrivateKey.from_private_bytes((signer or identity).seed)
    return builder.sign(key, algorithm=None).public_bytes(Encoding.DER)


def test_the_same_key_always_gives_the_same_certificate() -> None:
    assert make_certificate(ANNA) == make_certificate(Identity(ANNA.seed))
    assert make_certificate(ANNA) != make_certificate(BERT)
    assert read_certificate(make_certificate(ANNA)) == ANNA.public
    assert crafted(ANNA) == make_certificate(ANNA)  # the twin of all refusals below


def test_certificates_sort_as_their_keys_do() -> None:
    made = [Identity(bytes([number]) * SEED_BYTES) for number in range(20)]
    by_key = sorted(made, key=lambda identity: identity.public)
    assert by_key == sorted(made, key=make_certificate)


@pytest.mark.parametrize(
    ("der", "said"),
    [
        (b"", "cannot be read"),
        (b"not a certificate", "cannot be read"),
        (crafted(ANNA, ca=True), "CA:TRUE"),
        (crafted(ANNA, ca=None), "does not say CA:FALSE"),
        (crafted(ANNA, critical=False), "fields differ"),
        (crafted(ANNA, serial=2), "fields differ"),
        (crafted(ANNA, name="anna"), "fields differ"),
        (crafted(ANNA, signer=BERT), "not signed by its own key"),
        (make_certificate(ANNA)[:-1], "cannot be read"),
        (make_certificate(ANNA) + b"\0", "cannot be read"),
    ],
)
def test_a_certificate_that_is_not_the_template_is_refused(der: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_certificate(der)
    assert caught.value.fix


@pytest.mark.parametrize("public", SMALL_ORDER)
def test_a_small_order_certificate_is_refused_though_openssl_takes_it(public: bytes) -> None:
    made = make_certificate(ANNA)
    forged = made.replace(ANNA.public, public).replace(
        ANNA.public.hex().encode(), public.hex().encode()
    )
    x509.load_der_x509_certificate(forged).public_key()
    with pytest.raises(ConfigError, match="anybody could sign"):
        read_certificate(forged)


def test_a_certificate_of_another_kind_of_key_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    day = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(day).not_valid_after(day.replace(year=2100))
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    with pytest.raises(ConfigError, match="not Ed25519"):
        read_certificate(der)


@given(st.integers(0, 346), st.integers(1, 255))
@settings(max_examples=80, deadline=None)
def test_no_certificate_that_differs_in_one_byte_is_read(place: int, change: int) -> None:
    der = bytearray(make_certificate(ANNA))
    der[place] ^= change
    with pytest.raises(ConfigError):
        read_certificate(bytes(der))


def test_tls_contexts_speak_1_3_only_and_demand_certificates() -> None:
    own, other = make_certificate(ANNA), make_certificate(BERT)
    for context in (server_context(ANNA, own, [other]), client_context(ANNA, own, other)):
        assert context.minimum_version == context.maximum_version == ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert len(context.get_ca_certs(binary_form=True)) <= 1
    assert server_context(ANNA, own, [other]).num_tickets == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has files in memory")
def test_a_private_key_never_reaches_a_disk_for_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_directory(*_: object, **__: object) -> None:
        raise AssertionError("a file on disk")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(tempfile, "TemporaryDirectory", no_directory)
    client_context(ANNA, make_certificate(ANNA), make_certificate(BERT))
    assert len(os.listdir("/proc/self/fd")) == before


def test_where_files_in_memory_are_missing_the_key_s_file_is_gone_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def noted(context: ssl.SSLContext, file: str) -> None:
        seen.extend(stat.S_IMODE(path.stat().st_mode) for path in (Path(file), Path(file).parent))
        load(context, file)

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", noted)
    client_context(ANNA, make_certificate(ANNA), make_certificate(BERT))
    assert seen == [0o600, 0o700]
    assert not list(tmp_path.iterdir())


# --- key files ------------------------------------------------------------------------------


def test_a_key_file_comes_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path, ANNA)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(path).public == ANNA.public
    path.chmod(0o400)
    assert read_key(path).public == ANNA.public


def test_a_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key"
    write_key(path, ANNA)
    with pytest.raises(ConfigError, match="never overwritten"):
        write_key(path, BERT)
    assert read_key(path).public == ANNA.public


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o604, 0o700, 0o200])
def test_a_key_file_that_others_could_read_stops_the_node(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    write_key(path, ANNA)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        read_key(path)
    if os.geteuid() == 0 or mode & 0o400:  # else the file cannot even be opened
        assert f"chmod 600 {path}" in caught.value.fix


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"gossipfl-key-1",
        b"gossipfl-key-1 !!!!",
        b"gossipfl-key-1 " + base64.b64encode(bytes(31)),
        b"gossipfl-key-2 " + base64.b64encode(bytes(32)),
        b"gossipfl-key-1 " + base64.b64encode(bytes(32)) + b" more",
        b"gossipfl-key-1 " + base64.b64encode(bytes(32)) + b" " * 1000,
        bytes(range(256)),
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no gossipfl key file"):
        read_key(path)


@pytest.mark.parametrize("call", ["fsync", "fchmod"])
def test_a_key_that_could_not_be_written_leaves_no_file_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "key"
    with monkeypatch.context() as disk:
        disk.setattr(os, call, full)
        with pytest.raises(ConfigError, match="No space left") as caught:
            write_key(path, ANNA)
    assert caught.value.fix
    assert not path.exists()
    write_key(path, ANNA)
    assert read_key(path).public == ANNA.public


def test_a_key_is_durable_with_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(stat.S_ISDIR(os.fstat(descriptor).st_mode))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write_key(tmp_path / "key", ANNA)
    assert synced == [False, True]


def test_a_missing_key_and_a_place_that_cannot_be_written_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such key file") as caught:
        read_key(tmp_path / "none")
    with pytest.raises(ConfigError, match="is not a file"):
        read_key(tmp_path)
    assert f"`gossipfl keygen --name NAME --out {tmp_path / 'none'}`" in caught.value.fix
    with pytest.raises(ConfigError, match="cannot be written"):
        write_key(tmp_path / "none" / "key", ANNA)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigError, match="is not a file"):
        read_key(tmp_path / "pipe")
