"""Why a dial failed, in a sentence that says who is at fault."""

import os
import socket
from http import HTTPStatus
from typing import Final

import aiohttp

from gossipfl.errors import Refusal
from node.tls import classify

__all__ = ["NOT_LISTED", "trouble_of"]

NOT_LISTED: Final = "is this node in its member list, and a neighbor by its graph?"
"""Ends what is said of a member that ended the connection once it had seen this certificate."""

# What proxies answer when it is the member they cannot reach (RFC 9110 §15.6)
_UNREACHED: Final = (
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)


def trouble_of(
    error: Exception, peer: str, address: str | None, proxy: str | None
) -> tuple[Refusal | None, str]:
    """Explain a failed dial.

    Args:
        error: what the dial raised.
        peer: the neighbor's name.
        address: where it was dialed.
        proxy: the proxy's address, None where there is none.

    Returns:
        A refusal's code where the other end showed what it should not have, and the sentence.
    """
    through = f" through the proxy {proxy}" if proxy else ""
    match error:
        case aiohttp.ClientHttpProxyError():
            return None, _answered(error.status, address, proxy)
        case aiohttp.ClientProxyConnectionError():
            return None, f"the proxy {proxy} cannot be reached: {_reason(error)}"
        case aiohttp.ClientConnectorCertificateError():
            return Refusal.WRONG_CERTIFICATE, _wrong_certificate(peer, address, proxy)
        case aiohttp.ClientConnectorSSLError():
            refusal, detail = classify(error.os_error)
            asks = f"; {NOT_LISTED}" if "not accept our certificate" in detail else ""
            return refusal, f"{address}{through}: {detail}{asks}"
        case aiohttp.ClientConnectorError():
            return None, f"{address} cannot be reached{through}: {_reason(error)}"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() if proxy:
            return None, (
                f"the connection to {address} through the proxy {proxy} was ended; does the proxy "
                "let it through, and is this node in the member list and a neighbor there?"
            )
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError():
            return None, (f"{address} ended the connection; {NOT_LISTED}")
        case aiohttp.ClientPayloadError():
            return None, f"{address} cannot be reached{through}: {error}"
        case aiohttp.ClientResponseError() if proxy:
            return None, f"the proxy {proxy} answered something that is not HTTP; is it one?"
        case TimeoutError() if proxy:
            return None, (
                f"neither the proxy {proxy} nor {address} behind it answered in time; is that a "
                "proxy, and does it let CONNECT to this address through?"
            )
        case TimeoutError():
            return None, f"{address} did not answer in time"
    return None, f"{address} cannot be reached{through}: {error or type(error).__name__}"


def _wrong_certificate(peer: str, address: str | None, proxy: str | None) -> str:
    shown = f"{address} shows another certificate than {peer}'s"
    return f"{shown}; the proxy {proxy} may open TLS, which it must not" if proxy else shown


def _answered(status: int, address: str | None, proxy: str | None) -> str:
    """Say what a proxy's status means; its own words are not repeated, for anybody wrote them."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "an unknown status"
    said = f"the proxy {proxy} answered {status} ({phrase})"
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return f"{said}: set the right user and password in `proxy` of node.toml"
    if status in _UNREACHED:
        return f"{said}: it cannot reach {address}"
    return f"{said} to CONNECT {address}: ask whoever runs it to let this through"


def _reason(error: aiohttp.ClientConnectorError) -> str:
    failed = error.os_error
    if isinstance(failed, socket.gaierror) or not failed.errno:
        return failed.strerror or str(failed) or "the connection ended within the handshake"
    return os.strerror(failed.errno)  # asyncio's own words name an address, not what is wrong
