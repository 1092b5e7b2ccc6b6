"""The `proxy` of a node.toml: an address, perhaps a password, and nothing that shows it."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.proxy import parse_proxy
from node.settings import NodeSettings
from node.tables import Problems, override, validated

SECRET = "s3cret-word"


@pytest.mark.parametrize("text", ["http://proxy.example.org:3128", "http://[::1]:8080/"])
def test_a_proxy_without_a_password_is_an_address(text: str) -> None:
    proxy = parse_proxy(text)
    assert proxy is not None
    assert (proxy.url, dict(proxy.headers)) == (text.rstrip("/"), {})


printable = st.text(min_size=1, max_size=20).filter(str.isprintable)


@given(printable.filter(lambda user: ":" not in user), printable)
def test_user_and_password_arrive_as_they_are_and_are_not_shown(user: str, password: str) -> None:
    proxy = parse_proxy(f"http://{quote(user, safe='')}:{quote(password, safe='')}@a:1")
    assert proxy is not None
    assert proxy.url == "http://a:1"
    kind, _, encoded = proxy.headers["Proxy-Authorization"].partition(" ")
    assert (kind, base64.b64decode(encoded).decode()) == ("Basic", f"{user}:{password}")
    assert encoded not in repr(proxy)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"https://u:{SECRET}@proxy:3128", "only proxies at http://"),
        (f"socks5://u:{SECRET}@proxy:3128", "only proxies at http://"),
        (f"u:{SECRET}@proxy:3128", "only proxies at http://"),
        (f"http://u:{SECRET}@proxy", 'expected "host:port"'),
        (f"http://u:{SECRET}@proxy:99999", "1 to 65535"),
        (f"http://u:{SECRET}@proxy:3128/path", "more than an address"),
        (f"http://u:{SECRET}/x@proxy:3128", "more than an address"),
        (f"http://u:{SECRET}#x@proxy:3128", "more than an address"),
        (f"http://:{SECRET}@proxy:3128", "the user before the @"),
        (f"http://u:{SECRET}%0d%0aX@proxy:3128", "the user before the @"),
        (f"http://u:{SECRET}@[::1:3128", "expected"),
        (["http://u:" + SECRET], "expected"),
        (3128, "expected"),
        (True, "expected"),
    ],
)
def test_what_is_no_proxy_is_told_without_the_password(text: object, says: str) -> None:
    problems = Problems()
    table = {"member": "a", "key": "k", "federation": "f", "listen": False, "proxy": text}
    origins = {}
    if isinstance(text, str):
        origins = override(table, [f"proxy={text}"], {}, (), problems)
    assert validated(NodeSettings, table, "node.toml", problems, origins) is None
    told = [line for line in problems.found if "proxy" in line[0]]
    assert len(told) == 1
    assert says in told[0][0]
    assert SECRET not in "".join(map(str, problems.found))


def test_no_proxy_is_taken_from_nowhere() -> None:
    assert parse_proxy(None) is None
