"""``clearweight sign``: vouch for artifacts with an Ed25519 key."""

from pathlib import Path
from typing import Annotated

import typer


def sign(
    directory: Annotated[Path, typer.Argument(help="An artifact, or a folder of them.", metavar="DIR")],
    key: Annotated[Path, typer.Option(help="The private key: Ed25519, PEM, without a password.")],
) -> None:
    """Sign every artifact and the reference beside it, for services that require a signature.

    A key is made with: openssl genpkey -algorithm ed25519 -out key.pem, its public half with: openssl pkey -in key.pem
    -pubout -out public.pem. A service demands it with CLEARWEIGHT_REQUIRE_SIGNATURE=public.pem.

    Example: clearweight sign models --key key.pem
    """
    from clearweight.artifact import Artifact, find_artifacts, signature
    from clearweight.cli.verify import with_references

    private_key = key.read_bytes()
    for path in with_references(find_artifacts(directory)):
        Artifact.open(path)  # nobody should vouch for what is damaged
        typer.echo(f"signed  {signature.sign(path, private_key).parent}")
