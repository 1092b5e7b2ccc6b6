"""TLS 1.3, mutual, with self-signed leaves from the member list; nothing else is trusted."""

import os
import ssl
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from gossipfl.errors import Refusal
from gossipfl.wire.identity import Identity

__all__ = ["classify", "client_context", "peer_certificate", "server_context"]

# OpenSSL's names for "this is no TLS record": an HTTP request, a proxy's, or anything else
_NOT_TLS: Final = frozenset(
    {
        "HTTP_REQUEST",
        "HTTPS_PROXY_REQUEST",
        "WRONG_VERSION_NUMBER",
        "UNKNOWN_PROTOCOL",
        "PACKET_LENGTH_TOO_LONG",
        "BAD_RECORD_TYPE",
        "RECORD_LAYER_FAILURE",
        "NOT_SSL_RECORD",
    }
)
# … and for "it speaks TLS, but not 1.3", seen by either end
_VERSION: Final = frozenset(
    {
        "UNSUPPORTED_PROTOCOL",
        "VERSION_TOO_LOW",
        "TLSV1_ALERT_PROTOCOL_VERSION",
        "NO_PROTOCOLS_AVAILABLE",
        "UNSUPPORTED_SSL_VERSION",
    }
)
# … and for "the certificate, or the lack of one"; an alert means that the other end refused ours
_CERTIFICATE: Final = frozenset(
    {
        "CERTIFICATE_VERIFY_FAILED",
        "PEER_DID_NOT_RETURN_A_CERTIFICATE",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "BAD_SIGNATURE",
    }
)


def server_context(
    identity: Identity, certificate: bytes, members: Iterable[bytes]
) -> ssl.SSLContext:
    """Return the listener's context: it asks for a certificate and trusts exactly the members'.

    Args:
        identity: this node's key.
        certificate: this node's certificate, DER.
        members: certificates that may dial in, DER.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # no resumption: every link shows its certificate anew
    return _pinned(context, identity, certificate, members)


def client_context(identity: Identity, certificate: bytes, peer: bytes) -> ssl.SSLContext:
    """Return the context to dial one peer with: it trusts that peer's certificate alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _pinned(context, identity, certificate, [peer])


def _pinned(
    context: ssl.SSLContext, identity: Identity, certificate: bytes, trusted: Iterable[bytes]
) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # a member is its key, wherever it stands
    context.verify_mode = ssl.CERT_REQUIRED
    anchors = b"".join(trusted)
    if anchors:
        context.load_verify_locations(cadata=anchors)
    key = ed25519.Ed25519PrivateKey.from_private_bytes(identity.seed).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with _private_file(key + ssl.DER_cert_to_PEM_cert(certificate).encode("ascii")) as chain:
        context.load_cert_chain(chain)
    return context


@contextmanager
def _private_file(content: bytes) -> Iterator[str]:
    """Yield the name of a file that nobody else can open: OpenSSL reads keys from files only."""
    if sys.platform == "linux":  # in memory: a key must not stay behind on a disk
        descriptor = os.memfd_create("gossipfl", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{descriptor}"
    else:
        # the directory has mode 0700 and is gone at once
        with tempfile.TemporaryDirectory(prefix="gossipfl-") as directory:
            path = Path(directory) / "chain.pem"
            path.touch(mode=0o600)
            path.write_bytes(content)
            yield str(path)


def peer_certificate(tls: object) -> bytes | None:
    """Return the DER leaf that the other end of a finished handshake showed."""
    if not isinstance(tls, ssl.SSLObject | ssl.SSLSocket):
        return None
    return tls.getpeercert(binary_form=True)


def classify(error: BaseException | None) -> tuple[Refusal, str]:
    """Say why a handshake failed: a stable code and a sentence for the operator."""
    if isinstance(error, TimeoutError):
        return Refusal.HANDSHAKE_TIMEOUT, "the TLS handshake took too long"
    if not isinstance(error, ssl.SSLError):
        return Refusal.TRUNCATED, "the connection ended within the TLS handshake"
    reason = error.reason or "unknown"
    if reason in _NOT_TLS:
        return Refusal.NOT_TLS, "what came is not TLS"
    if reason in _VERSION:
        return Refusal.TLS_VERSION, "only TLS 1.3 is spoken here"
    if reason in _CERTIFICATE or isinstance(error, ssl.SSLCertVerificationError):
        if "ALERT" in reason:
            return Refusal.UNKNOWN_CERTIFICATE, "the other end does not accept our certificate"
        return Refusal.UNKNOWN_CERTIFICATE, "the certificate is not in the member list"
    return Refusal.MALFORMED, f"the TLS handshake failed: {reason.lower().replace('_', ' ')}"
