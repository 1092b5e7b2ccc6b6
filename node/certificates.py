"""A member's certificate and key file.

The certificate is a function of the key: one key always gives the same bytes, so the member list
holds it whole and both ends of a link compare it byte for byte. A certificate that differs from
the template in any byte is refused when the list is read.
"""

import base64
import binascii
import contextlib
import datetime
import os
import stat
import warnings
from pathlib import Path
from typing import Final

import nacl.bindings
import nacl.exceptions
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from gossipfl.errors import ConfigError
from gossipfl.wire.identity import SEED_BYTES, SIGNATURE_BYTES, Identity, valid_point

__all__ = ["make_certificate", "read_certificate", "read_key", "write_key"]

_SERIAL: Final = 1  # fixed: the same key gives the same bytes
_NOT_BEFORE: Final = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # before any node's clock
_NOT_AFTER: Final = datetime.datetime(  # RFC 5280 §4.1.2.5: "no well-defined expiration date"
    9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC
)
_KEY_TAG: Final = "gossipfl-key-1"
_KEY_FILE_BYTES_MAX: Final = 256  # the tag and 44 characters, with room for blanks
_MODES: Final = (0o600, 0o400)
_NEW_CERTIFICATE: Final = "Let that member run `gossipfl keygen` and paste its table again."
_NEW_KEY: Final = "Restore the key from your backup, or make another with `gossipfl keygen`."


def _issue(public: bytes, signer: bytes) -> bytes:
    """Return the template for `public` in DER, signed by the seed `signer`."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, public.hex())])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(ed25519.Ed25519PublicKey.from_public_bytes(public))
        .serial_number(_SERIAL)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    key = ed25519.Ed25519PrivateKey.from_private_bytes(signer)
    return builder.sign(key, algorithm=None).public_bytes(Encoding.DER)


def make_certificate(identity: Identity) -> bytes:
    """Return the identity's self-signed leaf in DER; the same key gives the same bytes."""
    return _issue(identity.public, identity.seed)


def read_certificate(der: bytes) -> bytes:
    """Return the public key of a member's certificate, 32 bytes.

    Raises:
        ConfigError: not a certificate, not Ed25519, a key that anybody can sign for, CA:TRUE,
            a missing constraint, any other difference from what `make_certificate` gives, or a
            signature that is not the key's own.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what only earns a warning is no certificate of ours
            certificate = x509.load_der_x509_certificate(der)
            key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion, Warning) as error:
        raise ConfigError(
            f"the certificate cannot be read: {error}", fix=_NEW_CERTIFICATE
        ) from error
    if not isinstance(key, ed25519.Ed25519PublicKey):
        raise ConfigError("the certificate's key is not Ed25519", fix=_NEW_CERTIFICATE)
    public = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    if not valid_point(public):
        raise ConfigError(
            "the certificate's key is no valid curve point: anybody could sign for it",
            fix=_NEW_CERTIFICATE,
        )
    _check_constraints(certificate)
    # Signed by a throwaway key: only the signature, the last bytes, may differ from the template
    template = _issue(public, bytes(SEED_BYTES))[:-SIGNATURE_BYTES]
    if der[:-SIGNATURE_BYTES] != template:
        raise ConfigError(
            "the certificate was not made by gossipfl: its fields differ from the fixed ones",
            fix=_NEW_CERTIFICATE,
        )
    try:  # not OpenSSL: it accepts signatures that libsodium refuses
        nacl.bindings.crypto_sign_open(
            der[-SIGNATURE_BYTES:] + certificate.tbs_certificate_bytes, public
        )
    except nacl.exceptions.BadSignatureError as error:
        raise ConfigError(
            "the certificate is not signed by its own key", fix=_NEW_CERTIFICATE
        ) from error
    return public


def _check_constraints(certificate: x509.Certificate) -> None:
    """Refuse what could sign certificates for others: an outsider could come in with one."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except x509.ExtensionNotFound as error:
        raise ConfigError("the certificate does not say CA:FALSE", fix=_NEW_CERTIFICATE) from error
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ConfigError(
            f"the certificate's extensions cannot be read: {error}", fix=_NEW_CERTIFICATE
        ) from error
    if constraints.value.ca:
        raise ConfigError(
            "the certificate says CA:TRUE: its owner could let anybody in", fix=_NEW_CERTIFICATE
        )


def write_key(path: Path, identity: Identity) -> None:
    """Write the private key to a new file that only its owner may read; durable on return.

    Raises:
        ConfigError: the file exists, or cannot be written.
    """
    line = f"{_KEY_TAG} {base64.b64encode(identity.seed).decode('ascii')}\n".encode("ascii")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise ConfigError(
            f"{path}: there is a file already, and a key is never overwritten",
            fix=f"Keep that key, or move {path} away first.",
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)  # whatever the umask took away
            file.write(line)
            file.flush()
            os.fsync(descriptor)
        _sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()  # half a key would stand in the way of the next attempt
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{path}: cannot be written: {error.strerror or error}",
        fix="Name a file in a directory that exists, that you may write to, on a disk with room.",
    )


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def read_key(path: Path) -> Identity:
    """Read a private key that nobody but this user may read.

    Raises:
        ConfigError: the file is missing, is not ours, has another mode than 0600 or 0400, or is
            no key file.
    """
    try:
        # O_NONBLOCK: a FIFO in its place must not hang the node
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: there is no such key file",
            fix=f"Name the right file, or make one: `gossipfl keygen --name NAME --out {path}`.",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}",
            fix=f"Run the node as the user who owns {path}.",
        ) from error
    try:
        _check_access(path, os.fstat(descriptor))  # before a read, which a directory refuses
        text = os.read(descriptor, _KEY_FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    return Identity(_parse_key(path, text))


def _check_access(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{path}: is not a file", fix="Name the key file itself.")
    if status.st_uid != os.geteuid():
        raise ConfigError(
            f"{path}: belongs to user {status.st_uid}, not to this one ({os.geteuid()})",
            fix=f"Run `chown {os.geteuid()} {path}` as root, or run the node as its owner.",
        )
    mode = stat.S_IMODE(status.st_mode)
    if mode not in _MODES:
        raise ConfigError(
            f"{path}: has mode {mode:04o}; a private key must be 0600 or 0400",
            fix=f"Run `chmod 600 {path}`; if others could read it, make a new key.",
        )


def _parse_key(path: Path, text: bytes) -> bytes:
    words = text.split() if len(text) <= _KEY_FILE_BYTES_MAX else []
    try:
        seed = base64.b64decode(words[1], validate=True) if len(words) == 2 else b""
    except binascii.Error:
        seed = b""
    if len(seed) != SEED_BYTES or words[0] != _KEY_TAG.encode("ascii"):
        raise ConfigError(f"{path}: is no gossipfl key file", fix=_NEW_KEY)
    return seed
