"""An HTTP proxy to dial through: CONNECT, and inside it the same TLS to the member itself."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from gossipfl.federation import parse_address

__all__ = ["Proxy", "parse_proxy"]

_EXPECTED: Final = 'expected "http://host:port" or "http://user:password@host:port"'


@dataclass(frozen=True)
class Proxy:
    """Where the proxy is and what it asks for; nothing that prints it shows the password.

    Attributes:
        address: its host and port.
        headers: that a CONNECT carries; they hold the password.
    """

    address: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        """What aiohttp dials, without the password."""
        return f"http://{self.address}"


def parse_proxy(value: object) -> Proxy | None:
    """Read `proxy` of a node.toml; what is wrong is said without showing the password.

    Raises:
        ValueError: not an http:// URL of a host and a port.
    """
    if value is None or isinstance(value, Proxy):
        return value
    if not isinstance(value, str):
        raise ValueError(_EXPECTED)
    try:
        parts = urlsplit(value)
        _, at, address = parts.netloc.rpartition("@")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError:
        raise ValueError(_EXPECTED) from None  # its own words may hold the password
    if parts.scheme != "http":
        raise ValueError(
            f"only proxies at http:// are spoken to, which see the members' addresses and TLS "
            f"inside; {_EXPECTED}"
        )
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(
            f"there is more than an address in it; {_EXPECTED}, with / ? # @ and : in a password "
            "written as %2F %3F %23 %40 and %3A"
        )
    parse_address(address)
    if not at:
        return Proxy(address)
    if not user or ":" in user or not (user + password).isprintable():
        raise ValueError(f"the user before the @ is none; {_EXPECTED}")
    secret = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return Proxy(address, {"Proxy-Authorization": f"Basic {secret}"})
