"""`gossipfl keygen`: a member's key, and the table that makes it a member."""

import base64
import re
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from node.output import Result
from node.verbs import AsJson

__all__ = ["keygen"]

COLUMNS = 76  # a certificate is some 300 bytes; lines of this length survive mail and chat


def keygen(
    name: Annotated[str, typer.Option(help="The member's name, for example cleveland.")],
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where the others can dial this member. Leave it out if it only dials.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write the key. By default NAME.key.")
    ] = None,
    as_json: AsJson = False,
) -> Result:
    """Make a member's key, and print its table for federation.toml.

    The key stays on this machine: whoever has it can speak as this member. The printed table is
    public: send it to whoever keeps federation.toml.

    Example: gossipfl keygen --name cleveland --address cleveland.example.org:7400
    """
    from gossipfl.errors import ConfigError
    from gossipfl.federation import NAME, MemberEntry, parse_address
    from gossipfl.wire.identity import Identity
    from node.certificates import make_certificate, read_certificate, write_key

    if not re.match(NAME, name):
        raise ConfigError(
            f"--name {name}: this is no name for a member",
            fix="Use letters, digits, dots, - and _, at most 64, with a letter or digit first.",
        )
    if address is not None:
        try:
            parse_address(address)
        except ValueError as error:
            raise ConfigError(f"--address {address}: {error}", fix="Write HOST:PORT.") from error
    identity = Identity.generate()
    certificate = make_certificate(identity)
    text = base64.b64encode(certificate).decode()
    table = {"name": name, "certificate": text} | ({"address": address} if address else {})
    MemberEntry.read(table, read_certificate)  # what is printed will load
    file = Path(f"{name}.key") if out is None else out
    write_key(file, identity)
    typer.echo(f"Wrote {file}. It never leaves this machine; keep a backup of it.", err=True)
    typer.echo("For federation.toml, on every machine:\n", err=True)
    lines = [
        "[[members]]",
        f'name = "{name}"',
        *([f'address = "{address}"'] if address else []),
        'certificate = """',
        *textwrap.wrap(text, COLUMNS),
        '"""',
    ]
    toml = "\n".join(lines)
    data = {
        "name": name,
        "address": address,
        "key_file": str(file),
        "public_key": identity.public.hex(),
        "certificate": text,
        "toml": toml,
    }
    return Result(data, toml)
