"""Who signed what: Ed25519 identities, signing domains and replay windows.

One key signs envelopes, its own certificate and TLS handshakes. That is sound only because no two
of these ever sign the same bytes: an envelope's preimage starts with `gossipfl/`, a certificate
with the DER byte 0x30, a TLS 1.3 CertificateVerify with 64 spaces (RFC 8446 §4.4.3).
"""

from typing import Final

import nacl.bindings
import nacl.exceptions
import nacl.utils

from gossipfl.errors import Refusal

__all__ = [
    "PUBLIC_BYTES",
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "WINDOW",
    "Identity",
    "ReplayWindow",
    "preimage",
    "valid_point",
    "verify",
]

SEED_BYTES: Final = 32  # RFC 8032 §5.1.5
PUBLIC_BYTES: Final = 32  # RFC 8032 §5.1.5
SIGNATURE_BYTES: Final = 64  # RFC 8032 §5.1.6
WINDOW: Final = 1024  # frames that may overtake each other; as IPsec implementations allow

_PREFIX: Final = b"gossipfl/1/"


def preimage(domain: str, body: bytes) -> bytes:
    """Return the bytes a signature covers; no two (domain, body) pairs give the same.

    Args:
        domain: what the body is, ASCII without NUL: `offer`.
        body: the bytes themselves, shorter than 2^32.

    Raises:
        ValueError: the domain has a NUL or is not ASCII, or the body is too long. Both come from
            our own code, never from the wire.
    """
    name = domain.encode("ascii")
    if b"\0" in name:
        raise ValueError(f"domain {domain!r} contains a NUL")
    try:
        length = len(body).to_bytes(4, "little")
    except OverflowError as error:
        raise ValueError("a signed body is shorter than 2^32 bytes") from error
    return _PREFIX + name + b"\0" + length + body


class Identity:
    """One member's private key; neither `repr` nor `str` shows it.

    Args:
        seed: the private seed, SEED_BYTES bytes of entropy.
    """

    __slots__ = ("_secret", "public")

    public: bytes

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.public, self._secret = nacl.bindings.crypto_sign_seed_keypair(seed)

    @classmethod
    def generate(cls) -> "Identity":
        """Make a new identity from the operating system's entropy."""
        return cls(nacl.utils.random(SEED_BYTES))

    @property
    def seed(self) -> bytes:
        """The private seed, for key files and TLS; never log it."""
        return self._secret[:SEED_BYTES]

    def sign(self, domain: str, body: bytes) -> bytes:
        """Return the signature over `preimage(domain, body)`, SIGNATURE_BYTES bytes."""
        signed = nacl.bindings.crypto_sign(preimage(domain, body), self._secret)
        return signed[:SIGNATURE_BYTES]

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()})"


def valid_point(public: bytes) -> bool:
    """Tell whether bytes are a canonical Ed25519 point of the prime-order subgroup.

    OpenSSL takes small-order points for keys, and anybody can sign for those.
    """
    if len(public) != PUBLIC_BYTES:
        return False
    return bool(nacl.bindings.crypto_core_ed25519_is_valid_point(public))


def verify(public: bytes, domain: str, body: bytes, signature: bytes) -> bool:
    """Tell whether `signature` is `public`'s over this domain and body; hostile input is False."""
    if len(public) != PUBLIC_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + preimage(domain, body), public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


class ReplayWindow:
    """What one sender's counters still admit: each (incarnation, sequence) once.

    Frames may arrive out of order within WINDOW; a higher incarnation starts a new window, a lower
    one never returns. Feed it only counters whose signature was verified.

    Source: RFC 4303 §3.4.3 and appendix A (sliding window of sequence numbers).
    """

    __slots__ = ("_highest", "_incarnation", "_seen")

    def __init__(self) -> None:
        self._incarnation = -1
        self._highest = -1
        self._seen = 0  # bit i: sequence `highest - i` was admitted

    @property
    def incarnation(self) -> int:
        """The newest incarnation admitted; -1 before the first."""
        return self._incarnation

    def admit(self, incarnation: int, sequence: int) -> Refusal | None:
        """Admit one pair of counters, or say why not; a refusal changes nothing.

        Args:
            incarnation: how often the sender has started, at least 0.
            sequence: the frame's number within that incarnation, at least 0.
        """
        if incarnation < max(0, self._incarnation):
            return Refusal.STALE_INCARNATION
        if sequence < 0:
            return Refusal.REPLAYED
        if incarnation > self._incarnation:
            self._incarnation, self._highest, self._seen = incarnation, sequence, 1
            return None
        age = self._highest - sequence
        if age < 0:
            # A jump past the window forgets all: a shift by it could ask for 2^64 bits
            kept = (self._seen << -age) & ((1 << WINDOW) - 1) if -age < WINDOW else 0
            self._highest, self._seen = sequence, kept | 1
            return None
        if age >= WINDOW or self._seen >> age & 1:
            return Refusal.REPLAYED
        self._seen |= 1 << age
        return None
