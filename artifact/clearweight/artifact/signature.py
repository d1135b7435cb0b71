"""Who vouches for an artifact: an Ed25519 signature over its manifest, in a file of its own (SPEC.md section 7).

The manifest holds the SHA-256 of every other file, so 64 bytes vouch for all of them. Needs ``cryptography``, which
the extra ``sign`` brings, and is therefore imported by those who sign or demand a signature only.
"""

import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from clearweight.artifact.errors import SignatureError
from clearweight.artifact.file_name import MANIFEST, SIGNATURE


def sign(directory: Path | str, private_key: bytes) -> Path:
    """Write ``manifest.sig`` beside the manifest, in one step; the same key and manifest give the same bytes.

    Parameters
    ----------
    private_key : bytes
        An Ed25519 key as PEM (PKCS 8), without a password.

    Raises
    ------
    SignatureError
        The key is of another kind.
    OSError
        There is no manifest, or the folder cannot be written.
    """
    try:
        key = load_pem_private_key(private_key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SignatureError(
            "The private key cannot be read; expected Ed25519 as PEM, without a password."
        ) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"The private key is a {type(key).__name__}, expected Ed25519.")
    folder = Path(directory)
    signature = key.sign((folder / MANIFEST).read_bytes())
    # Beside the folder, not in it: an artifact holds nothing else, not even for a moment.
    unfinished = folder.parent / f".{folder.name}.{SIGNATURE}"
    unfinished.write_bytes(signature)
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    return unfinished.replace(folder / SIGNATURE)


def check_signature(directory: Path, manifest: bytes, public_key: bytes) -> None:
    """Refuse a manifest that the owner of a key did not sign.

    Parameters
    ----------
    manifest : bytes
        As they were read; what is trusted afterwards is exactly these.
    public_key : bytes
        An Ed25519 key as PEM.

    Raises
    ------
    SignatureError
        There is no signature, another key made it, or the public key is of another kind.
    """
    try:
        key = load_pem_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError("The public key cannot be read; expected Ed25519 as PEM.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SignatureError(f"The public key is a {type(key).__name__}, expected Ed25519.")
    try:
        signature = (directory / SIGNATURE).read_bytes()
    except FileNotFoundError as error:
        raise SignatureError(f"{directory} is not signed; a signature is required.") from error
    try:
        key.verify(signature, manifest)
    except InvalidSignature as error:
        raise SignatureError(
            f"{directory} is not signed with the required key, or was changed since."
        ) from error
